"""Scores and intervals against tables worked by hand, an independent computation, and simulated coverage."""

from fractions import Fraction
from itertools import combinations
from math import inf, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptcot_assets.stages.statistics import (
    SpreadParts,
    StatisticsError,
    avg_at_k,
    clustered_interval,
    corrected_level,
    majority_at_k,
    majority_interval,
    mean_and_error,
    paired_difference,
    pass_at_k,
    pass_at_k_interval,
    plan_generations,
    plan_questions,
    smallest_effect,
    spread_parts,
)

HAND = [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]]


# --- by hand ---


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20))
def test_mean_and_error_are_numpys(values: list[float]) -> None:
    mean, error = mean_and_error(values)
    assert mean == pytest.approx(np.mean(values), abs=1e-6)
    expected = np.std(values, ddof=1) / sqrt(len(values)) if len(values) > 1 else 0.0
    assert error == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("function", "k", "value"),
    [
        (avg_at_k, None, 7 / 16),
        (avg_at_k, 1, 3 / 4),
        (avg_at_k, 2, (1 / 2 + 1 + 0 + 1) / 4),
        (pass_at_k, 1, 7 / 16),
        (pass_at_k, 2, (1 / 2 + 5 / 6 + 0 + 1) / 4),  # 1 - C(3,2)/C(4,2), 1 - C(2,2)/C(4,2), 0, 1
        (pass_at_k, 4, 3 / 4),
        (majority_at_k, None, (0 + 1 / 2 + 0 + 1) / 4),  # two of four: half
        (majority_at_k, 3, (0 + 1 + 0 + 1) / 4),
    ],
)
def test_scores_by_hand(function, k, value):
    assert function(HAND, k) == pytest.approx(value)


@pytest.mark.parametrize(
    ("marks", "answers", "k", "value", "why"),
    [
        ([0, 0, 1, 1, 1], ["7", "8", "9", "9", "9"], None, 1, "most frequent is right"),
        ([1, 1, 0, 0, 0], ["9", "9", "6", "7", "8"], None, 1, "a plurality is enough"),
        ([1, 1, 0, 0, 0], ["9", "9", "7", "7", "7"], None, 0, "outvoted"),
        ([1, 1, 0, 0], ["9", "9", "7", "7"], None, 0.5, "a tie counts by its share"),
        ([1, 0, 0, 0], ["9", None, None, None], None, 1, "no answer has no vote"),
        ([0, 0], [None, None], None, 0, "nobody answered"),
        ([1, 0, 0], ["9", "7", "7"], 1, 1, "only the first k vote"),
    ],
)
def test_majority_by_hand(marks, answers, k, value, why):
    assert majority_at_k([marks], k, [answers]) == value


def test_interval_by_hand():
    """Means 1/4, 1/2, 0, 1: p = 7/16, variance 0.182292, SE = sqrt(0.182292 / 4) = 0.213478, t(3) = 3.182446;
    effective n = 0.246094 / 0.045573 = 5.4; Wilson: centre (0.4375 + 0.937775) / 2.875550, half-width 0.368837 ..."""
    interval = clustered_interval(HAND)
    assert interval.estimate == 7 / 16 and interval.questions == 4
    assert interval.standard_error == pytest.approx(0.213478, abs=1e-6)
    assert interval.spread == pytest.approx(sqrt(0.182292), abs=1e-6)
    n, t, p = 5.4, 3.182446, 7 / 16
    for bound in (interval.low, interval.high):  # Wilson's bounds solve (p - x)^2 = t^2 x (1 - x) / n
        assert (p - bound) ** 2 == pytest.approx(t**2 * bound * (1 - bound) / n, rel=1e-5)


def test_paired_difference_by_hand():
    """Differences 1/2, 0, 1/2, 0: mean 1/4, variance 1/12, SE = sqrt(1/48) = 0.144338, t(3) = 3.182446."""
    difference = paired_difference([[1, 1], [1, 0], [0, 1], [0, 0]], [[1, 0], [0, 1], [0, 0], [0, 0]])
    assert difference.estimate == 1 / 4 and difference.standard_error == pytest.approx(0.144338, abs=1e-6)
    assert difference.high - difference.low == pytest.approx(2 * 3.182446 * 0.144338, abs=1e-5)


def test_the_score_interval_of_a_rare_difference_by_hand():
    """One question of 100 won, none lost: Student's interval ends at 0.01 + 1.984217 * 0.01. With nothing lost the
    score interval is Wilson's, x such that (0.01 - x)^2 = t^2 x (1 - x) / 100, and reaches 0.0551."""
    pair = paired_difference([[1]] + [[0]] * 99, [[0]] * 100)
    t, x = 1.984217, pair.high
    assert pair.low < 0.01 - t * 0.01 < 0  # a loss may have been missed as well
    assert x > 0.05 and (0.01 - x) ** 2 == pytest.approx(t**2 * x * (1 - x) / 100, rel=1e-4)
    half = paired_difference([[1, 0]] + [[0, 0]] * 99, [[0, 0]] * 100)  # the same of half the size
    assert half.high == pytest.approx(pair.high / 2) and half.low == pytest.approx(pair.low / 2)


def test_the_score_interval_is_tangos():
    """12 against 2 discordant of 73 pairs (Tango 1998): each end is 1.96 errors off at its likeliest shares."""
    from promptcot_assets.stages.statistics import _score_interval

    low, high = _score_interval([1.0] * 12 + [-1.0] * 2 + [0.0] * 59, 1.959964)
    for delta in (low, high):  # an independent search for the likeliest shares under that difference
        lost = np.linspace(1e-9, (1 - delta) / 2 - 1e-9, 200_001)
        lost = lost[(lost + delta > 0) & (2 * lost + delta < 1)]
        likely = 12 * np.log(lost + delta) + 2 * np.log(lost) + 59 * np.log(1 - 2 * lost - delta)
        share = lost[likely.argmax()]
        errors = (10 - 73 * delta) / sqrt(73 * (2 * share + delta * (1 - delta)))
        assert abs(errors) == pytest.approx(1.959964, abs=1e-3)
    assert low < 10 / 73 < high


def test_planner_by_hand():
    """((1.959964 + 0.841621) * 0.5 / 0.02)^2 = 4905.6"""
    assert plan_questions(0.02) == plan_questions(-0.02) == 4906
    assert plan_questions(0.02, spread=0.25) == 1227


@pytest.mark.parametrize(("effect", "spread"), [(0.02, 0.5), (0.1, 0.3), (0.3, 0.9)])
def test_the_planner_and_its_inverse_agree(effect, spread):
    questions = plan_questions(effect, spread)
    assert smallest_effect(questions, spread) <= effect < smallest_effect(questions - 1, spread)


def test_several_comparisons_share_the_room_for_error():
    assert corrected_level(1) == 0.95 and corrected_level(5) == pytest.approx(0.99)


def test_intervals_of_other_metrics_are_those_of_the_questions_values():
    passes = pass_at_k_interval(HAND, 2)
    assert passes.estimate == pytest.approx(pass_at_k(HAND, 2)) and passes.questions == 4
    assert passes == clustered_interval([[1 / 2], [5 / 6], [0], [1]])
    votes = majority_interval(HAND, None)
    assert votes == clustered_interval([[0], [1 / 2], [0], [1]]) and votes.low < votes.estimate < votes.high


# --- against an independent computation ---

RESULTS = st.lists(st.lists(st.integers(0, 1), min_size=4, max_size=6), min_size=2, max_size=8)


@settings(deadline=None)
@given(RESULTS, st.integers(1, 4))
def test_pass_at_k_is_the_mean_over_all_subsets(results, k):
    each = [
        Fraction(sum(any(s) for s in combinations(marks, k)), len(list(combinations(marks, k)))) for marks in results
    ]
    assert pass_at_k(results, k) == pytest.approx(float(sum(each) / len(each)))


@settings(deadline=None)
@given(RESULTS, RESULTS)
def test_intervals_hold_their_estimates_and_differences_are_antisymmetric(first, second):
    interval = clustered_interval(first)
    assert 0 <= interval.low <= interval.estimate <= interval.high <= 1 and interval.low < interval.high
    assert interval.estimate == pytest.approx(avg_at_k(first)) == pytest.approx(np.mean([np.mean(m) for m in first]))
    n = min(len(first), len(second))
    forth, back = paired_difference(first[:n], second[:n]), paired_difference(second[:n], first[:n])
    assert forth.estimate == pytest.approx(-back.estimate) and forth.low == pytest.approx(-back.high)
    assert forth.low < forth.estimate < forth.high or abs(forth.estimate) == 1


def test_generations_of_one_question_add_no_certainty():
    few, many = [[1], [0]] * 15, [[1] * 16, [0] * 16] * 15
    assert clustered_interval(few) == clustered_interval(many)


# --- edges ---


def test_one_question_tells_nothing_about_others():
    interval = clustered_interval([[1, 0]])
    assert (interval.estimate, interval.low, interval.high, interval.standard_error) == (0.5, 0, 1, inf)
    difference = paired_difference([[1]], [[0]])
    assert (difference.estimate, difference.low, difference.high) == (1, -1, 1)


def test_all_right_and_all_alike_still_leave_room():
    perfect = clustered_interval([[1, 1]] * 30)
    assert (perfect.estimate, perfect.high, perfect.standard_error) == (1, 1, 0) and 0.8 < perfect.low < 0.95
    halves = clustered_interval([[1, 0]] * 30)
    assert halves.estimate == 0.5 and 0.3 < halves.low < 0.45
    same = paired_difference([[1]] * 30, [[1]] * 30)
    assert same.estimate == 0 and same.high == -same.low == pytest.approx(1 - 0.05 ** (1 / 30))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: avg_at_k([], 1), "no questions"),
        (lambda: avg_at_k([[1, 0], [1]], 2), r"question 1 \(from 0\) has 1 generations, k=2"),
        (lambda: pass_at_k([[1, 0]], 3), "k=3"),
        (lambda: pass_at_k([[0.5]], 1), "must be 0 or 1"),
        (lambda: majority_at_k([[1]], 2), "k=2"),
        (lambda: majority_at_k([[1, 0]], None, [["a"]]), "shape"),
        (lambda: avg_at_k([[1]], 0), "k=0"),
        (lambda: clustered_interval([[]]), "0 generations"),
        (lambda: clustered_interval([[2]]), r"outside \[0, 1\]"),
        (lambda: clustered_interval([[1], [0]], level=95), "level=95"),
        (lambda: paired_difference([[1]], [[1], [0]]), "1 against 2 questions"),
        (lambda: plan_questions(0), "effect=0"),
        (lambda: plan_questions(0.1, power=1), "power=1"),
        (lambda: smallest_effect(1), "questions=1"),
        (lambda: corrected_level(0), "comparisons=0"),
    ],
)
def test_what_has_no_statistic_is_named(call, says):
    with pytest.raises(StatisticsError, match=says):
        call()


# --- coverage ---


@pytest.mark.slow
@pytest.mark.parametrize(
    ("questions", "k", "a", "b"),
    [(30, 16, 2, 1), (30, 16, 0.3, 1.2), (279, 1, 2, 1.2), (100, 4, 0.5, 0.2)],
    ids=["avg@16 of 30", "hard benchmark", "pass@1 of 279", "easy benchmark"],
)
def test_95_percent_intervals_cover_95_percent(questions, k, a, b):
    """Questions with success rates Beta(a, b), a second model right 0.8 times as often on each; 6,000 benchmarks."""
    rng = np.random.default_rng(questions)
    runs, mean = 6000, a / (a + b)
    covered = covered_pair = 0
    for _ in range(runs):
        rates = rng.beta(a, b, questions)
        first, second = ([[right / k] for right in rng.binomial(k, rate).tolist()] for rate in (rates, 0.8 * rates))
        interval, pair = clustered_interval(first), paired_difference(first, second)
        covered += interval.low <= mean <= interval.high
        covered_pair += pair.low <= 0.2 * mean <= pair.high
    assert 0.94 <= covered / runs <= 0.96
    assert 0.94 <= covered_pair / runs <= 0.96


@pytest.mark.slow
@pytest.mark.parametrize(
    ("questions", "won", "lost"),
    [
        (100, 0.03, 0), (400, 0.01, 0), (50, 0.06, 0), (30, 0.1, 0), (200, 0, 0.03),  # three questions on average
        (100, 0.04, 0.04), (400, 0.03, 0.01), (100, 0.05, 0.02), (279, 0.1, 0.05), (30, 0.3, 0.1),
    ],
)  # fmt: skip
def test_intervals_of_rare_differences_cover_95_percent(questions, won, lost):
    """Three questions in a hundred that only one of two models solves: Student's t alone covers 80 %."""
    rng = np.random.default_rng(questions)
    covered, runs = 0, 2000
    for _ in range(runs):
        drawn = rng.choice([1, -1, 0], questions, p=[won, lost, 1 - won - lost]).tolist()
        pair = paired_difference([[max(0, d)] for d in drawn], [[max(0, -d)] for d in drawn])
        covered += pair.low <= won - lost <= pair.high
    assert 0.93 <= covered / runs <= 0.985


@pytest.mark.slow
@pytest.mark.parametrize(("questions", "k", "a", "b"), [(30, 16, 2, 1), (60, 4, 1, 1)])
def test_95_percent_intervals_of_pass_at_k_cover_95_percent(questions, k, a, b):
    """pass@2 at success rate p is 1 - (1 - p)^2; over Beta(a, b) its mean is 1 - b (b + 1) / (s (s + 1)), s = a + b."""
    rng = np.random.default_rng(k)
    runs, mean = 6000, 1 - b * (b + 1) / ((a + b) * (a + b + 1))
    covered = 0
    for _ in range(runs):
        right = rng.binomial(k, rng.beta(a, b, questions)).tolist()
        interval = pass_at_k_interval([[1] * count + [0] * (k - count) for count in right], 2)
        covered += interval.low <= mean <= interval.high
    assert 0.94 <= covered / runs <= 0.96


@pytest.mark.slow
def test_the_planned_number_of_questions_shows_the_difference_as_often_as_planned():
    """Two models that disagree on a quarter of the questions, one better by ten points: seen four times in five."""
    rng = np.random.default_rng(0)
    n, seen, runs = plan_questions(0.1, spread=0.49), 0, 2000  # sqrt(0.25 - 0.1^2)
    for _ in range(runs):
        difference = rng.choice([1, -1, 0], n, p=[0.175, 0.075, 0.75]).tolist()
        first = [[max(0, d)] for d in difference]
        second = [[max(0, -d)] for d in difference]
        seen += paired_difference(first, second).low > 0
    assert 0.77 <= seen / runs <= 0.83


# --- questions or generations ---


def test_the_parts_of_a_spread_by_hand() -> None:
    parts = spread_parts([[1, 0], [1, 1], [0, 0]], [[0, 0], [1, 0], [0, 0]])
    assert parts is not None
    within = (1 / 2 + 1 / 2 + 0) / 3  # two generations 0 and 1 have the variance 1/2
    differences, noise = [0.5, 0.5, 0.0], within / 2
    assert parts.within == pytest.approx(sqrt(within))
    assert parts.between == pytest.approx(sqrt(max(0.0, np.var(differences, ddof=1) - noise)))
    assert spread_parts([[1], [0]], [[1], [1]]) is None


def test_the_parts_are_those_that_marks_were_drawn_with() -> None:
    """Questions whose chances differ by +-0.2 between two models: 0.2 between, binomial within."""
    draw = np.random.default_rng(0)
    sign = draw.choice([-1, 1], 4000)
    marks = [(draw.random((4000, 6)) < (0.5 + side * 0.1 * sign)[:, None]).astype(int).tolist() for side in (1, -1)]
    parts = spread_parts(*marks)
    assert parts is not None and parts.between == pytest.approx(0.2, abs=0.01)
    assert parts.within == pytest.approx(sqrt(2 * 0.24), abs=0.01)
    for k in (1, 3, 6):
        fewer = [[row[:k] for row in side] for side in marks]
        assert parts.of(k) == pytest.approx(paired_difference(*fewer).spread, rel=0.03)


def test_generations_are_enough_exactly_when_the_questions_are() -> None:
    parts = SpreadParts(0.1, 0.6)
    for questions in (50, 200, 800, 3200):
        needed = plan_generations(0.02, questions, parts)
        if needed is None:
            assert plan_questions(0.02, parts.of(10**9)) > questions
        else:
            assert plan_questions(0.02, parts.of(needed)) <= questions
            assert needed == 1 or plan_questions(0.02, parts.of(needed - 1)) > questions
    assert plan_generations(0.02, 50, parts) is None and plan_generations(0.02, 100_000, parts) == 1
    with pytest.raises(StatisticsError, match="effect=0"):
        plan_generations(0.0, 10, parts)
