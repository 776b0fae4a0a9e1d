"""Names of inputs: what they resolve to, the edges they make, and the command that a missing one is told with."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from promptcot_assets.assets.everything import ASSETS, in_use
from promptcot_assets.assets.inputs import dependencies, refs_of, resolved, split
from promptcot_assets.assets.partitions import keys_of
from promptcot_assets.definitions import build_definitions
from promptcot_assets.lake import LakeError
from promptcot_assets.lake.ref import UNPARTITIONED
from promptcot_assets.settings import load_settings
from promptcot_assets.tables import TABLES, open_lake

DEMO = load_settings("demo")


@pytest.mark.parametrize(
    ("own", "name", "partition", "read"),
    [
        ("concept_corpus", "seed_problems", UNPARTITIONED, "seed_problems"),
        ("verdicts", "rollouts", "tiny", "rollouts[tiny]"),
        ("verdicts", "problems", "tiny", "problems[*]"),
        ("raw_problems", "problem_generator[round_02]", "first", "problem_generator[round_02]"),
        ("seed_annotations", "teacher_model[=]", "one", "teacher_model[one]"),
    ],
)
def test_what_a_name_means_follows_from_the_declarations(own: str, name: str, partition: str, read: str) -> None:
    assert resolved(TABLES[own], name, partition) == read


def test_a_table_of_another_unit_is_not_read_by_accident() -> None:
    with pytest.raises(ValueError, match="math_answers reads rollouts of another unit"):
        resolved(TABLES["math_answers"], "rollouts", "first")
    with pytest.raises(ValueError, match="is not `asset` or `asset"):
        split("two words")


def test_several_partitions_of_one_asset_are_one_edge() -> None:
    (edge,) = dependencies(TABLES["seed_problems"], ["seed_annotations[one]", "seed_annotations[two]"])
    assert isinstance(edge.partition_mapping, dg.SpecificPartitionsPartitionMapping)
    assert edge.partition_mapping.partition_keys == ["one", "two"]


def _read() -> list[tuple[str, str]]:
    """Every (input, asset that reads it) of the demo."""
    assets = [member for step in in_use(DEMO) for member in step.members]
    return sorted({
        (name, asset.name) for asset in assets
        for partition in keys_of(asset.table.unit, DEMO) or [UNPARTITIONED] for name in asset.read(DEMO, partition)
    })  # fmt: skip


@pytest.fixture(scope="module")
def graph() -> dg.Definitions:
    return build_definitions("demo", "/nowhere")


@pytest.mark.parametrize(("name", "wanted_by"), _read())
def test_a_missing_input_is_told_with_a_command_that_can_be_run(
    name: str, wanted_by: str, graph: dg.Definitions, tmp_path: Path
) -> None:
    with pytest.raises(LakeError, match="materialize it first") as told:
        refs_of(open_lake(tmp_path), name, wanted_by, DEMO)
    words = str(told.value).partition("materialize it first: ")[2].split()
    assert words[:5] == ["dagster", "asset", "materialize", "-m", "promptcot_assets.definitions"]
    given = dict(zip(words[5::2], words[6::2], strict=True))
    selection = dg.AssetSelection.from_string(_as_query(given["--select"]))
    keys = selection.resolve(graph.resolve_asset_graph())
    assert split(name)[0] in {key.to_user_string() for key in keys}
    steps = {
        step
        for step in in_use(DEMO)
        if any(member.name in {k.to_user_string() for k in keys} for member in step.members)
    }
    assert all(dg.AssetKey(member.name) in keys for step in steps for member in step.members), "half a step"
    unit = TABLES[split(name)[0]].unit
    if partition := given.get("--partition"):
        assert partition in keys_of(unit, DEMO)
    else:
        assert not keys_of(unit, DEMO)
    assert ASSETS.keys() >= {wanted_by}


def _as_query(selection: str) -> str:
    """The comma list of the command line as a query."""
    return " or ".join(one if ":" in one else f"key:{one}" for one in selection.split(","))
