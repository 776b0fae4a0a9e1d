"""Untrusted outputs, judged right and in isolation: programs (`Pool`) and maths answers (`sandbox.maths`).

Imports nothing of the other packages: it gets text and gives verdicts.
"""

from sandbox.cache import VerdictCache
from sandbox.model import (
    Comparison,
    Limits,
    Output,
    Program,
    ProgramResult,
    SandboxUnavailable,
    Test,
    TestResult,
    Verdict,
)
from sandbox.pool import Pool

__all__ = [
    "Comparison",
    "Limits",
    "Output",
    "Pool",
    "Program",
    "ProgramResult",
    "SandboxUnavailable",
    "Test",
    "TestResult",
    "Verdict",
    "VerdictCache",
]
