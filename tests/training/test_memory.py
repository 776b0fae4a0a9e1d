"""What glibc does with freed tensors in trainers and in the engine's workers: it keeps them.

By default it maps every large block anew and gives it back when it is freed, so that each training step waits for the
kernel to clear the same pages again. The variables that say otherwise are read when a process starts, and not later.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from promptcot_assets.inference.transformers_engine import TransformersEngine
from promptcot_assets.inference.workers import WORKER_ENVIRONMENT, WorkerPool
from training.child import CHILD_ENVIRONMENT

LARGE = 512 << 20  # never touched; more than a trainer's heap has left over when it starts
PROBE = f"""
import ctypes, json

class Mallinfo2(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
                "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype, libc.malloc.restype, libc.free.argtypes = Mallinfo2, ctypes.c_void_p, [ctypes.c_void_p]
before = libc.mallinfo2()
block = libc.malloc(ctypes.c_size_t({LARGE}))
mapped = libc.mallinfo2().hblkhd - before.hblkhd
libc.free(block)
print(json.dumps({{"heap": before.arena, "mapped": mapped, "kept": libc.mallinfo2().fordblks}}))
"""


def probed(environment: dict[str, str]) -> dict[str, int]:
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    done = subprocess.run(
        [sys.executable, "-c", PROBE], env={**bare, **environment}, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_glibc_by_itself_gives_a_large_block_back() -> None:
    found = probed({})
    assert found["mapped"] >= LARGE and found["kept"] < LARGE


@pytest.mark.parametrize("environment", [CHILD_ENVIRONMENT, WORKER_ENVIRONMENT], ids=["trainer", "worker"])
def test_a_freed_tensor_stays_with_its_process(environment: dict[str, str]) -> None:
    found = probed(environment)
    assert found["mapped"] == 0 and found["kept"] >= LARGE


def test_a_trainers_heap_grows_by_a_quarter_of_a_gigabyte_at_a_time() -> None:
    assert probed(CHILD_ENVIRONMENT)["heap"] >= 256 << 20


def test_a_worker_has_had_its_variables_from_its_start(tiny_model: Path) -> None:
    with TransformersEngine(tiny_model, workers=2) as engine:
        assert isinstance(engine._models, WorkerPool)
        for process, _ in engine._models._workers:
            # of the kernel: what the process began with, whatever it has set since
            began = Path(f"/proc/{process.pid}/environ").read_bytes().decode().split("\0")
            assert {f"{name}={value}" for name, value in WORKER_ENVIRONMENT.items()} <= set(began)
