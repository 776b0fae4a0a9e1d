"""The literal tables: attacks, what honest answers look like, whole completions. Every row right, the votes too."""

from __future__ import annotations

import pytest

from sandbox import Verdict
from sandbox.maths import REWARDS, grade, judge, majority_vote
from tests.sandbox.maths.table import Row, rows

ATTACKS, HONEST, COMPLETIONS = rows("attacks.txt"), rows("honest.txt"), rows("completions.txt")


def named(row: Row) -> str:
    return f"{row.reference} ~ {row.answer}"


def test_no_row_is_there_twice() -> None:
    pairs = [(row.reference, row.answer) for row in ATTACKS + HONEST + COMPLETIONS]
    assert len(set(pairs)) == len(pairs) >= 400


@pytest.mark.parametrize("row", ATTACKS + HONEST, ids=named)
def test_an_answer(row: Row) -> None:
    judged = judge(row.reference, row.answer)
    assert judged.equal == row.same, f"{row.kind}: {row.why}: {judged}"


@pytest.mark.parametrize("row", COMPLETIONS, ids=named)
def test_a_completion(row: Row) -> None:
    graded = grade(row.reference, row.answer)
    assert (graded.verdict is Verdict.OK) == row.same, f"{row.kind}: {row.why}: {graded}"
    paid = grade(row.reference, row.answer, REWARDS).verdict is Verdict.OK
    assert paid == (row.same and row.kind != "the question computed by us")


@pytest.mark.parametrize("row", [row for row in ATTACKS + HONEST if row.same], ids=named)
def test_votes_for_equal_answers_are_counted_together(row: Row) -> None:
    assert majority_vote([row.reference, row.answer], 1).votes == 2
