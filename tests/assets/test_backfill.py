"""A backfill of EM rounds as people launch it: `dagster dev`, its GraphQL, its daemon. Rounds run strictly in order."""

import json
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from promptcot_assets.assets.em import ROUND_OUTPUTS
from promptcot_assets.lake import Lake
from tests.assets.arc_runs import DAGSTER, ROOT, environment
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


class Dev:
    """A running `dagster dev` on loopback."""

    def __init__(self, home: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.log = home / "dev.log"
        # not through a shell's `&`: a background job ignores SIGINT, and Dagster stops on nothing else
        self.process = subprocess.Popen(
            [*DAGSTER, "dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(self.port)],
            cwd=ROOT, env=environment(home), stdout=self.log.open("w"), stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip

    def ask(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql", body, {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["data"]

    def wait_until_up(self) -> None:
        until = time.monotonic() + 120
        while time.monotonic() < until:
            try:
                self.ask("query { version }", {})
                return
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.5)
        raise TimeoutError(f"dagster dev did not come up:\n{self.log.read_text()[-3000:]}")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()


@pytest.fixture
def dev(finished_home: Path, tmp_path: Path) -> Iterator[tuple[Dev, Path]]:
    home = tmp_path / "home"
    shutil.copytree(finished_home, home)
    started = Dev(home)
    try:
        started.wait_until_up()
        yield started, home
    finally:
        started.stop()


def test_backfill_of_rounds_runs_in_order_and_reproduces_them(dev: tuple[Dev, Path], finished_home: Path) -> None:
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
    assert status == "COMPLETED_SUCCESS", server.log.read_text()[-4000:]

    new = [commit for commit in Lake(home).lineage() if commit.ref not in before]
    assert {commit.ref.asset for commit in new} == set(ROUND_OUTPUTS)
    last_of_first = max(commit.timestamp for commit in new if commit.ref.partition == "round_01")
    first_of_second = min(commit.timestamp for commit in new if commit.ref.partition == "round_02")
    assert last_of_first < first_of_second
    assert data_versions(home) == data_versions(finished_home)
