"""Four runs on different partitions, readers, and garbage collection in one home at once, while things break.

    python -m benchmarks.soak [SECONDS] [HOME]       (default: five minutes, in a folder of its own)

Each writer writes new completions of its own synthesis batch, in every fifth round also a model that rests on them, and
has a real Dagster run make `problems` of them, checks included. Two readers open the catalogue as anybody does and look
for what must never be seen: rows of two commits in one partition, a commit without its inputs. The collector deletes
what has been superseded for ten seconds.

Meanwhile writers are killed at random moments and started again; one of them lives a life on a full disk, where it may
commit nothing and must say so; and one bit is flipped in rows that a model rests on, which must be named, and healed
by making these rows again. At the end nothing that was acknowledged may be missing or altered, nothing may be there
twice, and no process, no slot and no unfinished folder may be left. Ends with exit code 1 and a list when anything was
wrong.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pyarrow as pa

from promptcot_assets.automation.home import UNFINISHED
from promptcot_assets.lake import Lake, LakeError, Provenance, Ref
from promptcot_assets.lake.disk import is_full
from promptcot_assets.lake.ids import content_id
from promptcot_assets.tables import SCHEMAS, open_lake
from promptcot_assets.tables.models import MODEL

BATCHES = ("soak_a", "soak_b", "soak_c", "soak_d")
ROWS, WORDS = 60, 40
SUPERSEDED_S = 10.0  # a reader's query is over by then
EVERY = 5  # rounds of a writer between two models
VIEWS = ("raw_problems", "problems", "dropped_problems")
LIFE_S = (0.0, 120.0)  # that a writer works before it is killed
ROOM = 20_000  # bytes that a file may have on the full disk
SEED = 1
READERS, COLLECTOR = ("reader_1", "reader_2"), "collector"

Task = Callable[[Path, float, "Journal", str, int | None], None]


@dataclass
class Outcome:
    """What was done in the time, and everything that was wrong with it."""

    rounds: dict[str, int] = field(default_factory=dict)  # by batch
    queries: int = 0
    collections: int = 0
    deleted: int = 0  # files
    kills: int = 0
    full: list[str] = field(default_factory=list)  # what was said on the full disk
    flipped: list[str] = field(default_factory=list)  # what was said of the flipped bit
    faults: list[str] = field(default_factory=list)


class Journal:
    """What a process has to tell, a line each, where a kill tears the last line at most."""

    def __init__(self, folder: Path, who: str) -> None:
        self._path = folder / f"{who}.jsonl"

    def tell(self, **what: Any) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(what) + "\n")

    def told(self) -> Iterator[dict[str, Any]]:
        for line in self._path.read_text().splitlines() if self._path.exists() else ():
            with contextlib.suppress(ValueError):
                yield json.loads(line)

    def refs(self) -> list[Ref]:
        return [Ref.from_json(told["ref"]) for told in self.told() if "ref" in told]


def soak(home: Path, seconds: float, harm: bool = True) -> Outcome:
    """Fill a new home, work in it for `seconds` with seven processes, and look at what is left. harm: break things."""
    _prepare(home)
    with tempfile.TemporaryDirectory() as folder:
        journals = {who: Journal(Path(folder), who) for who in (*BATCHES, *READERS, COLLECTOR)}
        outcome = _Soak(home, time.time() + seconds, journals).run(harm)
        refs = [ref for batch in BATCHES for ref in journals[batch].refs()]
        outcome.faults += [*_lost(open_lake(home), refs), *left(home)]
    return outcome


class _Soak:
    """The processes of one soak, and what is done to them."""

    def __init__(self, home: Path, until: float, journals: dict[str, Journal]) -> None:
        self.home, self.until, self.journals = home, until, journals
        self.outcome, self.random = Outcome(), random.Random(SEED)
        self.workers: dict[str, BaseProcess] = {}
        self.heard = dict.fromkeys(BATCHES, 0)  # lines of a writer's journal when it was started
        self.dies_at = dict[str, float]()  # of those that have begun to work

    def run(self, harm: bool) -> Outcome:
        for who in self.journals:
            self._start(who)
        harms: list[Callable[[], None]] = [self._fill_the_disk, self._flip_a_bit] if harm else []
        began, seconds = time.time(), self.until - time.time()
        while any(worker.is_alive() for worker in self.workers.values()) and time.time() < self.until + 600:
            time.sleep(0.2)
            now = time.time()
            if harms and now > began + seconds * (3 - len(harms)) / 3:
                harms.pop(0)()
            for batch in BATCHES if harm and now < self.until else ():
                if batch not in self.dies_at and len(list(self.journals[batch].told())) > self.heard[batch]:
                    self.dies_at[batch] = now + self.random.uniform(*LIFE_S)
                if self.dies_at.get(batch, now) < now:
                    self._kill(batch)
                    self.outcome.kills += 1
                    self._start(batch)
        self._collect()
        return self.outcome

    def _start(self, who: str, room: int | None = None) -> None:
        task = _writes if who in BATCHES else _collects if who == COLLECTOR else _reads
        if who in BATCHES:
            self.heard[who] = len(list(self.journals[who].told()))
            self.dies_at.pop(who, None)
        given = (task, self.home, self.until, self.journals[who], who, room)
        self.workers[who] = multiprocessing.get_context("spawn").Process(target=_work, args=given)
        self.workers[who].start()

    def _kill(self, batch: str) -> None:
        """At any moment; then what `promptcot run` does for a killed arc before it goes on."""
        import dagster as dg

        os.kill(self.workers[batch].pid or 0, signal.SIGKILL)
        self.workers[batch].join()
        os.environ["DAGSTER_HOME"] = str(self.home / "dagster")
        with dg.DagsterInstance.get() as instance:
            dead = dg.RunsFilter(statuses=list(UNFINISHED), tags={"dagster/partition": batch})
            for run in instance.get_runs(dead):
                instance.report_run_failed(run, "killed by the soak")
                instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)

    def _fill_the_disk(self) -> None:
        """One writer's life on it."""
        batch = BATCHES[0]
        self._kill(batch)
        self._start(batch, ROOM)
        self.workers[batch].join(120)
        if self.workers[batch].is_alive():
            self.outcome.faults.append(f"{batch}: went on for two minutes on a full disk")
            self._kill(batch)
        self._start(batch)

    def _flip_a_bit(self) -> None:
        """In rows that a model rests on: they are found damaged, and whole once they are made again."""
        lake = open_lake(self.home)
        models = [ref for batch in BATCHES for ref in self.journals[batch].refs() if ref.asset == "base_model"]
        if not models:
            self.outcome.faults.append("no model rests on any rows yet: soak for longer")
            return
        (made,) = (commit for commit in lake.ancestors(models[0]) if commit.ref.asset == "raw_problems")
        (path,) = [self.home / "lake" / "raw_problems" / file for file in _files_of(lake, made.ref)]
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        try:
            lake.check(made.ref)
            self.outcome.faults.append(f"a flipped bit in {path} was not found")
        except LakeError as error:
            self.outcome.flipped.append(str(error))
        number = int(made.provenance.seed)
        rows = _table("raw_problems", [_completion(made.ref.partition, number, at) for at in range(ROWS)])
        self._kill(made.ref.partition)  # so that nobody else writes this partition meanwhile
        again = lake.commit("raw_problems", [rows], SCHEMAS["raw_problems"], made.provenance, made.ref.partition)
        if again.data_version != made.ref.data_version or not lake.verify(made.ref):
            self.outcome.faults.append(f"{made.ref} was not healed by making it again")
        self._start(made.ref.partition)

    def _collect(self) -> None:
        """What all have told."""
        for who, worker in self.workers.items():
            if worker.is_alive():
                self.outcome.faults.append(f"{who} did not end")
                os.kill(worker.pid or 0, signal.SIGKILL)
            worker.join()
            counts = Counter[str]()
            for told in self.journals[who].told():
                counts.update({name: value for name, value in told.items() if isinstance(value, int)})
                self.outcome.faults += [f"{who}: {told['fault']}"] if "fault" in told else []
                self.outcome.full += [told["full"]] if "full" in told else []
            if who in BATCHES:
                self.outcome.rounds[who] = counts["rounds"]
            self.outcome.queries += counts["queries"]
            self.outcome.collections += counts["collections"]
            self.outcome.deleted += counts["deleted"]


def _files_of(lake: Lake, ref: Ref) -> list[str]:
    """The data file of a version, relative to its table."""
    from promptcot_assets.lineage.history import History

    return [History(lake.home).entries[ref.asset, ref.version].file]


def _prepare(home: Path) -> None:
    """Seeds and benchmark items, one each, and both batches known to Dagster."""
    from promptcot_assets.assets import partitions
    from promptcot_assets.automation.home import open_home
    from promptcot_assets.settings import load_settings

    lake = open_lake(home)
    for asset, row in (
        ("seed_problems", {"problem_id": "seed", "problem": "a seed?", "split": "train"}),
        ("benchmark_items", {"item_id": "item", "benchmark": "soak", "problem": "an item?"}),
    ):
        lake.commit(asset, [_table(asset, [row])], SCHEMAS[asset], Provenance("1", "{}", 0))
    with open_home(home, load_settings("demo")) as instance:
        instance.add_dynamic_partitions(str(partitions.BATCHES.name), list(BATCHES))


def _work(task: Task, home: Path, until: float, journal: Journal, who: str, room: int | None) -> None:
    """Run one of the tasks in this process; whatever goes wrong is told."""
    os.environ |= {"PROMPTCOT_HOME": str(home), "PROMPTCOT_PROFILE": "demo", "DAGSTER_HOME": str(home / "dagster")}
    try:
        task(home, until, journal, who, room)
    except Exception as error:  # noqa: BLE001  (a fault of the soak, reported as one)
        if room is not None and is_full(error):
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            journal.tell(full=" ".join(str(error).split()))
        else:
            journal.tell(fault=traceback.format_exc())


def _writes(home: Path, until: float, journal: Journal, batch: str, room: int | None) -> None:
    import dagster as dg

    from promptcot_assets.definitions import build_definitions

    lake, number = open_lake(home), max((told.get("number", 0) for told in journal.told()), default=0)
    job = build_definitions("demo", str(home)).resolve_implicit_global_asset_job_def()
    keys = [dg.AssetKey("problems"), dg.AssetKey("dropped_problems")]
    with dg.DagsterInstance.get() as instance:
        if room is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
        while time.time() < until or not any("rounds" in told for told in journal.told()):  # one, however slow it is
            number += 1
            journal.tell(number=number)  # a number that a kill cut short is not used again
            rows = [_completion(batch, number, at) for at in range(ROWS)]
            made = Provenance("1", f'{{"round": {number}}}', number)
            raw = lake.commit("raw_problems", [_table("raw_problems", rows)], SCHEMAS["raw_problems"], made, batch)
            journal.tell(ref=raw.json())
            run = job.execute_in_process(
                instance=instance, asset_selection=keys, partition_key=batch, run_config={"loggers": {"console": {}}}
            )
            checks = run.get_asset_check_evaluations()
            if not checks or not all(check.passed for check in checks):
                raise AssertionError(f"round {number}: a check failed: {checks}")
            if number % EVERY == 1:
                journal.tell(ref=_model(lake, batch, number, raw).json())
            journal.tell(rounds=1)


def _reads(home: Path, until: float, journal: Journal, _: str, __: int | None) -> None:
    from promptcot_assets.reports.query import query

    queries = 0
    while time.time() < until or not queries:
        for view in VIEWS:
            text = "completion" if view == "raw_problems" else "problem"
            key = "problem_id" if view == "problems" else "raw_problem_id"
            asked = (
                f"select batch, count(distinct regexp_extract({text}, 'round (\\d+)', 1)), "
                f"count(*) - count(distinct {key}) from {view} group by all"
            )
            torn = [row for row in query(home, asked).rows if row[1:] != (1, 0)]
            if torn:
                raise AssertionError(f"{view} shows rows of several commits, or rows twice: {torn}")
            queries += 1
        orphans = query(
            home,
            "select l.asset, l.version, i.asset, i.version from lineage l, unnest(l.inputs) as u(i) "
            "anti join lineage o on o.asset = u.i.asset and o.version = u.i.version",
        ).rows
        if orphans:
            raise AssertionError(f"commits without their inputs: {orphans}")
        queries += 1
    journal.tell(queries=queries)


def _collects(home: Path, until: float, journal: Journal, _: str, __: int | None) -> None:
    collections = deleted = 0
    while time.time() < until or not collections:
        garbage = open_lake(home).gc(keep_last=1, grace_hours=SUPERSEDED_S / 3600, dry_run=False)
        collections, deleted = collections + 1, deleted + sum(len(one.files) for one in garbage)
        time.sleep(0.5)
    journal.tell(collections=collections, deleted=deleted)


def left(home: Path) -> list[str]:
    """What a soak leaves behind that nobody will use: processes, slots of pools, unfinished files and folders."""
    import dagster as dg

    from promptcot_assets.doctor.diagnosis import examine_data

    open_lake(home).gc(keep_last=1, grace_hours=0, dry_run=False)
    faults = [f"{child} is left" for child in multiprocessing.active_children()]
    faults += [f"{path} is left" for path in [*home.glob("spool/*/*"), *home.glob("models/.partial/*")]]
    faults += [f"{path} is left" for path in home.rglob(".*") if path.is_file() and path.suffix != ".lock"]
    with dg.DagsterInstance.get() as instance:
        for pool in instance.event_log_storage.get_concurrency_keys():
            if taken := instance.event_log_storage.get_concurrency_info(pool).claimed_slots:
                faults.append(f"pool {pool} has slots taken: {taken}")
    return faults + [finding.found for finding in examine_data(home) if finding.level == "fail"]


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
          f"{outcome.collections} collections, {outcome.deleted} files deleted; {outcome.kills} kills")  # fmt: skip
    print(*(f"on the full disk: {said}" for said in outcome.full), sep="\n")
    print(*(f"of the flipped bit: {said}" for said in outcome.flipped), sep="\n")
    print("\n".join(outcome.faults) if outcome.faults else "nothing lost, nothing twice, nothing torn, nothing left")
    return bool(outcome.faults)


if __name__ == "__main__":
    sys.exit(main())
