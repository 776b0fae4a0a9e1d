"""Trainers forked from a server leave the bytes of one that runs alone, and its exit codes; a kill leaves nobody."""

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.training.runs import children, continued, hashes, run, start, trained, until_checkpoint, write_spec
from training.launch import command
from training.server import ADDRESS, SERVER_GONE, serving

pytestmark = pytest.mark.slow


@pytest.fixture
def server() -> Iterator[int]:
    """The process id of a server, which trainers of this test are forked from."""
    before = children(os.getpid())
    with serving():
        (pid,) = set(children(os.getpid())) - set(before)
        yield pid


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_forked_trainer_leaves_the_bytes_of_one_that_runs_alone(
    server: int, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("sft", "dpo"):
        run(kind, write_spec(tmp_path / f"alone {kind}", tiny_model), capsys)
        asking = command(kind, write_spec(tmp_path / f"forked {kind}", tiny_model))
        assert asking[2] == "training.server"
        assert "training: 24 of 24 steps to go" in trained(asking, tmp_path / "log")
        assert hashes(tmp_path / f"forked {kind}" / "model") == hashes(tmp_path / f"alone {kind}" / "model")
    wait_until(lambda: not children(server))


def test_what_is_wrong_with_a_spec_comes_back_with_its_exit_code(server: int, tmp_path: Path) -> None:
    asking = command("sft", tmp_path / "missing.json")
    done = subprocess.run(asking, capture_output=True, text=True, env=os.environ | {"ONLY_HERE": "yes"})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"training.sft: {tmp_path / 'missing.json'}: no such spec file\n"
    assert "ONLY_HERE" not in os.environ


def test_a_trainer_ends_with_its_client_and_the_same_command_goes_on(
    server: int, tiny_model: Path, tmp_path: Path
) -> None:
    asking, log = command("sft", write_spec(tmp_path, tiny_model, save_steps=5)), tmp_path / "log"
    client = start(asking, log)
    until_checkpoint(client, tmp_path / "ck", log)
    client.send_signal(signal.SIGKILL)
    client.wait()
    wait_until(lambda: not children(server))
    assert not (tmp_path / "model").exists()
    continued(asking, tmp_path / "ck", log)


def test_a_trainer_that_is_killed_ends_its_client_alike_and_no_other(
    server: int, tiny_model: Path, tmp_path: Path
) -> None:
    first, second = (write_spec(tmp_path / name, tiny_model, save_steps=5) for name in ("first", "second"))
    killed = start(command("sft", first), tmp_path / "first.log")
    until_checkpoint(killed, tmp_path / "first" / "ck", tmp_path / "first.log")
    (trainer,) = children(server)
    other = start(command("sft", second), tmp_path / "second.log")
    os.kill(trainer, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert other.wait() == 0, (tmp_path / "second.log").read_text()


def test_when_the_server_is_killed_its_trainers_end_and_the_same_command_trains_alone(
    server: int, tiny_model: Path, tmp_path: Path
) -> None:
    asking, log = command("sft", write_spec(tmp_path, tiny_model, save_steps=5)), tmp_path / "log"
    client = start(asking, log)
    until_checkpoint(client, tmp_path / "ck", log)
    (trainer,) = children(server)
    os.kill(server, signal.SIGKILL)
    assert client.wait() == SERVER_GONE
    wait_until(lambda: not Path(f"/proc/{trainer}/maps").exists() or not Path(f"/proc/{trainer}/maps").read_text())
    continued(asking, tmp_path / "ck", log)


def test_a_server_that_is_killed_before_it_has_read_is_one_sentence(server: int, tmp_path: Path) -> None:
    os.kill(server, signal.SIGSTOP)
    client = start(command("sft", tmp_path / "missing.json"), tmp_path / "log")
    wait_until(lambda: any(f"{os.environ[ADDRESS]}\n" in line and " 02 " in line for line in unix_sockets()))
    os.kill(server, signal.SIGKILL)
    assert client.wait() == SERVER_GONE
    assert (tmp_path / "log").read_text() == "training.server: the server of trainers ended; the same command goes on\n"


def unix_sockets() -> list[str]:
    return Path("/proc/net/unix").read_text().splitlines(keepends=True)


def test_of_a_client_that_is_killed_while_it_asks_nothing_is_kept(server: int) -> None:
    reading, writing = os.pipe()
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(os.environ[ADDRESS])
        socket.send_fds(asking, [b"\n"], [writing] * 3)
        asking.sendall(b'{"method": "sft", ')
    os.close(writing)
    assert os.read(reading, 1) == b""  # the end: nobody holds the other side
    os.close(reading)


def test_a_folder_too_deep_for_a_socket_only_leaves_trainers_on_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("a" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    monkeypatch.delenv(ADDRESS, raising=False)
    with serving():
        assert ADDRESS not in os.environ
        assert command("sft", Path("spec.json"))[2] == "training.sft"


def test_a_second_server_is_not_started_and_an_engine_of_its_own_is_not_forked(server: int) -> None:
    address, ours = os.environ[ADDRESS], children(os.getpid())
    with serving():
        assert os.environ[ADDRESS] == address and children(os.getpid()) == ours
    assert os.environ[ADDRESS] == address
    assert command("grpo", Path("spec.json"))[2] == "training.grpo"
    assert command("sft", Path("spec.json"), ["accelerate", "launch"])[1] == "launch"
