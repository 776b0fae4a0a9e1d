"""A backfill of EM rounds as people launch it: `dagster dev`, its GraphQL, its daemon. Rounds run strictly in order."""

import shutil
import time
from pathlib import Path

import dagster as dg
import pytest

from promptcot_assets.assets.em import BOUND_GATE
from promptcot_assets.tables import open_lake
from tests.assets.arc_runs import SMALL
from tests.assets.dagster_dev import DagsterDev
from tests.assets.materialized import ROUND_OUTPUTS
from tests.assets.test_arc import data_versions

pytestmark = pytest.mark.slow

LAUNCH = """
mutation Launch($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  }
}"""
STATUS = (
    "query Status($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }"
)
TIMEOUT_S = 1500
HARMFUL = f"""
extends: {SMALL}
em:
  rounds: 4
  patience: 0
  candidates: 1
  e_step: {{arguments: {{max_steps: 4}}}}
  m_step_training: {{arguments: {{max_steps: 4, learning_rate: 1.0}}}}
engine: {{workers: 1}}
"""


@pytest.fixture
def home(finished_home: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished_home, tmp_path / "home")
    return tmp_path / "home"


def backfill(home: Path, rounds: list[str], profile: Path = SMALL) -> tuple[str, str, str]:
    """Launch a backfill in a `dagster dev` of its own and wait for its end: its id, its status, what was printed."""
    server = DagsterDev(home, PROMPTCOT_PROFILE=str(profile))
    try:
        server.wait_until_up()
        params = {
            "assetSelection": [{"path": [name]} for name in ROUND_OUTPUTS],
            "partitionNames": rounds,
            "fromFailure": False,
        }
        launched = server.ask(LAUNCH, {"params": params})["launchPartitionBackfill"]
        assert launched["__typename"] == "LaunchBackfillSuccess", launched
        status, until = "REQUESTED", time.monotonic() + TIMEOUT_S
        while status == "REQUESTED" and time.monotonic() < until:
            time.sleep(2)
            status = server.ask(STATUS, {"id": launched["backfillId"]})["partitionBackfillOrError"]["status"]
        return launched["backfillId"], status, server.printed()
    finally:
        server.stop()


def test_backfill_of_rounds_runs_in_order_and_reproduces_them(home: Path, finished_home: Path) -> None:
    before = {commit.ref for commit in open_lake(home).lineage()}
    _, status, printed = backfill(home, ["round_02", "round_01"])
    assert status == "COMPLETED_SUCCESS", printed

    new = [commit for commit in open_lake(home).lineage() if commit.ref not in before]
    assert {commit.ref.asset for commit in new} == set(ROUND_OUTPUTS)
    last_of_first = max(commit.timestamp for commit in new if commit.ref.partition == "round_01")
    first_of_second = min(commit.timestamp for commit in new if commit.ref.partition == "round_02")
    assert last_of_first < first_of_second
    assert data_versions(home) == data_versions(finished_home)


def test_a_failed_gate_stops_the_rounds_after_it(home: Path, tmp_path: Path) -> None:
    """Dagster sees that all outputs of round 2 are there and launches round 3, which looks at the gate and refuses."""
    profile = tmp_path / "harmful.yaml"
    profile.write_text(HARMFUL)
    before = {commit.ref for commit in open_lake(home).lineage()}
    launched, status, printed = backfill(home, ["round_04", "round_03", "round_02"], profile)
    assert status == "COMPLETED_FAILED", printed

    new = [commit.ref for commit in open_lake(home).lineage() if commit.ref not in before]
    assert sorted((ref.asset, ref.partition) for ref in new) == sorted((asset, "round_02") for asset in ROUND_OUTPUTS)
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        newest_first = instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": launched}))
        runs = newest_first[::-1]
        assert [run.tags["dagster/partition"] for run in runs] == ["round_02", "round_03"]
        assert all(run.is_failure for run in runs)
        at_the_gate, refused = (failure(instance, run) for run in runs)
        assert "em_bounds is stopped by its gate: the held-out bound fell by" in at_the_gate
        assert "round 3 does not start, em_bounds[round_02] is stopped by its gate" in refused
        checks = instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(dg.AssetKey("em_bounds"), BOUND_GATE), limit=10
        )
    newest = next(check for check in checks if check.partition == "round_02")
    assert newest.status.value == "FAILED"


def failure(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    (entry,) = instance.all_logs(run.run_id, dg.DagsterEventType.STEP_FAILURE)
    assert entry.dagster_event
    return str(entry.dagster_event.step_failure_data.error)
