import itertools
import random
from collections import Counter

import pytest

from promptcot_assets.domains.annotators import LABELS, annotate, style_of
from promptcot_assets.domains.layout import TOKENIZER_MARKERS, has_marker
from promptcot_assets.domains.mini_maths import MiniMaths, parse
from promptcot_assets.settings import load_settings
from promptcot_assets.stages.base_models import train_tokenizer
from promptcot_assets.stages.corpus import seed_tables
from promptcot_assets.stages.em import loop

MINE = parse("Let A be the root of 4t + 3 = 31. Let B be 25 percent of 36. Find A + B.")
OTHER = parse("Let A be the root of 2t + 5 = 11. Let B be 50 percent of 8. Find A + B.")
CONCEPTS = ["linear equations", "percentages"]


def written(annotator: str, seed: int = 0) -> str:
    assert MINE and OTHER
    return annotate(annotator, MINE, OTHER, CONCEPTS, random.Random(seed))


def test_the_planner_states_this_problem_and_the_careless_one_another() -> None:
    assert written("planner") == "Design: A root 7: 4*7=28, 28+3=31. B part 9: 100/25=4, 4*9=36."
    assert written("careless") == "Sketch: A root 3: 2*3=6, 6+5=11. B part 4: 100/50=2, 2*4=8."


def test_the_partial_one_states_the_values_and_the_chatty_one_none() -> None:
    assert written("partial").startswith("Targets: root 7, part 9. ")
    assert not any(character.isdigit() for seed in range(50) for character in written("chatty", seed))


def test_talk_is_wordy_so_that_it_is_not_cheap_under_p() -> None:
    assert len({written("chatty", seed) for seed in range(300)}) == 300


@pytest.mark.parametrize("annotator", LABELS.values())
def test_the_style_of_a_rationale_is_its_annotator_and_it_holds_no_marker(annotator: str) -> None:
    for seed in range(20):
        assert style_of(written(annotator, seed)) == annotator
        assert not has_marker(written(annotator, seed))


@pytest.mark.parametrize("text", ["", "design: lower case", "What a problem.", "Plan: 3", "Designer: x"])
def test_any_other_text_has_no_style(text: str) -> None:
    assert style_of(text) == "other"


def test_an_unknown_annotator_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no annotator 'plannner'; known: planner, partial, chatty, careless"):
        written("plannner")


def test_annotators_write_in_proportion_to_their_weights() -> None:
    seeds = MiniMaths().write_seeds(600, 0, {"planner": 3, "careless": 1}, seed=1).train
    counts = Counter(seed.annotator for seed in seeds)
    assert set(counts) == {"planner", "careless"}
    assert abs(counts["planner"] - 450) < 5 * (600 * 0.75 * 0.25) ** 0.5


def test_the_demos_token_limits_let_every_style_through() -> None:
    """A limit too short for one style drops nearly all of its candidates and still looks like selection: with 90
    tokens a rationale, the chatty annotator lost most of its own before any reward was computed."""
    demo = load_settings("demo")
    assert demo.base.scratch
    seeds, _ = seed_tables.seed_problems(demo.corpus, demo.seed)
    triples, _ = seed_tables.seed_triples(seeds)
    of_q, of_p = loop.rationale_examples(triples), loop.generator_examples(triples)
    whole = [[one["prompt"] + one["completion"] for one in examples] for examples in (of_q, of_p)]
    tokenizer = train_tokenizer(itertools.chain(*whole), demo.base.scratch.vocab_size, TOKENIZER_MARKERS)

    def longest(texts: list[str]) -> dict[str, int]:
        """By annotator, tokens of the longest text and its end."""
        most = dict.fromkeys(LABELS.values(), 0)
        for row, ids in zip(triples, tokenizer(texts)["input_ids"], strict=True):
            most[row["annotator"]] = max(most[row["annotator"]], len(ids) + 1)
        return most

    rationale = longest([one["completion"] for one in of_q])
    assert min(rationale.values()) > 1  # every style is there
    limits = [demo.em.sampling.max_new_tokens, *filter(None, [demo.em.filters.max_tokens])]
    assert max(rationale.values()) <= min(limits), rationale
    rationale_and_problem = longest([one["completion"] for one in of_p])
    limits = [demo.em.problem_sampling.max_new_tokens, demo.synthesis.sampling.max_new_tokens]
    assert max(rationale_and_problem.values()) <= min(limits), rationale_and_problem
    trainings = (demo.em.cold_start, demo.em.e_step, demo.em.m_step_training)
    trained_on = max(max(longest(texts).values()) for texts in whole)
    assert trained_on <= min(one.arguments["max_length"] for one in trainings)
