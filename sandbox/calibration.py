"""How fast a guest computes here, so that a CPU limit asks for the same work on every host.

A limit in seconds is meant for a host on which WORK takes REFERENCE_S; elsewhere it is multiplied by the pool's
`cpu_factor`. It is the least of a few runs, since neighbours only ever slow a program down, and rounded to quarters, so
that two starts on one host agree.
"""

from __future__ import annotations

from collections.abc import Iterator

from sandbox import judge
from sandbox.model import Limits, Program, SandboxUnavailable
from sandbox.worker import GuestLost, Worker

WORK = Program("""
total, seen, words = 0, {}, []
for n in range(60000):
    total = (total * 31 + n) % 1000003
    seen[total % 4096] = n
    words.append(str(total))
words.sort()
print(total)
""")
REFERENCE_S = 0.036  # CPython 3.11 on a shared core of an AMD EPYC
RUNS = 5
LEAST, MOST = 0.5, 4.0  # a host beyond these is judged as if it were there


def measured_factor(worker: Worker) -> float:
    """WORK's time here over REFERENCE_S, in quarters from LEAST to MOST; takes a second at most.

    Raises: SandboxUnavailable when the guest is lost.
    """
    try:
        times = list(_times(worker, Limits(cpu_s=REFERENCE_S * MOST, wall_s=1.0)))
    except GuestLost as lost:
        raise SandboxUnavailable(f"the guest ended while its speed was measured ({lost})") from lost
    return min(MOST, max(LEAST, round(min(times) / REFERENCE_S * 4) / 4))


def _times(worker: Worker, limits: Limits) -> Iterator[float]:
    """CPU seconds of at least one run and at most RUNS."""
    code = worker.step("compile", WORK, WORK.code.encode(), b"", limits).stdout
    spent_s = 0.0
    for _ in range(RUNS):
        ending = worker.step("run", WORK, code, b"", limits)
        yield limits.cpu_s if judge.failure(ending, limits) else ending.cpu_s
        spent_s += ending.wall_s
        if spent_s > 1.0 - limits.cpu_s:
            return
