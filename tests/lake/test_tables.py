"""The traps of Delta tables: versions under concurrency, two first commits, log retention, kills."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pytest
from deltalake import DeltaTable

from promptcot_assets.lake import Lake, Ref, tables
from promptcot_assets.lake.log import Log, Record
from promptcot_assets.lake.rows import write_rows
from promptcot_assets.lake.tables import overwrite_partition
from promptcot_assets.tables import open_lake
from tests.lake.lake_examples import PROBLEMS, problems, provenance

Writer = Callable[..., subprocess.Popen[str]]


def committed(*writers: subprocess.Popen[str]) -> list[Ref]:
    """The refs that the writers printed; every writer must have succeeded."""
    outputs = [writer.communicate()[0] for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * len(writers)
    return [Ref.from_json(line) for output in outputs for line in output.splitlines()]


def live_files(lake: Lake, asset: str) -> set[str]:
    """What Delta itself calls the newest version."""
    return {Path(uri).name for uri in DeltaTable((lake.home / "lake" / asset).as_uri()).file_uris()}


def current_files(lake: Lake, asset: str) -> set[str]:
    """What the lake calls the newest version."""
    return {Path(entry.file).name for entry in lake._log.current(asset).values()}


def check_versions(lake: Lake, refs: list[Ref]) -> None:
    """Every ref was given once and is in the log with the rows and the provenance of its writer."""
    assert max(Counter((ref.asset, ref.version) for ref in refs).values()) == 1
    for ref in refs:
        assert lake.verify(ref)
        first_id = lake.table(ref, ["problem_id"])[0][0].as_py()
        assert first_id.startswith(f"{lake.commit_of(ref).provenance.run_id}-{lake.commit_of(ref).provenance.seed}-")


def test_versions_are_right_when_processes_commit_to_the_same_tables(lake: Lake, writer: Writer) -> None:
    """`DeltaTable.history()` gave 17 of 60 wrong versions here (delta-rs#4488).

    Each process commits to a partition of its own, to one that all share and to a table of its own.
    """
    count, processes = 2, 3
    targets = [(f"problems:part{i}", "problems:shared", f"table{i}:all") for i in range(processes)]
    refs = committed(*(writer("tables", lake.home, count, *own) for own in targets))
    check_versions(lake, refs)
    assert sorted(ref.version for ref in refs if ref.asset == "problems") == list(range(1, 2 * count * processes + 1))
    assert lake.partitions("problems") == ["part0", "part1", "part2", "shared"]
    assert live_files(lake, "problems") == current_files(lake, "problems")
    assert lake.newest("problems", "shared") == max(
        (ref for ref in refs if ref.partition == "shared"), key=lambda ref: ref.version
    )
    with duckdb.connect(str(lake.home / "catalog.duckdb"), read_only=True) as con:  # the last publisher saw all
        assert con.execute("select count(*) from lineage").fetchone() == (3 * count * processes,)
        rows = sum(entry.ref.rows for entry in lake._log.current("problems").values())
        assert con.execute("select count(*) from problems").fetchone() == (rows,)


def test_versions_are_read_from_the_log_also_after_foreign_maintenance(lake: Lake) -> None:
    before = [lake.commit("problems", [problems(2)], PROBLEMS, provenance(seed)) for seed in (1, 2)]
    table = DeltaTable((lake.home / "lake" / "problems").as_uri())
    table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)  # adds versions of its own
    assert lake.newest("problems") == before[1]
    after = lake.commit("problems", [problems(3)], PROBLEMS, provenance(3))
    assert after.version > before[1].version + 1
    assert [commit.ref for commit in lake.history("problems")] == [*before, after]


def test_logs_are_kept_for_good(lake: Lake) -> None:
    """The default deletes versions after 30 days, when a log checkpoint is written."""
    for seed in range(4):
        lake.commit("problems", [problems(1, f"{seed}-")], PROBLEMS, provenance(seed))
    log = lake.home / "lake" / "problems" / "_delta_log"
    for path in log.glob("*.json"):
        year_ago = time.time() - 365 * 86400
        os.utime(path, (year_ago, year_ago))
    table = DeltaTable((lake.home / "lake" / "problems").as_uri())
    assert tables._CONFIGURATION.items() <= table.metadata().configuration.items()
    table.create_checkpoint()
    table.cleanup_metadata()
    fresh = open_lake(lake.home)
    assert [commit.provenance.seed for commit in fresh.history("problems")] == list(range(4))
    assert fresh.table(fresh.history("problems")[0].ref)["problem_id"].to_pylist() == ["0-0"]
    assert fresh.commit("problems", [], PROBLEMS, provenance(9)).version == 5


def state(lake: Lake) -> list[str | None]:
    ref = lake.newest("problems")
    assert ref is not None and lake.verify(ref)
    return lake.table(ref)["problem_id"].to_pylist()


def check_old_or_new(home: Path) -> bool:
    """After a kill: exactly the old or the new rows, for us, Delta and DuckDB. Whether they are the new ones."""
    lake = open_lake(home)
    rows = state(lake)
    assert rows in (["old0", "old1"], [f"new{i}" for i in range(5)])
    assert live_files(lake, "problems") == current_files(lake, "problems")
    with duckdb.connect(str(home / "catalog.duckdb"), read_only=True) as con:  # the published one may be the older
        ids = [row[0] for row in con.execute("select problem_id from problems").fetchall()]
        assert ids in (rows, ["old0", "old1"])
    lake.publish()
    with duckdb.connect(str(home / "catalog.duckdb"), read_only=True) as con:
        assert [row[0] for row in con.execute("select problem_id from problems").fetchall()] == rows
    assert not list(home.glob(".catalog*"))
    after = lake.commit("problems", [problems(1, "after")], PROBLEMS, provenance(9))  # nothing is stuck
    assert lake.verify(after)
    lake.gc(keep_last=1, grace_hours=0, dry_run=False)
    assert len(list((home / "lake" / "problems").glob("_part*/*.parquet"))) == 1
    assert not list((home / "spool" / "problems").iterdir())
    return rows[0] == "new0"


def killed_at_step(home: Path, writer: Writer, step: int) -> bool:
    """Whether the commit was killed at this file operation, False when it has fewer of them."""
    lake = open_lake(home)
    lake.commit("problems", [problems(2, "old")], PROBLEMS, provenance())
    stopped = writer("stop", home, "problems", step)
    stopped.communicate()
    assert stopped.returncode in (0, -signal.SIGKILL)
    return stopped.returncode != 0


@pytest.mark.parametrize("step", [4, 8])
def test_a_kill_leaves_the_old_or_the_new_version(tmp_path: Path, writer: Writer, step: int) -> None:
    assert killed_at_step(tmp_path / "home", writer, step)
    check_old_or_new(tmp_path / "home")


@pytest.mark.slow
def test_a_kill_at_every_file_operation_leaves_the_old_or_the_new_version(tmp_path: Path, writer: Writer) -> None:
    outcomes = []
    for step in range(1, 100):
        home = tmp_path / f"home{step}"
        was_killed = killed_at_step(home, writer, step)
        outcomes.append(check_old_or_new(home))
        if not was_killed:
            break
    assert not was_killed  # every step was tried
    assert outcomes == sorted(outcomes) and outcomes[0] is False and outcomes[-2] is True


@pytest.mark.slow
def test_kills_at_any_moment_lose_no_acknowledged_commit(tmp_path: Path, writer: Writer) -> None:
    home = tmp_path / "home"
    acknowledged: list[Ref] = []
    for i in range(12):
        process = writer("tables", home, 1000, "problems:all", "problems:b")
        assert process.stdout is not None
        acknowledged.append(Ref.from_json(process.stdout.readline()))
        time.sleep(0.011 * i)
        process.kill()
        acknowledged += [Ref.from_json(line) for line in process.stdout.read().splitlines() if line.endswith("}")]
        process.wait()
    lake = open_lake(home)
    check_versions(lake, acknowledged)
    logged = {commit.ref for commit in lake.lineage()}
    assert set(acknowledged) <= logged
    assert all(lake.verify(ref) for ref in logged)
    assert live_files(lake, "problems") == current_files(lake, "problems")


def test_each_log_line_carries_the_provenance_as_json(lake: Lake) -> None:
    """Losing our code must not lose lineage: plain JSON in the table's own log."""
    given = lake.commit("concepts", [problems(1)], PROBLEMS, provenance())
    ref = lake.commit("problems", [problems(1)], PROBLEMS, provenance(3, given))
    log = lake.home / "lake" / "problems" / "_delta_log" / f"{ref.version:020d}.json"
    info = next(json.loads(line)["commitInfo"] for line in log.read_text().splitlines() if "commitInfo" in line)
    assert info["promptcot"]["provenance"]["inputs"] == [json.loads(given.json())]
    assert info["promptcot"]["fingerprint"] == provenance(3, given).fingerprint


@pytest.mark.parametrize("partitions", [["a", "b", "c", "d"], ["all"] * 4], ids=["four partitions", "one partition"])
def test_a_table_is_created_once_however_many_start_it(lake: Lake, partitions: list[str]) -> None:
    """Delta's own retries let a second creation through, which adds a version and resets the schema, and let two first
    commits of one partition both stay in it."""
    tables = 12
    start = threading.Barrier(len(partitions))

    def commit(seed: int) -> None:
        for i in range(tables):
            file = lake.home / f"{i}-{seed}.parquet"
            write_rows(file, [problems(1, str(seed))], PROBLEMS)
            record = Record(file.stem, partitions[seed], 1, "", "", "", "", provenance(seed))
            start.wait()
            overwrite_partition(Log(lake.home / "lake"), f"table{i}", file, PROBLEMS, record)

    with ThreadPoolExecutor(len(partitions)) as pool:
        list(pool.map(commit, range(len(partitions))))
    for i in range(tables):
        assert sorted(commit.ref.version for commit in lake.history(f"table{i}")) == [1, 2, 3, 4]
        assert live_files(lake, f"table{i}") == current_files(lake, f"table{i}")
        assert len(live_files(lake, f"table{i}")) == len(set(partitions))
