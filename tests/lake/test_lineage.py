from __future__ import annotations

from dataclasses import replace

import pytest

from promptcot_assets.lake import Lake, LakeError
from promptcot_assets.lake.lineage import levels, reached
from promptcot_assets.tables import open_lake
from tests.lake.lake_examples import PROBLEMS, problems, provenance


def test_ancestors_of_a_diamond_come_once_and_nearest_first(lake: Lake) -> None:
    seeds = lake.commit("seeds", [problems(1)], PROBLEMS, provenance())
    left = lake.commit("left", [problems(1)], PROBLEMS, provenance(0, seeds))
    right = lake.commit("right", [problems(1)], PROBLEMS, provenance(0, seeds))
    pairs = lake.commit("pairs", [problems(1)], PROBLEMS, provenance(0, left, right, seeds))
    scores = lake.commit("scores", [problems(1)], PROBLEMS, provenance(0, pairs))
    assert [commit.ref for commit in lake.ancestors(scores)] == [pairs, left, right, seeds]
    assert lake.ancestors(seeds) == []


def test_a_round_descends_from_the_round_before(lake: Lake) -> None:
    """Several versions and partitions of one table in one line, as in EM."""
    rounds = [lake.commit("rounds", [problems(1, "0")], PROBLEMS, provenance(), "round_00")]
    for i in range(1, 4):
        rounds.append(lake.commit("rounds", [problems(1, str(i))], PROBLEMS, provenance(i, rounds[-1]), f"round_0{i}"))
    lake.commit("rounds", [problems(1, "again")], PROBLEMS, provenance(9), "round_01")  # not what round 2 was made from
    assert [commit.ref for commit in lake.ancestors(rounds[3])] == [rounds[2], rounds[1], rounds[0]]


def test_a_commit_may_build_on_the_version_it_replaces(lake: Lake) -> None:
    first = lake.commit("index", [problems(1)], PROBLEMS, provenance())
    second = lake.commit("index", [problems(2)], PROBLEMS, provenance(1, first))
    assert [commit.ref for commit in lake.ancestors(second)] == [first]


def test_an_input_that_does_not_resolve_is_named(lake: Lake) -> None:
    seeds = lake.commit("seeds", [problems(1)], PROBLEMS, provenance())
    child = lake.commit("left", [problems(1)], PROBLEMS, provenance(0, replace(seeds, version=5)))
    with pytest.raises(LakeError, match=r"seeds\[all\]@5 .* is not in the lake"):
        lake.ancestors(child)


def test_lineage_is_every_commit_in_the_order_of_time(lake: Lake) -> None:
    refs = [lake.commit(f"t{i % 2}", [problems(i)], PROBLEMS, provenance(i)) for i in range(4)]
    assert [commit.ref for commit in open_lake(lake.home).lineage()] == refs


def test_a_walk_meets_everything_once_at_its_nearest_and_ends_on_a_circle() -> None:
    edges = {"a": "bc", "b": "d", "c": "bd", "d": "a", "e": ""}
    assert list(levels("aa", edges.__getitem__)) == [["a"], ["b", "c"], ["d"]]
    assert reached("ec", edges.__getitem__) == ["e", "c", "b", "d", "a"]
    assert reached("", edges.__getitem__) == []
