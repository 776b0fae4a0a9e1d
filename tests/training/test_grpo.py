"""GRPO: a failure of the judge moves nothing; the judge is a process; the real trainer learns what is rewarded."""

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.training.runs import hashes, start, trained, until_checkpoint, write_online_spec
from training import grpo, rollouts
from training.child import SpecError
from training.grpo import Judge, neutral

LENGTH_JUDGE = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    print(json.dumps([{"reward": None if text == "?" else float(int(label) == len(text)), "length": len(text)}
                      for label, text in zip(asked["labels"], asked["completions"])]), flush=True)
"""


def test_a_judgement_that_failed_is_at_its_groups_mean() -> None:
    assert neutral([1, None, 0, 1, None, None, None, None], 4) == [1, 2 / 3, 0, 1, 0, 0, 0, 0]
    assert neutral([1, 0, 0, 0], 2) == [1, 0, 0, 0]


def test_the_judge_answers_line_by_line_and_ends_with_its_input() -> None:
    with Judge([sys.executable, "-c", LENGTH_JUDGE]) as judge:
        said = judge.verdicts(["1", "2", "1"], ["a", "b", "?"])
        assert [one["reward"] for one in said] == [1.0, 0.0, None]
        assert judge.verdicts(["2"], ["ab\n"]) == [{"reward": 0.0, "length": 3}]
    assert judge._process.returncode == 0


def test_a_judge_that_ends_is_named() -> None:
    with Judge([sys.executable, "-c", "raise SystemExit(3)"]) as judge:
        judge._process.wait()
        with pytest.raises(SpecError, match="the judge has ended"):
            judge.verdicts(["1"], ["a"])


ARGUMENTS = {"learning_rate": 1e-3, "per_device_train_batch_size": 8, "num_generations": 4, "max_steps": 6,
             "max_completion_length": 8, "beta": 0.0}  # fmt: skip
PARITY_JUDGE = LENGTH_JUDGE.replace("int(label) == len(text)", "len(text) % 2")  # an untrained model does both
RARE_JUDGE = LENGTH_JUDGE.replace("int(label) == len(text)", "len(text) % 4 == 0")  # groups that all fail are common
WITH_PARITY_JUDGE = f"""
import sys
from training import grpo, rollouts
grpo.Judge.__init__.__defaults__ = ([sys.executable, "-c", {PARITY_JUDGE!r}], "{{}}")
grpo.main(sys.argv)
"""


def spec_of(folder: Path, base: Path, **more: object) -> Path:
    """Two prompts a step of eight completions: an epoch is four steps, the run one and a half."""
    return write_online_spec(folder, base, **{"arguments": ARGUMENTS, **more})


@pytest.mark.slow
def test_the_real_trainer_runs_alike_twice_and_a_kill_changes_no_byte(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grpo.Judge.__init__, "__defaults__", ([sys.executable, "-c", PARITY_JUDGE], "{}"))
    results = []
    for name in ("first", "second"):
        grpo.main(["grpo", str(spec_of(tmp_path / name, tiny_model))])
        results.append(json.loads((tmp_path / name / "model" / "training.json").read_text()))
    assert results[0] == results[1]
    assert (results[0]["steps"], results[0]["rows"], results[0]["trainer"]) == (6, 8, "grpo")
    assert results[0]["tokens"] > 0
    before, after = (load_file(folder / "model.safetensors") for folder in (tiny_model, tmp_path / "first" / "model"))
    assert any(not before[name].equal(after[name]) for name in before)  # some completions were better than their group

    sampled = [list(rollouts.read(tmp_path / name / "rollouts")) for name in ("first", "second")]
    assert sampled[0] == sampled[1] and len(sampled[0]) == 6 * 8
    assert [row["step"] for row in sampled[0]] == [step for step in range(6) for _ in range(8)]
    assert [row["place"] for row in sampled[0]][:8] == list(range(8)) and sampled[0][5]["attempt"] == 1
    for row in sampled[0]:
        assert row["judged"] == {"reward": row["reward"], "length": len(row["completion"])} and row["learned"]
        assert 0 < row["tokens"] <= 8 and row["finish_reason"] == ("length" if row["tokens"] == 8 else "stop")
    of_group = {(row["step"], row["place"] // 4): row["prompt"] for row in sampled[0]}
    assert all(row["prompt"] == of_group[row["step"], row["place"] // 4] for row in sampled[0])

    spec, log = spec_of(tmp_path / "killed", tiny_model, save_steps=5), tmp_path / "log"
    whole = [sys.executable, "-c", WITH_PARITY_JUDGE, str(spec)]
    child = start(whole, log)
    until_checkpoint(child, tmp_path / "killed" / "ck", log)
    child.send_signal(signal.SIGKILL)
    child.wait()
    beyond = tmp_path / "killed" / "rollouts" / "step_00000005_0000_0000.parquet"
    beyond.write_bytes(b"what the killed run had sampled after its last checkpoint")
    (beyond.parent / ".step_00000006_0000_0000.parquet").write_bytes(b"half")
    assert "continuing from checkpoint-5" in trained(whole, log)
    assert hashes(tmp_path / "killed" / "model") == hashes(tmp_path / "first" / "model")
    assert list(rollouts.read(tmp_path / "killed" / "rollouts")) == sampled[0]  # none lost, none twice
    assert hashes(tmp_path / "killed" / "rollouts") == hashes(tmp_path / "first" / "rollouts")


@pytest.mark.slow
def test_groups_that_teach_nothing_are_replaced_alike_in_every_run(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grpo.Judge.__init__, "__defaults__", ([sys.executable, "-c", RARE_JUDGE], "{}"))
    for name in ("first", "second"):
        grpo.main(["grpo", str(spec_of(tmp_path / name, tiny_model, resample_groups=3))])
    sampled, again = (list(rollouts.read(tmp_path / name / "rollouts")) for name in ("first", "second"))
    assert sampled == again and hashes(tmp_path / "first" / "model") == hashes(tmp_path / "second" / "model")
    groups: dict[tuple[int, int, int], list[dict[str, Any]]] = {}
    for row in sampled:
        groups.setdefault((row["step"], row["part"], row["place"] // 4), []).append(row)
    assert any(part for _, part, _ in groups)  # something was replaced
    for step in range(6):
        learned = [own for (at, _, _), own in groups.items() if at == step and own[0]["learned"]]
        assert len(learned) == 2  # as many groups as without
        prompts = [own[0]["prompt"] for (at, _, _), own in groups.items() if at == step]
        assert len(set(prompts)) == len(prompts)  # no prompt twice in a step
        first = [own for (at, part, _), own in groups.items() if (at, part) == (step, 0)]
        left = [own for own in first if not own[0]["learned"]]
        assert all(len({row["reward"] for row in own}) == 1 for own in left)
    replacing = [own for (_, part, _), own in groups.items() if part and own[0]["learned"]]
    assert replacing and all(len({row["reward"] for row in own}) == 2 for own in replacing)


def test_fewer_prompts_than_a_step_samples_from_are_refused(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    many = ARGUMENTS | {"per_device_train_batch_size": 36}
    with pytest.raises(SystemExit) as ended:
        grpo.main(["grpo", str(spec_of(tmp_path / "run", tiny_model, arguments=many))])
    assert ended.value.code == 2
    assert "8 prompts can be sampled from, and a step samples from 9 at once" in capsys.readouterr().err
