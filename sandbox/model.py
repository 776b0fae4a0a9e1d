"""The nouns of the sandbox: what goes in (`Program`, `Test`, `Limits`) and what comes out (`ProgramResult`)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal, NamedTuple

Profile = Literal["strict", "lcb"]
LARGEST = 1 << 40  # of any limit: beyond it the kernel's own numbers end
LONGEST_NAME = 200


class Verdict(StrEnum):
    """How a test ended. `SYSTEM_ERROR` is the sandbox's own failure: never a pass, never a fail, drop the sample."""

    OK = "ok"
    WRONG_ANSWER = "wrong_answer"
    RUNTIME_ERROR = "runtime_error"
    TIME_LIMIT = "time_limit"
    MEMORY_LIMIT = "memory_limit"
    OUTPUT_LIMIT = "output_limit"
    COMPILE_ERROR = "compile_error"
    SYSTEM_ERROR = "system_error"


class SandboxUnavailable(RuntimeError):
    """No isolation holds on this machine; the message names what was tried and how to mend it."""


@dataclass(frozen=True)
class Limits:
    """What one test may use.

    cpu_s decides `time_limit`, on the scheduler's own clock, so that a loaded machine changes no verdict;
    wall_s is the net for sleepers. Both are seconds of the reference host (calibration.py).
    memory: bytes of address space beyond the bare interpreter's.
    output: bytes of stdout. threads: tasks of the worker's user id (enforced wherever the worker has an id of its own).
    """

    cpu_s: float = 6.0
    wall_s: float = 12.0
    memory: int = 1 << 30
    output: int = 8 << 20
    threads: int = 40

    def __post_init__(self) -> None:
        for name in ("cpu_s", "wall_s", "memory", "output", "threads"):
            if not 0 < getattr(self, name) < LARGEST:
                raise ValueError(f"Limits.{name} must be positive and below {LARGEST}, not {getattr(self, name)!r}")

    def scaled(self, cpu_factor: float) -> Limits:
        """What takes as long on a host that is so many times slower."""
        return replace(self, cpu_s=self.cpu_s * cpu_factor, wall_s=self.wall_s * cpu_factor)


@dataclass(frozen=True)
class Program:
    """Python source. With `fn`, tests call that function (or that method of `Solution`) instead of reading stdout.

    prelude: run with the star imports that LiveCodeBench gives every solution.
    """

    code: str
    fn: str | None = None
    prelude: bool = True

    def __post_init__(self) -> None:
        if self.fn is not None and not (self.fn.isidentifier() and len(self.fn) <= LONGEST_NAME):
            raise ValueError(f"the function to call must be a name of Python, not {self.fn!r:.80}")


@dataclass(frozen=True)
class Test:
    """Input and the output to be equal to. In function mode: one JSON argument a line; the JSON result."""

    __test__ = False  # pytest: not a test case

    stdin: str
    expected: str


@dataclass(frozen=True)
class Comparison:
    """When an output counts as the expected one.

    The default is LiveCodeBench's: lines stripped, and equal as text or, token by token, as decimal numbers.
    float_tolerance: absolute or relative, whichever is kinder, for numeric tokens. checker: a program for problems
    with several right answers (checker.py); it runs in the sandbox too.
    """

    ignore_case: bool = False
    float_tolerance: float = 0.0
    checker: Program | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.float_tolerance < math.inf:
            raise ValueError(f"float_tolerance must be a number from 0 on, not {self.float_tolerance!r}")


@dataclass(frozen=True)
class TestResult:
    """cpu_s, wall_s in seconds, max_rss in bytes. detail: what the guest says of a failure (exception, traceback)."""

    __test__ = False

    verdict: Verdict
    cpu_s: float = 0.0
    wall_s: float = 0.0
    max_rss: int = 0
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ProgramResult:
    """verdict: the first failure's, or `ok`. passed: number of tests passed. tests: those that ran, in order.

    cpu_factor: what the limits' seconds were multiplied by on the host that judged.
    """

    verdict: Verdict
    passed: int
    tests: list[TestResult]
    cpu_factor: float = 1.0


class Output(NamedTuple):
    """What a program said for one input: `ok` when it ran to its end; stdout up to the output limit."""

    verdict: Verdict
    stdout: str
