"""A disk that fills up ends a commit, or a shard, in an error; what was there stays, and the same work goes on."""

from __future__ import annotations

import subprocess
import sys

import pytest

from promptcot_assets.lake import Lake
from tests.lake.lake_examples import PROBLEMS, problems, provenance

ROOM = {"for no shard": 4_000, "for shards, not for the commit": 60_000}


@pytest.mark.parametrize("room", ROOM.values(), ids=ROOM)
def test_nothing_is_torn_and_nothing_finished_is_lost(lake: Lake, room: int) -> None:
    before = lake.commit("problems", [problems(3)], PROBLEMS, provenance(0))
    command = [sys.executable, "-m", "tests.lake.lake_writer", "full", str(lake.home), str(room)]
    full = subprocess.run(command, capture_output=True, text=True)
    assert full.returncode == 1 and "File too large" in full.stderr, full.stderr[-2000:]

    assert lake.newest("problems") == before and lake.verify(before)
    spool = lake.spool("problems", "all", provenance(1).fingerprint)
    kept = len(list((spool.folder / "write").glob("*.parquet")))
    assert kept == (0 if room == ROOM["for no shard"] else 4)
    assert not list(lake.home.rglob(".commit-*"))

    computed: list[int] = []

    def write(number: int) -> object:
        computed.append(number)
        return problems(2000, f"{number}-")

    shards = list(spool.map("write", range(4), write))  # type: ignore[arg-type]
    ref = lake.commit("problems", shards, PROBLEMS, provenance(1))
    assert ref.rows == 8000 and len(computed) == 4 - kept and lake.verify(ref)
