import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from promptcot_assets.domains import domain_named, procedural_domain
from promptcot_assets.domains.layout import parse_completion
from promptcot_assets.inference import EngineError
from promptcot_assets.inference.transformers_engine import TransformersEngine
from promptcot_assets.lake import Row
from promptcot_assets.lake.ids import content_id
from promptcot_assets.settings.profile import Corpus, ProcedureSizes, Sampling, Synthesis
from promptcot_assets.stages.concepts import ConceptError
from promptcot_assets.stages.corpus.seed_tables import concept_corpus, seed_problems
from promptcot_assets.stages.synthesis.writing import (
    concept_embeddings,
    concept_sets,
    drop_counts,
    level_counts,
    sampled_domains,
    shortened,
    synthesize,
    well_posed_rates,
)
from tests.exact_models import problem_writer
from tests.tiny_models import tiny_model

__all__ = ["tiny_model"]  # a fixture
SETTINGS = Synthesis(
    concept_sets={"mini_maths": 12, "mini_code": 5}, problems_per_set=8, sampling=Sampling(max_new_tokens=4)
)
FILE_SEEDS = [
    {"problem_id": f"p{n}", "domain": "maths", "split": "train", "concepts": concepts, "level": level}
    for n, (concepts, level) in enumerate(
        [(["a", "b", "c"], "easy"), (["b", "c", "d"], "hard"), (["c", "d", "e"], "easy"), (["a", "e"], "hard")]
    )
]


@pytest.fixture(scope="module")
def seeds() -> list[Row]:
    sizes = ProcedureSizes(seeds=40, held_out=5)
    return seed_problems(Corpus(procedural={"mini_maths": sizes, "mini_code": sizes}), 0)[0]


def test_a_procedural_domains_sets_come_from_its_own_grammar(seeds: list[Row]) -> None:
    rows = concept_sets(seeds, {}, SETTINGS, "b1", seed=0)
    assert Counter(row["domain"] for row in rows) == {"mini_maths": 12, "mini_code": 5}
    for row in rows:
        assert row["concepts"] in procedural_domain(row["domain"]).concept_sets()
        assert row["level"] == ("hard" if len(row["concepts"]) > 2 else "easy")
    assert len({row["concept_set_id"] for row in rows}) == len(rows)


def test_any_other_domains_sets_are_sampled_from_its_training_seeds() -> None:
    held_out = {**FILE_SEEDS[0], "problem_id": "h", "split": "held_out", "concepts": ["never", "seen"]}
    other = {**FILE_SEEDS[0], "problem_id": "o", "domain": "code", "concepts": ["loops"]}
    settings = Synthesis(concept_sets={"maths": 60}, concepts_per_set={"maths": [2, 3]})
    rows = concept_sets([*FILE_SEEDS, held_out, other], {}, settings, "b1", seed=0)
    assert {len(row["concepts"]) for row in rows} == {2, 3}
    assert {concept for row in rows for concept in row["concepts"]} == set("abcde")
    assert all(len(set(row["concepts"])) == len(row["concepts"]) for row in rows)
    assert {row["level"] for row in rows} == {"easy", "hard"}
    assert sampled_domains(settings) == {"maths"} and sampled_domains(SETTINGS) == set()


LEVELS: list[tuple[dict[str, dict[str, float]], dict[str, float]]] = [  # (settings, exact shares)
    ({}, {"easy": 0.5, "hard": 0.5}),
    ({"maths": {"easy": 3, "hard": 1}}, {"easy": 0.75, "hard": 0.25}),
    ({"maths": {"hard": 2}}, {"hard": 1.0}),
]


@pytest.mark.parametrize(("levels", "shares"), LEVELS)
def test_levels_follow_their_weights_whatever_the_concepts(
    levels: dict[str, dict[str, float]], shares: dict[str, float]
) -> None:
    from scipy.stats import chi2_contingency, chisquare

    n = 4000
    settings = Synthesis(concept_sets={"maths": n}, concepts_per_set={"maths": [2]}, levels=levels)
    rows = concept_sets(FILE_SEEDS, {}, settings, "b", seed=3)
    counts = level_counts(rows)["maths"]
    assert counts.keys() == shares.keys() and sum(counts.values()) == n
    if len(shares) > 1:
        assert chisquare([counts[level] for level in shares], [n * share for share in shares.values()]).pvalue > 1e-3
        # nor do they follow the concept that was drawn first, though one seed draws both
        drawn = Counter((row["level"], row["concepts"][0]) for row in rows)
        assert chi2_contingency([[drawn[level, first] for first in "abcde"] for level in shares]).pvalue > 1e-3


@pytest.mark.parametrize(
    ("sets", "levels", "says"),
    [
        ({"maths": 5}, {"maths": {"AIME": 1}}, r"levels.maths: no training seed has the level 'AIME'.*'easy', 'hard'"),
        ({"mini_maths": 5}, {"mini_maths": {"easy": 1}}, r"the level of mini_maths follows from its concepts; delete"),
    ],
)
def test_a_level_that_cannot_be_asked_for_is_named(
    sets: dict[str, int], levels: dict[str, dict[str, float]], says: str
) -> None:
    with pytest.raises(ConceptError, match=says):
        concept_sets(FILE_SEEDS, {}, Synthesis(concept_sets=sets, levels=levels), "b", seed=0)


def test_embeddings_decide_which_concepts_meet() -> None:
    """Five equally frequent lists of one concept: only the embeddings tell which belong together."""
    lone = [{**FILE_SEEDS[0], "problem_id": f"p{name}", "concepts": [name]} for name in "abcd"]
    near = {"a": [1.0, 0.0], "b": [1.0, 0.1], "c": [0.0, 1.0], "d": [0.1, 1.0]}
    vectors = {"maths": {name: np.array(near[name]) for name in "acbd"}}  # in no particular order
    settings = Synthesis(concept_sets={"maths": 200}, concepts_per_set={"maths": [2]}, concept_temperature=0.05)
    sets = {frozenset(row["concepts"]) for row in concept_sets(lone, vectors, settings, "b", seed=0)}
    assert sets == {frozenset("ab"), frozenset("cd")}


def test_sets_name_seeds_that_have_one_of_their_concepts(seeds: list[Row]) -> None:
    by_id = {row["problem_id"]: row for row in seeds}
    for row in concept_sets(seeds, {}, SETTINGS, "b1", seed=0):
        named = json.loads(row["seed_problem_ids"])
        assert len(named) <= 20
        for problem in named:
            assert by_id[problem]["split"] == "train" and by_id[problem]["domain"] == row["domain"]
            assert set(by_id[problem]["concepts"]) & set(row["concepts"])


def test_sets_name_different_seeds_of_every_concept() -> None:
    """Not the same few of a frequent concept, and a rare one is not crowded out."""
    about = {"domain": "maths", "split": "train", "level": "1"}
    many = [{**FILE_SEEDS[0], **about, "problem_id": content_id(at), "concepts": ["often"]} for at in range(500)]
    rare = {**FILE_SEEDS[0], **about, "problem_id": content_id("rare"), "concepts": ["rare", "often"]}
    settings = Synthesis(concept_sets={"maths": 200}, concepts_per_set={"maths": [2]})
    sets = [set(json.loads(row["seed_problem_ids"])) for row in concept_sets([*many, rare], {}, settings, "b", seed=0)]
    assert all(len(named) == 20 and content_id("rare") in named for named in sets)
    assert len(set.union(*sets)) == 501


def test_batches_and_seeds_draw_other_sets_and_the_same_ones_again(seeds: list[Row]) -> None:
    drawn = [
        concept_sets(seeds, {}, SETTINGS, batch, seed) for batch, seed in (("b1", 0), ("b1", 0), ("b2", 0), ("b1", 1))
    ]
    assert drawn[0] == drawn[1]
    assert [row["concepts"] for row in drawn[0]] != [row["concepts"] for row in drawn[2]]
    assert [row["concepts"] for row in drawn[0]] != [row["concepts"] for row in drawn[3]]
    assert not {row["concept_set_id"] for row in drawn[0]} & {row["concept_set_id"] for row in drawn[2]}


def test_a_sampled_domain_without_seeds_draws_no_sets(seeds: list[Row]) -> None:
    """The other domains draw theirs; `without_concepts` counts what is missing."""
    wanted = Synthesis(concept_sets={"maths": 3, "mini_maths": 2})
    assert [row["domain"] for row in concept_sets(seeds, {}, wanted, "b", seed=0)] == ["mini_maths"] * 2


def test_a_domain_with_few_concepts_draws_the_largest_sets_that_it_has(seeds: list[Row]) -> None:
    """A file whose seeds name two concepts in all ended a finished arc at its batch. Who has enough is not touched."""
    few = [{"problem_id": "p", "domain": "code", "split": "train", "concepts": ["loops", "sets"], "level": "easy"}]
    per_set = {"maths": [2, 3]}
    for wanted, sizes in (({"code": 3}, {2}), ({"code": 3, "maths": 20}, {2, 3})):
        asked = Synthesis(concept_sets=wanted, concepts_per_set=per_set)
        drawn = concept_sets([*few, *FILE_SEEDS], {}, asked, "b", seed=0)
        assert {len(row["concepts"]) for row in drawn} == sizes and len(drawn) == sum(wanted.values())
        assert shortened([*few, *FILE_SEEDS], asked) == {"code": 2}
    mixed = Synthesis(concept_sets={"code": 20}, concepts_per_set={"code": [1, 5]})
    assert {len(row["concepts"]) for row in concept_sets(few, {}, mixed, "b", seed=0)} == {1, 2}


def test_concept_embeddings_are_the_models_own(tiny_model: Path, seeds: list[Row]) -> None:
    with TransformersEngine(tiny_model) as engine:
        concepts = concept_corpus(seeds)
        vectors = concept_embeddings(concepts, engine)
        assert {(name, concept) for name, own in vectors.items() for concept in own} == {
            (row["domain"], row["concept"]) for row in concepts
        }
        (alone,) = engine.embed(["ratios"])
    assert vectors["mini_maths"]["ratios"] == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize("name", ["mini_maths", "mini_code"])
def test_every_completion_is_a_row_with_a_problem_or_a_reason(seeds: list[Row], name: str) -> None:
    sets = [row for row in concept_sets(seeds, {}, SETTINGS, "b1", seed=0) if row["domain"] == name]
    rows = synthesize(sets, problem_writer(name), SETTINGS, "p/1", seed=0)
    assert len(rows) == 8 * len(sets) == len({row["raw_problem_id"] for row in rows})
    for row in rows:
        block = parse_completion(row["completion"], row["finish_reason"] == "stop")
        assert (row["rationale"], row["problem"], row["drop_reason"]) == (
            block.rationale,
            block.problem,
            block.drop_reason,
        )
        assert (row["problem"] is None) == (row["drop_reason"] is not None)
        posed = domain_named(name).well_posed(row["problem"]) if row["problem"] else None
        assert row["well_posed"] == posed
        assert row["logprob"] < 0 and row["tokens"] == 2
    reasons = drop_counts(rows)
    assert reasons.total() == sum(row["problem"] is None for row in rows) > 0
    assert set(reasons) == {"rationale block empty", "problem block missing"}
    rate = sum(bool(row["well_posed"]) for row in rows) / len(rows)
    assert well_posed_rates(rows) == {f"well_posed_rate_{name}": rate} and 0 < rate < 1


def test_synthesis_does_not_depend_on_the_shard_a_set_is_in(seeds: list[Row]) -> None:
    sets = [row for row in concept_sets(seeds, {}, SETTINGS, "b1", seed=0) if row["domain"] == "mini_maths"]
    together = synthesize(sets, problem_writer("mini_maths"), SETTINGS, "p/1", seed=0)
    apart = [row for one in sets for row in synthesize([one], problem_writer("mini_maths"), SETTINGS, "p/1", seed=0)]
    assert together == apart
    assert together != synthesize(sets, problem_writer("mini_maths"), SETTINGS, "p/1", seed=1)


def test_a_cut_off_completion_is_dropped_and_said_to_be(seeds: list[Row]) -> None:
    sets = [row for row in concept_sets(seeds, {}, SETTINGS, "b1", seed=0) if row["domain"] == "mini_maths"]
    short = SETTINGS.model_copy(update={"sampling": Sampling(max_new_tokens=1)})
    rows = synthesize(sets, problem_writer("mini_maths"), short, "p/1", seed=0)
    assert drop_counts(rows) == {"cut off at the token limit": len(rows)}
    assert well_posed_rates(rows) == {}


def test_an_engines_failure_is_no_row(seeds: list[Row]) -> None:
    hot = SETTINGS.model_copy(update={"sampling": Sampling(temperature=0.5)})
    with pytest.raises(EngineError):
        synthesize(concept_sets(seeds, {}, SETTINGS, "b1", seed=0), problem_writer("mini_maths"), hot, "p", seed=0)
