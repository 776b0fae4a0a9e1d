"""Which concepts count as stably failed, worked by hand, and that sets are drawn towards them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from promptcot_assets.settings.profile import Synthesis
from promptcot_assets.stages.concepts import ConceptError, ConceptSampler
from promptcot_assets.stages.statistics import clustered_interval
from promptcot_assets.stages.synthesis import writing
from promptcot_assets.stages.synthesis.focus import stable_failures, weights

Row = dict[str, Any]


def gate(rates: dict[str, list[float]], domain: str = "maths") -> tuple[list[Row], dict[str, list[str]]]:
    rows, concepts = [], {}
    for concept, own in rates.items():
        for n, rate in enumerate(own):
            rows.append({"problem_id": f"{domain} {concept} {n}", "domain": domain, "pass_rate": rate})
            concepts[f"{domain} {concept} {n}"] = [concept, "everywhere"]
    return rows, concepts


def test_a_concept_is_stably_failed_when_its_whole_interval_is_below_the_mean() -> None:
    rates = {"easy": [1.0] * 12, "hard": [0.0, 0.1, 0.0, 0.2, 0.0, 0.1], "noisy": [0.0, 1.0, 0.0], "rare": [0.0, 0.0]}
    rows, concepts = gate(rates)
    (failure,) = stable_failures(rows, concepts)
    assert failure.concept == "hard" and failure.passed == clustered_interval([[one] for one in rates["hard"]])
    assert (
        failure.mean == pytest.approx(sum(map(sum, rates.values())) / len(rows)) and failure.passed.high < failure.mean
    )
    favour = weights([failure], 3.0)
    assert favour == {"maths": {"hard": pytest.approx(1 + 3 * (1 - failure.passed.estimate / failure.mean))}}
    assert 1 < favour["maths"]["hard"] <= 4


def test_domains_are_compared_with_themselves_and_unknown_problems_left_out() -> None:
    hard, concepts = gate({"only": [0.1] * 9}, "code")
    assert stable_failures(hard, concepts) == []
    assert stable_failures([{"problem_id": "?", "domain": "maths", "pass_rate": 0.0}], {}) == []
    assert weights([], 3.0) == {}


def test_the_sampler_draws_what_is_weighed_more_often_and_nothing_else_changes() -> None:
    lists = [["a", "b"], ["b", "c"], ["c", "d"], ["a", "d"]]
    plain, same = ConceptSampler(lists), ConceptSampler(lists, weights={})
    assert plain.sample(50, 2) == same.sample(50, 2)
    counts = Counter(concepts[0] for concepts in ConceptSampler(lists, weights={"a": 3.0}).sample(6000, 2))
    assert counts["a"] / 6000 == pytest.approx(3 / 6, abs=0.02)
    assert all(counts[one] / 6000 == pytest.approx(1 / 6, abs=0.02) for one in "bcd")
    with pytest.raises(ConceptError, match="the weight of 'a' is 0"):
        ConceptSampler(lists, weights={"a": 0})


def test_a_procedural_batch_leans_to_its_weights_and_is_the_same_without(seeds: list[Row]) -> None:
    settings = Synthesis(concept_sets={"mini_maths": 600})
    plain = writing.concept_sets(seeds, {}, settings, "second", 0)
    assert plain == writing.concept_sets(seeds, {}, settings, "second", 0, None)
    wanted = plain[0]["concepts"][0]
    leaning = writing.concept_sets(seeds, {}, settings, "second", 0, {"mini_maths": {wanted: 4.0}})
    share = [sum(wanted in row["concepts"] for row in rows) / len(rows) for rows in (plain, leaning)]
    assert share[1] > 1.5 * share[0]


@pytest.fixture
def seeds() -> list[Row]:
    return [{"problem_id": "s", "domain": "mini_maths", "split": "train", "concepts": ["x"], "level": "1"}]
