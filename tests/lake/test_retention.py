from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from promptcot_assets.lake import Garbage, Lake, LakeError, Ref, checkpoints, retention
from promptcot_assets.tables import open_lake
from tests.lake.lake_examples import LOSS, PROBLEMS, problems, provenance, train


def commit(lake: Lake, asset: str, seed: int, *inputs: Ref, partition: str = "all") -> Ref:
    return lake._commit(asset, [problems(2, f"{asset}{seed}")], PROBLEMS, provenance(seed, *inputs), partition)


def collect(lake: Lake, keep_last: int = 1) -> list[Garbage]:
    """Delete everything that may go; what was announced is what went."""
    announced = lake.gc(keep_last, grace_hours=0)
    assert all(file.exists() for one in announced for file in one.files)
    gone = lake.gc(keep_last, grace_hours=0, dry_run=False)
    assert gone == announced
    assert not any(file.exists() for one in gone for file in one.files)
    assert lake.gc(keep_last, grace_hours=0) == []
    return gone


def test_each_partition_keeps_its_newest_commits(lake: Lake) -> None:
    old = [commit(lake, "problems", seed, partition="a") for seed in range(4)]
    only = commit(lake, "problems", 9, partition="b")
    (garbage,) = collect(lake, keep_last=2)
    assert (garbage.asset, len(garbage.files)) == ("problems", 2)
    assert garbage.bytes > 0
    assert [lake.verify(ref) for ref in [*old, only]] == [False, False, True, True, True]
    with pytest.raises(LakeError, match=r"is gone \(garbage collection"):
        lake.table(old[0])
    assert [c.ref for c in lake.history("problems", "a")] == old  # lineage stays


@pytest.mark.parametrize("keep_last", [0, -1])
def test_the_newest_version_always_stays(lake: Lake, keep_last: int) -> None:
    refs = [commit(lake, "problems", seed) for seed in range(3)]
    collect(lake, keep_last)
    assert [lake.verify(ref) for ref in refs] == [False, False, True]
    lake.publish()
    assert lake.commit("problems", [problems(1)], PROBLEMS, provenance(9)).version == refs[-1].version + 1


def test_what_models_and_scores_descend_from_is_pinned(lake: Lake) -> None:
    seeds = [commit(lake, "seeds", seed) for seed in range(3)]
    used = commit(lake, "problems", 0, seeds[0])
    unused = commit(lake, "problems", 1, seeds[1])
    newest = commit(lake, "problems", 2, seeds[2])
    old_model = train(lake, "student", b"1", provenance(1, used))
    train(lake, "student", b"2", provenance(2))
    items = commit(lake, "benchmark_items", 0)
    commit(lake, "benchmark_items", 1)
    old_scores = commit(lake, "benchmark_scores", 0, items)
    commit(lake, "benchmark_scores", 1)
    collect(lake)
    kept = [seeds[0], seeds[2], used, newest, old_model, items, old_scores]
    assert [lake.verify(ref) for ref in kept] == [True] * len(kept)
    assert [lake.verify(ref) for ref in (seeds[1], unused)] == [False, False]
    assert lake.checkpoint(old_model).exists()


LOSSES = {
    "the commit file between others": lambda table: (table / "_delta_log" / f"{1:020d}.json").unlink(),
    "the newest commit file": lambda table: (table / "_delta_log" / f"{2:020d}.json").unlink(),
    "the whole table": shutil.rmtree,
}


@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES)
def test_what_models_rest_on_is_kept_when_a_commit_between_is_lost(lake: Lake, lose: Callable[[Path], object]) -> None:
    """Without the lost commit nobody can tell that the first seeds are behind the model."""
    seeds = commit(lake, "seeds", 0)
    middle = [commit(lake, "problems", seed, seeds) for seed in range(2)]
    train(lake, "student", b"1", provenance(1, *middle))
    commit(lake, "seeds", 1)
    lose(lake.home / "lake" / "problems")
    for dry_run in (True, False):
        with pytest.raises(LakeError, match=r"problems.*; restore it from a copy of the home"):
            open_lake(lake.home).gc(keep_last=1, grace_hours=0, dry_run=dry_run)
    assert lake.verify(seeds)


def age(path: Path, hours: float) -> None:
    for item in [path, *path.rglob("*")]:
        os.utime(item, (time.time() - hours * 3600,) * 2)


def test_the_grace_protects_what_is_young(lake: Lake) -> None:
    for seed in range(3):
        commit(lake, "problems", seed)
    assert lake.gc(keep_last=1, grace_hours=1) == []
    for path in (lake.home / "lake" / "problems").glob("_part*/*"):
        age(path, 2)
    assert lake.gc(keep_last=1, grace_hours=1) == []  # old files, but a reader may have got their refs just now
    assert len(lake.gc(keep_last=1, grace_hours=0)[0].files) == 2


def test_orphans_of_killed_runs_go_after_the_grace(lake: Lake) -> None:
    commit(lake, "problems", 0)
    orphan = lake.home / "lake" / "problems" / "_part=all" / "killed.zstd.parquet"
    orphan.write_bytes(b"x" * 10)
    spool = lake.home / "spool" / "problems" / "all-0123"
    (spool / "generate").mkdir(parents=True)
    (spool / "generate" / "shard.parquet").write_bytes(b"x" * 20)
    unfinished = lake.home / "models" / ".partial" / "student-0123"
    unfinished.mkdir(parents=True)
    (unfinished / "w").write_bytes(b"x" * 30)
    sealed = lake.home / "models" / "student" / "0123"  # sealed, never committed, its settings never run again
    sealed.mkdir(parents=True)
    (sealed / "manifest.json").write_bytes(b"x" * 40)
    mine = lake.work_folder("teacher", "f")
    for path in (orphan, spool, unfinished, sealed, mine):
        age(path, 25)
    found = {(one.asset, one.bytes): one.files for one in lake.gc()}
    assert found == {("problems", 30): (orphan, spool), ("student", 70): (unfinished, sealed)}
    age(spool / "generate" / "shard.parquet", 23)  # still being worked on
    assert spool not in {file for one in lake.gc() for file in one.files}
    age(spool, 25)
    collect(lake)
    assert mine.exists()  # a living process works in it
    assert lake.home.joinpath("models", "student").exists()


def killed(lake: Lake, folder: Path) -> None:
    """What becomes of a work folder when its process is killed, a day later."""
    os.close(checkpoints._claimed.pop((os.getpid(), folder)))
    age(lake.home, 25)


def collect_while(lake: Lake, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> list[Garbage]:
    """Delete everything that may go; `act` happens after it was found and before it goes."""
    size, waiting = retention._size, [act]

    def sized(path: Path) -> int:
        while waiting:
            waiting.pop()()
        return size(path)

    monkeypatch.setattr(retention, "_size", sized)
    gone = lake.gc(keep_last=1, dry_run=False)
    assert not waiting
    return gone


def test_training_resumed_while_garbage_is_collected_keeps_its_work(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = lake.work_folder("student", "f")
    (folder / "trainer").mkdir()
    (folder / "trainer" / "state").write_text("days of work")
    killed(lake, folder)
    other = lake.work_folder("teacher", "f")
    killed(lake, other)

    def resume() -> None:
        assert open_lake(lake.home).work_folder("student", "f") == folder

    (garbage,) = collect_while(lake, monkeypatch, resume)
    assert (garbage.asset, garbage.files) == ("teacher", (other,))  # only what went
    assert (folder / "trainer" / "state").read_text() == "days of work"


def test_a_checkpoint_committed_while_garbage_is_collected_stays(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    made = provenance(1)
    work = lake.work_folder("student", made.fingerprint)
    (work / "model").mkdir()
    (work / "model" / "weights").write_text("w")
    sealed = checkpoints.seal(lake.models, "student", work / "model", made)
    killed(lake, work)
    committed: list[Ref] = []

    def commit_it() -> None:
        again = open_lake(lake.home)
        folder = again.work_folder("student", made.fingerprint) / "model"
        assert (folder / "weights").exists()  # taken back
        committed.append(again.commit_checkpoint("student", folder, LOSS, {"loss": 1.0}, made))
        age(lake.home, 25)  # nothing but the commit tells

    collect_while(lake, monkeypatch, commit_it)
    assert lake.checkpoint(committed[0]) == sealed.folder


def test_rows_that_a_model_came_to_rest_on_while_garbage_is_collected_stay(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    refs = [commit(lake, "problems", seed) for seed in range(4)]
    tomorrow = time.time() + 25 * 3600
    monkeypatch.setattr(time, "time", lambda: tomorrow)
    gone = collect_while(lake, monkeypatch, lambda: train(lake, "student", b"1", provenance(1, refs[1])))
    assert [len(one.files) for one in gone] == [2]
    assert [lake.verify(ref) for ref in refs] == [False, True, False, True]


@pytest.mark.parametrize("is_sealed", [False, True])
def test_a_deletion_that_was_killed_is_finished_by_the_next(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, is_sealed: bool
) -> None:
    made = provenance(1)
    work = lake.work_folder("student", made.fingerprint)
    (work / "weights").write_text("w")
    folder = checkpoints.seal(lake.models, "student", work, made).folder if is_sealed else work
    killed(lake, work)

    def kill(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "rmtree", kill)
        lake.gc(dry_run=False)
    assert not folder.exists()  # nobody can take up what is half gone
    assert [one.asset for one in collect(lake)] == ["student"]
    assert not list((lake.models / ".partial").iterdir())


def test_parts_of_derived_tables_that_a_kill_left_go_after_the_grace(lake: Lake) -> None:
    folder = lake.home / "derived" / "lengths" / "problems"
    folder.mkdir(parents=True)
    finished, left, growing = folder / "all-1.arrow", folder / ".all-1.arrow.0f", folder / ".all-2.arrow.1f"
    for path, hours in ((finished, 25), (left, 25), (growing, 23)):
        path.write_bytes(b"x" * 10)
        age(path, hours)
    assert lake.gc() == [Garbage("problems", (left,), 10)] == lake.gc(dry_run=False)
    assert sorted(folder.iterdir()) == [growing, finished]


def test_committed_checkpoints_and_unfinished_neighbours(lake: Lake) -> None:
    refs = [train(lake, "student", bytes([i]), provenance(i)) for i in range(3)]
    assert collect(lake) == []
    assert all(lake.verify(ref) for ref in refs)


def test_files_of_foreign_maintenance_stay(lake: Lake) -> None:
    """What Delta calls live is never deleted, even when it is not in our log."""
    from deltalake import DeltaTable

    ref = commit(lake, "problems", 0)
    table = DeltaTable((lake.home / "lake" / "problems").as_uri())
    table.delete("problem_id = 'problems00'")  # rewrites the file
    rewritten = {Path(uri).name for uri in table.file_uris()}
    assert lake.gc(keep_last=1, grace_hours=0, dry_run=False) == []
    assert rewritten <= {path.name for path in (lake.home / "lake" / "problems").rglob("*.parquet")}
    assert lake.verify(ref)


def test_a_table_whose_creation_was_killed_is_no_obstacle(lake: Lake) -> None:
    (lake.home / "lake" / "problems" / "_delta_log").mkdir(parents=True)
    lake.publish()
    assert lake.gc(grace_hours=0) == [] and lake.newest("problems") is None
    assert commit(lake, "problems", 0).rows == 2


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    commits=st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xy"), st.integers(0, 9)), max_size=8),
    keep_last=st.integers(0, 3),
    models=st.sets(st.integers(0, 7), max_size=2),
)
def test_exactly_the_kept_commits_survive(
    commits: list[tuple[str, str, int]], keep_last: int, models: set[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    lake = open_lake(tmp_path_factory.mktemp("gc") / "home")
    refs: list[Ref] = []
    for asset, partition, parent in commits:
        inputs = [refs[parent]] if parent < len(refs) else []
        refs.append(commit(lake, asset, len(refs), *inputs, partition=partition))
    pinned = set()
    for i in models:
        if i < len(refs):
            pinned |= {refs[i], *(c.ref for c in lake.ancestors(refs[i]))}
            train(lake, "student", bytes([i]), provenance(i, refs[i]), f"m{i}")
    lake.gc(keep_last, grace_hours=0, dry_run=False)
    for ref in refs:
        newer = [r for r in refs if (r.asset, r.partition) == (ref.asset, ref.partition) and r.version > ref.version]
        assert lake.verify(ref) == (ref in pinned or len(newer) < max(keep_last, 1)), ref
