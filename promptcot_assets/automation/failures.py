"""The newest runs that failed and were not made good since, for the reader's front page."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import dagster as dg

from promptcot_assets.automation.home import ARC_TAG
from promptcot_assets.lake.ref import UNPARTITIONED
from promptcot_assets.lineage.backfill import Run
from promptcot_assets.reports.reader.front import Failure

PARTITION_TAG = "dagster/partition"
LOOKED_AT, SHOWN = 50, 5  # runs
OWN_NAME = re.compile(r"^(dagster\._core\.definitions\.events\.Failure|promptcot_assets\.[\w.]+): ")


def newest_failures(home: Path, ended: Mapping[str, bool] | None = None) -> list[Failure]:
    """The newest first, each with its first error and the command that does it again; none without an instance.

    ended: runs that are about to end, which the instance does not know yet, and whether well.
    """
    about_to_end = ended or {}
    if not (home / "dagster" / "dagster.yaml").exists():
        return []
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        good: set[tuple[frozenset[str], str]] = set()
        found: dict[tuple[frozenset[str], str], Failure] = {}
        for record in instance.get_run_records(limit=LOOKED_AT):  # the newest first
            run = record.dagster_run
            assets = frozenset(key.to_user_string() for key in run.asset_selection or ())
            place = assets, run.tags.get(PARTITION_TAG, UNPARTITIONED)
            well = about_to_end.get(run.run_id, run.is_success)
            if well:
                good.add(place)
            elif (run.is_failure or run.run_id in about_to_end) and assets and place not in good and place not in found:
                found[place] = _failure(instance, run, *place)
    return list(found.values())[:SHOWN]


def _failure(instance: dg.DagsterInstance, run: dg.DagsterRun, assets: frozenset[str], partition: str) -> Failure:
    names = ", ".join(sorted(assets))
    what = names if partition == UNPARTITIONED else f"{names} [{partition}]"
    again = "promptcot run" if ARC_TAG in run.tags else Run(tuple(sorted(assets)), partition).command
    return Failure(what, _first_error(instance, run.run_id), again)


def _first_error(instance: dg.DagsterInstance, run_id: str) -> str:
    kinds = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.PIPELINE_FAILURE}
    for logged in instance.all_logs(run_id, of_type=kinds):
        event = logged.get_dagster_event()
        if event and (said := error_of(event)):
            return said
    return "no error was recorded"


def error_of(event: dg.DagsterEvent) -> str | None:
    """What went wrong in an event, in the words of who raised it and without Dagster's around them."""
    error = getattr(event.event_specific_data, "error", None)
    while error and error.cause and (error.cls_name or "").startswith("Dagster"):
        error = error.cause
    return OWN_NAME.sub("", str(error.message).strip()) if error else None
