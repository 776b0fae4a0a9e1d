import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptcot_assets.stages import Row
from promptcot_assets.stages.analysis import (
    SEEDS,
    _classical_mds,
    difficulty,
    distribution,
    examples_behind,
    funnel,
    problem_sets,
    scaling,
    wilson_interval,
)


# ---- difficulty
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
    assert (rows["p"]["pass_rate"], rows["p"]["rollouts"], rows["p"]["tokens"]) == (0.5, 4, 25.0)
    assert (rows["p"]["low"], rows["p"]["high"]) == wilson_interval(2, 4)
    assert (rows["q"]["pass_rate"], rows["q"]["rollouts"]) == (1.0, 1)


# ---- distribution
PLANAR = st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=1, max_size=8)


@given(PLANAR)
@settings(deadline=None)
def test_the_map_keeps_the_distances_of_points_in_a_plane(points: list[tuple[float, float]]) -> None:
    given_points = np.array(points)
    distance = np.linalg.norm(given_points[:, None] - given_points[None], axis=-1)
    placed = _classical_mds(distance)
    assert np.linalg.norm(placed[:, None] - placed[None], axis=-1) == pytest.approx(distance, abs=1e-5)


def test_the_map_is_the_same_when_sets_are_named_in_another_order() -> None:
    rng = np.random.default_rng(0)
    means = {name: rng.normal(size=6) for name in (SEEDS, "synthetic problems", "benchmark a", "benchmark b")}
    counts = dict.fromkeys(means, 3)
    rows = distribution(means, counts, SEEDS)
    assert rows == distribution(dict(reversed(means.items())), counts, SEEDS)
    by_name = {row["dataset"]: row for row in rows}
    assert by_name[SEEDS]["distance_to_seeds"] == pytest.approx(0, abs=1e-12)
    one, two = means[SEEDS], means["benchmark a"]
    cosine = one @ two / np.linalg.norm(one) / np.linalg.norm(two)
    assert by_name["benchmark a"]["distance_to_seeds"] == pytest.approx(1 - cosine)
    scaled = distribution({name: 7 * vector for name, vector in means.items()}, counts, SEEDS)
    assert [row["x"] for row in scaled] == pytest.approx([row["x"] for row in rows])


def test_problem_sets_are_training_seeds_synthetic_problems_and_benchmarks() -> None:
    seeds = [{"problem": "s", "split": "train"}, {"problem": "h", "split": "held_out"}]
    items = [{"benchmark": "aime", "problem": "i"}, {"benchmark": "hmmt", "problem": "j"}]
    assert problem_sets(seeds, [], items) == {SEEDS: ["s"], "benchmark aime": ["i"], "benchmark hmmt": ["j"]}
    assert problem_sets(seeds, [{"problem": "x"}], [])["synthetic problems"] == ["x"]


# ---- scaling
def test_examples_behind_a_model_include_its_ancestors() -> None:
    models = [
        {"model_id": "base/1", "base": "hub/x", "examples": 10},
        {"model_id": "sft/1", "base": "base/1", "examples": 200},
        {"model_id": "dpo/1", "base": "sft/1", "examples": 7}, {"model_id": "new/1", "base": None, "examples": 1},
    ]  # fmt: skip
    assert examples_behind(models) == {"base/1": 10, "sft/1": 210, "dpo/1": 217, "new/1": 1}


def test_scaling_joins_scores_with_examples_and_leaves_differences_out() -> None:
    score = {"benchmark": "aime", "stage": "sft", "model": "sft/1", "value": 0.5, "low": 0.4, "high": 0.6}
    rows = scaling([score | {"compared_with": None}, score | {"compared_with": "base"}], "tiny", {"sft/1": 210})
    assert [(row["student"], row["examples"], row["value"]) for row in rows] == [("tiny", 210, 0.5)]


# ---- funnel
FELL_BEFORE = {"exact", "near", "contaminated by a", "truncated"}  # a label was asked for
FATES = ["unparsed", *sorted(FELL_BEFORE), "no label", "invalid", "taught", "at the second attempt"]
TAUGHT = {"taught", "at the second attempt"}


def rows_of(key: Row, fate: str) -> dict[str, list[Row]]:
    """The rows that one completion leaves in the tables, when it ends like this."""
    if fate == "unparsed":
        return {"raw": [key | {"problem": None, "drop_reason": "problem block missing"}]}
    tables = {"raw": [key | {"problem": "x", "drop_reason": None}]}
    if fate in FELL_BEFORE:
        return tables | {"dropped": [key | {"reason": fate}]}
    reason = "no agreement" if fate == "no label" else None
    label = None if reason else "1"
    tables["problems"] = [key]
    if key["domain"] == "maths":
        tables["answers"] = [key | {"answer": label, "drop_reason": reason}]
    else:
        untrusted = key | {"expected": None, "drop_reason": "no agreement"}
        tables["tests"] = [untrusted, key | {"expected": label, "drop_reason": reason}]
    wrong, right = key | {"valid": False, "drop_reason": "wrong_answer"}, key | {"valid": True, "drop_reason": None}
    tables["traces"] = {"invalid": [wrong], "taught": [right], "at the second attempt": [wrong, right]}.get(fate, [])
    return tables


@given(st.lists(st.tuples(st.sampled_from(["maths", "code"]), st.sampled_from(FATES)), max_size=30))
def test_every_raw_row_is_in_the_last_step_or_fell_at_exactly_one(drawn: list[tuple[str, str]]) -> None:
    tables: dict[str, list[Row]] = {name: [] for name in ("raw", "dropped", "problems", "answers", "tests", "traces")}
    for number, (domain, fate) in enumerate(drawn):
        for name, rows in rows_of({"domain": domain, "problem_id": f"p{number}"}, fate).items():
            tables[name] += rows
    rows = funnel("b1", **tables)
    for domain in {domain for domain, _ in drawn}:
        fates = [fate for own, fate in drawn if own == domain]
        steps = sorted((row for row in rows if row["domain"] == domain), key=lambda row: row["position"])
        assert [row["step"] for row in steps] == [
            "completions", "parsed", "unique", "uncontaminated", "askable", "labelled", "with a valid trace",
        ]  # fmt: skip
        left = len(fates)
        for row in steps:
            left -= sum(json.loads(row["dropped"]).values())
            assert row["rows"] == left and row["share_of_raw"] == left / len(fates)
        assert left == sum(fate in TAUGHT for fate in fates)
        assert sum(sum(json.loads(row["dropped"]).values()) for row in steps) == len(fates) - left
    assert len({row["step_id"] for row in rows}) == len(rows)


def test_the_funnel_of_one_batch_by_hand() -> None:
    maths = {"domain": "maths"}
    raw = [
        maths | {"problem": text, "drop_reason": None if text else "problem block missing"}
        for text in (*"abcdef", None)
    ]
    dropped = [maths | {"reason": reason} for reason in ("exact", "near", "contaminated by aime", "truncated")]
    problems = [maths | {"problem_id": name} for name in "ef"]
    answers = [maths | {"answer": "1", "drop_reason": None}, maths | {"answer": None, "drop_reason": "tie"}]
    traces = [maths | {"problem_id": "e", "valid": True, "drop_reason": None}]
    rows = funnel("b1", raw, dropped, problems, answers, [], traces)
    assert [row["rows"] for row in rows] == [7, 6, 4, 3, 2, 1, 1]
    assert [json.loads(row["dropped"]) for row in rows] == [
        {}, {"problem block missing": 1}, {"exact": 1, "near": 1}, {"contaminated by aime": 1}, {"truncated": 1},
        {"tie": 1}, {},
    ]  # fmt: skip
    assert funnel("b1", [], [], [], [], [], []) == []
    assert Counter(row["batch"] for row in rows) == {"b1": 7}
