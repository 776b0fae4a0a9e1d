"""What a killed arc leaves in Dagster, and what the next one does about it."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from promptcot_assets.automation.home import ARC_TAG, open_home, release_dead_runs
from promptcot_assets.settings import load_settings

LEFT = ("NOT_STARTED", "STARTING", "STARTED", "CANCELING")


@dg.job
def nothing() -> None: ...


@pytest.mark.parametrize("status", LEFT)
def test_a_run_that_a_killed_arc_left_is_failed_whatever_it_had_come_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    with open_home(tmp_path, load_settings("demo")) as instance:
        left = dg.DagsterRunStatus[status]
        arcs = instance.create_run_for_job(nothing, status=left, tags={ARC_TAG: "corpus"})
        others = instance.create_run_for_job(nothing, status=left)
        release_dead_runs(instance)
        found = {run.run_id: run.status for run in instance.get_runs()}
        assert found == {arcs.run_id: dg.DagsterRunStatus.FAILURE, others.run_id: left}
