"""A Codeforces rating from attempts on past contests and their frozen standings (method.md section 8; DeepCoder).

For each contest: walk the ordered attempts of each problem; the first success, after i failures, earns max(0, points -
50 i), in an ICPC-style contest one point and 10 i minutes of penalty. Rank the total among the rated participants: 1 +
those at least as good. Whoever ties with many, as all who solve nothing do, is behind them. The rating of that contest
is the r in [0, highest rating + 100] at which the expected rank

    1 + sum over participants j of 1 / (1 + 10^((r - R_j) / 400))

equals the rank. The result is the mean over contests with Student's t interval over contests, clipped to the range
that ratings are sought in. Problems of a contest that were not attempted earn nothing. The script that the paper cites
leaves out contests with 200 rated participants or fewer; here every contest counts that has standings.

A rating from sample tests, or without knowing the contests, would be a number without a meaning: it is refused.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promptcot_assets.stages.statistics import mean_and_error, student

Row = dict[str, Any]


class EloRefused(ValueError):
    """The given attempts or standings cannot make a rating: names the reason and the mend."""


@dataclass(frozen=True)
class ContestRating:
    """How one contest went."""

    contest_id: str
    points: float
    penalty: float  # minutes; 0 unless ICPC style
    rank: int  # among the rated participants
    participants: int
    rating: float


@dataclass(frozen=True)
class Elo:
    """The mean rating over contests with its interval."""

    rating: float
    low: float
    high: float
    contests: tuple[ContestRating, ...]


def codeforces_elo(
    attempts: Sequence[Row], standings: Sequence[Row], level: float = 0.95, resamples: int = 0, seed: int = 0
) -> Elo:
    """The rating that `attempts` would have earned against `standings`.

    `attempts` has a row a problem: `problem_id`, `contest_id`, `points` (what the problem is worth), `tests` ("full" or
    "sample") and `passed`, the verdicts of its attempts in order. `standings` has a row a rated participant of those
    contests: `contest_id`, `style` ("codeforces" or "icpc"), `rating`, `points` and, ICPC style, `penalty`.
    With a single contest nothing is known of others: the interval is the whole range a rating was sought in.
    `resamples` and `seed` were of a bootstrap, which covered 55 % with two contests; they have no effect.

    Raises: EloRefused, with the reason, on problems without a contest or with sample tests only, on attempts without a
    verdict and on contests without standings.
    """
    if not 0 < level < 1:
        raise EloRefused(f"level={level}: a confidence level lies in (0, 1), as 0.95")
    _refuse_unfit(attempts)
    rooms = _by_contest(standings)
    ratings = []
    for contest_id, rows in sorted(_by_contest(attempts).items()):
        if contest_id not in rooms:
            raise EloRefused(
                f"contest {contest_id} has no standings: add its rated participants, or leave its problems out"
            )
        ratings.append(_rate(contest_id, rows, rooms[contest_id]))
    mean, error = mean_and_error([contest.rating for contest in ratings])
    low, high = 0.0, max(_ceiling(rooms[contest.contest_id]) for contest in ratings)
    n = len(ratings)
    if n > 1:  # of equal ratings, as of a model that solves nothing: other contests may be as rare as not to be seen
        half = student(level, n - 1) * error if error else (1 - (1 - level) ** (1 / n)) * high
        low, high = max(low, mean - half), min(high, mean + half)
    return Elo(mean, low, high, tuple(ratings))


def expected_rank(rating: float, others: NDArray[np.float64]) -> float:
    """Where a player of this rating comes in on average among players of the `others`' ratings; 1 is the best."""
    return 1 + float(np.sum(1 / (1 + 10 ** ((rating - others) / 400))))


def rating_at_rank(rank: float, others: NDArray[np.float64]) -> float:
    """The rating in [0, highest + 100] whose expected rank is `rank`; the nearer end where there is none."""
    low, high = 0.0, float(others.max()) + 100
    if rank >= expected_rank(low, others):
        return low
    if rank <= expected_rank(high, others):
        return high
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if expected_rank(middle, others) > rank else (low, middle)
    return (low + high) / 2


def _refuse_unfit(attempts: Sequence[Row]) -> None:
    if not attempts:
        raise EloRefused("no attempts: evaluate the Codeforces problems first")
    homeless = [row for row in attempts if row.get("contest_id") is None]
    if homeless:
        raise EloRefused(
            f"{len(homeless)} of {len(attempts)} problems name no contest (first: {_name(homeless[0])}): their attempts"
            " cannot be ranked; use problems with contest ids"
        )
    samples = [row for row in attempts if row.get("tests") != "full"]
    if samples:
        raise EloRefused(
            f"{len(samples)} of {len(attempts)} problems carry only sample tests (first: {_name(samples[0])}): passing"
            ' them does not solve a problem; judge with the full tests and set tests="full"'
        )
    for row in attempts:
        passed = row.get("passed")
        if (
            not isinstance(passed, list | tuple)
            or not passed
            or any(verdict not in (True, False) for verdict in passed)
        ):
            raise EloRefused(f"problem {_name(row)}: an attempt has no verdict ({passed!r:.60}); judge it again first")


def _name(row: Row) -> Any:
    return row.get("problem_id", "unnamed")


def _by_contest(rows: Sequence[Row]) -> dict[str, list[Row]]:
    contests: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        contests[str(row["contest_id"])].append(row)
    return contests


def _rate(contest_id: str, attempts: list[Row], room: list[Row]) -> ContestRating:
    styles = {row.get("style") for row in room}
    if not styles <= {"codeforces", "icpc"} or len(styles) != 1:
        raise EloRefused(f'contest {contest_id}: standings are of style {styles}; one of "codeforces" and "icpc" it is')
    icpc = styles == {"icpc"}
    points, penalty = _score(attempts, icpc)
    rank = 1 + sum(_standing(row, icpc) >= (points, -penalty) for row in room)
    rating = rating_at_rank(rank, np.array([row["rating"] for row in room], float))
    return ContestRating(contest_id, points, penalty, rank, len(room), rating)


def _score(attempts: list[Row], icpc: bool) -> tuple[float, float]:
    """Points and penalty minutes of all problems of one contest."""
    points = penalty = 0.0
    for row in attempts:
        if True not in row["passed"]:
            continue
        if not icpc and row.get("points") is None:
            raise EloRefused(f"problem {_name(row)}: nobody says what it is worth; add its points to the items")
        failures = list(row["passed"]).index(True)
        points += 1 if icpc else max(0.0, row["points"] - 50 * failures)
        penalty += 10 * failures if icpc else 0
    return points, penalty


def _standing(row: Row, icpc: bool) -> tuple[float, float]:
    return row["points"], -row["penalty"] if icpc else 0.0


def _ceiling(room: list[Row]) -> float:
    return float(max(row["rating"] for row in room)) + 100
