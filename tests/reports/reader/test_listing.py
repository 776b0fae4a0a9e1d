"""Lists: filters, search, order, pages; and that a condition can only read."""

from __future__ import annotations

import pytest

from promptcot_assets.lake import LakeError
from promptcot_assets.reports.reader import listing
from promptcot_assets.reports.reader.listing import Asked
from promptcot_assets.tables import MODEL_ROLES, SCHEMAS
from tests.small_home import Home


def ids(home: Home, asked: Asked) -> list[str]:
    return [one for _, one in listing.places(home.path, asked)]


@pytest.mark.parametrize(("asked", "found"), [
    (Asked("seed_problems"), ["seed_1", "seed_2", "seed_3"]),
    (Asked("seed_problems", search="TWO"), ["seed_2"]),
    (Asked("seed_problems", search="ratios"), ["seed_1", "seed_2"]),
    (Asked("seed_problems", search="two", within="problem"), ["seed_2"]),
    (Asked("seed_problems", search="ratios", within="concepts"), ["seed_1", "seed_2"]),
    (Asked("seed_problems", search="ratios", within="problem"), []),
    (Asked("difficulty", search="NEW 2"), ["problem_2"]),
    (Asked("sft_examples", search="one?", within="problem"), ["example_2"]),
    (Asked("em_bounds", search="three?", within="problem"), ["bound_1"]),
    (Asked("seed_problems", search="'; drop table x; --"), []),
    (Asked("seed_problems", search="%"), []),
    (Asked("seed_problems", chosen={"split": "held_out"}), ["seed_3"]),
    (Asked("seed_problems", chosen={"answer": listing.NULL}), ["seed_1", "seed_2", "seed_3"]),
    (Asked("seed_problems", where="source_row > 1 -- a comment"), ["seed_2", "seed_3"]),
    (Asked("seed_problems", sort="source_row", descending=True), ["seed_3", "seed_2", "seed_1"]),
    (Asked("em_rationales", "round_01", sort="reward", descending=True),
     ["candidate_1a", "candidate_1b", "candidate_2a"]),
    (Asked("em_rationales", "round_09"), []),
    (Asked("dropped_problems", chosen={"reason": "near"}), ["raw_3"]),
])  # fmt: skip
def test_what_is_asked_for(arc: Home, asked: Asked, found: list[str]) -> None:
    assert ids(arc, asked) == found
    assert listing.count(arc.path, asked) == len(found)


def test_a_sample_is_the_same_every_time(arc: Home) -> None:
    some = ids(arc, Asked("em_rationales", sample=2))
    assert len(some) == 2 and some == ids(arc, Asked("em_rationales", sample=2))


@pytest.mark.parametrize("where", [
    "true); drop view problems; select (1", "true; select 1", "", ")", "copy problems to 'x'",
    "exists (copy problems to '/tmp/x')",
])  # fmt: skip
def test_a_condition_is_one_expression(arc: Home, where: str) -> None:
    with pytest.raises(LakeError):
        listing.count(arc.path, Asked("problems", where=where or " "))


@pytest.mark.parametrize("asked", [
    Asked("problems", where="nonsense = 1"), Asked("problems", sort="nonsense"), Asked("problems; drop"),
    Asked("problems", chosen={"nonsense": "1"}), Asked("problems", search="new", within="nonsense"),
])  # fmt: skip
def test_what_is_not_there_is_one_error(arc: Home, asked: Asked) -> None:
    with pytest.raises(LakeError, match=r"nonsense|there is no table"):
        listing.places(arc.path, asked)


def test_a_condition_without_an_end_is_ended(arc: Home) -> None:
    endless = "(select sum(a.range * b.range) from range(3000000) a, range(3000000) b) > length(problem)"
    with pytest.raises(LakeError, match="ended after 1 seconds"):
        listing.read(arc.path, Asked("problems", where=endless), longest_s=1.0)
    assert listing.count(arc.path, Asked("problems")) == 2


def test_filters_are_the_columns_with_few_values(arc: Home) -> None:
    assert listing.filters(arc.path, "seed_problems")["split"] == [("train", 2), ("held_out", 1)]
    assert "problem" not in listing.filters(arc.path, "seed_problems")
    assert "source" not in listing.filters(arc.path, "seed_problems")


def test_that_all_rows_have_one_verdict_is_told_by_a_filter(arc: Home) -> None:
    assert listing.filters(arc.path, "teacher_traces")["valid"] == [("true", 2)]


@pytest.mark.parametrize("table", [one for one in SCHEMAS if one not in MODEL_ROLES])
def test_every_table_can_be_listed(arc: Home, table: str) -> None:
    listed = listing.read(arc.path, Asked(table))
    assert listed.total == len(listed.rows)
    assert set(listing.numbers(table)) <= set(SCHEMAS[table].names)
