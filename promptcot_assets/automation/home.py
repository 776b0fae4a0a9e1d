"""Preparing a home: its folders, Dagster's instance in it, pools, the first batch, and what a killed run left held."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

import dagster as dg

from promptcot_assets.automation.partitions import BATCHES, FIRST_BATCH
from promptcot_assets.lake import Lake
from promptcot_assets.settings import Settings

OWNER_TAG = "promptcot/process"  # pid of the process that executes a run itself
UNFINISHED = (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.CANCELING)


def open_home(home: Path, settings: Settings) -> dg.DagsterInstance:
    """The Dagster instance of `home`, prepared. Idempotent.

    Raises: LakeError naming the path when the home cannot be written.
    """
    Lake(home)  # says so when the home is not writable
    folder = home / "dagster"
    folder.mkdir(exist_ok=True)
    config = folder / "dagster.yaml"
    if not config.exists():
        config.write_text((files("promptcot_assets.automation") / "dagster.yaml").read_text())
    os.environ["DAGSTER_HOME"] = str(folder)
    instance = dg.DagsterInstance.get()
    instance.event_log_storage.set_concurrency_slots("gpu", settings.lanes)
    instance.event_log_storage.set_concurrency_slots("deduplication", 1)
    assert BATCHES.name is not None
    instance.add_dynamic_partitions(BATCHES.name, [FIRST_BATCH])
    release_dead_runs(instance)
    return instance


def release_dead_runs(instance: dg.DagsterInstance) -> None:
    """Fail the runs whose executing process was killed, and give their pool slots back."""
    for run in instance.get_runs(dg.RunsFilter(statuses=list(UNFINISHED))):
        owner = run.tags.get(OWNER_TAG)
        if owner is not None and not Path(f"/proc/{owner}").exists():
            instance.report_run_failed(run, "its process was killed; run the same command again to go on")
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
