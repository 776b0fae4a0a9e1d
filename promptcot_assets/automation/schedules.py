"""What runs by the clock. Off until somebody switches it on in the UI (Automation)."""

from __future__ import annotations

from datetime import timedelta

import dagster as dg

from promptcot_assets.automation.partitions import BATCHES

# What the weekly batch makes anew counts as late two days after the next one was due. Dagster looks at the newest
# materialization of an asset, of whatever partition. Nothing else has a cadence: corpus, models and scores are as fresh
# as their inputs, which `promptcot lineage --stale` and the partitions' pages say.
WEEKLY = (
    "concept_sets", "raw_problems", "problems", "dropped_problems", "math_answers", "code_tests", "teacher_traces",
    "yield_report",
)  # fmt: skip
FRESH_FOR_A_WEEK = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=9), warn_window=timedelta(days=8))


@dg.schedule(cron_schedule="0 3 * * 0", job_name="synthesis_batch_job")
def weekly_synthesis(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Every Sunday a new batch, named after the day, written by the last round's generator and carried to traces."""
    assert BATCHES.name is not None
    batch = f"week_{context.scheduled_execution_time:%Y_%m_%d}"
    # a sensor can ask Dagster to add it; a schedule has to do it itself, also when its tick is only tried out
    context.instance.add_dynamic_partitions(BATCHES.name, [batch])
    return dg.RunRequest(run_key=batch, partition_key=batch)  # asked for twice, it runs once


SCHEDULES = [weekly_synthesis]
