"""Verdicts known from before: rollouts repeat programs, and a resumed run repeats everything."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sandbox import policy, tiers
from sandbox.model import ProgramResult, TestResult, Verdict

SOURCES = ("guest.py", "scratch.py", "worker.py", "judge.py", "checker.py", "compare.py")


class VerdictCache:
    """Results in one SQLite file, for any number of threads and processes on one machine.

    Keyed by all that a verdict depends on: program, tests, limits, comparison, the guest's Python and packages, the
    system-call filter and the code that judges. `system_error` is never kept: it says nothing about the program.
    """

    def __init__(self, path: str | Path) -> None:
        self.lock = threading.Lock()
        self.connection = sqlite3.connect(path, timeout=60, check_same_thread=False, isolation_level=None)
        self.connection.execute("pragma journal_mode = wal")
        self.connection.execute("pragma synchronous = normal")
        self.connection.execute("create table if not exists verdicts (key text primary key, result text not null)")

    def get(self, key: str) -> ProgramResult | None:
        with self.lock:
            row = self.connection.execute("select result from verdicts where key = ?", (key,)).fetchone()
        return None if row is None else _result(json.loads(row[0]))

    def put(self, key: str, result: ProgramResult) -> None:
        if any(test.verdict is Verdict.SYSTEM_ERROR for test in result.tests):
            return
        with self.lock:
            self.connection.execute("insert or ignore into verdicts values (?, ?)", (key, json.dumps(asdict(result))))

    def close(self) -> None:
        with self.lock:
            self.connection.close()


def environment(python: tiers.GuestPython, packages: Sequence[str]) -> str:
    """A hash of what runs and judges programs here."""
    here = Path(__file__).parent
    sources = [(here / name).read_text() for name in SOURCES]
    versions = [_version(path) for path in packages]
    described = json.dumps([python.version, policy.load().hex(), sources, versions])
    return hashlib.sha256(described.encode()).hexdigest()


def key(environment: str, *asked: Any) -> str:
    """A hash of the question: the dataclasses and plain values given to `Pool.run`."""
    described = json.dumps([environment, *asked], default=asdict)
    return hashlib.sha256(described.encode("utf-8", "surrogatepass")).hexdigest()


def _version(package: str) -> list[str]:
    folder = Path(package)
    return sorted(path.name for path in folder.parent.glob(f"{folder.name}-*.dist-info"))


def _result(stored: dict[str, Any]) -> ProgramResult:
    tests = [TestResult(**{**test, "verdict": Verdict(test["verdict"])}) for test in stored["tests"]]
    return ProgramResult(Verdict(stored["verdict"]), stored["passed"], tests, stored["cpu_factor"])
