"""Every honest and hostile program gets the verdict it must, in each tier."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sandbox import Limits, Pool, Program, Test, Verdict
from tests.sandbox.programs import CASES, Case

THREATS = {
    "network", "read files", "/proc", "write files", "environment", "open files", "signals", "fork bomb", "threads",
    "CPU", "memory", "output", "kernel surface", "shared memory", "expected output", "forged report", "forged value",
}  # fmt: skip


def judge(pool: Pool, case: Case) -> Verdict:
    limits = Limits(cpu_s=case.cpu_s, wall_s=case.wall_s, memory=256 << 20, output=1 << 20)
    return pool.run(Program(case.code, case.fn), [Test(case.stdin, case.expected)], limits).verdict


def test_some_tier_runs(pools: dict[str, Pool | str]) -> None:
    assert any(isinstance(pool, Pool) for pool in pools.values()), pools


def test_the_table_covers_every_threat() -> None:
    assert len(CASES) >= 100
    assert len({case.name for case in CASES}) == len(CASES)
    assert {case.threat for case in CASES} - {""} == THREATS


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_verdict(pool: Pool, case: Case) -> None:
    assert judge(pool, case) in case.verdicts.split("|")


@pytest.mark.slow
def test_mixed_programs_never_flake(pool: Pool) -> None:
    """Five hundred tests in random order beside a CPU burner: the same verdicts, nothing left behind."""
    quick = [case for case in CASES if case.threat != "CPU" and "|" not in case.verdicts]
    mixed = random.Random(0).choices(quick, k=500)
    files = len(list(Path("/proc/self/fd").iterdir()))
    burner = Program("while True: pass")
    with ThreadPoolExecutor(3) as threads:
        busy = threads.submit(pool.run, burner, [Test("", "")], Limits(cpu_s=5, wall_s=30))
        verdicts = list(threads.map(lambda case: judge(pool, case), mixed))
        assert busy.result().verdict is Verdict.TIME_LIMIT
    wrong = [(case.name, verdict) for case, verdict in zip(mixed, verdicts, strict=True) if verdict != case.verdicts]
    assert not wrong
    assert len(list(Path("/proc/self/fd").iterdir())) <= files + 2  # a second worker may have started
