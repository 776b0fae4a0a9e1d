import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from promptcot_assets.judging.opening import open_verifier
from promptcot_assets.judging.verifier import Verifier
from promptcot_assets.lake import Row
from promptcot_assets.settings.engines import Sandbox
from promptcot_assets.settings.profile import Benchmarks, Corpus, Evaluation, ProcedureSizes, Sampling
from promptcot_assets.stages.corpus.seed_tables import seed_problems
from promptcot_assets.stages.corpus.sources import SeedError
from promptcot_assets.stages.evaluation.benchmarks import (
    asker,
    averages,
    benchmark_items,
    evaluated,
    generations,
    scores,
    verdicts,
)
from promptcot_assets.stages.statistics import clustered_interval, paired_difference
from tests.exact_models import solver

SIZES = ProcedureSizes(seeds=30, held_out=5, benchmark=8)
CORPUS = Corpus(procedural={"mini_maths": SIZES, "mini_code": SIZES})
SETTINGS = Evaluation(generations=4, sampling=Sampling(max_new_tokens=4))


@pytest.fixture(scope="module")
def items() -> list[Row]:
    return benchmark_items(CORPUS, Benchmarks(), seed_problems(CORPUS, 0)[0], seed=0)


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    with open_verifier(Sandbox(workers=2, cpu_s=1.0, wall_s=4.0, memory_mb=256)) as verifier:
        yield verifier


# ---- items
def test_each_procedural_domain_has_a_benchmark_that_no_seed_is_part_of(items: list[Row]) -> None:
    seeds = {row["problem"] for row in seed_problems(CORPUS, 0)[0]}
    assert [row["benchmark"] for row in items] == ["mini_maths"] * 8 + ["mini_code"] * 8
    assert not {row["problem"] for row in items} & seeds
    assert all((row["answer"] is None) == (row["domain"] == "mini_code") for row in items)
    assert all((row["tests"] is None) == (row["domain"] == "mini_maths") for row in items)
    assert len({row["item_id"] for row in items}) == 16


def test_published_items_are_read_from_files(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    rows = [
        {"problem": "What is 1 + 1?", "answer": "2"},
        {"problem": "What is 1 + 1?", "answer": "2"},
        {"problem": "Add.", "tests": [{"stdin": "1\n2", "expected": "3"}], "fn_name": "add"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = benchmark_items(
        Corpus(), Benchmarks(files={"maths": {"aime": str(path)}, "code": {"lcb": str(path)}}), [], 0
    )
    assert [(row["benchmark"], row["domain"], row["answer"]) for row in found] == [
        ("aime", "maths", "2"), ("lcb", "code", "2"), ("lcb", "code", None),
    ]  # fmt: skip
    assert json.loads(found[2]["tests"]) == [{"stdin": "1\n2", "expected": "3", "fn_name": "add"}]
    with pytest.raises(SeedError, match=r"absent\.jsonl"):
        benchmark_items(Corpus(), Benchmarks(files={"maths": {"aime": str(tmp_path / "absent.jsonl")}}), [], 0)


@pytest.mark.parametrize(
    ("name", "domain"), [("aime24", "maths"), ("hmmt25", "maths"), ("gsm8k", "maths"), ("codeforces", "code")]
)
def test_published_files_have_what_their_domain_is_judged_by(name: str, domain: str, published: Path) -> None:
    source = published / f"{name}.jsonl"
    found = benchmark_items(Corpus(), Benchmarks(files={domain: {name: str(source)}}), [], 0)
    assert len(evaluated(found, None)) == len(found) > 25
    assert len(evaluated(found, 10)) == 10


def item(number: int, **changed: object) -> Row:
    return {"item_id": f"i{number}", "benchmark": "a", "domain": "maths", "answer": "1", "tests": None, **changed}


def test_what_cannot_be_judged_is_not_asked_and_the_limit_is_a_benchmarks_own() -> None:
    items = [
        item(0, answer=None), item(1), item(2, domain="code"), item(3), item(4, benchmark="b"), item(5),
        item(6, benchmark="b", domain="code", answer=None, tests="[]"), item(7, tests="[]", answer=None),
    ]  # fmt: skip
    assert [row["item_id"] for row in evaluated(items, None)] == ["i1", "i3", "i4", "i5", "i6"]
    assert [row["item_id"] for row in evaluated(items, 2)] == ["i1", "i3", "i4", "i6"]
    assert [row["item_id"] for row in evaluated(items, 1)] == ["i1", "i4"]


# ---- generations and verdicts
def test_every_item_is_asked_as_often_as_told_with_seeds_that_models_share(items: list[Row]) -> None:
    one = generations(items, solver("mini_maths", 0.2), SETTINGS, "base", "m1", seed=3)
    other = asker(solver("mini_maths", 0.9), SETTINGS, "sft", "m2", seed=3)(items)
    assert len(one) == 4 * 16 == len({row["generation_id"] for row in [*one, *other]}) / 2
    assert [(row["item_id"], row["attempt"], row["seed"]) for row in one] == [
        (row["item_id"], row["attempt"], row["seed"]) for row in other
    ]
    assert one == [row for part in (items[:3], items[3:]) for row in asker(
        solver("mini_maths", 0.2), SETTINGS, "base", "m1", 3)(part)]  # fmt: skip


@pytest.mark.parametrize("name", ["mini_maths", "mini_code"])
def test_a_students_score_is_its_share_of_right_texts(items: list[Row], verifier: Verifier, name: str) -> None:
    own = [row for row in items if row["domain"] == name]
    drawn = generations(own, solver(name, error=0.0), SETTINGS, "base", "m", seed=1)
    judged = verdicts(drawn, {row["item_id"]: row for row in own}, verifier)
    assert [row["generation_id"] for row in judged] == [row["generation_id"] for row in drawn]
    for row, one in zip(judged, drawn, strict=True):
        assert row["passed"] == (one["completion"] != "<think>so far</think> ")
    (score,) = averages(scores(judged, 4))
    assert score["value"] == sum(row["passed"] for row in judged) / len(judged)


# ---- scores
def judged(stage: str, marks: dict[str, list[bool | None]], benchmark: str = "aime", model: str = "") -> list[Row]:
    return [
        {"benchmark": benchmark, "stage": stage, "item_id": name, "passed": passed, "model": model or f"{stage}/1",
         "verdict": {True: "ok", False: "wrong_answer", None: "system_error"}[passed]}
        for name, results in marks.items()
        for passed in results
    ]  # fmt: skip


BASE = {"d": [False, False], "c": [False, True], "a": [True, False], "b": [False, False]}
SFT = {"c": [True, True], "a": [True, True], "b": [True, False], "d": [False, False]}


def test_scores_and_paired_differences_by_hand() -> None:
    rows = scores(judged("sft", SFT) + judged("base", BASE), 2)
    base, _, sft, _, difference = rows
    assert [(row["stage"], row["metric"], row["compared_with"]) for row in rows] == [
        ("base", "avg@2", None), ("base", "pass@2", None), ("sft", "avg@2", None), ("sft", "pass@2", None),
        ("sft", "paired difference", "base"),
    ]  # fmt: skip
    assert [row["value"] for row in rows if row["metric"] == "pass@2"] == [0.5, 0.75]
    assert (base["value"], sft["value"], difference["value"]) == (0.25, 0.625, 0.375)
    assert (base["questions"], base["generations"], base["infrastructure_failures"]) == (4, 2, 0)
    interval = clustered_interval([[1, 0], [0, 0], [0, 1], [0, 0]])
    assert (base["low"], base["high"]) == (interval.low, interval.high)
    paired = paired_difference([[1, 1], [1, 0], [1, 1], [0, 0]], [[1, 0], [0, 0], [0, 1], [0, 0]])
    assert (difference["low"], difference["high"]) == (paired.low, paired.high)
    assert difference["significant"] == (not paired.low <= 0 <= paired.high)
    assert base["significant"] is None
    assert len({row["score_id"] for row in rows}) == 5
    assert (base["standard_error"], difference["standard_error"]) == (interval.standard_error, paired.standard_error)


def test_every_metric_of_maths_is_taken_of_the_questions_with_all_verdicts() -> None:
    """By hand. a: 3 of 4 right, and so is its majority; b: 1 of 4, two wrong ones agree; c lost a verdict."""
    marks = {"a": [True, True, True, False], "b": [True, False, False, False], "c": [True, True, True, None]}
    answers = {"a": ["4", "4", "4", "5"], "b": ["4", "7", "7", "8"], "c": ["4", "4", "4", None]}
    given = [answer for name in marks for answer in answers[name]]
    rows = [row | {"answer": answer, "reference": "4"} for row, answer in zip(judged("sft", marks), given, strict=True)]
    found = {row["metric"]: row for row in scores(rows, 4)}
    assert {name: (row["value"], row["questions"]) for name, row in found.items()} == {
        "avg@4": (pytest.approx((0.75 + 0.25 + 1) / 3), 3),
        "pass@2": (0.75, 2),  # 1 - C(1, 2) / 6 = 1, and 1 - C(3, 2) / 6 = 1/2
        "pass@4": (1.0, 2),
        "majority@4": (0.5, 2),
    }
    assert all(row["infrastructure_failures"] == 1 and row["generations"] == 4 for row in found.values())
    programs = [row | {"reference": None} for row in rows]
    assert "majority@4" not in {row["metric"] for row in scores(programs, 4)}  # programs have no answers that agree


def test_where_no_question_has_all_verdicts_there_is_the_average_only() -> None:
    rows = scores(judged("base", {"a": [True, None], "b": [False, None]}), 2)
    assert [row["metric"] for row in rows] == ["avg@2"]


def test_a_single_question_has_no_standard_error() -> None:
    rows = scores(judged("base", {"a": [True, False]}) + judged("sft", {"a": [True, True]}), 2)
    assert {row["standard_error"] for row in rows} == {None} and len(rows) == 5


def test_a_clear_difference_is_significant_and_none_is_not() -> None:
    names = [f"i{n}" for n in range(30)]
    worse, better = ({name: [right, right] for name in names} for right in (False, True))
    (*_, clear) = scores(judged("base", worse) + judged("sft", better), 2)
    (*_, none) = scores(judged("base", worse) + judged("sft", worse), 2)
    assert clear["significant"] is True and none["significant"] is False
    assert (clear["value"], none["value"]) == (1.0, 0.0)


def test_failures_of_the_sandbox_are_left_out_and_counted() -> None:
    rows = scores(judged("base", {"a": [True, None], "b": [False, None], "c": [None, None]}), 2)
    (row,) = rows
    assert (row["value"], row["questions"], row["infrastructure_failures"]) == (0.5, 2, 4)


def test_an_answer_that_exhausts_the_judge_is_wrong_and_counted() -> None:
    rows = judged("base", {"a": [True] + [False] * 7})
    for row in rows[1:]:
        row["verdict"] = "time_limit"
    (score,) = averages(scores(rows, 8))
    assert (score["value"], score["infrastructure_failures"], score["time_limits"]) == (0.125, 0, 7)


def test_differences_are_taken_on_shared_items_to_the_stage_before() -> None:
    marks = {"a": [True], "b": [False]}
    rows = scores(judged("base", marks) + judged("self_play", {"a": [True], "b": [None], "c": [True]}, model="m"), 1)
    difference = rows[-1]
    assert (difference["compared_with"], difference["value"], difference["questions"]) == ("base", 0.0, 1)
    assert rows[1]["value"] == 1.0 and rows[1]["questions"] == 2


def test_no_shared_item_gives_no_difference() -> None:
    rows = scores(judged("base", {"a": [True], "b": [None]}) + judged("sft", {"a": [None], "b": [True]}), 1)
    assert [row["metric"] for row in rows] == ["avg@1", "avg@1"]


def test_benchmarks_are_scored_apart_and_in_order() -> None:
    rows = scores(judged("sft", SFT, "hmmt") + judged("sft", BASE, "aime"), 2)
    assert [(row["benchmark"], row["value"]) for row in averages(rows)] == [("aime", 0.25), ("hmmt", 0.625)]
    assert scores([], 2) == []
