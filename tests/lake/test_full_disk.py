"""A disk that fills up ends a commit, or a shard, in an error; what was there stays, and the same work goes on."""

from __future__ import annotations

import base64
import random
import signal
import subprocess
import sys

import pytest

from promptcot_assets.lake import Lake, Provenance
from tests.lake.lake_examples import LOSS, PROBLEMS, problems, provenance, train

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


PLACES = {"shard": 4_000, "commit": 4_000, "log": 20_000, "catalogue": 100_000, "copy": 4_000, "index": 4_000}


@pytest.mark.parametrize(("place", "room"), PLACES.items(), ids=PLACES)
def test_wherever_the_disk_is_full_it_is_one_sentence_and_the_same_goes_on(lake: Lake, place: str, room: int) -> None:
    before = lake.commit("problems", [problems(3)], PROBLEMS, provenance(0))
    train(lake, "student", b"weights" * 2000, provenance(1))
    command = [sys.executable, "-m", "tests.lake.lake_writer", "no_room", str(lake.home), place]
    full = subprocess.run([*command, str(room)], capture_output=True, text=True)
    (said,) = full.stdout.splitlines() or pytest.fail(full.stderr[-2000:])
    assert str(lake.home) in said and "is full" in said and "run the same command again" in said
    assert lake.newest("problems") == before and lake.verify(before)
    parts = [path for path in lake.home.rglob(".*") if path.name != ".publish.lock" and path.name != ".partial"]
    assert parts == [] and not list(lake.home.glob("lake/*/_delta_log/*#*"))
    with_room = subprocess.run([*command, str(1 << 30)], capture_output=True, text=True)
    assert (with_room.returncode, with_room.stdout) == (0, ""), with_room.stderr[-2000:]


def test_a_disk_with_room_for_a_catalogue_alone_gets_one(lake: Lake) -> None:
    """A copy of the old one, to be changed, holds the old lineage beside the new one."""
    train(lake, "student", b"weights", provenance(0))
    for number in range(40):
        settings = base64.b64encode(random.Random(number).randbytes(75_000)).decode()
        lake._commit("problems", [problems(1)], PROBLEMS, Provenance("1", settings, number), "all")
    Lake(lake.home).publish()
    room = (lake.home / "catalog.duckdb").stat().st_size * 3 // 2
    command = [sys.executable, "-m", "tests.lake.lake_writer", "no_room", str(lake.home), "catalogue", str(room)]
    tight = subprocess.run(command, capture_output=True, text=True)
    assert (tight.returncode, tight.stdout) == (0, ""), tight.stderr[-2000:]


@pytest.mark.parametrize("room", [0, 1, 7_000, 13_999])
def test_a_copy_that_was_cut_off_is_no_model(lake: Lake, room: int) -> None:
    """Killed in the middle of a file: what is there is not taken for the model, and the next run ends with the same."""
    model = train(lake, "student", b"weights" * 2000, provenance(1))
    command = [sys.executable, "-m", "tests.lake.lake_writer", "copy", str(lake.home), str(room)]
    killed = subprocess.run(command, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGXFSZ, killed.stderr
    work = lake.work_folder("copied", provenance(7).fingerprint)
    assert not (work / "model").exists()
    (work / "model").mkdir()  # and one that was cut off while it was copied in place
    (work / "model" / "model.safetensors").write_bytes((b"weights" * 2000)[:room])
    lake.copy_checkpoint(model, work / "model")
    copied = lake.commit_checkpoint("copied", work / "model", LOSS, {"loss": 1.0}, provenance(7))
    assert copied.data_version == model.data_version and lake.verify(copied)
