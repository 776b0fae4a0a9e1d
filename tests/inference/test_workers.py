"""Worker processes: none survives its pool or its parent, and a dead one is an error that says where."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from promptcot_assets.inference import EngineError, SamplingParams
from promptcot_assets.inference.transformers_engine import TransformersEngine
from promptcot_assets.inference.workers import WorkerPool
from tests.tiny_models import tiny_texts

LONG = SamplingParams(max_new_tokens=200)


def worker_pids(engine: TransformersEngine) -> list[int]:
    assert isinstance(engine._models, WorkerPool)
    return [process.pid for process, _ in engine._models._workers if process.pid is not None]


def alive(pid: int) -> bool:
    """A zombie is dead: it holds nothing but a row of the process table."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pids: list[int], seconds: float = 20.0) -> list[int]:
    """The pids that are still alive after waiting for all to end."""
    deadline = time.monotonic() + seconds
    while (left := [pid for pid in pids if alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def test_no_worker_is_left_after_close(tiny_model: Path) -> None:
    with TransformersEngine(tiny_model, workers=2) as engine:
        pids = worker_pids(engine)
        assert len(pids) == 2 and all(map(alive, pids))
        engine.generate(["let A"], SamplingParams(max_new_tokens=2))
    assert not wait_until_gone(pids)
    with pytest.raises(EngineError, match="closed"):
        engine.generate(["let A"], SamplingParams())


def test_a_worker_that_dies_is_an_error_that_names_the_batch(tiny_model: Path) -> None:
    with TransformersEngine(tiny_model, workers=2, batch_size=4) as engine:
        pids = worker_pids(engine)
        os.kill(pids[1], signal.SIGKILL)
        with pytest.raises(EngineError, match=rf"worker 1 \(pid {pids[1]}\) died while sampling: batch \d+ of 6"):
            engine.generate(tiny_texts(20), LONG)
        assert not wait_until_gone(pids)  # the pool is closed: half a pool would be a silent loss of speed


def test_a_worker_that_cannot_load_is_an_error_with_its_traceback(tiny_model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in tiny_model.iterdir():
        if file.suffix != ".safetensors":
            (broken / file.name).write_bytes(file.read_bytes())
    with pytest.raises(EngineError, match=r"worker \d failed while loading .*broken"):
        TransformersEngine(broken, workers=2)


SCRIPT = """
import sys
from pathlib import Path
from promptcot_assets.inference import SamplingParams
from promptcot_assets.inference.transformers_engine import TransformersEngine

print("main runs")
with TransformersEngine(Path(sys.argv[1]), workers=2) as engine:
    assert engine.generate(["let A"], SamplingParams(max_new_tokens=2))
"""


@pytest.mark.slow
def test_workers_do_not_run_the_main_program_again(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)  # no main guard
    command = [sys.executable, str(tmp_path / "script.py"), str(tiny_model)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    child = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (child.returncode, child.stdout) == (0, "main runs\n"), child.stderr


PARENT = """
import sys
from pathlib import Path
from promptcot_assets.inference import SamplingParams
from promptcot_assets.inference.transformers_engine import TransformersEngine
from tests.inference.test_workers import LONG, worker_pids
from tests.tiny_models import tiny_texts

engine = TransformersEngine(Path(sys.argv[1]), workers=2)
print(*worker_pids(engine), flush=True)
while True:
    engine.generate(tiny_texts(256), LONG)
"""


@pytest.mark.slow
def test_workers_die_with_a_killed_parent_even_when_busy(tiny_model: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tiny_model)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2 and all(map(alive, pids))
    time.sleep(1)  # well inside the first batches
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert not wait_until_gone(pids)
