"""The Codeforces rating against a contest worked by hand, and the cases in which there is none."""

import numpy as np
import pytest

from promptcot_assets.stages.elo import EloRefused, codeforces_elo, expected_rank, rating_at_rank


def attempt(contest: str, problem: str, points: int, *passed: bool, tests: str = "full") -> dict:
    return {"contest_id": contest, "problem_id": problem, "points": points, "passed": list(passed), "tests": tests}


def participant(contest: str, rating: int, points: int, penalty: int = 0, style: str = "codeforces") -> dict:
    return {"contest_id": contest, "style": style, "rating": rating, "points": points, "penalty": penalty}


# 1850A at the first attempt: 500. B at the third: 1000 - 100 = 900. C never. Total 1400: behind 1500 and 1450.
ATTEMPTS = [
    attempt("1850", "1850A", 500, True, False),
    attempt("1850", "1850B", 1000, False, False, True, True),
    attempt("1850", "1850C", 1500, False, False),
]
STANDINGS = [participant("1850", 1600, 1500), participant("1850", 1600, 1450), participant("1850", 1600, 500)]


def test_a_contest_worked_by_hand():
    """Rank 3 among rivals all rated 1600: 1 + 3 / (1 + 10^((r - 1600) / 400)) = 3 needs 10^(...) = 1/2,
    so r = 1600 - 400 log10 2 = 1479.588."""
    elo = codeforces_elo(ATTEMPTS, STANDINGS)
    (contest,) = elo.contests
    assert (contest.points, contest.rank, contest.participants) == (1400, 3, 3)
    assert elo.rating == contest.rating == pytest.approx(1479.588, abs=1e-3)
    assert (elo.low, elo.high) == (0, 1700)


def test_icpc_contests_rank_by_solved_problems_then_penalty():
    """Two solved after 0 and 3 failures: 2 points, 30 minutes; behind (2, 20), level with (2, 30), ahead of (2, 40)."""
    attempts = [
        attempt("7", "7A", 500, True),
        attempt("7", "7B", 500, False, False, False, True),
        attempt("7", "7C", 1, False),
    ]
    rivals = [(1900, 3, 90), (1700, 2, 20), (1500, 2, 30), (1300, 2, 40), (1100, 0, 0)]
    (contest,) = codeforces_elo(attempts, [participant("7", *rival, style="icpc") for rival in rivals]).contests
    assert (contest.points, contest.penalty, contest.rank) == (2, 30, 3)
    ratings = np.array([rival[0] for rival in rivals], float)
    assert expected_rank(contest.rating, ratings) == pytest.approx(3, abs=1e-6)


def test_points_never_fall_below_zero():
    attempts = [attempt("1", "1A", 100, False, False, False, True)]
    (contest,) = codeforces_elo(attempts, [participant("1", 1500, 0)]).contests
    assert (contest.points, contest.rank) == (0, 1)


@pytest.mark.parametrize(("rank", "rating"), [(1, 1700.0), (4, 0.0), (2.5, 1600.0)])
def test_the_search_ends_at_its_bounds(rank, rating):
    assert rating_at_rank(rank, np.array([1600.0] * 3)) == pytest.approx(rating, abs=1e-5)


def test_mean_and_bootstrap_over_contests():
    rng = np.random.default_rng(0)
    attempts, standings = [], []
    for number in range(12):
        contest = f"c{number:02}"
        attempts.append(attempt(contest, f"{contest}A", 1000, *([False] * int(rng.integers(0, 9)) + [True])))
        standings += [participant(contest, int(rng.integers(900, 2200)), int(rng.integers(0, 1000))) for _ in range(50)]
    elo = codeforces_elo(attempts, standings, seed=1)
    ratings = [contest.rating for contest in elo.contests]
    assert elo.rating == pytest.approx(np.mean(ratings)) and len(ratings) == 12
    assert elo == codeforces_elo(attempts[::-1], standings[::-1], seed=1)
    error = np.std(ratings) / np.sqrt(12)  # the bootstrap's own standard error, exactly
    assert elo.high - elo.low == pytest.approx(2 * 1.96 * error, rel=0.1) and elo.low < elo.rating < elo.high


@pytest.mark.parametrize(
    ("attempts", "standings", "reason"),
    [
        ([], STANDINGS, "no attempts"),
        ([{"problem_id": "x", "passed": [True], "tests": "full"}], STANDINGS, "1 of 1 problems name no contest"),
        ([*ATTEMPTS, attempt("1850", "1850D", 1, True, tests="sample")], STANDINGS, "1 of 4 .*sample tests.*1850D"),
        ([attempt("1850", "1850A", 500)], STANDINGS, "1850A: an attempt has no verdict"),
        ([attempt("1850", "1850A", 500, True, None)], STANDINGS, "judge it again"),
        ([attempt("9", "9A", 500, True)], STANDINGS, "contest 9 has no standings"),
        (ATTEMPTS, [participant("1850", 1600, 1, style="school")], "style"),
    ],
)
def test_what_is_no_rating_is_refused_with_the_reason(attempts, standings, reason):
    with pytest.raises(EloRefused, match=reason):
        codeforces_elo(attempts, standings)
