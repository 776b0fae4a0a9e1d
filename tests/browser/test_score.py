"""From a benchmark score back to the data behind it, in the UI and on the command line: the way of docs/ui.md."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from promptcot_assets.automation.sensors import sensors
from promptcot_assets.settings import load_settings
from promptcot_assets.tables import open_lake
from tests.assets import arc_runs
from tests.assets.dagster_dev import DagsterDev
from tests.browser.conftest import tab
from tests.browser.dagster_ui import DagsterUi

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(3600)]

FINISHED = os.environ.get("PROMPTCOT_SCORED_HOME")  # of `make demo`, whose scores are worth a picture
PROFILE = "demo" if FINISHED else str(arc_runs.ONE_ROUND)
STUDENT, BENCHMARK = "tiny", "mini_maths"


@pytest.fixture(scope="module")
def scored(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one student's scores; made when a browser is there to look at it."""
    home = tmp_path_factory.mktemp("scored") / "home"
    if FINISHED:
        return Path(shutil.copytree(FINISHED, home))
    command = [*arc_runs.PROMPTCOT, "run", "--until", f"{STUDENT}: evaluation"]
    done = arc_runs.run(command, home, PROMPTCOT_PROFILE=PROFILE)
    assert done.returncode == 0, done.stderr[-4000:]
    return home


@pytest.fixture
def ui(chromium: Any, scored: Path, tmp_path: Path) -> Iterator[DagsterUi]:
    dev = DagsterDev(scored, PROMPTCOT_PROFILE=PROFILE)
    try:
        dev.wait_until_up()
        with tab(chromium, dev.url, tmp_path) as ui:
            yield ui
    finally:
        dev.kill()


def test_a_score_leads_to_its_seeds_in_the_browser(ui: DagsterUi, scored: Path) -> None:
    ui.open_asset("sft_model", "partitions", STUDENT)
    ui.shoot("plot", ui.open_plot())
    ui.open_asset("benchmark_scores", "partitions", STUDENT)
    ui.shows("inputs").evaluate("row => row.scrollIntoView()")
    ui.shows(f"promptcot lineage '{open_lake(scored).newest('benchmark_scores', STUDENT)}'")
    ui.shoot("score")
    ui.shoot("score_plot", ui.open_plot())
    ui.open("/assets/benchmark_scores?view=lineage&lineageScope=upstream&lineageDepth=20")
    for ancestor in ("seed_problems", "problem_generator", "teacher_traces", "self_play_model"):
        ui.shows(ancestor)
    ui.shoot("score_lineage")


def test_what_can_run_by_itself_is_listed(ui: DagsterUi) -> None:
    ui.open("/automation")
    for one in sensors(load_settings(PROFILE)):
        ui.shows(one.name)
    ui.shows("Automation condition sensor")
    ui.shoot("automation")


def test_a_score_leads_to_its_seeds_on_the_command_line(scored: Path) -> None:
    """The commands of docs/ui.md, one after the other."""
    scores = ask(scored, "sql", "select metric, compared_with, value, low, high, model from benchmark_scores "
                                f"where benchmark = '{BENCHMARK}' and stage = 'self_play' "
                                "and (metric like 'avg@%' or compared_with = 'sft')")  # fmt: skip
    assert [row["compared_with"] for row in scores] == [None, "sft"]
    judged = ask(scored, "sql", "select generation_id, item_id, passed from benchmark_verdicts where benchmark = "
                                f"'{BENCHMARK}' and stage = 'self_play' order by all limit 5")  # fmt: skip
    found = ask(scored, "trace", judged[0]["generation_id"])
    assert {node["table"] for node in found["nodes"]} >= {"benchmark_items", "self_play_model", "seed_problems"}
    for asset in ("benchmark_scores", "self_play_model"):
        commits = {one["asset"] for one in ask(scored, "lineage", asset, STUDENT)["commits"]}
        assert {"seed_problems", "em_rationales", "problem_generator", "teacher_traces", "sft_model"} <= commits


def ask(home: Path, *arguments: str) -> Any:
    done = arc_runs.run([*arc_runs.PROMPTCOT, *arguments, "--json"], home, PROMPTCOT_PROFILE=PROFILE)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)
