"""Rows of versions whose files are damaged or gone."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from promptcot_assets.lake import LakeError
from promptcot_assets.lineage.history import History, Rows
from promptcot_assets.lineage.recall import recall
from promptcot_assets.lineage.trace import trace
from tests.small_home import Home


def file_of(home: Home, asset: str) -> Path:
    history = History(home.path)
    (entry,) = history.of_asset(asset)
    return home.path / "lake" / asset / entry.file


def spoil_the_pages(file: Path) -> None:
    content = bytearray(file.read_bytes())
    for at in range(4, len(content) // 2):
        content[at] ^= 0xFF
    file.write_bytes(content)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


@pytest.mark.parametrize("damage", [cut, spoil_the_pages])
@pytest.mark.parametrize("read", [trace, recall])
def test_a_damaged_file_of_another_table_is_named_with_its_mend(own_arc: Home, read, damage) -> None:
    file = file_of(own_arc, "raw_problems")
    damage(file)
    with pytest.raises(
        LakeError,
        match=rf"raw_problems\[first\]@1: file {file} is damaged .*; restore it from a copy or",
    ):
        read(own_arc.path, "problem_1")


def test_what_is_no_damage_stays_what_it_is(own_arc: Home) -> None:
    history = History(own_arc.path)
    with pytest.raises(duckdb.BinderException, match="nowhere"), Rows(history) as rows:
        rows.where(history.of_asset("problems")[0], "nowhere = 1")


def test_a_row_that_is_not_found_may_be_in_a_lost_file(own_arc: Home) -> None:
    with pytest.raises(LakeError) as nothing_lost:
        trace(own_arc.path, "nobody")
    assert "not looked in" not in str(nothing_lost.value)
    file_of(own_arc, "problems").unlink()
    with pytest.raises(LakeError, match=r"has a row 'problem_1'.*; not looked in: problems\[first\]@1, whose"):
        trace(own_arc.path, "problem_1")
