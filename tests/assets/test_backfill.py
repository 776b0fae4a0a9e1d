"""A backfill of EM rounds as people launch it: `dagster dev`, its GraphQL, its daemon. Rounds run strictly in order."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from promptcot_assets.assets.em import ROUND_OUTPUTS
from promptcot_assets.lake import Lake
from tests.assets.dagster_dev import DagsterDev
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
TIMEOUT_S = 500


@pytest.fixture
def dev(finished_home: Path, tmp_path: Path) -> Iterator[tuple[DagsterDev, Path]]:
    home = tmp_path / "home"
    shutil.copytree(finished_home, home)
    started = DagsterDev(home)
    try:
        started.wait_until_up()
        yield started, home
    finally:
        started.stop()


def test_backfill_of_rounds_runs_in_order_and_reproduces_them(
    dev: tuple[DagsterDev, Path], finished_home: Path
) -> None:
    server, home = dev
    before = {commit.ref for commit in Lake(home).lineage()}
    params = {
        "assetSelection": [{"path": [name]} for name in ROUND_OUTPUTS],
        "partitionNames": ["round_02", "round_01"],
        "fromFailure": False,
    }
    launched = server.ask(LAUNCH, {"params": params})["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    status, until = "REQUESTED", time.monotonic() + TIMEOUT_S
    while status == "REQUESTED" and time.monotonic() < until:
        time.sleep(2)
        status = server.ask(STATUS, {"id": launched["backfillId"]})["partitionBackfillOrError"]["status"]
    assert status == "COMPLETED_SUCCESS", server.printed()

    new = [commit for commit in Lake(home).lineage() if commit.ref not in before]
    assert {commit.ref.asset for commit in new} == set(ROUND_OUTPUTS)
    last_of_first = max(commit.timestamp for commit in new if commit.ref.partition == "round_01")
    first_of_second = min(commit.timestamp for commit in new if commit.ref.partition == "round_02")
    assert last_of_first < first_of_second
    assert data_versions(home) == data_versions(finished_home)
