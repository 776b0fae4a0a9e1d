"""What an asset's page in Dagster shows: samples, figures and their names, exact lineage, profile and settings."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import dagster as dg
import pyarrow as pa
import pytest

from promptcot_assets.assets.describe import LEGEND, columns_to_read, meaning, page, sample, significant, whole_rows
from promptcot_assets.assets.sampled import ROWS, Sampled
from promptcot_assets.lake import Ref
from promptcot_assets.reports.lineage_picture import lineage_picture
from promptcot_assets.tables import SCHEMAS, TABLES
from tests.assets.arc_runs import SMALL
from tests.small_home import ROUND, Home, row


@pytest.mark.parametrize(("value", "shown"), [
    (586470159647308522, "586470159647308522"),
    (-(2**62), str(-(2**62))),
    (2**53, 2**53),
    (2**53 + 1, str(2**53 + 1)),
    (7, 7),
    (0, 0),
    (None, None),
])  # fmt: skip
def test_integers_beyond_a_doubles_are_text(value: int | None, shown: Any) -> None:
    table = pa.table({"seed": pa.array([value], pa.int64())})
    assert sample(table).records[0].data == {"seed": shown}


def test_integers_in_lists_are_exact() -> None:
    table = pa.table({"seeds": pa.array([[586470159647308522, 1]], pa.list_(pa.int64()))})
    assert sample(table).records[0].data == {"seeds": "586470159647308522, 1"}


def test_four_texts_stand_first_and_every_column_is_in_the_whole_rows() -> None:
    table = pa.Table.from_pylist(
        [row("em_rationales", problem="x", rationale="z", seed=2**62)], SCHEMAS["em_rationales"]
    )
    shown, whole = sample(table), whole_rows(table).data
    assert list(shown.records[0].data)[:2] == ["problem", "rationale"] and len(shown.records[0].data) in (3, 4)
    assert isinstance(whole, list) and set(whole[0]) == set(table.schema.names) and whole[0]["seed"] == str(2**62)
    assert "problem" in columns_to_read(SCHEMAS["problems"])


def test_a_sample_has_every_kind_and_different_problems() -> None:
    rows = [
        row("em_rationales", rationale_id=f"{seed}_{at}", problem_id=f"seed_{seed}", domain=domain, style=style)
        for domain in ("maths", "code") for seed in range(20) for at, style in enumerate(("planner", "careless"))
    ]  # fmt: skip
    some = Sampled(SCHEMAS["em_rationales"])
    tables = [pa.Table.from_pylist(rows[at : at + 7], SCHEMAS["em_rationales"]) for at in range(0, len(rows), 7)]
    assert list(some.passing(tables)) == tables
    shown = some.table.to_pylist()
    assert len(shown) == ROWS
    assert len({(one["domain"], one["style"]) for one in shown}) == 4
    small = Sampled(SCHEMAS["em_rationales"])
    list(small.passing(tables[:2]))
    assert small.table.to_pylist() == rows[:14]


def test_a_page_follows_a_readers_questions_with_rounded_numbers_and_names_explained() -> None:
    told = page(
        "em_bounds", ROUND, {"ref": 1, "tokens": 12, "held_out iw_bound": -8.123456, "sample": 2, "seconds": 0.5}
    )
    assert list(told) == ["read", "sample", "held_out iw_bound", "tokens", "seconds", "ref", LEGEND]
    assert told["held_out iw_bound"] == -8.123 and told["read"] == f"promptcot read em_bounds {ROUND}"
    legend = told[LEGEND].value
    assert "lower bound of log p(x|c)" in legend and "mean over held-out seeds" in legend


@pytest.mark.parametrize(("value", "shown"), [(0.123456, 0.1235), (9767.748, 9768.0), (123456.0, 123456.0),
                                              (float("inf"), float("inf"))])  # fmt: skip
def test_a_number_has_four_digits(value: float, shown: float) -> None:
    assert significant(value) == shown


def test_the_lineage_of_a_version_shows_edges_inside_a_round(arc: Home) -> None:
    ref = arc.refs["em_bounds"]
    made = arc.lake.commit_of(ref).provenance.inputs
    picture = lineage_picture(ref, made, arc.lake.ancestors(ref))
    svg = base64.b64decode(picture.partition("base64,")[2].rstrip(")")).decode()
    tree = ElementTree.fromstring(svg)
    drawn = {"".join(node.itertext()).partition(":")[0] for node in tree.iter("{http://www.w3.org/2000/svg}title")}
    assert any(str(arc.refs["em_rationales"]) in one for one in drawn)
    assert all(isinstance(one, Ref) for one in made) and len(drawn) == len(arc.lake.ancestors(ref)) + 1


def newest_pages(home: Path) -> Iterator[tuple[str, Mapping[str, dg.MetadataValue[Any]]]]:
    """Every asset with the metadata of its last materializations."""
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        for key in instance.all_asset_keys():
            for record in instance.fetch_materializations(key, limit=5).records:
                assert record.asset_materialization
                yield key.path[-1], record.asset_materialization.metadata


@pytest.mark.slow
def test_every_name_on_a_page_is_explained(finished_home: Path) -> None:
    unknown = {
        (asset, name)
        for asset, metadata in newest_pages(finished_home)
        for name in metadata
        if name not in ("dagster/row_count", LEGEND) and not meaning(asset, name)
    }
    assert unknown == set()


@pytest.mark.slow
def test_every_page_shows_profile_and_settings_and_no_checkpoints_place(finished_home: Path) -> None:
    for asset, metadata in newest_pages(finished_home):
        assert metadata["profile"].value == SMALL.stem, asset
        assert "settings" in metadata, asset
        assert ("checkpoint" in metadata) is TABLES[asset].checkpoint, asset
        if TABLES[asset].checkpoint:
            assert str(metadata["checkpoint"].value).startswith(f"models/{asset}/"), "a home may be moved"
