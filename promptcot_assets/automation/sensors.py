"""What runs when something new has come about. Off until somebody switches it on in the UI (Automation).

Every sensor on materializations remembers, as its cursor, the storage id of the last one that it has seen, and after
it those of earlier ones whose run may yet succeed. Switched on, it begins with what is newest: history is not played
again. A tick says what it asks for, or why it asks for nothing.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from typing import Literal

import dagster as dg
from dagster._core.storage.tags import PARENT_RUN_ID_TAG, RESUME_RETRY_TAG

from promptcot_assets.assets.partitions import last_round
from promptcot_assets.assets.resources import LakeResource
from promptcot_assets.assets.step import RESUME_TAG
from promptcot_assets.automation.schedules import batches_asked_for, weekly_synthesis
from promptcot_assets.lake import Commit, Lake, Ref, Row
from promptcot_assets.settings import Settings
from promptcot_assets.stages.evaluation.benchmarks import averages
from promptcot_assets.tables import TABLES, Unit

WEBHOOK = "PROMPTCOT_ALERT_WEBHOOK"  # where a regression is posted, as JSON with one key `text` (Slack, Mattermost)
WEBHOOK_WAIT_S = 10.0
AT_ONCE = 100  # materializations that are looked at in a tick
AFTER_EM = (
    "When the last EM round is new and its gate let it through: a batch of its generator, if that has written none."
)
EVALUATION = "When a student comes out of self-play: its benchmarks."
REGRESSION = "When a student has new scores: one whose interval lies below its former one is an error in this log."


def synthesis_after(round_: str) -> dg.SensorDefinition:
    """The sensor that waits for this EM round, the profile's last."""

    @dg.sensor(job_name="synthesis_batch_job", minimum_interval_seconds=60, description=AFTER_EM)
    def synthesis_after_the_last_round(context: dg.SensorEvaluationContext, lake: LakeResource) -> dg.SensorResult:
        """One batch of the generator of the last EM round, named after the round's data."""
        rounds = [event for event in _new(context, "em_bounds") if event.partition_key == round_]
        by_batch = {f"em_{_data_version(event)[:12]}": event for event in rounds}
        written = {batch: _written_by_its_generator(lake.lake, event) for batch, event in by_batch.items()}
        batches = [batch for batch, already in written.items() if already is None]
        if not batches:
            had = ", ".join(str(one) for one in dict.fromkeys(written.values()))
            why = f"the generator of {round_} has written already: {had}" if had else f"{round_} has no new bounds"
            return dg.SensorResult(skip_reason=why)
        return batches_asked_for(batches)

    return synthesis_after_the_last_round


def _written_by_its_generator(lake: Lake, event: dg.EventLogRecord) -> Ref | None:
    """The newest completions of the generator that these bounds are of, if there are any in the lake."""
    if (bounds := _ref(event)) is None:
        return None
    carried_over = lake.newest("problem_generator", bounds.partition)  # by a round that only copies the one before
    its = _generators(lake.commit_of(bounds)) or ({carried_over.data_version} if carried_over else set())
    written = (one.ref for one in reversed(lake.history("raw_problems")) if one.ref.rows and _generators(one) & its)
    return next(written, None)


def _generators(commit: Commit) -> set[str]:
    """Data versions of the generators that a commit was made from."""
    return {one.data_version for one in commit.provenance.inputs if one.asset == "problem_generator"}


@dg.sensor(job_name="evaluation_job", minimum_interval_seconds=60, description=EVALUATION)
def evaluation_of_a_new_model(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """The benchmarks of every student that came out of self-play."""
    asked = [
        # not named after the data: a model that is as it once was needs its scores again, and students may be equal.
        # One too many costs little: the job leaves alone what is finished.
        dg.RunRequest(run_key=f"{event.partition_key}/{event.storage_id}", partition_key=event.partition_key)
        for event in _new(context, "self_play_model")
    ]
    return dg.SensorResult(run_requests=asked, skip_reason=None if asked else "no new model came out of self-play")


@dg.sensor(minimum_interval_seconds=60, description=REGRESSION)
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
            _post(context, url, text)
    return dg.SkipReason(f"{len(found)} regressions" if found else "no new scores are worse")


def version_before(instance: dg.DagsterInstance, event: dg.EventLogRecord) -> Ref | None:
    """What the materialization before this one, of the same partition and by a run that succeeded, left in the lake."""
    earlier = _of_partition(event, before_storage_id=event.storage_id)
    records = instance.fetch_materializations(earlier, limit=AT_ONCE).records
    return next((_ref(one) for one in records if _standing(instance, one) == "counts"), None)


def regressions(before: list[Row], after: list[Row]) -> list[str]:
    """One sentence for every avg@k whose interval lies below its former one."""
    former = {(row["benchmark"], row["metric"], row["stage"]): row for row in averages(before)}
    worse = []
    for row in averages(after):
        was = former.get((row["benchmark"], row["metric"], row["stage"]))
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


def _post(context: dg.SensorEvaluationContext, url: str, text: str) -> None:
    """The address is a secret of the webhook's owner: what is said of a failure does not repeat it."""
    body = json.dumps({"text": text}).encode()
    try:
        request = urllib.request.Request(url, body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=WEBHOOK_WAIT_S):
            pass
    except (OSError, ValueError) as error:
        why = f"HTTP {error.code}" if isinstance(error, urllib.error.HTTPError) else type(error).__name__
        context.log.error(f"the webhook of {WEBHOOK} did not take the alert above ({why})")


# Reports that need no device follow their data by themselves: a condition on the asset says when, this sensor looks.
# Not the models and tables they report on, which are asked for; not EM rounds, whose order no condition keeps.
REPORTS = [table.name for table in TABLES.values() if table.report]
# A report on all batches and students (`item_difficulty`) takes those that exist: one batch that failed, or one student
# not trained yet, must not silence it. A report on EM rounds waits for all of them: they come one after the other.
IN_PARTS = dg.AssetSelection.assets(
    *(name for one in REPORTS for name in TABLES[one].reads_every if TABLES[name].unit is not Unit.ROUND)
)
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


def sensors(settings: Settings) -> list[dg.SensorDefinition]:
    """Every sensor of a profile."""
    return [
        weekly_synthesis,
        synthesis_after(last_round(settings)),
        evaluation_of_a_new_model,
        alert_on_a_regression,
        reports_follow_their_data,
    ]
