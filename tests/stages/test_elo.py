"""The Codeforces rating against a contest worked by hand, and the cases in which there is none."""

import numpy as np
import pytest

from promptcot_assets.stages.elo import Elo, EloRefused, codeforces_elo, expected_rank, rating_at_rank


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
    """Two solved after 0 and 3 failures: 2 points, 30 minutes; behind (2, 20), level with (2, 30) and so behind it."""
    attempts = [
        attempt("7", "7A", 500, True),
        attempt("7", "7B", 500, False, False, False, True),
        attempt("7", "7C", 1, False),
    ]
    rivals = [(1900, 3, 90), (1700, 2, 20), (1500, 2, 30), (1300, 2, 40), (1100, 0, 0)]
    (contest,) = codeforces_elo(attempts, [participant("7", *rival, style="icpc") for rival in rivals]).contests
    assert (contest.points, contest.penalty, contest.rank) == (2, 30, 4)
    ratings = np.array([rival[0] for rival in rivals], float)
    assert expected_rank(contest.rating, ratings) == pytest.approx(4, abs=1e-6)


def test_points_never_fall_below_zero():
    attempts = [attempt("1", "1A", 100, False, False, False, True)]
    (contest,) = codeforces_elo(attempts, [participant("1", 1500, 0)]).contests
    assert (contest.points, contest.rank, contest.rating) == (0, 2, 0)


def test_who_solves_nothing_stands_behind_all_who_solved_nothing():
    """400 participants, 160 of them without a point: rank 401 of 401, not 241."""
    rng = np.random.default_rng(0)
    room = [
        participant("1", int(rating), 0 if at < 160 else 500) for at, rating in enumerate(rng.integers(800, 2400, 400))
    ]
    elo = codeforces_elo([attempt("1", "1A", 500, False, False)], room)
    assert elo.contests[0].rank == 401
    assert elo.rating == 0 or expected_rank(elo.rating, np.array([row["rating"] for row in room])) == pytest.approx(401)
    assert elo.rating < 100


@pytest.mark.parametrize(("points", "rank"), [(501, 1), (500, 3), (499, 3), (0, 4)])
def test_a_rank_counts_those_at_least_as_good(points, rank):
    room = [participant("1", rating, earned) for rating, earned in ((1500, 500), (1600, 500), (1400, 0))]
    (contest,) = codeforces_elo([attempt("1", "1A", points, True)], room).contests
    assert contest.rank == rank


@pytest.mark.parametrize(("rank", "rating"), [(1, 1700.0), (4, 0.0), (2.5, 1600.0)])
def test_the_search_ends_at_its_bounds(rank, rating):
    assert rating_at_rank(rank, np.array([1600.0] * 3)) == pytest.approx(rating, abs=1e-5)


def test_mean_and_students_interval_over_contests():
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
    error = np.std(ratings, ddof=1) / np.sqrt(12)
    assert (elo.low, elo.high) == pytest.approx((elo.rating - 2.200985 * error, elo.rating + 2.200985 * error))  # t(11)


def test_an_interval_ends_where_ratings_do():
    """Two contests, rank 1 and last: half the range either way is far less than t(1) = 12.7 standard errors."""
    room = [participant(contest, 1600, 500) for contest in "12"]
    elo = codeforces_elo([attempt("1", "1A", 900, True), attempt("2", "2A", 900, False)], room)
    assert (elo.low, elo.rating, elo.high) == (0, 850, 1700)


def test_equal_ratings_leave_room_for_contests_that_went_otherwise():
    room = [participant(contest, 1600, 500) for contest in "123"]
    elo = codeforces_elo([attempt(contest, contest, 900, False) for contest in "123"], room)
    assert (elo.low, elo.rating) == (0, 0) and elo.high == pytest.approx((1 - 0.05 ** (1 / 3)) * 1700)


@pytest.mark.slow
@pytest.mark.parametrize("contests", [2, 3, 5, 10, 40])
def test_95_percent_of_the_intervals_hold_the_rating_that_a_player_plays_at(contests):
    """The mean rating of many contests stands for the true one; each run draws `contests` of them."""
    rng = np.random.default_rng(contests)

    def contest(number: int) -> tuple[dict, list[dict]]:
        """A player of 1600 who beats each of 40 participants as often as their ratings say."""
        others = rng.integers(900, 2400, 40).astype(float)
        beaten = rng.random(40) < 1 / (1 + 10 ** ((others - 1600) / 400))
        room = [participant(f"{number}", int(r), 0 if b else 900) for r, b in zip(others, beaten, strict=True)]
        return attempt(f"{number}", f"{number}A", 500, True), room

    def elo_of(attempts: list[dict], rooms: list[list[dict]]) -> Elo:
        return codeforces_elo(attempts, [row for room in rooms for row in room])

    many = [contest(number) for number in range(400)]
    truth, covered, runs = elo_of(*map(list, zip(*many, strict=True))).rating, 0, 600
    for _ in range(runs):
        drawn = [many[at] for at in rng.integers(0, 400, contests)]
        elo = elo_of(
            [one | {"contest_id": f"{place}"} for place, (one, _) in enumerate(drawn)],
            [[row | {"contest_id": f"{place}"} for row in room] for place, (_, room) in enumerate(drawn)],
        )
        covered += elo.low <= truth <= elo.high
    assert 0.93 <= covered / runs <= 0.975


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
