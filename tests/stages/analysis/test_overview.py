from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptcot_assets.settings.profile import Distribution
from promptcot_assets.stages.analysis.overview import (
    SEEDS,
    _classical_mds,
    distribution,
    examples_behind,
    other_sets,
    problem_sets,
    scaling,
)
from promptcot_assets.stages.corpus.sources import SeedError

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


def test_other_sets_are_those_the_profile_names(tmp_path: Path) -> None:
    (tmp_path / "theirs.jsonl").write_text('{"problem": "a?"}\n{"problem": "b?"}\n{"problem": "c?"}\n')
    named = Distribution(sets={"theirs": str(tmp_path / "theirs.jsonl")}, problems=2)
    assert other_sets(named) == {"theirs": ["a?", "b?"]} and other_sets(Distribution()) == {}
    with pytest.raises(SeedError, match="absent"):
        other_sets(Distribution(sets={"x": str(tmp_path / "absent.jsonl")}))


# ---- scaling
def test_examples_behind_a_model_include_its_ancestors() -> None:
    models = [
        {"model_id": "base/1", "base": "hub/x", "examples": 10},
        {"model_id": "sft/1", "base": "base/1", "examples": 200},
        {"model_id": "dpo/1", "base": "sft/1", "examples": 7}, {"model_id": "new/1", "base": None, "examples": 1},
    ]  # fmt: skip
    assert examples_behind(models) == {"base/1": 10, "sft/1": 210, "dpo/1": 217, "new/1": 1}


def test_scaling_joins_average_scores_with_examples_and_leaves_other_metrics_and_differences_out() -> None:
    score = {"benchmark": "aime", "stage": "sft", "model": "sft/1", "value": 0.5, "low": 0.4, "high": 0.6}
    metrics = ("avg@4", "pass@2", "pass@4", "majority@4", "paired difference")
    rows = scaling([score | {"metric": metric} for metric in metrics], "tiny", {"sft/1": 210})
    assert [(row["student"], row["examples"], row["value"]) for row in rows] == [("tiny", 210, 0.5)]
