"""A generator that meets its solver: which problems it learns from, and what its gate sees."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from promptcot_assets.domains.layout import generator_completion
from promptcot_assets.settings.profile import Sampling, Tuning
from promptcot_assets.stages import tuning
from promptcot_assets.stages.em.gates import Verdict
from tests.exact_models import one_of

Row = dict[str, Any]
RATES = {"never": (0, 8), "seldom": (1, 8), "quarter": (2, 8), "half": (4, 8), "often": (6, 8), "always": (8, 8)}


def problem(name: str, model: str = "problem_generator/1") -> Row:
    return {"problem_id": name, "domain": "mini_maths", "concepts": ["sums"], "level": "easy", "rationale": "so",
            "problem": f"Find {name}.", "problem_generator": model}  # fmt: skip


def measured(name: str) -> Row:
    passes, rollouts = RATES[name]
    return {"problem_id": name, "pass_rate": passes / rollouts, "passes": passes, "rollouts": rollouts}


def anchor(number: int) -> Row:
    return problem(f"seed {number}") | {"rationale_id": f"z{number}"}


def chosen(settings: Tuning, **given: Any) -> list[str]:
    told: Row = {"problems": [problem(name) for name in [*RATES, "not played on"]],
                 "measured": [measured(name) for name in RATES], "anchors": []} | given  # fmt: skip
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
    assert chosen(Tuning(), problems=[problem("half"), problem("quarter", "tuned_generator/1")]) == ["half"]


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.5, 3), (0.6, 4), (0.9, 20)])
def test_human_seeds_are_the_asked_share_of_the_examples_while_there_are_enough(share: float, count: int) -> None:
    seeds = [anchor(number) for number in range(20)]
    rows = tuning.examples(
        [problem(name) for name in RATES], [measured(name) for name in RATES], seeds, Tuning(anchors=share), 0
    )
    kinds = [row["kind"] for row in rows]
    assert kinds == [tuning.OWN] * 3 + [tuning.ANCHOR] * count
    assert len({row["example_id"] for row in rows}) == len(rows)
    assert all((row["pass_rate"] is None) == (row["kind"] == tuning.ANCHOR) for row in rows)
    shuffled = tuning.examples(
        [problem(name) for name in RATES], [measured(name) for name in RATES], seeds[::-1], Tuning(anchors=share), 0
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
    """Each of another seed."""
    return {"sample_id": f"{series}{number}", "series": series, "domain": "mini_maths", "problem": text,
            "problem_id": f"s{number}"}  # fmt: skip


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


DEGREES = {"one two three": 0.0, "four five six": 90.0, "near to it here": 5.0}


def gate(before: Sequence[str | None], after: Sequence[str | None]) -> Verdict:
    rows = tuning.with_spread(samples(before, after), Fixed(**DEGREES))
    return tuning.diversity_gate(rows, 0.8, 2.0)


@pytest.mark.parametrize(
    ("after", "failure"),
    [
        (["one two three", "four five six"], None),
        (["one two three", "four five six", None, None], "share that parses fell from 1.000 to 0.500"),
        (["one two three"] * 4, "distinct word pairs fell from"),
        (["one two three", "near to it here"], "cosine spread fell from"),
        ([None], "share that parses fell from 1.000 to 0.000"),
    ],
)
def test_the_gate_sees_what_narrowed(after: list[str | None], failure: str | None) -> None:
    times = 40 // len(after)
    verdict = gate(["one two three", "four five six"] * 20, after * times)
    assert verdict.passed == (failure is None)
    assert failure is None or any(failure in one for one in verdict.failures), verdict.failures


def test_a_fall_within_noise_stops_nothing() -> None:
    """Two of five problems fewer parse, which five seeds cannot tell from chance; nor can a single seed anything."""
    whole, fewer = ["one two three", "four five six"] * 3, ["one two three", "four five six", "one two three", None]
    assert gate(whole[:5], [*fewer, None]).passed
    assert gate(whole[:1], [None]).passed


def drawn(rng: random.Random, series: str) -> list[Row]:
    """Four problems of each of 20 seeds, of which a quarter parses."""
    texts = [rng.choice([*DEGREES][:2]) if rng.random() < 0.25 else None for _ in range(80)]
    return [sample(at, series, text) | {"problem_id": f"s{at % 20}"} for at, text in enumerate(texts)]


def test_the_same_generator_twice_is_seldom_stopped() -> None:
    rng, stopped = random.Random(0), 0
    for _ in range(200):
        rows = [row for series in (tuning.BEFORE, tuning.AFTER) for row in drawn(rng, series)]
        stopped += not tuning.diversity_gate(tuning.with_spread(rows, Fixed(**DEGREES)), 0.8, 2.0).passed
    assert stopped <= 10


def test_more_texts_are_not_less_diverse() -> None:
    """Of four copies of a pair of texts each word pair stands there four times."""
    pair = ["one two three", "four five six"]
    rows = tuning.with_spread(samples(pair, pair * 4), Fixed(**DEGREES))
    assert tuning.measures(rows)["mini_maths"]["distinct word pairs, after"] == 1.0


def test_no_samples_stop_nothing_and_say_so() -> None:
    verdict = tuning.diversity_gate([], 0.8, 2.0)
    assert verdict.passed and verdict.measured == {"samples": 0}


def test_samples_say_what_was_written_and_whether_it_is_what_was_asked_for() -> None:
    writes = generator_completion("because", "Find the sum of 1 and 2.")
    seeds = [problem(f"seed {number}") for number in range(2)]
    rows = tuning.samples(seeds, one_of(lambda _: [writes], "\n"), Sampling(temperature=1.0, max_new_tokens=9), 3, 0,
                          tuning.AFTER, "p/1")  # fmt: skip
    assert len(rows) == len({row["sample_id"] for row in rows}) == 6
    assert {(row["series"], row["problem"], row["drop_reason"]) for row in rows} == {
        (tuning.AFTER, "Find the sum of 1 and 2.", None)
    }
