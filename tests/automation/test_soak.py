"""Four runs, two readers and garbage collection in one home at once; `python -m benchmarks.soak` also breaks things."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.soak import BATCHES, EVERY, soak
from promptcot_assets.tables import open_lake

pytestmark = pytest.mark.slow

SECONDS = 20.0  # of work, from when each process begins; on a slow machine that is one round a writer


def test_nothing_goes_wrong_when_all_work_at_once(tmp_path: Path) -> None:
    outcome = soak(tmp_path / "home", SECONDS, harm=False)
    assert outcome.faults == []
    assert outcome.rounds.keys() == set(BATCHES) and min(outcome.rounds.values()) >= 1
    assert outcome.queries and outcome.collections
    lake = open_lake(tmp_path / "home")
    for batch, rounds in outcome.rounds.items():
        assert len(lake.history("raw_problems", batch)) == len(lake.history("problems", batch)) == rounds
        assert len(lake.history("base_model", batch)) == -(-rounds // EVERY)
