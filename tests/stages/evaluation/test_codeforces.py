import json
from pathlib import Path

import pytest

from promptcot_assets.lake import Row
from promptcot_assets.settings.profile import Benchmarks
from promptcot_assets.stages.corpus.sources import SeedError
from promptcot_assets.stages.elo import codeforces_elo
from promptcot_assets.stages.evaluation.codeforces import codeforces_ratings, contest_attempts, contest_standings


def item(name: str, **changed: object) -> Row:
    known = {"benchmark": "codeforces", "contest": "1850", "points": 500.0, "sample_tests": False}
    return {"item_id": name} | known | changed


def attempts(name: str, *passed: bool | None, stage: str = "sft") -> list[Row]:
    about = {"item_id": name, "benchmark": "codeforces", "stage": stage, "model": f"{stage}/1"}
    return [about | {"attempt": at, "passed": one} for at, one in enumerate(passed)]


ROOM = [{"contest": "1850", "style": "codeforces", "rating": 1600.0, "points": float(p), "penalty": 0.0}
        for p in (1500, 950, 500)]  # fmt: skip


def test_a_rating_is_that_of_the_protocol_on_the_stages_own_attempts() -> None:
    items = [item("A"), item("B", points=1000.0)]
    judged = [*attempts("B", False, True)[::-1], *attempts("A", True), *attempts("A", False, stage="base")]
    base, sft = sorted(codeforces_ratings(items, judged, ROOM, seed=0), key=lambda row: row["stage"])
    rows = contest_attempts({row["item_id"]: row for row in items}, judged[:3])
    assert {row["problem_id"]: row["passed"] for row in rows} == {"A": [True], "B": [False, True]}
    expected = codeforces_elo(rows, [row | {"contest_id": row["contest"]} for row in ROOM])
    assert (sft["rating"], sft["contests"], sft["problems"], sft["refused"]) == (expected.rating, 1, 2, None)
    assert expected.contests[0].points == 500 + 950 and expected.contests[0].rank == 2
    assert base["rating"] < sft["rating"]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"contest": None}, "1 of 1 problems name no contest"),
        ({"sample_tests": True}, "only sample tests"),
        ({"sample_tests": None}, "only sample tests"),
        ({"points": None}, "nobody says what it is worth"),
        ({"contest": "9"}, "contest 9 has no standings"),
    ],
)
def test_a_rating_without_a_meaning_is_refused_with_the_reason(changed: dict, says: str) -> None:
    (row,) = codeforces_ratings([item("A", **changed)], attempts("A", True), ROOM, seed=0)
    assert row["rating"] is None and says in row["refused"]


def test_benchmarks_that_are_no_contests_are_not_rated() -> None:
    other = item("A", benchmark="livecodebench", contest=None)
    judged = [row | {"benchmark": "livecodebench"} for row in attempts("A", True)]
    assert codeforces_ratings([other], judged, ROOM, seed=0) == []


def test_standings_are_read_from_a_file_and_mistakes_are_named(tmp_path: Path) -> None:
    path = tmp_path / "standings.jsonl"
    good = {"contest_id": 7, "style": "icpc", "rating": 1500, "points": 3, "penalty": 40}
    path.write_text(json.dumps(good) + "\n" + json.dumps(good) + "\n")
    rows = contest_standings(Benchmarks(standings=str(path)))
    assert [(row["contest"], row["style"], row["penalty"]) for row in rows] == [("7", "icpc", 40.0)] * 2
    assert len({row["standing_id"] for row in rows}) == 2
    for change, says in (({"rating": "high"}, "line 1: `rating` is 'high'"), ({"contest_id": None}, "no column"),
                         ({"style": "school"}, "style 'school'"), ({"style": ["icpc"]}, "style .'icpc'"),
                         ({"points": 10**400}, "line 1: `points` is 1000"),
                         ({"rating": float("nan")}, "line 1: `rating` is nan")):  # fmt: skip
        path.write_text(json.dumps(good | change))
        with pytest.raises(SeedError, match=says):
            contest_standings(Benchmarks(standings=str(path)))
    assert contest_standings(Benchmarks()) == []
