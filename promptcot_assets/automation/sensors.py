"""What runs when something new has come about. Off until somebody switches it on in the UI (Automation).

Every sensor remembers, as its cursor, the storage id of the last materialization that it has seen, and after it those
of earlier ones whose run may yet succeed. Switched on, it begins with what is newest: history is not played again.
"""

from __future__ import annotations

import json
import os
import urllib.request
from typing import Literal

import dagster as dg
from dagster._core.storage.tags import PARENT_RUN_ID_TAG, RESUME_RETRY_TAG

from promptcot_assets.assets.resources import RESUME_TAG, LakeResource
from promptcot_assets.automation.partitions import BATCHES, LAST_ROUND
from promptcot_assets.lake import Ref
from promptcot_assets.stages import Row

WEBHOOK = "PROMPTCOT_ALERT_WEBHOOK"  # where a regression is posted, as JSON with one key `text` (Slack, Mattermost)
WEBHOOK_WAIT_S = 10.0
AT_ONCE = 100  # materializations that are looked at in a tick


@dg.sensor(job_name="synthesis_batch_job", minimum_interval_seconds=60)
def synthesis_after_the_last_round(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """The last EM round is new and its gate let it through: one batch of its generator, named after its data."""
    rounds = [event for event in _new(context, "em_bounds") if event.partition_key == LAST_ROUND]
    batches = list(dict.fromkeys(f"em_{_data_version(event)[:12]}" for event in rounds))
    return dg.SensorResult(
        run_requests=[dg.RunRequest(run_key=batch, partition_key=batch) for batch in batches],
        # asked for, not added here: a tick that is only tried out in the UI leaves no batch behind
        dynamic_partitions_requests=[BATCHES.build_add_request(batches)] if batches else [],
    )


@dg.sensor(job_name="evaluation_job", minimum_interval_seconds=60)
def evaluation_of_a_new_model(context: dg.SensorEvaluationContext) -> list[dg.RunRequest]:
    """A student came out of self-play: its benchmarks."""
    return [
        # not named after the data: a model that is as it once was needs its scores again, and students may be equal.
        # One too many costs little: the job leaves alone what is finished.
        dg.RunRequest(run_key=f"{event.partition_key}/{event.storage_id}", partition_key=event.partition_key)
        for event in _new(context, "self_play_model")
    ]


@dg.sensor(minimum_interval_seconds=60)
def alert_on_a_regression(context: dg.SensorEvaluationContext, lake: LakeResource) -> dg.SkipReason:
    """A stage of a student scores lower than before, intervals apart: an error in the log, and the webhook."""
    found = []
    for event in _new(context, "benchmark_scores"):
        after, before = _ref(event), version_before(context.instance, event)
        if after and before:  # the same version again, of a run that found it finished, is no worse than itself
            found += regressions(*(lake.lake.table(ref).to_pylist() for ref in (before, after)))
    for text in found:
        context.log.error(text)
        if url := os.environ.get(WEBHOOK):
            _post(url, text)
    return dg.SkipReason(f"{len(found)} regressions" if found else "no new scores are worse")


def version_before(instance: dg.DagsterInstance, event: dg.EventLogRecord) -> Ref | None:
    """What the materialization before this one, of the same partition and by a run that succeeded, left in the lake."""
    earlier = _of_partition(event, before_storage_id=event.storage_id)
    records = instance.fetch_materializations(earlier, limit=AT_ONCE).records
    return next((_ref(one) for one in records if _standing(instance, one) == "counts"), None)


def regressions(before: list[Row], after: list[Row]) -> list[str]:
    """One sentence for every score whose interval lies below its former one."""
    former = {(row["benchmark"], row["metric"], row["stage"]): row for row in before if row["compared_with"] is None}
    worse = []
    for row in after:
        was = former.get((row["benchmark"], row["metric"], row["stage"])) if row["compared_with"] is None else None
        if was and row["high"] < was["low"]:
            worse.append(
                f"{row['benchmark']} {row['metric']} of {row['model']} ({row['stage']}): {row['value']:.3f} "
                f"[{row['low']:.3f}, {row['high']:.3f}], was {was['value']:.3f} [{was['low']:.3f}, {was['high']:.3f}] "
                f"with {was['model']}"
            )
    return worse


def _new(context: dg.SensorEvaluationContext, asset: str) -> list[dg.EventLogRecord]:
    """Materializations, new since the last tick or left waiting by it, whose run has succeeded, gates included.

    A run that was killed after the asset and then retried from its failure does not make the asset again. So what a
    failed run made waits for that, until the partition is made anew; what comes after it does not wait.
    """
    found, seen = _since(context.instance, dg.AssetKey(asset), context.cursor)
    standing = [(event, _standing(context.instance, event)) for event in found]
    waiting = [event.storage_id for event, its in standing if its == "waits"]
    context.update_cursor(" ".join(map(str, [seen, *waiting])))
    return [event for event, its in standing if its == "counts"]


def _since(instance: dg.DagsterInstance, key: dg.AssetKey, cursor: str | None) -> tuple[list[dg.EventLogRecord], int]:
    """Materializations to look at, oldest first, and the storage id of the last one seen.

    Without a cursor, those are the newest of each partition.
    """
    if cursor is None:
        newest = instance.get_latest_storage_id_by_partition(key, dg.DagsterEventType.ASSET_MATERIALIZATION)
        return _with_ids(instance, key, list(newest.values())), max(newest.values(), default=0)
    seen, *waiting = map(int, cursor.split())
    since = dg.AssetRecordsFilter(asset_key=key, after_storage_id=seen)
    new = instance.fetch_materializations(since, limit=AT_ONCE, ascending=True).records
    return [*_with_ids(instance, key, waiting), *new], max((event.storage_id for event in new), default=seen)


def _with_ids(instance: dg.DagsterInstance, key: dg.AssetKey, ids: list[int]) -> list[dg.EventLogRecord]:
    if not ids:
        return []
    these = dg.AssetRecordsFilter(asset_key=key, storage_ids=ids)
    return list(instance.fetch_materializations(these, limit=len(ids), ascending=True).records)


def _standing(instance: dg.DagsterInstance, event: dg.EventLogRecord) -> Literal["counts", "waits", "is void"]:
    """Whether a materialization counts: its run succeeded, or a retry from the run's failure that left it as it was."""
    run = instance.get_run_by_id(event.run_id)
    attempts = _attempts(instance, run) if run else []
    later = _of_partition(event, after_storage_id=event.storage_id)
    made_again_by = {one.run_id for one in instance.fetch_materializations(later, limit=AT_ONCE).records}
    if not attempts or made_again_by & {one.run_id for one in attempts}:
        return "is void"
    if any(one.is_success for one in attempts):
        return "counts"
    open_still = any(not one.is_finished for one in attempts)
    return "waits" if open_still or not made_again_by else "is void"


def _attempts(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[dg.DagsterRun]:
    """The run, and those that went on from its failure: not others of its group, which may leave out what failed."""
    went_on = dg.RunsFilter(tags={PARENT_RUN_ID_TAG: run.run_id, RESUME_RETRY_TAG: "true"})
    retries = instance.get_runs(went_on) if run.is_failure_or_canceled else []
    return [run, *(attempt for retry in retries for attempt in _attempts(instance, retry))]


def _of_partition(
    event: dg.EventLogRecord, after_storage_id: int | None = None, before_storage_id: int | None = None
) -> dg.AssetRecordsFilter:
    """Materializations of what this one is of."""
    assert event.asset_key
    return dg.AssetRecordsFilter(
        asset_key=event.asset_key,
        asset_partitions=None if event.partition_key is None else [event.partition_key],
        after_storage_id=after_storage_id,
        before_storage_id=before_storage_id,
    )


def _ref(event: dg.EventLogRecord) -> Ref | None:
    """The version that a materialization is of; none of one that somebody reported by hand.

    Raises: LakeError when what stands there is not a ref.
    """
    found = event.asset_materialization.metadata.get("ref") if event.asset_materialization else None
    return Ref.from_json(found.data) if isinstance(found, dg.JsonMetadataValue) else None  # type: ignore[arg-type]


def _data_version(event: dg.EventLogRecord) -> str:
    assert event.asset_materialization and event.asset_materialization.tags
    return event.asset_materialization.tags["dagster/data_version"]


def _post(url: str, text: str) -> None:
    body = json.dumps({"text": text}).encode()
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=WEBHOOK_WAIT_S):
        pass


# Reports that need no device follow their data by themselves: a condition on the asset says when, this sensor looks.
# Not the models and tables they report on, which are asked for; not EM rounds, whose order no condition keeps.
REPORTS = ("yield_report", "difficulty", "item_difficulty", "scaling", "codeforces_ratings", "em_curves")
# A report on all batches and students (`item_difficulty`) takes those that exist: one batch that failed, or one student
# not trained yet, must not silence it. Where such an input is of the report's own partition, "some of it" is all of it.
IN_PARTS = dg.AssetSelection.assets("difficulty", "teacher_traces")
MISSING = dg.AutomationCondition.any_deps_missing()
THERE = ~dg.AutomationCondition.missing() | dg.AutomationCondition.will_be_requested()
WHEN_ITS_DATA_IS_NEW = (
    dg.AutomationCondition.eager().without(~MISSING)
    & ~MISSING.ignore(IN_PARTS)
    & dg.AutomationCondition.all_deps_match(THERE).allow(IN_PARTS)
)
reports_follow_their_data = dg.AutomationConditionSensorDefinition(
    "reports_follow_their_data",
    target=dg.AssetSelection.assets(*REPORTS),
    run_tags={RESUME_TAG: "true"},
    minimum_interval_seconds=60,
    description="Reports are made anew when what they report on has new data.",
)

SENSORS = [
    synthesis_after_the_last_round,
    evaluation_of_a_new_model,
    alert_on_a_regression,
    reports_follow_their_data,
]
