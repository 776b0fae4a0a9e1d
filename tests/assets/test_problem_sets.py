"""The problem set assets on a real Dagster instance: batches in their order, drops counted, indexes in the lake."""

import json
import re
from pathlib import Path

import dagster as dg
import duckdb

from promptcot_assets.assets.partitions import BATCHES
from promptcot_assets.assets.step import RESUME_TAG
from promptcot_assets.assets.synthesis import problem_sets
from promptcot_assets.lake import Row
from promptcot_assets.lake.ids import content_id
from tests.assets.materialized import built, resources_of
from tests.small_home import Home

ONE, TWO, THREE = (f"What is {number} + 4?" for number in (1, 2, 3))


def raw(batch: str, *problems: str | None) -> list[Row]:
    return [
        {"raw_problem_id": f"{batch}{i}", "domain": "maths", "problem": problem, "rationale": "so", "batch": batch}
        for i, problem in enumerate(problems)
    ]


def reported(home: Path) -> list[tuple[str, ...]]:
    """What the query of docs/architecture/problem_sets.md answers."""
    page = Path(__file__).parents[2] / "docs" / "architecture" / "problem_sets.md"
    (query,) = re.findall(r"```sql\n(.*?)```", page.read_text(), re.DOTALL)
    with duckdb.connect(str(home / "catalog.duckdb"), read_only=True) as con:
        return con.sql(query).fetchall()


def test_batches_take_precedence_in_their_order_and_a_resumed_run_does_nothing(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.commit("seed_problems", [{"problem_id": content_id("maths", ONE), "domain": "maths", "problem": ONE}])
    home.commit("benchmark_items", [{"item_id": "i", "benchmark": "aime", "problem": "What is 9 + 9?"}])
    home.commit("raw_problems", raw("b1", TWO, ONE, "What is 9 + 9?", "Find the", None), partition="b1")
    home.commit("raw_problems", raw("b2", THREE, TWO), partition="b2")
    resources = resources_of("demo", home.path)
    lake, assets = resources["lake"], built("demo", problem_sets)

    def made(batch: str, **tags: str) -> tuple[list[Row], dict[str, int]]:
        result = dg.materialize(assets, partition_key=batch, instance=instance, resources=resources, tags=tags)
        events = result.asset_materializations_for_node("problem_sets")
        dropped = [event.metadata["dropped"].value for event in events if "dropped" in event.metadata]
        return lake.rows("problems", batch), dict(dropped[0]) if dropped else {}  # type: ignore[arg-type]

    with dg.instance_for_test() as instance:
        instance.add_dynamic_partitions(str(BATCHES.name), ["b1", "b2"])
        kept, dropped = made("b1")
        assert [row["problem"] for row in kept] == [TWO]
        assert dropped == {"contaminated by aime": 1, "exact": 1, "truncated": 1}
        kept, dropped = made("b2")
        assert [row["problem"] for row in kept] == [THREE] and dropped == {"exact": 1}
        assert lake.rows("dropped_problems", "b2")[0]["survivor_id"] == content_id("maths", TWO)
        assert reported(home.path) == [("contaminated by aime", "what is 9 9", "What is 9 + 9?", "What is 9 + 9?")]
        indexes = {path.parent.name for path in home.path.glob("derived/duplicates-*/*/*.arrow")}
        assert indexes == {"seed_problems", "problems"}

        before = lake.lake.history("problems")
        made("b1")  # made anew it meets neither itself nor the batch after it
        after = lake.lake.history("problems")
        assert after[-1].ref.data_version == before[0].ref.data_version
        assert [ref.asset for ref in after[-1].provenance.inputs].count("problems") == 0
        made("b2", **{RESUME_TAG: "true"})
        assert json.dumps([str(one.ref) for one in lake.lake.history("problems")]).count("b2") == 1
    assert not list(home.path.glob("spool/problems/*"))
