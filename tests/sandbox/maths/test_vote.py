"""The majority vote: by meaning, independent of order, never an empty winner."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.maths import Policy, Vote, equivalent, majority_vote

HALF_ROOT = [r"\frac{\sqrt2}{2}", r"\frac{1}{\sqrt{2}}", r"$\frac{\sqrt{2}}{2}$", "2^{-1/2}"]

CASES = [
    (["3"] * 5 + ["4"] * 3, 4, "3", 5, "majority"),
    (["1/2", "0.5", r"\frac12", "2/4", "1", "1"], 4, None, 4, "majority"),
    ([*HALF_ROOT, "0.7071", "1"], 4, None, 4, "majority"),
    (["1,2", "2,1", r"\{1,2\}", r"x=1,x=2"], 4, None, 4, "majority"),
    (["x=1,y=2", "y=2,x=1", "x=2,y=1", "1,2"], 2, None, 2, "majority"),
    (["5", "5 cm", "x=5", "5\\text{ cm}"], 4, None, 4, "majority"),
    (["5 m\\text{}", "5", "6"], 1, None, 1, "tie"),
    ([r"5\text{ cm}", r"5\text{ m}", "5"], 2, None, 1, "tie"),
    (["3"] * 4 + ["4"] * 4, 4, None, 4, "tie"),
    (["3"] * 3 + ["4"], 4, None, 3, "too few votes"),
    ([None, "", "  "], 1, None, 0, "no answers"),
    ([], 1, None, 0, "no answers"),
    ([None, None, None, "3"], 1, "3", 1, "majority"),
    (["(1,2)", "[1,2]", "(1,2)"], 2, "(1,2)", 2, "majority"),
    (["B", "(B)", r"\text{B}", "C"], 3, "B", 3, "majority"),
]


@pytest.mark.parametrize(("answers", "min_votes", "winner", "votes", "reason"), CASES)
def test_vote(answers: list[str | None], min_votes: int, winner: str | None, votes: int, reason: str) -> None:
    vote = majority_vote(answers, min_votes)
    assert (vote.votes, vote.total, vote.reason) == (votes, len(answers), reason)
    if winner is not None:
        assert vote.answer == winner
    assert (vote.answer is not None) == (reason == "majority")


ballots = st.lists(
    st.sampled_from(["1", "1.0", "2", "4/2", "3", "x", r"\sqrt2", "2^{1/2}", "5 cm", "5", None, ""]), max_size=12
)


@given(ballots, st.integers(1, 6), st.randoms(use_true_random=False))
def test_order_does_not_matter_and_the_winner_is_a_ballot(
    answers: list[str | None], min_votes: int, shuffled: random.Random
) -> None:
    vote = majority_vote(answers, min_votes)
    again = list(answers)
    shuffled.shuffle(again)
    assert majority_vote(again, min_votes) == vote
    if vote.answer is not None:
        assert vote.answer in answers
        assert vote.votes >= min_votes
        assert sum(equivalent(vote.answer, answer) for answer in answers if answer) >= vote.votes


def test_units_may_be_ignored() -> None:
    answers = [r"5\text{ cm}", r"5\text{ m}", "5"]
    assert majority_vote(answers, 3, Policy(units="ignored")) == Vote("5", 3, 3, "majority")


def test_a_threshold_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="min_votes must be at least 1, not 0"):
        majority_vote(["1"], 0)
