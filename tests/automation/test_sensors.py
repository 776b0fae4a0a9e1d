"""What a tick asks for, on an instance in memory whose events come from real runs."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.asset_daemon_cursor import AssetDaemonCursor
from dagster._core.definitions.declarative_automation.automation_condition_tester import (
    EvaluateAutomationConditionsResult,
)
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.tags import PARENT_RUN_ID_TAG, RESUME_RETRY_TAG, ROOT_RUN_ID_TAG
from dagster._core.test_utils import freeze_time

from promptcot_assets.assets.partitions import BATCHES, last_round, partitions_of
from promptcot_assets.assets.resources import LakeResource, SettingsResource
from promptcot_assets.automation.schedules import weekly_synthesis
from promptcot_assets.automation.sensors import (
    REPORTS,
    WEBHOOK,
    alert_on_a_regression,
    evaluation_of_a_new_model,
    regressions,
    sensors,
    synthesis_after,
)
from promptcot_assets.definitions import defs
from promptcot_assets.lake import Ref
from promptcot_assets.settings import load_settings
from promptcot_assets.tables import Unit
from tests.small_home import Home, whole_arc

DEMO = load_settings("demo")
ROUNDS, STUDENTS = partitions_of(Unit.ROUND, DEMO), partitions_of(Unit.STUDENT, DEMO)
assert ROUNDS and STUDENTS
LAST_ROUND = last_round(DEMO)
synthesis_after_the_last_round = synthesis_after(LAST_ROUND)
STUDENT = STUDENTS.get_partition_keys()[0]
# Nothing is opened by it; but a tick without a reference, as to one in memory, does not know partitions it asks for.
REFERENCE = InstanceRef.from_dir(str(Path(__file__).parent))


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as found:
        yield found


def materialize(
    instance: dg.DagsterInstance,
    name: str,
    partition: str,
    version: str,
    fails: bool = False,
    ref: Ref | None = None,
    retries: str | None = None,
) -> str:
    """A run that materializes `name`, and then fails as a gate makes it; its id.

    retries: the run from whose failure it goes on.
    """
    partitions = ROUNDS if partition in ROUNDS.get_partition_keys() else STUDENTS

    @dg.multi_asset(name="step", specs=[dg.AssetSpec(name)], partitions_def=partitions)
    def step() -> Iterator[dg.MaterializeResult]:
        metadata = {"ref": json.loads(ref.json())} if ref else {}
        yield dg.MaterializeResult(asset_key=name, data_version=dg.DataVersion(version), metadata=metadata)
        if fails:
            raise dg.Failure("gate")

    tags = went_on_from(retries) if retries else {}
    done = dg.materialize([step], partition_key=partition, instance=instance, raise_on_error=False, tags=tags)
    assert done.success != fails
    return done.run_id


def went_on_from(run: str) -> dict[str, str]:
    """Tags of a run that goes on from the failure of this one."""
    return {PARENT_RUN_ID_TAG: run, ROOT_RUN_ID_TAG: run, RESUME_RETRY_TAG: "true"}


def finish(instance: dg.DagsterInstance, retries: str) -> None:
    """The retry from the failure of a run that makes only what was still missing, and succeeds."""

    @dg.asset(name="what_was_left", partitions_def=STUDENTS)
    def rest() -> None: ...

    tags = went_on_from(retries)
    assert dg.materialize([rest], partition_key=STUDENT, instance=instance, tags=tags).success


def requests(ticked: SensorExecutionData) -> list[dg.RunRequest]:
    return list(ticked.run_requests or [])


def default_lake(sensor: dg.SensorDefinition, instance: dg.DagsterInstance) -> dict[str, object]:
    """An empty lake beside the instance, for what asks for one."""
    return {"lake": lake_of(Path(instance.root_directory) / "lake")} if sensor.required_resource_keys else {}


def tick(
    sensor: dg.SensorDefinition, instance: dg.DagsterInstance, cursor: str | None = None, **resources: object
) -> SensorExecutionData:
    repository = defs.get_repository_def()
    with (
        dg.build_sensor_context(
            instance=instance,
            instance_ref=REFERENCE,
            cursor=cursor,
            repository_def=repository,
            resources=resources or default_lake(sensor, instance),
        ) as context,
        dg.partition_loading_context(dynamic_partitions_store=instance),  # as the daemon does
    ):
        return sensor.evaluate_tick(context)


def test_the_last_round_is_followed_by_a_batch_of_its_own_once(instance: dg.DagsterInstance) -> None:
    materialize(instance, "em_bounds", ROUNDS.get_partition_keys()[0], "early")
    materialize(instance, "em_bounds", LAST_ROUND, "good")
    asked = tick(synthesis_after_the_last_round, instance)
    assert [run.partition_key for run in requests(asked)] == ["em_good"]
    (request,) = asked.dynamic_partitions_requests or []
    assert request == BATCHES.build_add_request(["em_good"])
    assert not instance.has_dynamic_partition(str(BATCHES.name), "em_good")  # the daemon adds it, a preview does not
    assert requests(tick(synthesis_after_the_last_round, instance, asked.cursor)) == []


def test_a_round_that_its_gate_stopped_is_followed_by_nothing(instance: dg.DagsterInstance) -> None:
    materialize(instance, "em_bounds", LAST_ROUND, "bad", fails=True)
    assert requests(tick(synthesis_after_the_last_round, instance)) == []


def test_a_round_that_its_gate_lets_through_at_the_second_try_is_followed_by_that_try_only(
    instance: dg.DagsterInstance,
) -> None:
    stopped = materialize(instance, "em_bounds", LAST_ROUND, "bad", fails=True)
    first = tick(synthesis_after_the_last_round, instance)
    materialize(instance, "em_bounds", LAST_ROUND, "good", retries=stopped)
    asked = tick(synthesis_after_the_last_round, instance, first.cursor)
    assert [run.partition_key for run in requests(asked)] == ["em_good"]


def test_switched_on_a_sensor_begins_with_the_newest_version(instance: dg.DagsterInstance) -> None:
    for version in ("first", "second", "third"):
        materialize(instance, "em_bounds", LAST_ROUND, version)
    asked = tick(synthesis_after_the_last_round, instance)
    assert [run.partition_key for run in requests(asked)] == ["em_third"]
    assert requests(tick(synthesis_after_the_last_round, instance, asked.cursor)) == []


def test_switched_on_before_there_is_anything_a_sensor_misses_nothing(instance: dg.DagsterInstance) -> None:
    nothing = tick(synthesis_after_the_last_round, instance)
    for version in ("first", "second"):
        materialize(instance, "em_bounds", LAST_ROUND, version)
    asked = tick(synthesis_after_the_last_round, instance, nothing.cursor)
    assert [run.partition_key for run in requests(asked)] == ["em_first", "em_second"]


def test_a_new_model_is_evaluated(instance: dg.DagsterInstance) -> None:
    materialize(instance, "self_play_model", STUDENT, "model")
    asked = tick(evaluation_of_a_new_model, instance)
    (run,) = requests(asked)
    assert run.partition_key == STUDENT and str(run.run_key).startswith(f"{STUDENT}/")
    assert requests(tick(evaluation_of_a_new_model, instance, asked.cursor)) == []


def test_a_model_of_a_run_that_failed_later_is_evaluated_when_its_retry_has_succeeded(
    instance: dg.DagsterInstance,
) -> None:
    killed = materialize(instance, "self_play_model", STUDENT, "model", fails=True)
    before = tick(evaluation_of_a_new_model, instance)
    assert requests(before) == []
    finish(instance, killed)
    after = tick(evaluation_of_a_new_model, instance, before.cursor)
    assert [run.partition_key for run in requests(after)] == [STUDENT]
    assert requests(tick(evaluation_of_a_new_model, instance, after.cursor)) == []


def test_a_failed_run_holds_nothing_up_and_is_forgotten_when_its_model_is_made_anew(
    instance: dg.DagsterInstance,
) -> None:
    materialize(instance, "self_play_model", STUDENT, "broken", fails=True)
    waiting = tick(evaluation_of_a_new_model, instance)
    materialize(instance, "self_play_model", STUDENT, "model")
    asked = tick(evaluation_of_a_new_model, instance, waiting.cursor)
    assert len(requests(asked)) == 1
    assert len(str(waiting.cursor).split()) == 2 and len(str(asked.cursor).split()) == 1


def test_a_model_that_is_again_as_it_once_was_is_evaluated_again(instance: dg.DagsterInstance) -> None:
    keys: list[str | None] = []
    cursor = None
    for version in ("one", "two", "one"):
        materialize(instance, "self_play_model", STUDENT, version)
        ticked = tick(evaluation_of_a_new_model, instance, cursor)
        cursor = ticked.cursor
        keys += [run.run_key for run in requests(ticked)]
    assert len(set(keys)) == 3  # Dagster drops a key that it knows


def test_a_week_is_a_batch_that_a_preview_does_not_leave_behind(instance: dg.DagsterInstance) -> None:
    with freeze_time(datetime(2030, 1, 2, tzinfo=UTC)):
        switched_on = tick(weekly_synthesis, instance)
    assert requests(switched_on) == [] and switched_on.skip_message == (
        "the next batch is due on Sunday 2030-01-06 at 03:00 UTC"
    )
    with freeze_time(datetime(2030, 1, 6, 3, 0, 30, tzinfo=UTC)):
        due = tick(weekly_synthesis, instance, switched_on.cursor)
        again = tick(weekly_synthesis, instance, due.cursor)
    (run,) = requests(due)
    assert run.run_key == run.partition_key == "week_2030_01_06"
    assert due.dynamic_partitions_requests == [BATCHES.build_add_request(["week_2030_01_06"])]
    assert not instance.has_dynamic_partition(str(BATCHES.name), "week_2030_01_06")  # the daemon adds it
    assert requests(again) == []
    with freeze_time(datetime(2030, 2, 1, tzinfo=UTC)):  # nobody watched for weeks
        (late,) = requests(tick(weekly_synthesis, instance, due.cursor))
    assert late.partition_key == "week_2030_01_27"


def test_a_generator_that_has_written_a_batch_writes_no_other_one(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    home = whole_arc(tmp_path / "home")
    for asset in ("rationale_model", "problem_generator"):
        home.train(asset, "em_m_step", partition=LAST_ROUND, weights="last")
    bounds = home.commit("em_bounds", [{"bound_id": "last"}], "rationale_model", "problem_generator",
                         partition=LAST_ROUND)  # fmt: skip
    materialize(instance, "em_bounds", LAST_ROUND, bounds.data_version, ref=bounds)
    lake = lake_of(home.path)
    asked = tick(synthesis_after_the_last_round, instance, lake=lake)
    assert [run.partition_key for run in requests(asked)] == [f"em_{bounds.data_version[:12]}"]
    written = home.commit("raw_problems", [{"raw_problem_id": "raw"}], "problem_generator", partition="mine")
    again = tick(synthesis_after_the_last_round, instance, lake=lake)
    assert requests(again) == [] and str(again.skip_message).endswith(f"has written already: {written}")


def test_every_automation_says_what_it_does_and_every_empty_tick_why(instance: dg.DagsterInstance) -> None:
    for sensor in sensors(DEMO):
        assert sensor.description and len(sensor.description) > 30
        if not isinstance(sensor, dg.AutomationConditionSensorDefinition):
            assert tick(sensor, instance).skip_message


def score(value: float, half: float, **more: object) -> dict[str, object]:
    row = {"benchmark": "aime", "metric": "avg@4", "stage": "sft", "model": "sft_model/1", "compared_with": None}
    return row | {"value": value, "low": value - half, "high": value + half} | more


@pytest.mark.parametrize(
    ("before", "after", "worse"),
    [
        ([score(0.8, 0.1)], [score(0.5, 0.1)], 1),
        ([score(0.8, 0.1)], [score(0.65, 0.1)], 0),  # intervals overlap
        ([score(0.5, 0.1)], [score(0.8, 0.1)], 0),  # better
        ([], [score(0.5, 0.1)], 0),  # the first
        ([score(0.8, 0.1)], [score(0.5, 0.1, stage="base")], 0),  # another stage
        ([score(0.8, 0.1, metric="paired difference")], [score(0.5, 0.1, metric="paired difference")], 0),
        ([score(0.8, 0.1, metric="pass@4")], [score(0.5, 0.1, metric="pass@4")], 0),  # says the same once more
    ],
)  # fmt: skip
def test_a_score_is_worse_when_its_interval_lies_below(
    before: list[dict[str, object]], after: list[dict[str, object]], worse: int
) -> None:
    assert len(regressions(before, after)) == worse


@pytest.fixture
def posted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What arrives at the webhook."""
    texts: list[str] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            texts.append(json.loads(self.rfile.read(int(self.headers["content-length"])))["text"])
            self.send_response(200)
            self.end_headers()

    with HTTPServer(("127.0.0.1", 0), Hook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv(WEBHOOK, f"http://127.0.0.1:{server.server_port}")
        yield texts
        server.shutdown()


class Scores:
    """A lake to which scores of one student are committed, and the sensor's ticks on it."""

    def __init__(self, instance: dg.DagsterInstance, path: Path) -> None:
        self.instance, self.home, self.cursor = instance, Home(path), tick_of_nothing(instance, path)

    def commit(self, value: float, fails: bool = False) -> None:
        """A run that makes a new version."""
        self.home.commit("benchmark_scores", [{"score_id": "score", **score(value, 0.1)}], partition=STUDENT)
        self.materialize(fails)

    def materialize(self, fails: bool = False) -> None:
        """A run that finds the newest version finished."""
        ref = self.home.refs["benchmark_scores"]
        materialize(self.instance, "benchmark_scores", STUDENT, ref.data_version, fails, ref)

    def tick(self) -> None:
        self.cursor = tick(alert_on_a_regression, self.instance, self.cursor, lake=lake_of(self.home.path)).cursor


def lake_of(path: Path) -> LakeResource:
    return LakeResource(home=str(path), settings=SettingsResource(profile="demo"))


def tick_of_nothing(instance: dg.DagsterInstance, path: Path) -> str | None:
    return tick(alert_on_a_regression, instance, lake=lake_of(path)).cursor


REGRESSION = "aime avg@4 of sft_model/1 (sft): 0.300 [0.200, 0.400], was 0.800 [0.700, 0.900] with sft_model/1"


@pytest.mark.parametrize("values", [(0.8, 0.3), (0.8, 0.3, 0.35)], ids=["the last", "one before the last"])
def test_a_version_that_is_worse_than_the_one_before_it_is_posted_once(
    values: tuple[float, ...], instance: dg.DagsterInstance, tmp_path: Path, posted: list[str]
) -> None:
    scores = Scores(instance, tmp_path)
    for value in values:
        scores.commit(value)
    scores.tick()
    scores.tick()
    assert posted == [REGRESSION]


def test_a_regression_is_not_posted_again_when_a_run_finds_its_scores_finished(
    instance: dg.DagsterInstance, tmp_path: Path, posted: list[str]
) -> None:
    scores = Scores(instance, tmp_path)
    for value in (0.8, 0.3):
        scores.commit(value)
        scores.tick()
    scores.materialize()
    scores.tick()
    assert posted == [REGRESSION]


def test_scores_of_a_failed_run_are_held_against_when_a_later_run_finds_them_finished(
    instance: dg.DagsterInstance, tmp_path: Path, posted: list[str]
) -> None:
    scores = Scores(instance, tmp_path)
    scores.commit(0.8)
    scores.commit(0.3, fails=True)
    scores.tick()
    assert posted == []
    scores.materialize()
    scores.tick()
    assert posted == [REGRESSION]


# ---- reports
def evaluate(
    instance: dg.DagsterInstance, cursor: AssetDaemonCursor | None = None
) -> EvaluateAutomationConditionsResult:
    return dg.evaluate_automation_conditions(defs, instance, dg.AssetSelection.assets(*REPORTS), cursor=cursor)


def record(instance: dg.DagsterInstance, partition: str, *assets: str) -> None:
    """One run that materializes these."""
    graph = defs.resolve_asset_graph()

    @dg.multi_asset(name="step", specs=[dg.AssetSpec(name) for name in assets],
                    partitions_def=graph.get(dg.AssetKey(assets[0])).partitions_def)  # fmt: skip
    def step() -> Iterator[dg.MaterializeResult]:
        yield from (dg.MaterializeResult(asset_key=name) for name in assets)

    assert dg.materialize([step], partition_key=partition, instance=instance).success


def test_a_report_is_asked_for_when_its_data_is_new_and_not_when_its_run_made_it(instance: dg.DagsterInstance) -> None:
    record(instance, STUDENT, "rollouts")
    first = evaluate(instance)
    record(instance, STUDENT, "verdicts")
    asked = evaluate(instance, first.cursor)
    assert asked.get_requested_partitions(dg.AssetKey("difficulty")) == {STUDENT}
    assert asked.get_num_requested(dg.AssetKey("scaling")) == 0  # its scores are missing
    again = evaluate(instance, asked.cursor)
    assert again.total_requested == 0
    record(instance, STUDENT, "rollouts", "verdicts", "difficulty")
    assert evaluate(instance, again.cursor).get_num_requested(dg.AssetKey("difficulty")) == 0


def test_a_batch_without_traces_does_not_silence_the_report_on_all_batches(instance: dg.DagsterInstance) -> None:
    item_difficulty, yield_report = dg.AssetKey("item_difficulty"), dg.AssetKey("yield_report")
    instance.add_dynamic_partitions(str(BATCHES.name), ["first", "failed"])
    before = evaluate(instance)
    record(instance, STUDENT, "difficulty")
    no_traces = evaluate(instance, before.cursor)
    assert no_traces.get_num_requested(item_difficulty) == 0
    record(instance, "first", "teacher_traces")
    some_traces = evaluate(instance, no_traces.cursor)
    assert some_traces.get_num_requested(item_difficulty) == 1
    steps = (
        "concept_sets", "raw_problems", "dropped_problems", "problems", "math_votes", "math_answers", "proposed_tests",
        "candidate_programs", "code_tests",
    )  # fmt: skip
    record(instance, "failed", *steps)
    record(instance, "first", *steps)
    asked = evaluate(instance, some_traces.cursor)
    assert asked.get_requested_partitions(yield_report) == {"first"}  # the other one's traces are missing


def test_nothing_runs_by_itself_until_it_is_switched_on() -> None:
    repository = defs.get_repository_def()
    assert all(one.default_status.value == "STOPPED" for one in repository.sensor_defs)
    assert all(one.default_status.value == "STOPPED" for one in repository.schedule_defs)
    assert len(repository.sensor_defs) == len(
        sensors(DEMO)
    )  # Dagster adds one of its own for conditions nobody looks at
