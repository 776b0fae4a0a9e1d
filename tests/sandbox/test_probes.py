"""Every planted cheat is rejected and every honest answer accepted, in each tier."""

from __future__ import annotations

import pytest

from sandbox import Pool, ProgramResult, Verdict, probes


def test_every_probe_holds(pool: Pool) -> None:
    rows = probes.run_probes(pool)
    assert len(rows) >= 40
    assert not [row for row in rows if not row.holds]


def test_a_pool_that_passes_everything_or_fails_everything_does_not_hold(
    any_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The probes themselves can fail: against a judge that always says the same."""
    monkeypatch.setattr(probes, "COMPLETIONS", [])
    for verdict in (Verdict.OK, Verdict.WRONG_ANSWER, Verdict.SYSTEM_ERROR):
        monkeypatch.setattr(any_pool, "run", lambda *a, verdict=verdict, **k: ProgramResult(verdict, 0, []))
        assert [row for row in probes.run_probes(any_pool) if not row.holds]
