from __future__ import annotations

import re

import pytest

from promptcot_assets.lineage.backfill import TOGETHER, environment, runs, with_what_lies_between
from promptcot_assets.lineage.history import History
from promptcot_assets.lineage.recall import recall
from tests.small_home import Home

COMMAND = re.compile(
    r"dagster asset materialize -m promptcot_assets\.definitions --select (\S+)(?: --partition (\S+))?"
)


def parsed(lines: list[str]) -> list[tuple[list[str], str | None]]:
    matches = [COMMAND.fullmatch(line) for line in lines]
    return [(match[1].split(","), match[2]) for match in matches if match] if all(matches) else pytest.fail(str(lines))


def assets_of(selection: list[str]) -> list[str]:
    return [asset for one in selection for asset in sorted(TOGETHER.get(one, {one}))]


def test_inputs_come_before_what_is_made_of_them(arc: Home) -> None:
    found = parsed(recall(arc.path, "seed_1").backfill)
    order = [asset for selection, _ in found for asset in assets_of(selection)]
    assert len(order) == len(set(order))
    history = History(arc.path)
    em = TOGETHER["group:em"]
    for (asset, _), entry in history.newest.items():
        for ref in entry.commit.provenance.inputs:
            if asset in order and ref.asset in order and not {asset, ref.asset} <= em:
                assert order.index(ref.asset) < order.index(asset), (ref.asset, asset)


def test_a_recall_of_a_seed_is_healed_by_a_handful_of_runs(arc: Home) -> None:
    found = parsed(recall(arc.path, "seed_1").backfill)
    assert (["group:em"], "round_01") in found
    assert [partition for _, partition in found] == [None, "round_01", "first", "tiny", None]


def test_what_lies_between_is_made_too(arc: Home) -> None:
    """A score of a new label needs a new model in between, whether or not that learned from it."""
    places = {("math_answers", "first"), ("sft_model", "tiny")}
    between = with_what_lies_between(History(arc.path), places)
    assert between == places | {("teacher_traces", "first"), ("sft_examples", "tiny")}


def test_nothing_to_heal_is_no_run(arc: Home) -> None:
    assert runs(History(arc.path), set()) == []


def test_the_environment_is_quoted(tmp_path) -> None:
    home = tmp_path / "my home"
    assert environment(home, 2) == f"export PROMPTCOT_HOME='{home}' DAGSTER_HOME='{home}/dagster' PROMPTCOT_SEED=2"


def test_every_run_can_be_selected_in_the_definitions(arc: Home) -> None:
    """Dagster takes each command: one partitioning a run, and steps with several outputs whole."""
    import dagster as dg

    from promptcot_assets.definitions import defs

    graph = defs.resolve_asset_graph()
    for row_id in ("seed_1", "seed_3", "test_2", "item_1", "raw_1"):
        for selection, partition in parsed(recall(arc.path, row_id).backfill):
            keys = dg.AssetSelection.from_coercible(selection).resolve(graph)
            partitionings = {graph.get(key).partitions_def for key in keys}
            assert len(partitionings) == 1, selection
            assert (partitionings == {None}) == (partition is None), selection
            for key in keys:
                assert graph.get(key).execution_set_asset_keys <= keys, f"{key} cannot be made alone"


def test_what_is_made_together_is_what_the_definitions_make_together() -> None:
    import dagster as dg

    from promptcot_assets.definitions import defs

    graph = defs.resolve_asset_graph()
    for selection, assets in TOGETHER.items():
        keys = dg.AssetSelection.from_coercible(selection.split(",")).resolve(graph)
        assert {key.path[-1] for key in keys} == assets
