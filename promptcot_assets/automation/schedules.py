"""What runs by the clock. Off until somebody switches it on in the UI (Automation)."""

from __future__ import annotations

import dagster as dg

from promptcot_assets.automation.partitions import BATCHES


@dg.schedule(cron_schedule="0 3 * * 0", job_name="synthesis_batch_job")
def weekly_synthesis(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Every Sunday a new batch, named after the day, written by the last round's generator and carried to traces."""
    return request_batch(context.instance, f"week_{context.scheduled_execution_time:%Y_%m_%d}")


def request_batch(instance: dg.DagsterInstance, batch: str) -> dg.RunRequest:
    """A run of `synthesis_batch_job` for `batch`, which exists from now on. Asked for twice, it runs once."""
    assert BATCHES.name is not None
    instance.add_dynamic_partitions(BATCHES.name, [batch])
    return dg.RunRequest(run_key=batch, partition_key=batch)


SCHEDULES = [weekly_synthesis]
