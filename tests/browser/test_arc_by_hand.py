"""A person drives EM from the browser: look at the graph, materialize, backfill three rounds, kill, change, fail.

The tests share one home and follow one another as they stand here: each says what it needs of those before it.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from promptcot_assets.tables import open_lake
from tests.assets.materialized import ROUND_OUTPUTS
from tests.assets.test_groups import edges, groups
from tests.browser.dagster_ui import DagsterUi, around
from tests.browser.small_home import SmallHome

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(3600)]

ROUNDS = ("round_01", "round_02", "round_03")
RANGE = f"[{ROUNDS[0]}...{ROUNDS[-1]}]"
WORK_S = 1200.0  # until a run or backfill of minutes counts as stuck, on a machine with other work to do
PLANTED = 20_261_121
T = TypeVar("T")


def test_the_graph_shows_the_groups_in_the_order_the_data_flows(ui: DagsterUi) -> None:
    ui.open_graph()
    boxes = ui.boxes(groups())
    ui.shoot("graph", around(boxes.values()))
    assert [(one, other) for one, other in edges() if boxes[one]["x"] >= boxes[other]["x"]] == []


def test_a_group_unfolds_into_assets_that_lead_to_their_pages(ui: DagsterUi) -> None:
    ui.open_graph()
    ui.unfold("corpus", "seed_problems")
    ui.shoot("group")
    ui.shows("View in Asset Catalog").click()
    ui.shows(re.compile("^Human or procedural problems"))


def test_a_single_asset_is_materialized_by_hand_and_described(ui: DagsterUi) -> None:
    ui.open_asset("concept_corpus")
    ui.shows("Never materialized")
    run = ui.materialize()
    ui.open(f"/runs/{run}")
    assert ui.outcome(WORK_S) == "Success"
    ui.open_asset("concept_corpus")
    ui.shows("Row count")
    ui.shows(re.compile("^Concepts of the training seeds"))
    for known in ("name of the concept", "corpus", "Delta Lake", "promptcot"):
        ui.shows(known)  # column, group, kind, owner
    ui.shoot("asset")
    ui.shows("Show schema").scroll_into_view_if_needed()  # of the sample rows
    ui.shoot("sample")


def test_a_backfill_of_three_rounds_survives_two_kills_and_does_nothing_twice(ui: DagsterUi, home: SmallHome) -> None:
    """Of `dagster dev` with the run: first between two shards, then between two models of a round."""
    lake = open_lake(home.path)
    ui.open_asset("em_bounds")
    ui.choose_rounds(RANGE)
    ui.shoot("launch")
    backfill = ui.launch()

    shards = home.path / "spool" / "em_rationales"
    first = wait_for(lambda: min(shards.glob("round_01-*/*/000000-*.parquet"), default=None))
    kill_and_restart(home, meanwhile=lambda: plant(first))
    wait_for(lambda: lake.newest("em_rationales", "round_02"))
    assert lake.newest("rationale_model", "round_02") is None
    kill_and_restart(home)

    ui.open(f"/runs/b/{backfill}")
    assert ui.outcome(WORK_S) == "Succeeded"
    ui.shoot("backfill")
    for asset in ROUND_OUTPUTS:
        commits = [commit.ref.partition for commit in lake.history(asset)]
        assert commits == list(ROUNDS), f"{asset} was made more than once a round, or not in order"
    seeds = lake.table(lake.newest("em_rationales", "round_01"), ["seed"])["seed"].to_pylist()
    assert PLANTED in seeds, "the finished shard was computed again"
    assert ran_one_after_another(home, backfill) == [*ROUNDS[:1] * 2, *ROUNDS[1:2] * 2, ROUNDS[2]]


def test_a_model_shows_its_plot_and_leads_to_its_lineage(ui: DagsterUi) -> None:
    ui.open_asset("problem_generator", "partitions", "round_03")
    ui.open_plot()
    ui.open_asset("problem_generator")
    ui.shows("made from")
    with ui.page.expect_popup() as opened:
        ui.page.get_by_role("link", name=re.compile("lineageScope=upstream")).click()
    lineage = ui.of(opened.value)
    lineage.shows("seed_problems")
    lineage.shoot("lineage")


def test_round_1_made_anew_makes_rounds_2_and_3_stale(ui: DagsterUi, home: SmallHome) -> None:
    assert home.promptcot("lineage", "--stale") == []
    home.set_em(candidates=3)
    ui.open_asset("em_bounds")
    ui.choose_rounds("round_01")
    run = ui.launch()
    ui.open(f"/runs/{run}")
    assert ui.outcome(WORK_S) == "Success"
    stale = {(one["ref"]["asset"], one["ref"]["partition"]) for one in home.promptcot("lineage", "--stale")}
    assert stale == {(asset, key) for asset in ROUND_OUTPUTS for key in ROUNDS[1:]}
    ui.open_asset("problem_generator", "partitions", "round_02")
    ui.shows(re.compile("^Unsynced")).hover()
    ui.shows(re.compile("has a new data version"))
    ui.shoot("stale")


def test_a_failed_gate_stops_the_rounds_after_it(ui: DagsterUi, home: SmallHome) -> None:
    lake = open_lake(home.path)
    before = {asset: len(lake.history(asset)) for asset in ROUND_OUTPUTS}
    home.set_em(m_step_training={"arguments": {"learning_rate": 1.0}})
    ui.open_asset("em_bounds")
    ui.choose_rounds(RANGE)
    backfill = ui.launch()
    ui.open(f"/runs/b/{backfill}")
    assert ui.outcome(WORK_S) == "Failed"
    ui.open_asset("em_bounds", "checks")
    ui.shows("held_out_bound_did_not_fall")
    ui.shows("Execution history").click()
    ui.shows("Failed")
    ui.shows(re.compile("^the held-out bound fell by "))
    ui.shoot("gate")
    assert {asset: len(lake.history(asset)) - had for asset, had in before.items()} == dict.fromkeys(ROUND_OUTPUTS, 1)
    assert ran_one_after_another(home, backfill) == ["round_01", "round_02"], "round_02 alone refuses, at once"


def wait_for(look: Callable[[], T | None]) -> T:
    """What `look` finds, looked for at every twentieth of a second."""
    until = time.monotonic() + WORK_S
    while time.monotonic() < until:
        if (found := look()) is not None:
            return found
        time.sleep(0.05)
    raise TimeoutError("it did not come about")


def kill_and_restart(home: SmallHome, meanwhile: Callable[[], None] = lambda: None) -> None:
    assert home.dev
    home.dev.kill()
    meanwhile()
    home.start(home.dev.port)


def plant(shard: Path) -> None:
    """A value in a finished shard that nothing computes: it reaches the lake only if the shard is used as it is."""
    table = pq.read_table(shard)
    seeds = pa.array([PLANTED, *table["seed"].to_pylist()[1:]], table.schema.field("seed").type)
    table = table.set_column(table.schema.get_field_index("seed"), "seed", seeds)
    pq.write_table(table, shard, write_page_checksum=True, use_compliant_nested_type=False)


def ran_one_after_another(home: SmallHome, backfill: str) -> list[str]:
    """The partitions of a backfill's runs in the order of their start, no run having begun before the last ended."""
    with dg.DagsterInstance.from_config(str(home.path / "dagster")) as instance:
        records = instance.get_run_records(dg.RunsFilter(tags={"dagster/backfill": backfill}))
    records = sorted(records, key=lambda record: record.start_time or 0)
    for former, latter in itertools.pairwise(records):
        assert former.end_time and latter.start_time and former.end_time <= latter.start_time
    return [record.dagster_run.tags["dagster/partition"] for record in records]
