import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptcot_assets.lake import Row
from promptcot_assets.stages.analysis.difficulty import (
    Measured,
    _posterior,
    band,
    difficulty,
    item_difficulty,
    measured_bands,
    possible_bands,
    rasch,
    wilson_interval,
)


# ---- one solver
@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(max_examples=50, deadline=None)
def test_wilson_is_scipys(drawn: tuple[int, int]) -> None:
    from scipy.stats import binomtest

    successes, n = drawn
    expected = binomtest(successes, n).proportion_ci(0.95, "wilson")
    low, high = wilson_interval(successes, n)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-6)
    assert 0 <= low <= successes / n <= high <= 1


def test_difficulty_counts_judged_rollouts_only() -> None:
    outcomes = {"p": [True, False, False, True], "q": [True, None, None, None], "r": [None]}
    drawn, judged = [], []
    for problem, results in outcomes.items():
        for number, passed in enumerate(results):
            row = {"rollout_id": f"{problem}{number}", "problem_id": problem}
            drawn.append(row | {"domain": "maths", "model": "m", "tokens": 10 * (number + 1)})
            judged.append(row | {"passed": passed})
    rows = {row["problem_id"]: row for row in difficulty(drawn, judged[::-1])}
    assert set(rows) == {"p", "q"}
    assert (rows["p"]["pass_rate"], rows["p"]["passes"], rows["p"]["rollouts"], rows["p"]["tokens"]) == (0.5, 2, 4, 25)
    assert (rows["p"]["low"], rows["p"]["high"]) == wilson_interval(2, 4)
    assert (rows["q"]["pass_rate"], rows["q"]["rollouts"]) == (1.0, 1)
    assert (rows["p"]["band"], rows["q"]["band"]) == ("easy", "solved")


def test_bands_of_eight_attempts() -> None:
    """The paper plays on problems solved at least once and in fewer than half of 8 attempts: hard and medium."""
    bands = ["unsolved", "hard", "hard", "medium", "easy", "easy", "easy", "easy", "solved"]
    assert [band(passes / 8) for passes in range(9)] == bands


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(deadline=None)
def test_the_bands_of_an_interval_are_neighbours_around_that_of_the_rate(drawn: tuple[int, int]) -> None:
    names = ["unsolved", "hard", "medium", "easy", "solved"]
    passes, attempts = drawn
    possible = [name for name in names if name in possible_bands(*wilson_interval(passes, attempts))]
    assert band(passes / attempts) in possible
    assert " ".join(possible) in " ".join(names)


def test_eight_attempts_say_little_and_a_hundred_more() -> None:
    assert possible_bands(*wilson_interval(0, 8)) == {"unsolved", "hard", "medium"}
    assert possible_bands(*wilson_interval(3, 8)) == {"hard", "medium", "easy"}
    assert possible_bands(*wilson_interval(8, 8)) == {"easy", "solved"}
    assert possible_bands(*wilson_interval(35, 100)) == {"medium"}


def test_the_last_round_that_played_on_a_problem_says_its_bands() -> None:
    first = [
        {"problem_id": "p", "low": 0.0, "high": 0.2, "band": "unsolved"},
        {"problem_id": "q", "low": 0.6, "high": 0.9, "band": "easy"},
    ]
    second = [{"problem_id": "p", "low": 0.55, "high": 0.9, "band": "easy"}]
    easy = Measured("easy", frozenset({"easy"}))
    assert measured_bands([first, second]) == {"p": easy, "q": easy}
    assert measured_bands([second, first])["p"] == Measured("unsolved", frozenset({"unsolved", "hard"}))


# ---- several solvers
def simulated(abilities: list[float], difficulties: np.ndarray, attempts: int, seed: int) -> np.ndarray:
    chances = 1 / (1 + np.exp(difficulties - np.array(abilities)[:, None]))
    return np.random.default_rng(seed).binomial(attempts, chances).astype(float)


@pytest.mark.parametrize(
    ("abilities", "spread", "attempts"),
    [([-1.5, 0.0, 0.5, 2.0], 1.5, 8), ([-0.5, 1.0], 1.0, 4), ([0.3], 2.0, 8), (list(np.linspace(-2, 2, 12)), 1.0, 1)],
    ids=["four solvers", "two", "one", "twelve asked once"],
)
def test_known_parameters_are_recovered(abilities: list[float], spread: float, attempts: int) -> None:
    truth = np.random.default_rng(0).normal(0, spread, 800)
    passes = simulated(abilities, truth, attempts, seed=1)
    fit = rasch(passes, np.full(passes.shape, attempts))
    assert np.abs((fit.abilities - abilities) / fit.ability_errors).max() < 3.5
    assert fit.ability_errors.max() < 0.2
    assert fit.spread == pytest.approx(spread, rel=0.15)
    # intervals of the difficulties cover as they say, and are worth having
    misses = np.abs(fit.difficulties - truth) > 1.96 * fit.difficulty_errors
    assert abs(misses.mean() - 0.05) < 0.025
    assert fit.difficulty_errors.mean() < spread
    assert np.corrcoef(fit.difficulties, truth)[0, 1] > 0.7


def test_standard_errors_of_abilities_are_what_repetition_gives() -> None:
    fits = []
    for seed in range(40):
        truth = np.random.default_rng(100 + seed).normal(0, 1.2, 200)
        fits.append(rasch(simulated([-0.5, 1.0], truth, 4, seed), np.full((2, 200), 4.0)))
    scatter = np.std([fit.abilities for fit in fits], axis=0, ddof=1)
    stated = np.mean([fit.ability_errors for fit in fits], axis=0)
    assert (scatter / stated > 0.7).all() and (scatter / stated < 1.4).all()


def test_who_was_not_asked_changes_nothing() -> None:
    """Solvers need not have tried the same problems: what links them is enough."""
    truth = np.random.default_rng(3).normal(0, 1, 1200)
    passes = simulated([-1.0, 1.0], truth, 8, seed=4)
    attempts = np.full(passes.shape, 8.0)
    attempts[0, :500] = attempts[1, 700:] = 0  # 200 in common
    passes[attempts == 0] = 0
    fit = rasch(passes, attempts)
    assert np.abs((fit.abilities - [-1.0, 1.0]) / fit.ability_errors).max() < 3.5
    assert np.corrcoef(fit.difficulties, truth)[0, 1] > 0.7
    without = rasch(np.hstack([passes, np.zeros((2, 3))]), np.hstack([attempts, np.zeros((2, 3))]))
    assert without.abilities == pytest.approx(fit.abilities, abs=1e-3)
    assert without.difficulties[-1] == pytest.approx(0, abs=1e-6)
    assert without.difficulty_errors[-1] == pytest.approx(without.spread, rel=1e-3)  # all that is known of it


def test_the_gradient_is_that_of_the_likelihood() -> None:
    rng = np.random.default_rng(5)
    attempts = rng.integers(0, 5, (3, 7)).astype(float)
    passes = rng.binomial(attempts.astype(int), 0.4).astype(float)
    at = np.array([0.3, -1.0, 0.7, 0.2])
    _, _, scores = _posterior(at, passes, attempts)
    for parameter in range(4):
        step = np.zeros(4)
        step[parameter] = 1e-5
        high, low = (_posterior(at + sign * step, passes, attempts)[1] for sign in (1, -1))
        assert scores[:, parameter] == pytest.approx((high - low) / 2e-5, abs=1e-5)


@pytest.mark.parametrize("outcome", [0.0, 4.0])
def test_problems_that_all_or_none_solve_stay_finite(outcome: float) -> None:
    fit = rasch(np.full((2, 30), outcome), np.full((2, 30), 4.0))
    values = np.concatenate([fit.abilities, fit.ability_errors, fit.difficulties, fit.difficulty_errors])
    assert np.isfinite(values).all() and (np.sign(fit.abilities) == (1 if outcome else -1)).all()


def test_the_same_problem_is_harder_when_a_better_solver_failed_it() -> None:
    truth = np.random.default_rng(6).normal(0, 1, 300)
    passes = simulated([-2.0, 2.0], truth, 4, seed=7)
    only_weak = np.column_stack([passes, [[0.0], [0.0]]])
    attempts = np.full(only_weak.shape, 4.0)
    attempts[1, -1] = 0
    weak = rasch(only_weak, attempts).difficulties[-1]
    attempts[:, -1] = [0, 4]
    strong = rasch(only_weak, attempts).difficulties[-1]
    assert strong > weak + 0.5


def test_more_passes_than_attempts_are_refused() -> None:
    with pytest.raises(ValueError, match="solver 1 has 3 passes of 2"):
        rasch(np.array([[1.0], [3.0]]), np.array([[2.0], [2.0]]))


def played(problem: str, model: str, passes: int, rollouts: int = 8, domain: str = "maths") -> Row:
    return {"problem_id": problem, "domain": domain, "model": model, "passes": passes, "rollouts": rollouts}


def trace(problem: str, reason: str | None, domain: str = "maths") -> Row:
    return {"problem_id": problem, "domain": domain, "teacher": "t", "valid": reason is None, "drop_reason": reason}


def test_items_join_students_and_the_teacher_by_domain() -> None:
    rows, abilities = item_difficulty(
        [played("p", "a", 8), played("p", "b", 1), played("q", "a", 3), played("c", "a", 0, domain="code")],
        [trace("p", None), trace("p", "wrong_answer"), trace("r", None), trace("r", "time_limit"),
         trace("q", "system_error"), trace("c", "time_limit", "code")],
    )  # fmt: skip
    items = {row["problem_id"]: row for row in rows}
    counted = {key: (row["solvers"], row["pass_rate"] * row["attempts"], row["attempts"]) for key, row in items.items()}
    assert counted == {
        "p": (3, 10, 18), "q": (1, 3, 8), "r": (1, 1, 2), "c": (2, 0, 9),
    }  # fmt: skip
    assert items["q"]["difficulty"] > items["p"]["difficulty"]
    assert {(one.domain, one.solver): one.attempts for one in abilities} == {
        ("maths", "a"): 16, ("maths", "b"): 8, ("maths", "t"): 4, ("code", "a"): 8, ("code", "t"): 1,
    }  # fmt: skip
    assert all(math.isfinite(row["difficulty"]) and row["standard_error"] > 0 for row in rows)


def test_items_do_not_depend_on_the_order_of_rows_and_nothing_gives_nothing() -> None:
    rows = [played(f"p{n}", model, n % 9) for n in range(20) for model in "ab"]
    assert item_difficulty(rows, []) == item_difficulty(rows[::-1], [])
    assert item_difficulty([], []) == ([], [])
