"""The host's side of the symbolic workers: started on first need, shared by threads, killed when they hang."""

from __future__ import annotations

import atexit
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

from sandbox.maths.equality import Judged
from sandbox.maths.trees import Tree
from sandbox.model import SandboxUnavailable

CPU_S = 2.0
PATIENCE_S = 120.0  # of wall clock: a child that used no CPU for so long is not computing
LARGEST_QUESTION = 100_000  # bytes
ROOT = str(Path(__file__).resolve().parents[2])
START = """
import sys
sys.path.insert(0, sys.argv[1])
from sandbox.maths.symbolic import serve
serve(int(sys.argv[2]), float(sys.argv[3]))
"""


class Worker:
    """One symbolic process. One caller at a time."""

    def __init__(self, cpu_s: float) -> None:
        self.cpu_s = cpu_s
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        complaints = os.memfd_create("stderr")
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-c", START, ROOT, str(theirs.fileno()), str(self.cpu_s)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=complaints,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                env={**os.environ, "PYTHONHASHSEED": "0"},
            )
            theirs.close()
            self.socket.settimeout(PATIENCE_S)
            if not self.socket.recv(100):
                self.stop()
                said = os.pread(complaints, 1 << 16, 0).decode(errors="replace").strip()
                raise SandboxUnavailable(f"the symbolic worker did not start: {said[-500:]}")
        finally:
            theirs.close()
            os.close(complaints)

    def stop(self) -> None:
        if self.process is not None:
            self.socket.close()
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def ask(self, question: bytes) -> Judged:
        """Raises SandboxUnavailable when the worker itself fails, twice: that is no verdict on the answer."""
        for _ in range(2):
            if self.process is None:
                self.start()
            try:
                self.socket.send(question)
                answer = self.socket.recv(1 << 20)
            except OSError:
                answer = b""
            if answer:
                return Judged(*json.loads(answer))
            self.stop()
        raise SandboxUnavailable("the symbolic worker ended twice in the middle of a question")


class Workers:
    """Up to `size` symbolic processes, started on demand. cpu_s: the limit of one question, in CPU seconds."""

    def __init__(self, size: int | None = None, cpu_s: float = CPU_S) -> None:
        self.size = size or os.cpu_count() or 1
        self.cpu_s = cpu_s
        self.all: list[Worker] = []
        self.idle: queue.LifoQueue[Worker] = queue.LifoQueue()
        self.lock = threading.Lock()

    def ask(self, name: str, *arguments: Any) -> Judged:
        question = json.dumps([name, *map(encode, arguments)]).encode()
        if len(question) > LARGEST_QUESTION:
            return Judged(False, "too long", True)
        with self._worker() as worker:
            return worker.ask(question)

    def same(self, a: Tree, b: Tree) -> Judged:
        return self.ask("same", a, b)

    def near(self, a: Tree, b: Tree, tolerance: float) -> Judged:
        return self.ask("near", a, b, tolerance)

    def proportional(self, a: Tree, b: Tree) -> Judged:
        return self.ask("proportional", a, b)

    def same_latex(self, a: str, b: str) -> Judged:
        return self.ask("same_latex", a, b)

    def fingerprint(self, a: Tree) -> Judged:
        """Under `rule`: a key that equal expressions share."""
        return self.ask("fingerprint", a)

    def close(self) -> None:
        for worker in self.all:
            worker.stop()

    @contextmanager
    def _worker(self) -> Iterator[Worker]:
        try:
            worker = self.idle.get_nowait()
        except queue.Empty:
            worker = self._another()
        try:
            yield worker
        finally:
            self.idle.put(worker)

    def _another(self) -> Worker:
        with self.lock:
            if len(self.all) < self.size:
                self.all.append(Worker(self.cpu_s))
                return self.all[-1]
        return self.idle.get()


def encode(part: Any) -> Any:
    if isinstance(part, Fraction):
        return str(part)
    return [encode(p) for p in part] if isinstance(part, tuple) else part


@cache
def _shared(pid: int) -> Workers:
    workers = Workers()
    atexit.register(workers.close)
    return workers


def shared() -> Workers:
    """This process's workers; a fork of it gets its own."""
    return _shared(os.getpid())
