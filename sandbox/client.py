"""`RemotePool`: a pool of another process behind a socket file (server.py); and which pool this process uses."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from sandbox.model import (
    Comparison,
    Limits,
    Output,
    Profile,
    Program,
    ProgramResult,
    SandboxUnavailable,
    Test,
    TestResult,
    Verdict,
)
from sandbox.pool import EXACT, Cancelled, Pool

SOCKET_VARIABLE = "SANDBOX_SOCKET"
PATIENCE_S = 120.0  # a server that is being started again is waited for this long
AGAIN_AFTER_S = 0.5
ERRORS: dict[str, type[Exception]] = {"cancelled": Cancelled, "unavailable": SandboxUnavailable}


class Judges(Protocol):
    """What stages ask of a pool, wherever its guests are."""

    def run(
        self,
        program: Program,
        tests: Sequence[Test],
        limits: Limits | None = None,
        /,
        *,
        comparison: Comparison = EXACT,
        profile: Profile = "strict",
    ) -> ProgramResult: ...

    def outputs(self, program: Program, stdins: Sequence[str], limits: Limits | None = None, /) -> list[Output]: ...


def open_pool(workers: int) -> Pool | RemotePool:
    """The pool behind the socket file that SANDBOX_SOCKET names, else one of this machine's own with `workers` guests.

    Raises: SandboxUnavailable.
    """
    place = os.environ.get(SOCKET_VARIABLE)
    return RemotePool(Path(place)) if place else Pool(workers, cpu_factor=None)


class RemotePool:
    """As `Pool`, with the guests elsewhere: the verdicts are those of the server's machine and Python.

    May be called from any thread; each has a connection of its own. A lost connection is opened again and the question
    asked again, since a program that was judged twice is judged alike; what cannot be asked within `patience_s` raises
    SandboxUnavailable and is never a verdict.
    """

    def __init__(self, path: Path, patience_s: float = PATIENCE_S) -> None:
        self.path, self._patience_s = path, patience_s
        self._own = threading.local()
        self._open: list[socket.socket] = []
        about = self._ask({"call": "about"})
        self.tier: str = about["tier"]
        self.cpu_factor: float = about["cpu_factor"]

    def run(
        self,
        program: Program,
        tests: Sequence[Test],
        limits: Limits | None = None,
        early_stop: bool = True,
        *,
        comparison: Comparison = EXACT,
        profile: Profile = "strict",
    ) -> ProgramResult:
        """As `Pool.run`."""
        question = _question("run", program, limits) | {
            "tests": [[test.stdin, test.expected] for test in tests],
            "early_stop": early_stop,
            "comparison": asdict(comparison),
            "profile": profile,
        }
        found = self._ask(question)
        results = [TestResult(**(test | {"verdict": Verdict(test["verdict"])})) for test in found["tests"]]
        return ProgramResult(Verdict(found["verdict"]), found["passed"], results, found["cpu_factor"])

    def outputs(self, program: Program, stdins: Sequence[str], limits: Limits | None = None) -> list[Output]:
        """As `Pool.outputs`."""
        found = self._ask(_question("outputs", program, limits) | {"stdins": list(stdins)})
        return [Output(Verdict(verdict), stdout) for verdict, stdout in found]

    def close(self) -> None:
        """Close every connection. The server's pool goes on."""
        while self._open:
            self._open.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, question: dict[str, Any]) -> Any:
        line, until = json.dumps(question).encode() + b"\n", time.monotonic() + self._patience_s
        while True:
            try:
                answer = json.loads(self._exchanged(line))
                break
            except (OSError, EOFError) as error:
                self._hang_up()
                if time.monotonic() > until:
                    raise SandboxUnavailable(
                        f"the sandbox server at {self.path} does not answer: {error}; start it "
                        f"(python -m sandbox.server serve ...), or unset {SOCKET_VARIABLE} to judge on this machine"
                    ) from error
                time.sleep(AGAIN_AFTER_S)
        if "error" in answer:
            raise ERRORS.get(answer["kind"], ValueError)(answer["error"])
        return answer["result"]

    def _exchanged(self, line: bytes) -> bytes:
        if getattr(self._own, "connection", None) is None:
            self._own.connection = socket.socket(socket.AF_UNIX)
            self._open.append(self._own.connection)
            self._own.connection.connect(str(self.path))
            self._own.lines = self._own.connection.makefile("rb")
        self._own.connection.sendall(line)
        answer: bytes = self._own.lines.readline()
        if not answer.endswith(b"\n"):
            raise EOFError("the connection ended in the middle of an answer")
        return answer

    def _hang_up(self) -> None:
        if (connection := self._own.connection) is not None:
            connection.close()
            with suppress(ValueError):  # `close` has taken it out already
                self._open.remove(connection)
        self._own.connection = None


def _question(call: str, program: Program, limits: Limits | None) -> dict[str, Any]:
    return {"call": call, "program": asdict(program), "limits": asdict(limits) if limits else None}
