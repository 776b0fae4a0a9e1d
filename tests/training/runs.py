"""Trainer runs for tests: a spec in a folder of its own, run in this process, as a process, or as several."""

import hashlib
import json
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.tiny_models import tiny_texts
from training import dpo, sft
from training.child import CHILD_ENVIRONMENT
from training.folders import last_checkpoint

ARGUMENTS = {
    "learning_rate": 2e-3,
    "per_device_train_batch_size": 8,
    "num_train_epochs": 3,
    "lr_scheduler_type": "cosine_with_min_lr",
    "lr_scheduler_kwargs": {"min_lr_rate": 0.05},
    "warmup_steps": 4,
    "max_length": 96,
}
MODULES = {"sft": sft, "dpo": dpo}


def write_data(path: Path, rows: int = 60) -> Path:
    """Columns for both trainers; rows of many lengths, so that length grouping matters."""
    texts = tiny_texts(rows, seed=8, shortest=2)
    completions = [f" {text}" for text in tiny_texts(rows, seed=9, shortest=2)]
    rejected = [f" {text}" for text in tiny_texts(rows, seed=10, shortest=2)]
    table = pa.table({"prompt": texts, "completion": completions, "chosen": completions, "rejected": rejected})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def write_spec(folder: Path, base: Path, /, **fields: Any) -> Path:
    """A spec whose every path is inside `folder`, except the base model."""
    data = write_data(folder / "data.parquet")
    spec = {"base": str(base), "data": str(data), "output": str(folder / "model"), "checkpoints": str(folder / "ck")}
    arguments = {**ARGUMENTS, **fields.pop("arguments", {})}
    (folder / "spec.json").write_text(json.dumps({**spec, "arguments": arguments, **fields}))
    return folder / "spec.json"


PROMPTS = [f"let {letter}" for letter in "ABCDEFGH"]


def write_online_spec(folder: Path, base: Path, arguments: dict[str, Any], **fields: Any) -> Path:
    """A spec of a trainer that samples from PROMPTS, every label the text `3`; its rollouts are in `rollouts`."""
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table({"prompt": PROMPTS, "completion": ["3"] * len(PROMPTS)}), folder / "data.parquet")
    paths = {"base": base, "data": folder / "data.parquet", "output": folder / "model", "checkpoints": folder / "ck",
             "rollouts": folder / "rollouts"}  # fmt: skip
    spec = {name: str(path) for name, path in paths.items()} | {"seed": 5, "arguments": arguments} | fields
    (folder / "spec.json").write_text(json.dumps(spec))
    return folder / "spec.json"


def hashes(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


def run(kind: str, spec: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Train in this process, as if by hand; the reported result."""
    MODULES[kind].main([kind, str(spec)])
    return json.loads([line for line in capsys.readouterr().out.splitlines() if line.startswith("{")][-1])


def start(whole: Sequence[str], log: Path) -> subprocess.Popen[str]:
    """Start a command; what it says goes to `log`."""
    environment = {**os.environ, **CHILD_ENVIRONMENT}
    return subprocess.Popen(whole, env=environment, stdout=log.open("w"), stderr=subprocess.STDOUT, text=True)


def trained(whole: Sequence[str], log: Path) -> str:
    """Run a command to its end, which must be a good one; what it said."""
    code = start(whole, log).wait(timeout=300)
    assert code == 0, log.read_text()[-4000:]
    return log.read_text()


def until_checkpoint(process: subprocess.Popen[str], checkpoints: Path, log: Path) -> None:
    """Wait until the run has a whole checkpoint."""
    deadline = time.monotonic() + 180
    while last_checkpoint(checkpoints) is None:
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-4000:]
        time.sleep(0.01)


def continued(whole: Sequence[str], checkpoints: Path, log: Path) -> None:
    """Run the command of a killed run to its end: it goes on from the newest whole checkpoint, whichever that is.

    Between the one that `until_checkpoint` saw and the kill a busy machine may write another.
    """
    newest = last_checkpoint(checkpoints)
    assert newest and f"continuing from {newest.name}\n" in trained(whole, log)


def children(pid: int) -> list[int]:
    """The processes started by `pid` that still run, in the order they were started."""
    said = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sorted(int(one) for one in said)
