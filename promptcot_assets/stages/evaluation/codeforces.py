"""Verdicts of benchmark generations as a Codeforces rating, or the reason why there is none (stages/elo.py)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from promptcot_assets.lake import Row
from promptcot_assets.lake.ids import content_id
from promptcot_assets.settings.profile import Benchmarks
from promptcot_assets.stages.elo import EloRefused, codeforces_elo
from promptcot_assets.stages.evaluation.published_items import read_standings

NAME = "codeforces"  # a benchmark of this name is rated, or refused, though its items name no contest


def contest_standings(benchmarks: Benchmarks) -> list[Row]:
    """Rows of `contest_standings`; none where the profile names no file: then every rating is refused.

    Raises: SeedError when the file is absent or malformed.
    """
    if benchmarks.standings is None:
        return []
    return [
        {"standing_id": content_id(benchmarks.standings, at, row["contest"], row["rating"]), **row,
         "source": benchmarks.standings}
        for at, row in enumerate(read_standings(benchmarks.standings))
    ]  # fmt: skip


def codeforces_ratings(
    items: Sequence[Row], judged: Sequence[Row], standings: Sequence[Row], seed: int = 0
) -> list[Row]:
    """Rows of `codeforces_ratings`: every stage on every benchmark whose items are from contests."""
    by_id = {row["item_id"]: row for row in items}
    rated = {row["benchmark"] for row in items if row["contest"] is not None or row["benchmark"].startswith(NAME)}
    groups: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in judged:
        if row["benchmark"] in rated:
            groups[row["benchmark"], row["stage"], row["model"]].append(row)
    rooms = [row | {"contest_id": row["contest"]} for row in standings]
    return [
        {"score_id": content_id(*key, "elo"), "benchmark": key[0], "stage": key[1], "model": key[2]}
        | _rating(contest_attempts(by_id, group), rooms)
        for key, group in groups.items()
    ]


def contest_attempts(items: dict[str, Row], judged: Sequence[Row]) -> list[Row]:
    """What `codeforces_elo` takes: a row a problem with its verdicts in the order of the attempts."""
    verdicts: dict[str, dict[int, bool | None]] = defaultdict(dict)
    for row in judged:
        verdicts[row["item_id"]][row["attempt"]] = row["passed"]
    return [
        {
            "problem_id": item_id,
            "contest_id": items[item_id]["contest"],
            "points": items[item_id]["points"],
            "tests": "full" if items[item_id]["sample_tests"] is False else "sample",
            "passed": [passed for _, passed in sorted(attempts.items())],
        }
        for item_id, attempts in verdicts.items()
    ]


def _rating(attempts: list[Row], standings: list[Row]) -> Row:
    try:
        elo = codeforces_elo(attempts, standings)
    except EloRefused as reason:
        figures: Row = {"rating": None, "low": None, "high": None, "contests": 0, "refused": str(reason)}
    else:
        figures = {"rating": elo.rating, "low": elo.low, "high": elo.high, "contests": len(elo.contests),
                   "refused": None}  # fmt: skip
    return figures | {"problems": len(attempts)}
