"""GRPO: a failure of the judge moves nothing; the judge is a process; the real trainer learns what is rewarded."""

import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

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


@pytest.mark.slow
def test_the_real_trainer_runs_alike_twice_and_leaves_a_model(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grpo.Judge.__init__, "__defaults__", ([sys.executable, "-c", LENGTH_JUDGE],))
    prompts = [f"let {letter}" for letter in "ABCDEFGH"]
    pq.write_table(pa.table({"prompt": prompts, "completion": ["3"] * 8}), tmp_path / "data.parquet")
    results = []
    for name in ("first", "second"):
        arguments = {"learning_rate": 1e-3, "per_device_train_batch_size": 8, "num_generations": 4, "max_steps": 2,
                     "max_completion_length": 8, "beta": 0.0}  # fmt: skip
        spec = {"base": str(tiny_model), "data": str(tmp_path / "data.parquet"), "output": str(tmp_path / name),
                "checkpoints": str(tmp_path / f"{name}-ck"), "seed": 5, "arguments": arguments}  # fmt: skip
        (tmp_path / "spec.json").write_text(json.dumps(spec))
        grpo.main(["grpo", str(tmp_path / "spec.json")])
        results.append(json.loads((tmp_path / name / "training.json").read_text()))
    assert results[0] == results[1]
    assert (results[0]["steps"], results[0]["rows"], results[0]["trainer"]) == (2, 8, "grpo")
    assert results[0]["tokens"] > 0 and (tmp_path / "first" / "model.safetensors").is_file()
