"""Grammar trees of known value, mutated completions: nothing raises, nothing false is accepted, nothing equals nothing.

`benchmarks/sandbox_maths_fuzz.py` runs the same for as long as one likes.
"""

from __future__ import annotations

import os
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox import Verdict
from sandbox.maths import REWARDS, equivalent, extract_answer, grade, judge, majority_vote
from sandbox.maths.forms import Number
from sandbox.maths.policy import DEFAULT
from sandbox.maths.reader import read
from tests.sandbox.maths.fuzz import ANSWERS, EQUAL_WRITTEN, RATIONALS, TERMS, Term, completions

pytestmark = pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")
FUZZ = settings(
    deadline=None, max_examples=int(os.environ.get("FUZZ_EXAMPLES", "100")), suppress_health_check=list(HealthCheck),
    derandomize="FUZZ_EXAMPLES" not in os.environ,  # a test run finds what the one before found; the benchmark looks on
)  # fmt: skip


@FUZZ
@given(TERMS, RATIONALS)
def test_a_tree_is_its_value_and_no_other(term: Term, other: Fraction) -> None:
    judged = judge(str(other), term.latex)
    assert judged.equal == (term.value == other) or judged.limit
    if term.value is not None:
        judged = judge(str(term.value), term.latex)
        assert judged.equal or judged.limit


@FUZZ
@given(TERMS, TERMS)
def test_two_trees_are_equal_when_their_values_are(a: Term, b: Term) -> None:
    judged = judge(a.latex, b.latex)
    assert judged.equal == (a.value is not None and a.value == b.value) or judged.limit


@FUZZ
@given(TERMS)
def test_a_tree_without_a_value_is_not_even_itself(term: Term) -> None:
    judged = judge(term.latex, term.latex)
    assert judged.equal == (term.value is not None) or judged.limit


@FUZZ
@given(EQUAL_WRITTEN, RATIONALS)
def test_a_rational_is_itself_in_every_spelling(written: tuple[Fraction, str, str], other: Fraction) -> None:
    value, x, y = written
    assert equivalent(x, y)
    assert equivalent(x, str(other)) == (value == other)


@FUZZ
@given(st.sampled_from(ANSWERS), completions())
def test_no_completion_raises_or_turns_a_number_into_another(reference: str, completion: str) -> None:
    graded = grade(reference, completion)
    grade(extract_answer(completion) or completion, f"\\boxed{{{reference}}}")
    rewarded = grade(reference, completion, REWARDS)
    assert graded.verdict is not Verdict.SYSTEM_ERROR
    assert rewarded.verdict is not Verdict.OK or graded.verdict is Verdict.OK or graded.verdict is Verdict.TIME_LIMIT
    if graded.verdict is Verdict.OK:
        gold, got = read(reference, DEFAULT), read(extract_answer(completion) or "", DEFAULT)
        assert not (isinstance(gold, Number) and isinstance(got, Number)) or gold.value == got.value


@FUZZ
@given(st.lists(st.sampled_from(ANSWERS) | completions().map(extract_answer), max_size=8))
def test_no_ballot_raises(ballots: list[str | None]) -> None:
    vote = majority_vote(ballots, 1)
    assert 0 <= vote.votes <= len(ballots)
