"""Known verdicts: found again for the same question only, and never for failures of the sandbox."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox import Comparison, Limits, Pool, Program, ProgramResult, Test, TestResult, Verdict, VerdictCache, pool
from sandbox.cache import key

PROGRAM = Program("print(input())")
RESULT = ProgramResult(Verdict.OK, 1, [TestResult(Verdict.OK, 0.1, 0.2, 3, {"kind": "exit"})], 1.5)
ASKED = (PROGRAM, (Test("1", "1"),), Limits(), True, Comparison(), "strict")


def test_results_survive_a_restart(tmp_path: Path) -> None:
    first = VerdictCache(tmp_path / "verdicts.sqlite")
    first.put("k", RESULT)
    first.close()
    again = VerdictCache(tmp_path / "verdicts.sqlite")
    assert again.get("k") == RESULT
    assert again.get("other") is None
    again.close()


def test_a_failure_of_the_sandbox_is_not_kept() -> None:
    cache = VerdictCache(":memory:")
    cache.put("k", ProgramResult(Verdict.SYSTEM_ERROR, 0, [TestResult(Verdict.SYSTEM_ERROR)]))
    assert cache.get("k") is None


@pytest.mark.parametrize(
    "other",
    [
        ("another environment", *ASKED),
        ("here", Program("print(input()) "), *ASKED[1:]),
        ("here", Program("print(input())", prelude=False), *ASKED[1:]),
        ("here", PROGRAM, (Test("1", "2"),), *ASKED[2:]),
        ("here", PROGRAM, (Test("1", "1"), Test("1", "1")), *ASKED[2:]),
        ("here", PROGRAM, ASKED[1], Limits(cpu_s=5), *ASKED[3:]),
        ("here", PROGRAM, ASKED[1], Limits(), False, *ASKED[4:]),
        ("here", PROGRAM, ASKED[1], Limits(), True, Comparison(ignore_case=True), "strict"),
        ("here", PROGRAM, ASKED[1], Limits(), True, Comparison(), "lcb"),
    ],
)
def test_the_key_covers_all_that_a_verdict_depends_on(other: tuple[object, ...]) -> None:
    assert key("here", *ASKED) == key("here", *ASKED)
    assert key(*other) != key("here", *ASKED)  # type: ignore[arg-type]


def test_a_pool_asks_once(tmp_path: Path, any_pool: Pool) -> None:
    counting = Program("import time\nprint(time.monotonic_ns())")
    with Pool(1, tier=any_pool.tier, cache=VerdictCache(tmp_path / "verdicts.sqlite")) as pool:
        first = pool.run(counting, [Test("", "0")])
        assert pool.run(counting, [Test("", "0")]) == first  # the very same cost: it was not run again
        assert pool.run(PROGRAM, [Test("\udc80", "\udc80")]).verdict is Verdict.OK


def test_a_host_measured_again_knows_its_verdicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy minute gives another factor, which only makes up for it. One that somebody sets is another question."""
    program = Program("import time\nprint(time.time_ns())")
    costs = []
    for measured, set_to in ((1.0, None), (2.0, None), (1.0, 2.0)):
        monkeypatch.setattr(pool, "measured_factor", lambda worker, factor=measured: factor)
        cache = VerdictCache(tmp_path / "verdicts.sqlite")
        with Pool(1, cache=cache, cpu_factor=set_to) as one:
            costs.append(one.run(program, [Test("", "0")]).tests[0].wall_s)
        cache.close()
    assert costs[0] == costs[1] != costs[2]
