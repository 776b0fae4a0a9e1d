"""What is left on disk: whole checkpoints and outputs only, also when the disk is full."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.training.runs import hashes, trained, write_spec
from training.child import OutputError, read_spec
from training.folders import hold, last_checkpoint, mark_whole, written_or_gone
from training.launch import command


def test_a_checkpoint_cut_short_is_passed_over(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path) is None
    for step in (90, 100, 110):
        (tmp_path / f"checkpoint-{step}").mkdir()
    for step in (90, 100):
        mark_whole(tmp_path / f"checkpoint-{step}")
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-100"


def test_a_failure_of_writing_leaves_nothing_and_one_of_another_process_is_not_taken_for_one(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(RuntimeError, match="Connection closed by peer"), written_or_gone(tmp_path / "folder"):
        raise RuntimeError("Connection closed by peer")
    assert (tmp_path / "folder").exists()
    said = pytest.raises(OutputError, match=r"folder \([\d,]+ bytes .*\): \[Errno 28\] full\. Nothing of it is left")
    with said, written_or_gone(tmp_path / "folder"):
        raise OSError(28, "full")
    assert not (tmp_path / "folder").exists()


HOLDS = """
import sys, time
from training.child import read_spec
from training.folders import hold
from pathlib import Path

hold(read_spec(Path(sys.argv[1])))
print("held", flush=True)
time.sleep(60)
"""


def test_two_trainers_never_work_on_the_same_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that outlives its step, however that may be, is waited for; then it is named."""
    path = write_spec(tmp_path, tmp_path / "base")
    spec = read_spec(path)
    first = subprocess.Popen([sys.executable, "-c", HOLDS, str(path)], stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None and first.stdout.readline() == "held\n"
    monkeypatch.setattr("training.folders.LOCK_WAIT_S", 0.5)
    with pytest.raises(OutputError, match=rf"are held by process {first.pid} of .*: wait until it has ended"):
        hold(spec)
    monkeypatch.setattr("training.folders.LOCK_WAIT_S", 60.0)
    with ThreadPoolExecutor(1) as thread:
        second = thread.submit(hold, spec)
        first.kill()
        second.result()
    first.wait()
    first.stdout.close()
    assert (spec.checkpoints / "lock").read_text() == f"process {os.getpid()} of {socket.gethostname()}"


@pytest.fixture(scope="module")
def whole(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a run that nothing befell."""
    folder = tmp_path_factory.mktemp("whole")
    trained(command("sft", write_spec(folder, tiny_model)), folder / "log")
    return folder / "model"


@pytest.mark.slow
def test_an_output_that_cannot_be_written_is_not_there_and_the_same_command_makes_it(
    whole: Path, tiny_model: Path, tmp_path: Path
) -> None:
    spec = write_spec(tmp_path / "full", tiny_model)
    limited = ["prlimit", "--fsize=200000", *command("sft", spec)]  # the weights need 249 kB
    run = subprocess.run(limited, capture_output=True, text=True)
    assert run.returncode == 1
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("training.sft: cannot write ") and "File too large" in last
    assert {path.name for path in (tmp_path / "full").iterdir()} == {"data.parquet", "spec.json", "ck"}
    trained(command("sft", spec), tmp_path / "log")
    assert hashes(tmp_path / "full" / "model") == hashes(whole)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with room for one checkpoint of the tiny model, not for two."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1200k", "none", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.slow
def test_a_disk_that_fills_up_costs_the_steps_since_the_last_checkpoint(
    whole: Path, small_disk: Path, tiny_model: Path, tmp_path: Path
) -> None:
    spec = write_spec(tmp_path / "full", tiny_model, save_steps=5, checkpoints=str(small_disk / "ck"))
    run = subprocess.run(command("sft", spec), capture_output=True, text=True)
    assert run.returncode == 1
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith(f"training.sft: cannot write {small_disk}/ck/checkpoint-10 (")
    assert last_checkpoint(small_disk / "ck") == small_disk / "ck" / "checkpoint-5"
    assert not (small_disk / "ck" / "checkpoint-10").exists() and not (tmp_path / "full" / "model").exists()

    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    assert "continuing from checkpoint-5" in trained(command("sft", spec), tmp_path / "log")
    assert hashes(tmp_path / "full" / "model") == hashes(whole)
