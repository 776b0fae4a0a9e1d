"""GRPO: a failure of the judge moves nothing; the judge is a process; the real trainer learns what is rewarded."""

import json
import signal
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

from tests.training.runs import hashes, start, trained, until_checkpoint
from training import grpo
from training.child import SpecError
from training.grpo import Judge, neutral

LENGTH_JUDGE = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    print(json.dumps([None if text == "?" else float(int(label) == len(text))
                      for label, text in zip(asked["labels"], asked["completions"])]), flush=True)
"""


def test_a_judgement_that_failed_is_at_its_groups_mean() -> None:
    assert neutral([1, None, 0, 1, None, None, None, None], 4) == [1, 2 / 3, 0, 1, 0, 0, 0, 0]
    assert neutral([1, 0, 0, 0], 2) == [1, 0, 0, 0]


def test_the_judge_answers_line_by_line_and_ends_with_its_input() -> None:
    with Judge([sys.executable, "-c", LENGTH_JUDGE]) as judge:
        assert judge.rewards(["1", "2", "1"], ["a", "b", "?"]) == [1.0, 0.0, None]
        assert judge.rewards(["2"], ["ab\n"]) == [0.0]
    assert judge._process.returncode == 0


def test_a_judge_that_ends_is_named() -> None:
    with Judge([sys.executable, "-c", "raise SystemExit(3)"]) as judge:
        judge._process.wait()
        with pytest.raises(SpecError, match="the judge has ended"):
            judge.rewards(["1"], ["a"])


ARGUMENTS = {"learning_rate": 1e-3, "per_device_train_batch_size": 8, "num_generations": 4, "max_steps": 6,
             "max_completion_length": 8, "beta": 0.0}  # fmt: skip
PARITY_JUDGE = LENGTH_JUDGE.replace("int(label) == len(text)", "len(text) % 2")  # an untrained model does both
WITH_PARITY_JUDGE = f"""
import sys
from training import grpo
grpo.Judge.__init__.__defaults__ = ([sys.executable, "-c", {PARITY_JUDGE!r}],)
grpo.main(sys.argv)
"""


def spec_of(folder: Path, base: Path, **more: object) -> Path:
    """Eight prompts, two a step of eight completions: an epoch is four steps, the run one and a half."""
    folder.mkdir(exist_ok=True)
    prompts = [f"let {letter}" for letter in "ABCDEFGH"]
    pq.write_table(pa.table({"prompt": prompts, "completion": ["3"] * 8}), folder / "data.parquet")
    paths = {"base": base, "data": folder / "data.parquet", "output": folder / "model", "checkpoints": folder / "ck"}
    spec = {name: str(path) for name, path in paths.items()} | {"seed": 5, "arguments": ARGUMENTS} | more
    (folder / "spec.json").write_text(json.dumps(spec))
    return folder / "spec.json"


@pytest.mark.slow
def test_the_real_trainer_runs_alike_twice_and_a_kill_changes_no_byte(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grpo.Judge.__init__, "__defaults__", ([sys.executable, "-c", PARITY_JUDGE],))
    results = []
    for name in ("first", "second"):
        grpo.main(["grpo", str(spec_of(tmp_path / name, tiny_model))])
        results.append(json.loads((tmp_path / name / "model" / "training.json").read_text()))
    assert results[0] == results[1]
    assert (results[0]["steps"], results[0]["rows"], results[0]["trainer"]) == (6, 8, "grpo")
    assert results[0]["tokens"] > 0
    before, after = (load_file(folder / "model.safetensors") for folder in (tiny_model, tmp_path / "first" / "model"))
    assert any(not before[name].equal(after[name]) for name in before)  # some completions were better than their group

    spec, log = spec_of(tmp_path / "killed", tiny_model, save_steps=5), tmp_path / "log"
    whole = [sys.executable, "-c", WITH_PARITY_JUDGE, str(spec)]
    child = start(whole, log)
    until_checkpoint(child, tmp_path / "killed" / "ck", log)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert "continuing from checkpoint-5" in trained(whole, log)
    assert hashes(tmp_path / "killed" / "model") == hashes(tmp_path / "first" / "model")
