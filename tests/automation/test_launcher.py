"""What the daemon's run monitoring is told of a run. That a killed run is retried is tested in tests/browser."""

import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.launcher import WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """With the dagster.yaml that a home gets."""
    config = files("promptcot_assets.automation") / "dagster.yaml"
    (tmp_path / "dagster.yaml").write_text(config.read_text())
    with dg.DagsterInstance.from_config(str(tmp_path)) as found:
        yield found


def health(instance: dg.DagsterInstance, **tags: str) -> WorkerStatus:
    run = dg.DagsterRun(job_name="em_round", status=dg.DagsterRunStatus.STARTED, tags=tags)
    instance.add_run(run)
    assert instance.run_launcher.supports_check_run_worker_health
    return instance.run_launcher.check_run_worker_health(run).status


def test_a_run_whose_code_server_is_gone_is_not_found(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    server = json.dumps({"host": "localhost", "socket": str(tmp_path / "gone.sock")})
    assert health(instance, **{GRPC_INFO_TAG: server}) is WorkerStatus.NOT_FOUND


def test_a_run_of_the_command_line_has_no_code_server_to_lose(instance: dg.DagsterInstance) -> None:
    assert health(instance) is WorkerStatus.RUNNING
