"""What runs when something new has come about. Off until somebody switches it on in the UI (Automation).

Every sensor remembers, as its cursor, the storage id of the last materialization that it has dealt with.
"""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Iterator

import dagster as dg

from promptcot_assets.assets.resources import RESUME_TAG, LakeResource
from promptcot_assets.automation.partitions import LAST_ROUND
from promptcot_assets.automation.schedules import request_batch
from promptcot_assets.stages import Row

WEBHOOK = "PROMPTCOT_ALERT_WEBHOOK"  # where a regression is posted, as JSON with one key `text` (Slack, Mattermost)
WEBHOOK_WAIT_S = 10.0


@dg.sensor(job_name="synthesis_batch_job", minimum_interval_seconds=60)
def synthesis_after_the_last_round(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest]:
    """The last EM round is new and its gate let it through: one batch of its generator, named after its data."""
    for event in _new(context, "em_bounds"):
        if event.partition_key == LAST_ROUND:
            yield request_batch(context.instance, f"em_{_data_version(event)[:12]}")


@dg.sensor(job_name="evaluation_job", minimum_interval_seconds=60)
def evaluation_of_a_new_model(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest]:
    """A student came out of self-play: its benchmarks."""
    for event in _new(context, "self_play_model"):
        yield dg.RunRequest(run_key=_data_version(event), partition_key=event.partition_key)


@dg.sensor(minimum_interval_seconds=60)
def alert_on_a_regression(context: dg.SensorEvaluationContext, lake: LakeResource) -> dg.SkipReason:
    """A stage of a student scores lower than before, intervals apart: an error in the log, and the webhook."""
    students = {str(event.partition_key) for event in _new(context, "benchmark_scores")}
    found = [text for student in sorted(students) for text in regressions(*last_two_versions(lake, student))]
    for text in found:
        context.log.error(text)
        if url := os.environ.get(WEBHOOK):
            _post(url, text)
    return dg.SkipReason(f"{len(found)} regressions" if found else "no new scores are worse")


def last_two_versions(lake: LakeResource, student: str) -> tuple[list[Row], list[Row]]:
    """The scores of a student as they were before (none, the first time), and as they are."""
    versions = [commit.ref for commit in lake.lake.history("benchmark_scores") if commit.ref.partition == student]
    *before, after = (lake.lake.table(ref).to_pylist() for ref in versions[-2:])
    return (before[0] if before else []), after


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


def _new(context: dg.SensorEvaluationContext, asset: str) -> Iterator[dg.EventLogRecord]:
    """Materializations since the last tick whose run has succeeded, gates included; those still running wait."""
    since = dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), after_storage_id=int(context.cursor or 0))
    for event in context.instance.fetch_materializations(since, limit=100, ascending=True).records:
        run = context.instance.get_run_by_id(event.run_id)
        if run and not run.is_finished:
            return
        if run and run.is_success:
            yield event
        context.update_cursor(str(event.storage_id))


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
WHEN_ITS_DATA_IS_NEW = dg.AutomationCondition.eager()
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
