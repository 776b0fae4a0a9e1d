"""Preparing a home: its folders, Dagster's instance in it, pools, the first batch, and what a killed arc left held."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import dagster as dg

from promptcot_assets.automation.partitions import BATCHES, FIRST_BATCH
from promptcot_assets.lake import Lake, LakeError
from promptcot_assets.settings import Settings

DAGSTER_YAML_VARIABLE = "PROMPTCOT_DAGSTER_YAML"  # another instance, e.g. docker/dagster.yaml's on PostgreSQL
ARC_TAG = "promptcot/leg"  # on the runs that `promptcot run` executes itself
UNFINISHED = (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.CANCELING)


class HomeBusy(LakeError):
    """Another arc works in this home."""


def open_home(home: Path, settings: Settings) -> dg.DagsterInstance:
    """The Dagster instance of `home`, prepared. Idempotent.

    Raises: LakeError naming the path when the home cannot be written.
    """
    Lake(home)  # says so when the home is not writable
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
    Lake(home)  # says so when the home is not writable
    with (home / "arc.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HomeBusy(f"another `promptcot run` works in {home}; wait for it, or set PROMPTCOT_HOME") from None
        yield


def release_dead_runs(instance: dg.DagsterInstance) -> None:
    """Fail what a killed arc left running, and give its pool slots back, or the next arc waits for them for ever.

    Only for who holds the arc lock: then no arc lives, and its lanes died with it. (Looking for the processes would
    not do: a killed one is a zombie until somebody reaps it.)
    """
    for run in instance.get_runs(dg.RunsFilter(statuses=list(UNFINISHED))):
        if ARC_TAG in run.tags:
            instance.report_run_failed(run, "its process was killed; run the same command again to go on")
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
