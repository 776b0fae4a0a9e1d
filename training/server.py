"""Trainers forked from one process that has imported TRL: on a CPU, where most of a small training's time is imports.

`serving()` starts the server; it imports with the first request. While it runs, `training.launch.command` gives the
command of a client, `python -m training.server SOCKET METHOD SPEC.json`: it hands its standard streams, environment and
folder to the server and ends as the trainer ends. Who ends the client ends the trainer; without a server the trainer is
a process of its own, and leaves the same bytes. Never beside an accelerator: its driver does not survive a fork.
"""

from __future__ import annotations

import importlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from training.child import CHILD_ENVIRONMENT, STARTED_BY, die_with_parent, own_mark, starter

ADDRESS = "PROMPTCOT_TRAINER_SERVER"  # the socket file, for every process that is started while the server runs
METHODS = ("sft", "dpo")  # that it serves: the online ones start judges, in a process of their own
ACCELERATORS = ("/dev/nvidiactl", "/dev/kfd", "/dev/accel")
STREAMS = (0, 1, 2)
LONGEST_REQUEST = 1 << 20  # bytes; mostly the environment
LONGEST_ADDRESS = 103  # bytes of a socket's path that every kernel takes
SERVER_GONE = 70  # exit code of a client whose server ended first (EX_SOFTWARE)


@contextmanager
def serving() -> Iterator[None]:
    """Trainers that this process and its children start are forked from one server, which ends with it.

    Nothing changes where there is an accelerator, a server already, or no address for one (a long TMPDIR).
    """
    if ADDRESS in os.environ or any(Path(one).exists() for one in ACCELERATORS):
        yield
        return
    with tempfile.TemporaryDirectory(prefix="promptcot-trainers-") as folder:  # which only this user may enter
        address = str(Path(folder) / "socket")
        if len(os.fsencode(address)) > LONGEST_ADDRESS:
            yield
            return
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(address)
            listener.listen(64)
            server = subprocess.Popen(
                [sys.executable, "-m", "training.server", str(listener.fileno())],
                env=os.environ | CHILD_ENVIRONMENT | {STARTED_BY: own_mark()},
                pass_fds=[listener.fileno()],
            )
        os.environ[ADDRESS] = address
        try:
            yield
        finally:
            del os.environ[ADDRESS]
            server.kill()
            server.wait()


def client(method: str, spec: Path) -> list[str] | None:
    """The command that asks the server for this training; None where none would answer."""
    address = os.environ.get(ADDRESS)
    if method not in METHODS or not address or not Path(address).exists():
        return None
    return [sys.executable, "-m", "training.server", address, method, str(spec)]


def ask(address: str, method: str, spec: str) -> int:
    """Have it trained, and the trainer's exit code; negative for a signal. Train here where the server is gone."""
    step = starter()
    die_with_parent(step)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    request = {"method": method, "spec": spec, "environment": dict(os.environ), "folder": str(Path.cwd())}
    with socket.socket(socket.AF_UNIX) as asking:
        try:
            asking.connect(address)
        except (ConnectionRefusedError, FileNotFoundError):
            if step is not None:
                os.environ[STARTED_BY] = step
            os.execv(sys.executable, [sys.executable, "-m", f"training.{method}", spec])
        answer = b""
        with suppress(ConnectionError):  # it was killed before it had read all of this
            socket.send_fds(asking, [b"\n"], STREAMS)
            asking.sendall(json.dumps(request).encode() + b"\n")
            answer = asking.recv(100)
    if not answer:
        print("training.server: the server of trainers ended; the same command goes on", file=sys.stderr)
    return int(answer) if answer else SERVER_GONE


class Request(NamedTuple):
    """What a forked trainer becomes."""

    method: str
    spec: str


class AtWork(NamedTuple):
    """A trainer, the descriptor that tells its end, and the client that waits for it."""

    pid: int
    ending: int
    client: socket.socket


def serve(listener: socket.socket) -> Request:
    """Fork a trainer for every client, for ever; returns in the trainers only, each in its client's place."""
    die_with_parent(starter())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: whoever it ends ends its trainer
    server, events, at_work = own_mark(), selectors.DefaultSelector(), list[AtWork]()
    events.register(listener, selectors.EVENT_READ)
    while True:
        for event, _ in events.select():
            if event.fileobj is not listener:
                if event.data in at_work:  # not yet forgotten for its other event
                    at_work.remove(event.data)
                    _forget(events, event.data)
                    _finish(event.data)
                continue
            client, _ = listener.accept()
            if (asked := _asked(client)) is None:
                continue
            request, streams = asked
            _import()
            if (pid := os.fork()) == 0:
                events.close()  # with nothing unregistered before: the kernel's list is the server's too
                for held in (listener, client, *(one.client for one in at_work)):
                    held.close()
                for one in at_work:
                    os.close(one.ending)
                return _become(request, streams, server)
            for stream in streams:
                os.close(stream)
            at_work.append(AtWork(pid, os.pidfd_open(pid), client))
            events.register(at_work[-1].ending, selectors.EVENT_READ, at_work[-1])
            events.register(client, selectors.EVENT_READ, at_work[-1])  # its end: the client is gone


def _forget(events: selectors.BaseSelector, trainer: AtWork) -> None:
    events.unregister(trainer.ending)
    events.unregister(trainer.client)


def _asked(client: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """The request of a client and its standard streams; None of one that was killed while it asked."""
    client.settimeout(60.0)
    streams: list[int] = []
    try:
        _, streams, _, _ = socket.recv_fds(client, 1, len(STREAMS))
        with client.makefile("rb") as said:
            request = json.loads(said.readline(LONGEST_REQUEST))
    except (OSError, ValueError):
        client.close()
        for stream in streams:  # else who reads the client's output waits for its end as long as the server lives
            os.close(stream)
        return None
    client.settimeout(None)
    return request, streams


def _become(request: dict[str, Any], streams: list[int], server: str) -> Request:
    """Take the client's place: its streams, environment, folder, and an end with the server's."""
    die_with_parent(server)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for at, stream in zip(STREAMS, streams, strict=True):
        os.dup2(stream, at)
        os.close(stream)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    return Request(request["method"], request["spec"])


def _finish(trainer: AtWork) -> None:
    """It has ended, or its client has, and then it must: reap it and tell the client."""
    os.kill(trainer.pid, signal.SIGKILL)  # not reaped yet, so the number is still its own
    _, status = os.waitpid(trainer.pid, 0)
    os.close(trainer.ending)
    with trainer.client, suppress(OSError):  # the client was killed
        trainer.client.sendall(str(os.waitstatus_to_exitcode(status)).encode())


def _import() -> None:
    """What every trainer imports; nothing that starts a thread or touches a device."""
    for module in ("dagster_pipes", "training.loop", "training.packing", "training.rows"):
        importlib.import_module(module)
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOTrainer, SFTTrainer

    _ = AutoModelForCausalLM, AutoTokenizer, DPOTrainer, SFTTrainer


def main(argv: list[str]) -> None:
    if len(argv) == 2:
        method, spec = serve(socket.socket(fileno=int(argv[1])))
        module = importlib.import_module(f"training.{method}")
        sys.argv = [str(module.__file__), spec]
        module.main(sys.argv)
        return
    code = ask(*argv[1:])
    if code < 0:
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    main(sys.argv)
