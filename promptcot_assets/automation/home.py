"""Preparing a home: its folders, Dagster's instance in it, pools, the first batch, and what a killed arc left held."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import dagster as dg

from promptcot_assets.assets.partitions import BATCHES, FIRST_BATCH
from promptcot_assets.automation.processes import is_gone
from promptcot_assets.lake import LakeError
from promptcot_assets.settings import Settings
from promptcot_assets.tables import open_lake

DAGSTER_YAML_VARIABLE = "PROMPTCOT_DAGSTER_YAML"  # another instance, e.g. docker/dagster.yaml's on PostgreSQL
ARC_TAG = "promptcot/leg"  # on the runs that `promptcot run` executes itself
UNFINISHED = (
    dg.DagsterRunStatus.NOT_STARTED,  # killed between making the run and starting it
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.CANCELING,
)
BEGINS_WITHIN_S = 3600.0  # a run that was only written down for longer has lost who was to start it


class HomeBusy(LakeError):
    """Another arc works in this home."""


def open_home(home: Path, settings: Settings) -> dg.DagsterInstance:
    """The Dagster instance of `home`, prepared. Idempotent.

    Raises: LakeError naming the path when the home cannot be written.
    """
    open_lake(home).prepare()  # says so when the home is not writable
    folder = home / "dagster"
    folder.mkdir(exist_ok=True)
    _configure(folder / "dagster.yaml")
    os.environ["DAGSTER_HOME"] = str(folder)
    instance = dg.DagsterInstance.get()
    instance.event_log_storage.set_concurrency_slots("gpu", settings.lanes)
    instance.event_log_storage.set_concurrency_slots("deduplication", 1)
    assert BATCHES.name is not None
    instance.add_dynamic_partitions(BATCHES.name, [FIRST_BATCH])
    return instance


def _configure(config: Path) -> None:
    """Write the instance's dagster.yaml: a copy of the file that PROMPTCOT_DAGSTER_YAML names, whenever that differs.

    Without that variable a home gets the usual one once, and then it is whoever's who edits it.
    Raises: LakeError when the named file cannot be read.
    """
    named = os.environ.get(DAGSTER_YAML_VARIABLE)
    if named is None and config.exists():
        return
    try:
        wanted = (Path(named) if named else files("promptcot_assets.automation") / "dagster.yaml").read_text()
    except OSError as error:
        raise LakeError(f"{DAGSTER_YAML_VARIABLE} names a file that cannot be read: {error}") from error
    if not config.exists() or config.read_text() != wanted:
        part = config.with_name(f".{config.name}.{os.getpid()}")
        part.write_text(wanted)
        part.replace(config)  # at once: other processes of the instance read it


@contextmanager
def only_arc_of(home: Path) -> Iterator[None]:
    """Hold the home's arc lock: two arcs in one home would do the same work twice. Raises: HomeBusy."""
    open_lake(home).prepare()  # says so when the home is not writable
    with (home / "arc.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HomeBusy(f"another `promptcot run` works in {home}; wait for it, or set PROMPTCOT_HOME") from None
        yield


def release_dead_runs(
    instance: dg.DagsterInstance, why: str = "its process was killed; run the same command again to go on"
) -> None:
    """Fail what a killed process left running or never started, and give its pool slots back, or others wait for ever.

    Only for who holds the arc lock: then no arc lives, and its lanes died with it. Of other runs only those whose
    process is known to be gone.
    """
    now = time.time()
    for record in instance.get_run_records(dg.RunsFilter(statuses=list(UNFINISHED))):
        run = record.dagster_run
        never_began = run.status is dg.DagsterRunStatus.NOT_STARTED
        forgotten = never_began and now - record.create_timestamp.timestamp() > BEGINS_WITHIN_S
        if ARC_TAG in run.tags or is_gone(run.tags) or forgotten:
            instance.report_run_failed(run, why)
    storage = instance.event_log_storage
    for run_id in storage.get_concurrency_run_ids():
        holder = instance.get_run_by_id(run_id)
        if holder is None or holder.is_finished:
            storage.free_concurrency_slots_for_run(run_id)
