"""On-policy distillation: the student comes nearer to its teacher, alike in every run, and every rollout is kept."""

import json
import signal
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.tiny_models import make_tiny_model, teach
from tests.training.runs import PROMPTS, continued, hashes, start, until_checkpoint, write_online_spec
from training import distill, rollouts

ARGUMENTS = {"learning_rate": 3e-3, "per_device_train_batch_size": 8, "max_steps": 12, "max_completion_length": 8,
             "lr_scheduler_type": "constant"}  # fmt: skip
JUDGE = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    print(json.dumps([{"reward": None if len(text) % 5 == 0 else float(len(text) % 2), "length": len(text)}
                      for text in asked["completions"]]), flush=True)
"""
WITH_JUDGE = f"""
import sys
from training import distill
distill.Judge.__init__.__defaults__ = ([sys.executable, "-c", {JUDGE!r}], "{{}}")
distill.main(sys.argv)
"""


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the student's tokens, and it knows the texts; the student is untrained."""
    return teach(make_tiny_model(tmp_path_factory.mktemp("teacher") / "model"))


@pytest.fixture(autouse=True)
def judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distill.Judge.__init__, "__defaults__", ([sys.executable, "-c", JUDGE], "{}"))


def spec_of(folder: Path, base: Path, **more: object) -> Path:
    """All prompts in every step."""
    return write_online_spec(folder, base, **{"arguments": ARGUMENTS, **more})


def divergence(student: Path, teacher: Path) -> float:
    """Mean reverse KL, in nats a token, on one text of each prompt."""
    import torch

    tokenizer = AutoTokenizer.from_pretrained(student)
    own, theirs = (AutoModelForCausalLM.from_pretrained(one, dtype="float32").eval() for one in (student, teacher))
    found = []
    with torch.no_grad():
        for prompt in PROMPTS:
            ids = torch.tensor([tokenizer(f"{prompt} is")["input_ids"]])
            a, b = (model(ids).logits.log_softmax(-1)[0] for model in (own, theirs))
            found.append((a.exp() * (a - b)).sum(-1).mean())
    return float(torch.stack(found).mean())


@pytest.mark.slow
def test_the_student_comes_nearer_to_its_teacher_and_a_kill_changes_no_byte(
    tiny_model: Path, teacher: Path, tmp_path: Path
) -> None:
    for name in ("first", "second"):
        distill.main(["distill", str(spec_of(tmp_path / name, tiny_model, teacher=str(teacher)))])
    assert hashes(tmp_path / "first" / "model") == hashes(tmp_path / "second" / "model")
    report = json.loads((tmp_path / "first" / "model" / "training.json").read_text())
    assert (report["trainer"], report["steps"], report["rows"]) == ("distill", 12, 8) and report["tokens"] > 0
    assert divergence(tmp_path / "first" / "model", teacher) < 0.8 * divergence(tiny_model, teacher)
    losses = [loss for _, loss in report["loss_curve"]]
    assert losses[-1] < losses[0]

    rows = list(rollouts.read(tmp_path / "first" / "rollouts"))
    assert len(rows) == 12 * 8 and {row["step"] for row in rows} == set(range(12))
    for row in rows:
        assert row["judged"] == {"reward": row["reward"], "length": len(row["completion"])} and row["learned"]
        assert 0 < row["tokens"] <= 8 and row["attempt"] == 0
        assert row["finish_reason"] == ("length" if row["tokens"] == 8 else "stop")
    assert sorted(row["prompt"] for row in rows[:8]) == PROMPTS
    assert any(row["reward"] is None for row in rows)  # a judge that fails ends nothing

    spec = spec_of(tmp_path / "killed", tiny_model, teacher=str(teacher), save_steps=5)
    log, whole = tmp_path / "log", [sys.executable, "-c", WITH_JUDGE, str(spec)]
    child = start(whole, log)
    until_checkpoint(child, tmp_path / "killed" / "ck", log)
    child.send_signal(signal.SIGKILL)
    child.wait()
    continued(whole, tmp_path / "killed" / "ck", log)
    assert hashes(tmp_path / "killed" / "model") == hashes(tmp_path / "first" / "model")
    assert hashes(tmp_path / "killed" / "rollouts") == hashes(tmp_path / "first" / "rollouts")


@pytest.mark.slow
def test_accumulated_batches_are_one_generation(tiny_model: Path, teacher: Path, tmp_path: Path) -> None:
    parts = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "max_steps": 2}
    spec = spec_of(tmp_path / "run", tiny_model, teacher=str(teacher), arguments=ARGUMENTS | parts)
    distill.main(["distill", str(spec)])
    rows = list(rollouts.read(tmp_path / "run" / "rollouts"))
    assert [(row["step"], row["part"], row["place"]) for row in rows] == [(s, 0, p) for s in range(2) for p in range(8)]


def refused(spec: Path, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        distill.main(["distill", str(spec)])
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_a_teacher_that_is_missing_is_named(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "teacher: None is no model folder" in refused(spec_of(tmp_path / "run", tiny_model), capsys)
    spec = spec_of(tmp_path / "run", tiny_model, teacher=str(tmp_path / "nowhere"))
    assert "nowhere is no model folder" in refused(spec, capsys)
    assert "field 'teacher' must be a path" in refused(spec_of(tmp_path / "run", tiny_model, teacher=3), capsys)


def test_fewer_prompts_than_a_step_samples_from_are_refused(
    tiny_model: Path, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    many = ARGUMENTS | {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 3}
    said = refused(spec_of(tmp_path / "run", tiny_model, teacher=str(teacher), arguments=many), capsys)
    assert "8 prompts can be sampled from, and a step samples from 9 at once" in said


def test_a_teacher_of_other_tokens_is_refused_by_the_first_that_differs(
    tiny_model: Path, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(teacher)
    tokenizer.add_tokens(["<another>"])
    other = tmp_path / "other"
    AutoModelForCausalLM.from_pretrained(teacher).save_pretrained(other)
    tokenizer.save_pretrained(other)
    said = refused(spec_of(tmp_path / "run", tiny_model, teacher=str(other)), capsys)
    assert "another vocabulary than the student" in said and "'<another>'" in said
