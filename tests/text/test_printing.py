from __future__ import annotations

import datetime
import decimal
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptcot_assets.text.printing import Branch, short, table, to_json, tree


def test_a_table_aligns_words_left_and_numbers_right() -> None:
    assert table(("name", "n"), [("a", 5), ("bcd", 1234), ("e", None)]).splitlines() == [
        "name     n",
        "────  ────",
        "a        5",
        "bcd   1234",
        "e",
    ]


def test_a_tree_draws_its_branches() -> None:
    assert tree(Branch("a", [Branch("b", [Branch("c")]), Branch("d")])) == "a\n├─ b\n│  └─ c\n└─ d"


@given(st.text(), st.integers(2, 80))
def test_a_short_text_is_one_printable_line_of_at_most_its_length(text: str, length: int) -> None:
    cut = short(text, length)
    assert len(cut) <= length and cut.isprintable()


@pytest.mark.parametrize(("value", "expected"), [
    (math.nan, None), (-math.inf, None), (decimal.Decimal("1.5"), 1.5), ({"a": (1, {2})}, {"a": [1, [2]]}),
    (datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC), "2026-01-02T00:00:00+00:00"), (b"\x01", "01"),
])  # fmt: skip
def test_json_of_what_json_lacks(value: object, expected: object) -> None:
    assert json.loads(to_json(value)) == expected


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(TypeError, match="no JSON for a object"):
        to_json(object())
