"""OpenLineage events of real materializations, received over HTTP; without an endpoint there are none."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from promptcot_assets.assets.labels import math_votes
from promptcot_assets.assets.partitions import BATCHES
from promptcot_assets.domains import procedural_domain
from promptcot_assets.lake.ids import content_id
from promptcot_assets.tables import SCHEMAS
from tests.assets.materialized import built, resources_of
from tests.small_home import BATCH, Home

PROFILE = "extends: demo\nsandbox: {workers: 1}\n"
Event = dict[str, Any]


@contextmanager
def catalogue(status: int = 201) -> Iterator[tuple[str, list[Event]]]:
    """A server that receives events as Marquez does: its address, and what has come."""
    events: list[Event] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            events.append(json.loads(body) | {"_path": self.path})
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", events
        finally:
            server.shutdown()


def materialized(tmp_path: Path, with_problems: bool = True) -> tuple[Home, dg.ExecuteInProcessResult]:
    home = Home(tmp_path / "home")
    problems = [
        {"problem_id": content_id("mini_maths", one.problem), "domain": "mini_maths", "problem": one.problem}
        for one in procedural_domain("mini_maths").write_seeds(3, 0, {"planner": 1}, seed=3).train
    ]
    if with_problems:
        home.commit("problems", problems, partition=BATCH)
    profile = tmp_path / "profile.yaml"
    profile.write_text(PROFILE)
    with dg.instance_for_test() as instance:
        instance.add_dynamic_partitions(str(BATCHES.name), [BATCH])
        return home, dg.materialize(
            built(profile, math_votes), partition_key=BATCH, instance=instance, raise_on_error=False,
            resources=resources_of(profile, home.path),
        )  # fmt: skip


@pytest.fixture(autouse=True)
def no_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENLINEAGE_URL", "OPENLINEAGE_CONFIG", "OPENLINEAGE__TRANSPORT__TYPE", "OPENLINEAGE_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)


def test_a_materialization_tells_its_exact_inputs_and_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openlineage.client")
    with catalogue() as (url, events):
        monkeypatch.setenv("OPENLINEAGE_URL", url)
        home, result = materialized(tmp_path)
    assert result.success
    start, complete = events
    assert [one["eventType"] for one in events] == ["START", "COMPLETE"]
    assert start["run"]["runId"] == complete["run"]["runId"] != result.run_id
    assert complete["run"]["facets"]["parent"]["run"]["runId"] == result.run_id
    assert complete["job"]["name"] == "math_votes" and complete["job"]["namespace"] == "promptcot"
    made = home.lake.newest("math_votes", BATCH)
    assert made
    (output,) = complete["outputs"]
    assert output["name"] == f"math_votes[{BATCH}]"
    assert output["facets"]["version"]["datasetVersion"] == f"{made} {made.data_version}"
    assert output["outputFacets"]["outputStatistics"]["rowCount"] == made.rows >= 3
    assert [one["name"] for one in output["facets"]["schema"]["fields"]] == SCHEMAS["math_votes"].names
    inputs = {one["name"]: one["facets"]["version"]["datasetVersion"] for one in complete["inputs"]}
    recorded = home.lake.commit_of(made).provenance
    assert inputs[f"problems[{BATCH}]"] == f"{home.refs['problems']} {home.refs['problems'].data_version}"
    assert len(inputs) == len(recorded.inputs)
    assert complete["run"]["facets"]["promptcot"]["settingsHash"] == recorded.settings_hash


def test_a_step_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openlineage.client")
    with catalogue() as (url, events):
        monkeypatch.setenv("OPENLINEAGE_URL", url)
        _, result = materialized(tmp_path, with_problems=False)
    assert not result.success
    assert [one["eventType"] for one in events] == ["START", "FAIL"]
    assert "problems" in events[-1]["run"]["facets"]["errorMessage"]["message"]


def test_an_endpoint_that_refuses_costs_no_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openlineage.client")
    with catalogue(status=400) as (url, events):
        monkeypatch.setenv("OPENLINEAGE_URL", url)
        home, result = materialized(tmp_path)
    assert result.success and home.lake.newest("math_votes", BATCH)
    assert len(events) == 1  # the first that cannot be sent ends the telling


def test_without_an_endpoint_the_client_is_not_even_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("openlineage")]:
        monkeypatch.delitem(sys.modules, name)
    _, result = materialized(tmp_path)
    assert result.success and not any(name.startswith("openlineage") for name in sys.modules)
