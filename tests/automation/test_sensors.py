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

from promptcot_assets.assets.resources import LakeResource, SettingsResource
from promptcot_assets.automation.partitions import BATCHES, LAST_ROUND, ROUNDS, STUDENTS
from promptcot_assets.automation.schedules import weekly_synthesis
from promptcot_assets.automation.sensors import (
    REPORTS,
    SENSORS,
    WEBHOOK,
    alert_on_a_regression,
    evaluation_of_a_new_model,
    regressions,
    synthesis_after_the_last_round,
)
from promptcot_assets.definitions import defs
from tests.reports.small_home import Home

STUDENT = STUDENTS.get_partition_keys()[0]


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as found:
        yield found


def materialize(instance: dg.DagsterInstance, name: str, partition: str, version: str, fails: bool = False) -> None:
    """A run that materializes `name`, and then fails as a gate makes it."""
    partitions = ROUNDS if partition in ROUNDS.get_partition_keys() else STUDENTS

    @dg.multi_asset(name="step", specs=[dg.AssetSpec(name)], partitions_def=partitions)
    def step() -> Iterator[dg.MaterializeResult]:
        yield dg.MaterializeResult(asset_key=name, data_version=dg.DataVersion(version))
        if fails:
            raise dg.Failure("gate")

    done = dg.materialize([step], partition_key=partition, instance=instance, raise_on_error=False)
    assert done.success != fails


def tick(
    sensor: dg.SensorDefinition, instance: dg.DagsterInstance, cursor: str | None = None, **resources: object
) -> SensorExecutionData:
    repository = defs.get_repository_def()
    with (
        dg.build_sensor_context(
            instance=instance, cursor=cursor, repository_def=repository, resources=resources
        ) as context,
        dg.partition_loading_context(dynamic_partitions_store=instance),  # as the daemon does
    ):
        return sensor.evaluate_tick(context)


def test_the_last_round_is_followed_by_a_batch_of_its_own_once(instance: dg.DagsterInstance) -> None:
    materialize(instance, "em_bounds", ROUNDS.get_partition_keys()[0], "early")
    materialize(instance, "em_bounds", LAST_ROUND, "good")
    asked = tick(synthesis_after_the_last_round, instance)
    assert [run.partition_key for run in asked.run_requests] == ["em_good"]
    assert instance.has_dynamic_partition(str(BATCHES.name), "em_good")
    assert tick(synthesis_after_the_last_round, instance, asked.cursor).run_requests == []


def test_a_round_that_its_gate_stopped_is_followed_by_nothing(instance: dg.DagsterInstance) -> None:
    materialize(instance, "em_bounds", LAST_ROUND, "bad", fails=True)
    assert tick(synthesis_after_the_last_round, instance).run_requests == []


def test_a_new_model_is_evaluated(instance: dg.DagsterInstance) -> None:
    materialize(instance, "self_play_model", STUDENT, "model")
    asked = tick(evaluation_of_a_new_model, instance).run_requests
    assert [(run.run_key, run.partition_key) for run in asked] == [("model", STUDENT)]


def test_a_week_is_a_batch() -> None:
    with dg.instance_for_test() as instance:  # on disk: a schedule opens its instance by reference
        context = dg.build_schedule_context(
            instance=instance,
            scheduled_execution_time=datetime(2030, 1, 6, 3, tzinfo=UTC),
            repository_def=defs.get_repository_def(),
        )
        (run,) = weekly_synthesis.evaluate_tick(context).run_requests
        assert run.run_key == run.partition_key == "week_2030_01_06"
        assert instance.has_dynamic_partition(str(BATCHES.name), "week_2030_01_06")


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
        ([score(0.8, 0.1, compared_with="base")], [score(0.5, 0.1, compared_with="base")], 0),  # a difference
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


def test_a_regression_is_posted_once(instance: dg.DagsterInstance, tmp_path: Path, posted: list[str]) -> None:
    home = Home(tmp_path)
    for value in (0.8, 0.3):
        home.commit("benchmark_scores", [{"score_id": "score", **score(value, 0.1)}], partition=STUDENT)
        materialize(instance, "benchmark_scores", STUDENT, str(value))
    lake = LakeResource(home=str(tmp_path), settings=SettingsResource(profile="demo"))
    ticked = tick(alert_on_a_regression, instance, lake=lake)
    tick(alert_on_a_regression, instance, ticked.cursor, lake=lake)
    assert posted == [
        "aime avg@4 of sft_model/1 (sft): 0.300 [0.200, 0.400], was 0.800 [0.700, 0.900] with sft_model/1"
    ]


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


def test_nothing_runs_by_itself_until_it_is_switched_on() -> None:
    repository = defs.get_repository_def()
    assert all(one.default_status.value == "STOPPED" for one in repository.sensor_defs)
    assert all(one.default_status.value == "STOPPED" for one in repository.schedule_defs)
    assert len(repository.sensor_defs) == len(SENSORS)  # Dagster adds one of its own for conditions nobody looks at
