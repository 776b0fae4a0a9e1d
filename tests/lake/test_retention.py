from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from promptcot_assets.lake import Garbage, Lake, LakeError, Ref
from tests.lake.lake_examples import PROBLEMS, problems, provenance, train


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


def test_a_missing_ancestor_does_not_stop_the_collection(lake: Lake) -> None:
    lost = commit(lake, "seeds", 0)
    first = commit(lake, "problems", 0, lost)
    train(lake, "student", b"1", provenance(1, first))
    commit(lake, "problems", 1)
    shutil.rmtree(lake.home / "lake" / "seeds")
    collect(Lake(lake.home))
    assert lake.verify(first)


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
    lake = Lake(tmp_path_factory.mktemp("gc") / "home")
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
