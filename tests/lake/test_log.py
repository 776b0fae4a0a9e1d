"""Commit files that a crash or a bad disk left damaged."""

from __future__ import annotations

import pytest

from promptcot_assets.lake import Lake, LakeError
from promptcot_assets.tables import open_lake
from tests.lake.lake_examples import PROBLEMS, problems, provenance


def two_commits(lake: Lake) -> None:
    for seed in (1, 2):  # version 0 makes the table
        lake.commit("problems", [problems(2, str(seed))], PROBLEMS, provenance(seed))


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("cut", ["in a line", "after a line"])
def test_a_cut_commit_file_is_named_with_its_mend(lake: Lake, version: int, cut: str) -> None:
    two_commits(lake)
    file = lake.home / "lake" / "problems" / "_delta_log" / f"{version:020d}.json"
    first, *_ = file.read_text().splitlines(keepends=True)
    file.write_text(first[:-9] if cut == "in a line" else first)
    fresh = open_lake(lake.home)
    for read in (fresh.lineage, fresh.publish, lambda: fresh.history("problems")):
        with pytest.raises(LakeError, match=f"table problems: commit file {file} is damaged .*; restore it from"):
            read()


def test_a_file_of_other_bytes_is_damaged_too(lake: Lake) -> None:
    two_commits(lake)
    file = lake.home / "lake" / "problems" / "_delta_log" / f"{2:020d}.json"
    for content in (b"\xff\xfe", b"3", b'{"commitInfo": {"promptcot": {}}}', b'{"commitInfo": 3}'):
        file.write_bytes(content)
        with pytest.raises(LakeError, match="is damaged"):
            open_lake(lake.home).newest("problems")


def test_an_empty_commit_file_is_gone_over_as_delta_does(lake: Lake) -> None:
    two_commits(lake)
    (lake.home / "lake" / "problems" / "_delta_log" / f"{2:020d}.json").write_text("")
    newest = open_lake(lake.home).newest("problems")
    assert newest is not None and newest.version == 1
    assert open_lake(lake.home).commit("problems", [problems(1)], PROBLEMS, provenance(3)).version == 3
