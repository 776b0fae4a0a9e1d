"""A generator that meets its solver: which problems it learns from, and what its gate sees."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from promptcot_assets.domains.layout import generator_completion
from promptcot_assets.settings.profile import Sampling, Tuning
from promptcot_assets.stages import tuning
from tests.exact_models import one_of

Row = dict[str, Any]
RATES = {"never": (0, 8), "seldom": (1, 8), "quarter": (2, 8), "half": (4, 8), "often": (6, 8), "always": (8, 8)}


def problem(name: str, batch: str = "first") -> Row:
    return {"problem_id": name, "domain": "mini_maths", "concepts": ["sums"], "level": "easy", "rationale": "so",
            "problem": f"Find {name}.", "batch": batch}  # fmt: skip


def measured(name: str) -> Row:
    passes, rollouts = RATES[name]
    return {"problem_id": name, "pass_rate": passes / rollouts, "passes": passes, "rollouts": rollouts}


def anchor(number: int) -> Row:
    return problem(f"seed {number}") | {"rationale_id": f"z{number}"}


def chosen(settings: Tuning, **given: Any) -> list[str]:
    told: Row = {"problems": [problem(name) for name in [*RATES, "not played on"]],
                 "measured": [measured(name) for name in RATES], "anchors": [], "by_tuned": ()} | given  # fmt: skip
    return [row["problem_id"] for row in tuning.examples(**told, settings=settings, seed=0)]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ["quarter", "half", "often"]),
        ({"within": 0.1}, ["half"]),
        ({"pass_rate": 0.2, "within": 0.1}, ["seldom", "quarter"]),
        ({"pass_rate": 1.0, "within": 0.25}, ["often", "always"]),
        ({"pass_rate": 0.0, "within": 0.25}, ["seldom", "quarter"]),  # what nobody solves is never learned from
    ],
)
def test_problems_near_the_asked_pass_rate_are_learned_from(settings: dict[str, float], expected: list[str]) -> None:
    assert chosen(Tuning.model_validate(settings)) == expected


def test_what_a_tuned_generator_wrote_is_not_learned_from() -> None:
    problems = [problem("half"), problem("quarter", "second")]
    assert chosen(Tuning(), problems=problems, by_tuned={"second"}) == ["half"]


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.5, 3), (0.6, 4), (0.9, 20)])
def test_human_seeds_are_the_asked_share_of_the_examples_while_there_are_enough(share: float, count: int) -> None:
    seeds = [anchor(number) for number in range(20)]
    rows = tuning.examples(
        [problem(name) for name in RATES], [measured(name) for name in RATES], seeds, Tuning(anchors=share), (), 0
    )
    kinds = [row["kind"] for row in rows]
    assert kinds == [tuning.OWN] * 3 + [tuning.ANCHOR] * count
    assert len({row["example_id"] for row in rows}) == len(rows)
    assert all((row["pass_rate"] is None) == (row["kind"] == tuning.ANCHOR) for row in rows)
    shuffled = tuning.examples(
        [problem(name) for name in RATES], [measured(name) for name in RATES], seeds[::-1], Tuning(anchors=share), (), 0
    )
    assert rows == shuffled


def test_seeds_alone_teach_nothing() -> None:
    assert chosen(Tuning(), problems=[problem("never")], anchors=[anchor(1)]) == []


# ---- diversity
class Fixed:
    """Embeds a text as the unit vector at so many degrees."""

    def __init__(self, **degrees: float) -> None:
        self.degrees = degrees

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        angles = [math.radians(self.degrees[text]) for text in texts]
        return np.array([[math.cos(one), math.sin(one)] for one in angles], np.float32)


def sample(number: int, series: str, text: str | None) -> Row:
    return {"sample_id": f"{series}{number}", "series": series, "domain": "mini_maths", "problem": text}


def samples(before: Sequence[str | None], after: Sequence[str | None]) -> list[Row]:
    series = {tuning.BEFORE: before, tuning.AFTER: after}
    return [sample(at, name, text) for name, texts in series.items() for at, text in enumerate(texts)]


def test_spread_is_the_mean_distance_to_the_others_of_the_series() -> None:
    rows = tuning.with_spread(samples(["a", "b", None], ["a", "a"]), Fixed(a=0, b=90))
    assert [row["spread"] for row in rows] == [
        pytest.approx(1),
        pytest.approx(1),
        None,
        pytest.approx(0),
        pytest.approx(0),
    ]
    (alone, nothing) = tuning.with_spread(samples(["a"], [None]), Fixed(a=0))
    assert alone["spread"] is None and nothing["spread"] is None


SPREAD = {"one two three": 0.0, "four five six": 90.0}


@pytest.mark.parametrize(
    ("after", "failure"),
    [
        (["one two three", "four five six"], None),
        (["one two three", None], "share that parses fell from 1.000 to 0.500"),
        (["one two three", "one two three"], "distinct word pairs fell from 1.000 to 0.500"),
        (["one two three", "near to it here"], "cosine spread fell from 1.000 to 0.0"),
        ([None, None], "share that parses fell from 1.000 to 0.000"),
    ],
)
def test_the_gate_sees_what_narrowed(after: list[str | None], failure: str | None) -> None:
    rows = samples(["one two three", "four five six"], after)
    embedder = Fixed(**SPREAD, **{"near to it here": 5.0})
    verdict = tuning.diversity_gate(tuning.with_spread(rows, embedder), 0.8)
    assert verdict.passed == (failure is None)
    assert failure is None or any(failure in one for one in verdict.failures), verdict.failures


def test_more_texts_are_not_less_diverse() -> None:
    """Of four copies of a pair of texts each word pair stands there four times."""
    pair = ["one two three", "four five six"]
    rows = tuning.with_spread(samples(pair, pair * 4), Fixed(**SPREAD))
    assert tuning.measures(rows)["mini_maths"]["distinct word pairs, after"] == 1.0


def test_no_samples_stop_nothing() -> None:
    assert tuning.diversity_gate([], 0.8).passed


def test_samples_say_what_was_written_and_whether_it_is_what_was_asked_for() -> None:
    writes = generator_completion("because", "Find the sum of 1 and 2.")
    seeds = [problem(f"seed {number}") for number in range(2)]
    rows = tuning.samples(seeds, one_of(lambda _: [writes], "\n"), Sampling(temperature=1.0, max_new_tokens=9), 3, 0,
                          tuning.AFTER, "p/1")  # fmt: skip
    assert len(rows) == len({row["sample_id"] for row in rows}) == 6
    assert {(row["series"], row["problem"], row["drop_reason"]) for row in rows} == {
        (tuning.AFTER, "Find the sum of 1 and 2.", None)
    }
