"""`promptcot recall --apply`: a bad row's source was mended; make everything anew that came of the row.

The runs are ordinary Dagster runs of this home's instance, one after the other. What is still to do is read from the
lake before every beginning, so the same command goes on where a killed or failed one stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import dagster as dg

from promptcot_assets.assets.partitions import BATCHES
from promptcot_assets.automation.home import ARC_TAG, only_arc_of, open_home, release_dead_runs
from promptcot_assets.automation.processes import own_tags
from promptcot_assets.lake import LakeError
from promptcot_assets.lineage.backfill import Run, runs
from promptcot_assets.lineage.history import History
from promptcot_assets.lineage.recall import current, left_to_heal, made_in, recall
from promptcot_assets.settings import Settings


class NotHealed(LakeError):
    """The bad row came out again, or a run failed. The message says how to go on."""


def heal(home: Path, settings: Settings, defs: dg.Definitions, row_id: str, say: Callable[[str], None]) -> list[Run]:
    """Make the row's own table anew, and when the row is gone or changed, what came of it; the runs that were made.

    defs: the code location of these settings and this home; say: is told each command as it begins.
    Raises: NotHealed under another seed than the row's, and as soon as the row comes out as it was, before anything
    else is made; HomeBusy; LakeError.
    """
    made_with = recall(home, row_id).seed  # says so when there is no such row or no lake, rather than making one
    if settings.seed != made_with:
        raise NotHealed(
            f"{row_id} was made with seed {made_with}, and {settings.seed} is set: everything would come out another; "
            f"set PROMPTCOT_SEED={made_with}"
        )
    with only_arc_of(home), open_home(home, settings) as instance:
        release_dead_runs(instance)
        done: list[Run] = []

        def make(run: Run) -> None:
            say(run.command)
            _materialize(instance, defs, run, row_id)
            done.append(run)

        before = current(home, row_id)
        if before:
            for run in runs(History(home), made_in(home, row_id)):
                make(run)
            again = current(home, row_id).values()
            if any(record in again for record in before.values()):
                raise NotHealed(
                    f"{row_id} came out again just as it was, nothing else was made; {recall(home, row_id).mend}"
                )
        for run in left_to_heal(home, row_id):
            make(run)
        return done


def _materialize(instance: dg.DagsterInstance, defs: dg.Definitions, run: Run, row_id: str) -> None:
    """Raises: NotHealed when the run fails."""
    graph, keys = defs.resolve_asset_graph(), [dg.AssetKey(name) for name in run.assets]
    if run.partition_key and graph.get(keys[0]).partitions_def == BATCHES:  # a restored home may not know its batches
        instance.add_dynamic_partitions(str(BATCHES.name), [run.partition_key])
    result = defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance,
        asset_selection=keys,
        partition_key=run.partition_key,
        run_config={"loggers": {"console": {}}},
        tags={ARC_TAG: f"recall {row_id}", **own_tags()},
        raise_on_error=False,
    )
    if not result.success:
        raise NotHealed(
            f"{run.command} failed, its error is above and in the UI (make ui), run {result.run_id}; "
            f"mend the cause and run the same command again, it goes on from there"
        )
