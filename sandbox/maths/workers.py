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
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

from sandbox.maths.equality import Judged
from sandbox.model import SandboxUnavailable

CPU_S = 2.0  # of one grade, whatever it asks
LEAST_S = 0.01  # less than that is not asked any more
PATIENCE_S = 120.0  # of wall clock: a child that used no CPU for so long is not computing
LARGEST_QUESTION = 100_000  # bytes
ROOT = str(Path(__file__).resolve().parents[2])
START = """
import sys
sys.path.insert(0, sys.argv[1])
from sandbox.maths.symbolic import serve
serve(int(sys.argv[2]))
"""
ENVIRONMENT = {"PYTHONHASHSEED": "0", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}  # nothing of ours, tokens least of all


class WorkerLost(SandboxUnavailable):
    """A symbolic process ended twice in the middle of a question: a failure of ours, and no verdict on an answer."""


@dataclass
class Budget:
    """CPU seconds that one grade may still use in symbolic workers."""

    left: float = CPU_S


class Worker:
    """One symbolic process. One caller at a time."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        complaints = os.memfd_create("stderr")
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-c", START, ROOT, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=complaints,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                env=ENVIRONMENT,
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

    def ask(self, question: bytes) -> list[Any]:
        """[equal, rule, limit, CPU seconds]. Raises WorkerLost, or SandboxUnavailable when no worker starts."""
        for _ in range(2):
            if self.process is None:
                self.start()
            try:
                self.socket.send(question)
                answer = self.socket.recv(1 << 20)
            except OSError:
                answer = b""
            if answer:
                return list(json.loads(answer))
            self.stop()
        raise WorkerLost


class Workers:
    """Up to `size` symbolic processes, started on demand. spent: CPU seconds of all questions so far."""

    def __init__(self, size: int | None = None) -> None:
        self.size = size or os.cpu_count() or 1
        self.all: list[Worker] = []
        self.idle: queue.LifoQueue[Worker] = queue.LifoQueue()
        self.lock = threading.Lock()
        self.spent = 0.0

    def ask(self, name: str, *arguments: Any, budget: Budget | None = None) -> Judged:
        """The answer to one question of `symbolic.py`, paid from the budget; without one, from a fresh one."""
        budget = budget or Budget()
        if budget.left < LEAST_S:
            return Judged(False, "time limit", True)
        try:
            question = json.dumps([round(budget.left, 3), name, *map(encode, arguments)]).encode()
        except RecursionError:
            return Judged(False, "too deep", True)
        if len(question) > LARGEST_QUESTION:
            return Judged(False, "too long", True)
        with self._worker() as worker:
            equal, rule, limit, used = worker.ask(question)
        used = min(used, budget.left)  # a child that was killed tells more
        budget.left -= used
        self.spent += used
        return Judged(equal, rule, limit)

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
                self.all.append(Worker())
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
