"""What runs by the clock. Off until somebody switches it on in the UI (Automation)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._time import get_current_timestamp

from promptcot_assets.assets.partitions import BATCHES

# What the weekly batch makes anew (jobs.WEEKLY) counts as late two days after the next one was due. Dagster looks at
# the newest materialization of an asset, of whatever partition. Nothing else has a cadence: corpus, models and scores
# are as fresh as their inputs, which `promptcot lineage --stale` and the partitions' pages say.
FRESH_FOR_A_WEEK = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=9), warn_window=timedelta(days=8))

WEEK = timedelta(days=7)
A_SUNDAY = datetime(2023, 1, 1, 3, tzinfo=UTC)  # at three o'clock, as every one after it
WEEKLY_BATCH = "Every Sunday at 3:00 (UTC) a new batch, named after the day, is carried from concept sets to traces."


def _last_sunday(now: datetime) -> datetime:
    """The newest Sunday at 3:00 that is over."""
    return A_SUNDAY + (now - A_SUNDAY) // WEEK * WEEK


# A sensor, for a schedule cannot ask Dagster to add the batch: it has to add it itself, also when its tick is only
# tried out in the UI.
@dg.sensor(job_name="synthesis_batch_job", minimum_interval_seconds=60, description=WEEKLY_BATCH)
def weekly_synthesis(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """One batch for every Sunday since the sensor was switched on; of Sundays that nobody watched only the last."""
    last = _last_sunday(datetime.fromtimestamp(get_current_timestamp(), UTC))
    seen, following = context.cursor, f"the next batch is due on {last + WEEK:%A %Y-%m-%d at %H:%M} UTC"
    if seen is None or datetime.fromisoformat(seen) >= last:
        return dg.SensorResult(skip_reason=following, cursor=seen or last.isoformat())
    return batches_asked_for([f"week_{last:%Y_%m_%d}"], cursor=last.isoformat())


def batches_asked_for(names: Sequence[str], cursor: str | None = None) -> dg.SensorResult:
    """These batches, and runs of them, at least one. Asked for twice, a batch runs once."""
    return dg.SensorResult(
        run_requests=[dg.RunRequest(run_key=name, partition_key=name) for name in names],
        # asked for, not added here: a tick that is only tried out in the UI leaves no batch behind
        dynamic_partitions_requests=[BATCHES.build_add_request(names)],
        cursor=cursor,
    )
