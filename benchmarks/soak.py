"""Two runs on different partitions, a reader that loops over SQL, and garbage collection, all at once in one home.

    python -m benchmarks.soak [SECONDS] [HOME]       (default: five minutes, in a folder of its own)

Each writer writes new completions of its own synthesis batch, in every fifth round also a model that rests on them, and
has a real Dagster run make `problems` of them, checks included. The reader opens the catalogue as anybody does and
looks for what must never be seen: rows of two commits in one partition, a commit without its inputs. The collector
deletes what has been superseded for ten seconds. At the end nothing that was committed may be missing or altered.
Ends with exit code 1 and a list when anything was wrong.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import pyarrow as pa

from promptcot_assets.lake import Lake, Provenance, Ref
from promptcot_assets.lake.ids import content_id
from promptcot_assets.lake.schemas import MODEL, SCHEMAS

BATCHES = ("soak_a", "soak_b")
ROWS, WORDS = 60, 40
SUPERSEDED_S = 10.0  # a reader's query is over by then
EVERY = 5  # rounds of a writer between two models
VIEWS = ("raw_problems", "problems", "dropped_problems")


@dataclass
class Outcome:
    """What was done in the time, and everything that was wrong with it."""

    rounds: dict[str, int] = field(default_factory=dict)  # by batch
    queries: int = 0
    collections: int = 0
    deleted: int = 0  # files
    faults: list[str] = field(default_factory=list)


def soak(home: Path, seconds: float) -> Outcome:
    """Fill a new home, work in it for `seconds` with four processes, and look at what is left."""
    _prepare(home)
    spawn = multiprocessing.get_context("spawn")
    told: Queue[tuple[str, str, Any]] = spawn.Queue()
    tasks: list[tuple[Callable[..., None], tuple[Any, ...]]] = [(_writes, (batch,)) for batch in BATCHES]
    tasks += [(_reads, ()), (_collects, ())]
    until = time.time() + seconds
    workers = [spawn.Process(target=_work, args=(task, home, until, told, extra)) for task, extra in tasks]
    for worker in workers:
        worker.start()
    outcome, refs = Outcome(), list[Ref]()
    for _ in workers:
        who, kind, what = told.get()
        if kind == "fault":
            outcome.faults.append(f"{who}: {what}")
        elif who == "reader":
            outcome.queries = what
        elif who == "collector":
            outcome.collections, outcome.deleted = what
        else:
            outcome.rounds[who], committed = what
            refs += committed
    for worker in workers:
        worker.join()
    outcome.faults += _lost(Lake(home), refs)
    return outcome


def _prepare(home: Path) -> None:
    """Seeds and benchmark items, one each, and both batches known to Dagster."""
    from promptcot_assets.automation import partitions
    from promptcot_assets.automation.home import open_home
    from promptcot_assets.settings import load_settings

    lake = Lake(home)
    for asset, row in (
        ("seed_problems", {"problem_id": "seed", "problem": "a seed?", "split": "train"}),
        ("benchmark_items", {"item_id": "item", "benchmark": "soak", "problem": "an item?"}),
    ):
        lake.commit(asset, [_table(asset, [row])], SCHEMAS[asset], Provenance("1", "{}", 0))
    with open_home(home, load_settings("demo")) as instance:
        instance.add_dynamic_partitions(str(partitions.BATCHES.name), list(BATCHES))


def _work(
    task: Callable[..., None], home: Path, until: float, told: Queue[tuple[str, str, Any]], extra: tuple[Any, ...]
) -> None:
    """Run one of the tasks in this process; whatever goes wrong is told, so that the others' end is not waited for."""
    os.environ |= {"PROMPTCOT_HOME": str(home), "PROMPTCOT_PROFILE": "demo", "DAGSTER_HOME": str(home / "dagster")}
    try:
        task(home, until, told, *extra)
    except Exception:  # noqa: BLE001  (a fault of the soak, reported as one)
        told.put((task.__name__.strip("_"), "fault", traceback.format_exc()))


def _writes(home: Path, until: float, told: Queue[tuple[str, str, Any]], batch: str) -> None:
    import dagster as dg

    from promptcot_assets.definitions import build_definitions

    lake, rounds, refs = Lake(home), 0, list[Ref]()
    job = build_definitions("demo", str(home)).resolve_implicit_global_asset_job_def()
    keys = [dg.AssetKey("problems"), dg.AssetKey("dropped_problems")]
    with dg.DagsterInstance.get() as instance:
        while time.time() < until:
            rounds += 1
            rows = [_completion(batch, rounds, number) for number in range(ROWS)]
            made = Provenance("1", f'{{"round": {rounds}}}', rounds)
            raw = lake.commit("raw_problems", [_table("raw_problems", rows)], SCHEMAS["raw_problems"], made, batch)
            run = job.execute_in_process(
                instance=instance, asset_selection=keys, partition_key=batch, run_config={"loggers": {"console": {}}}
            )
            checks = run.get_asset_check_evaluations()
            if not checks or not all(check.passed for check in checks):
                raise AssertionError(f"round {rounds}: a check failed: {checks}")
            refs.append(raw)
            if rounds % EVERY == 1:
                refs.append(_model(lake, batch, rounds, raw))
    told.put((batch, "done", (rounds, refs)))


def _reads(home: Path, until: float, told: Queue[tuple[str, str, Any]]) -> None:
    from promptcot_assets.reports.query import query

    queries = 0
    while time.time() < until:
        for view in VIEWS:
            if view not in {name for (name,) in query(home, "select view_name from duckdb_views()").rows}:
                continue
            text = "completion" if view == "raw_problems" else "problem"
            asked = f"select batch, count(distinct regexp_extract({text}, 'round (\\d+)', 1)) from {view} group by all"
            torn = [row for row in query(home, asked).rows if row[1] != 1]
            if torn:
                raise AssertionError(f"{view} shows rows of several commits: {torn}")
            queries += 1
        orphans = query(
            home,
            "select l.asset, l.version, i.asset, i.version from lineage l, unnest(l.inputs) as u(i) "
            "anti join lineage o on o.asset = u.i.asset and o.version = u.i.version",
        ).rows
        if orphans:
            raise AssertionError(f"commits without their inputs: {orphans}")
        queries += 1
    told.put(("reader", "done", queries))


def _collects(home: Path, until: float, told: Queue[tuple[str, str, Any]]) -> None:
    collections = deleted = 0
    while time.time() < until:
        garbage = Lake(home).gc(keep_last=1, grace_hours=SUPERSEDED_S / 3600, dry_run=False)
        collections, deleted = collections + 1, deleted + sum(len(one.files) for one in garbage)
        time.sleep(0.5)
    told.put(("collector", "done", (collections, deleted)))


def _lost(lake: Lake, refs: list[Ref]) -> list[str]:
    """What should be in the lake and is not: every commit in its history, every newest and every pinned row."""
    faults = []
    for ref in refs:
        if lake.commit_of(ref).ref != ref:
            faults.append(f"{ref} is not in the history")
    models = [ref for ref in refs if ref.asset == "base_model"]
    pinned = {made.ref for model in models for made in lake.ancestors(model)}
    newest = [lake.newest(asset, batch) for asset in VIEWS for batch in BATCHES]
    kept = [*models, *pinned, *(ref for ref in newest if ref)]
    faults += [f"{ref} is damaged or lost" for ref in dict.fromkeys(kept) if not lake.verify(ref)]
    for batch in BATCHES:
        raw, kept_rows, dropped = (lake.newest(asset, batch) for asset in VIEWS)
        if not (raw and kept_rows and dropped) or raw.rows != kept_rows.rows + dropped.rows:
            faults.append(f"{batch}: {raw} is not {kept_rows} and {dropped} together")
    return faults


def _model(lake: Lake, batch: str, number: int, rests_on: Ref) -> Ref:
    made = Provenance("1", f'{{"{batch}": {number}}}', number, inputs=(rests_on,))
    folder = lake.work_folder("base_model", made.fingerprint)
    (folder / "model.safetensors").write_text(f"{batch} {number}")
    row = {"base": None, "examples": 0, "steps": 0, "tokens": 0, "loss": None}
    return lake.commit_checkpoint("base_model", folder, MODEL, row, made, batch)


def _completion(batch: str, number: int, at: int) -> dict[str, Any]:
    """A problem that no other of any round resembles, with its round in it."""
    digest = hashlib.shake_128(f"{batch} {number} {at}".encode()).digest(2 * WORDS)
    words = " ".join(f"w{int.from_bytes(digest[i : i + 2], 'big')}" for i in range(0, 2 * WORDS, 2))
    problem = f"round {number} {words}?"
    return {
        "raw_problem_id": content_id(batch, number, at),
        "completion": problem,
        "problem": problem,
        "rationale": words,
        "batch": batch,
    }


def _table(asset: str, rows: list[dict[str, Any]]) -> pa.Table:
    """Rows of a table, filled up with nulls, and empty values where there must be one."""
    schema = SCHEMAS[asset]
    return pa.Table.from_pylist([{one.name: row.get(one.name, _empty(one)) for one in schema} for row in rows], schema)


def _empty(column: pa.Field) -> Any:
    if column.nullable:
        return None
    if column.name == "domain":
        return "maths"
    return [] if pa.types.is_list(column.type) else {"int64": 0, "double": 0.0, "bool": False}.get(str(column.type), "")


def main() -> int:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 300.0
    with tempfile.TemporaryDirectory() as folder:
        outcome = soak(Path(sys.argv[2]) if len(sys.argv) > 2 else Path(folder) / "home", seconds)
    rounds = ", ".join(f"{batch} {count}" for batch, count in sorted(outcome.rounds.items()))
    print(f"{seconds:.0f} s: rounds of each writer: {rounds or 'none'}; {outcome.queries} queries; "
          f"{outcome.collections} collections, {outcome.deleted} files deleted")  # fmt: skip
    print("\n".join(outcome.faults) if outcome.faults else "no error, no torn read, nothing lost")
    return bool(outcome.faults)


if __name__ == "__main__":
    sys.exit(main())
