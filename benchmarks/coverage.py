"""How often the printed 95 % intervals hold the truth, at the sizes that we use. One line an interval and size.

    python -m benchmarks.coverage [RUNS]

Each run draws a benchmark from a known world and asks for its interval. Scores: avg@k of questions with success rates
Beta(a, b). Differences: of two models, dense ones (the second is right 0.8 times as often) and rare ones (questions
that one of the two solves alone). Elo: contests of 40 participants, played by a player of 1600. A line outside 93 to
97 % is marked; it is a rare difference, where what is counted is so coarse that no interval can be exact, or avg@16 of
ten questions.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import numpy as np

from promptcot_assets.stages.elo import codeforces_elo
from promptcot_assets.stages.statistics import clustered_interval, paired_difference

RUNS = 1000
Trial = Callable[[np.random.Generator], bool]  # one interval drawn; whether it holds the truth


def score(questions: int, k: int, a: float, b: float) -> Trial:
    def trial(rng: np.random.Generator) -> bool:
        right = rng.binomial(k, rng.beta(a, b, questions)) / k
        interval = clustered_interval([[one] for one in right.tolist()])
        return interval.low <= a / (a + b) <= interval.high

    return trial


def dense_difference(questions: int, k: int, a: float, b: float) -> Trial:
    def trial(rng: np.random.Generator) -> bool:
        rates = rng.beta(a, b, questions)
        first, second = ([[right / k] for right in rng.binomial(k, rate).tolist()] for rate in (rates, 0.8 * rates))
        pair = paired_difference(first, second)
        return pair.low <= 0.2 * a / (a + b) <= pair.high

    return trial


def rare_difference(questions: int, won: float, lost: float) -> Trial:
    def trial(rng: np.random.Generator) -> bool:
        drawn = rng.choice([1, -1, 0], questions, p=[won, lost, 1 - won - lost]).tolist()
        pair = paired_difference([[max(0, d)] for d in drawn], [[max(0, -d)] for d in drawn])
        return pair.low <= won - lost <= pair.high

    return trial


def elo(contests: int) -> Trial:
    """The truth is the mean rating over 1,000 contests of the same kind."""
    rng = np.random.default_rng(1600)

    def contest(number: int) -> tuple[dict[str, object], list[dict[str, object]]]:
        ratings = rng.integers(900, 2400, 40)
        beaten = rng.random(40) < 1 / (1 + 10 ** ((ratings - 1600) / 400))
        played = {"problem_id": f"{number}A", "points": 500, "tests": "full", "passed": [True]}
        room = [
            {"style": "codeforces", "rating": int(rating), "points": 0 if lost else 900}
            for rating, lost in zip(ratings, beaten, strict=True)
        ]
        return played, room

    def rated(drawn: list[tuple[dict[str, object], list[dict[str, object]]]]) -> tuple[float, float, float]:
        attempts = [played | {"contest_id": at} for at, (played, _) in enumerate(drawn)]
        standings = [row | {"contest_id": at} for at, (_, room) in enumerate(drawn) for row in room]
        result = codeforces_elo(attempts, standings)
        return result.low, result.rating, result.high

    many = [contest(number) for number in range(1000)]
    _, truth, _ = rated(many)

    def trial(rng: np.random.Generator) -> bool:
        low, _, high = rated([many[at] for at in rng.integers(0, len(many), contests)])
        return low <= truth <= high

    return trial


def trials() -> Iterator[tuple[str, Trial]]:
    for questions, k, a, b in ((10, 16, 2, 1), (30, 16, 2, 1), (30, 16, 0.3, 1.2), (100, 4, 0.5, 0.2), (400, 4, 1, 1)):
        yield f"avg@{k} of {questions} questions, rates Beta({a}, {b})", score(questions, k, a, b)
        yield f"difference of avg@{k}, {questions} questions", dense_difference(questions, k, a, b)
    for questions in (10, 30, 100, 279, 400):
        for expected in (1, 3, 10):
            if expected <= questions / 3:
                share = expected / questions
                what = f"difference, {questions} questions, {expected} of them on average"
                yield f"{what} won, none lost", rare_difference(questions, share, 0.0)
                yield f"{what} won and as many lost", rare_difference(questions, share, share)
    for contests in (2, 3, 5, 10, 40):
        yield f"Elo of {contests} contests", elo(contests)


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    print(f"share of {runs:,} intervals of 95 % that hold the truth (± {(0.95 * 0.05 / runs) ** 0.5:.3f})")
    for name, trial in trials():
        rng = np.random.default_rng(0)
        covered = sum(trial(rng) for _ in range(runs)) / runs
        print(f"  {name:<66}{covered:.3f}{'' if 0.93 <= covered <= 0.97 else '  outside 0.93 to 0.97'}", flush=True)


if __name__ == "__main__":
    main()
