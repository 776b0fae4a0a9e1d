"""Concepts and rationales by models: what is read of a completion, and what becomes of seeds and triples."""

from collections.abc import Sequence

import pytest

from promptcot_assets.inference import Completion
from promptcot_assets.lake import Row
from promptcot_assets.settings.profile import Sampling
from promptcot_assets.stages.corpus.annotation import (
    annotate,
    annotated_seeds,
    annotated_triples,
    read_concepts,
    read_rationale,
)
from promptcot_assets.stages.corpus.seed_tables import seed_triples
from promptcot_assets.stages.em import loop
from tests.exact_models import ExactModel, one_of

FREE = Sampling(max_new_tokens=4)
TWO = '["ratios", "sums"]'
PROBLEM = "Two numbers in ratio 1:2 have sum 9. Find the larger."


def done(text: str, reason: str = "stop") -> Completion:
    return Completion(text, 7, reason, -1.0, 5)


def block(code: str, language: str = "python") -> str:
    return f"Reasoning first.\n```{language}\n{code}\n```"


# completion, concepts that are read, why there are none
CONCEPTS: list[tuple[str, list[str], str | None]] = [
    (block(TWO), ["ratios", "sums"], None),
    (block(TWO, ""), ["ratios", "sums"], None),
    (block(f"concepts = {TWO}"), ["ratios", "sums"], None),
    (
        block('["ratios",\n  "sums  of\n integers"]'.replace("\n integers", " integers")),
        ["ratios", "sums of integers"],
        None,
    ),
    (block("('ratios', 'sums')"), ["ratios", "sums"], None),
    (f"{block('[1, 2]')}\nBetter:\n{block(TWO)}", ["ratios", "sums"], None),
    (f"<think>{block('[]')}</think>{block(TWO)}", ["ratios", "sums"], None),
    (f"<think>{block(TWO)}", [], "cut off at the token limit"),
    (f"<think>{block(TWO)}</think>I am done.", [], "no code block"),
    ("The concepts are ratios and sums.", [], "no code block"),
    (block("ratios, sums"), [], "not a Python list"),
    (block("__import__('os').abort()"), [], "not a Python list"),
    (block("[x for x in ('a', 'b')]"), [], "not a Python list"),
    (block(f"{TWO}\nprint(1)"), [], "not a Python list"),
    (block("[" * 5000), [], "not a Python list"),
    (block(f"[{', '.join(['1'] * 20_000)}]"), [], "not a Python list"),
    (block("{'a': 1}"), [], "not a Python list"),
    (block("['ratios', 2]"), [], "not a list of texts"),
    (block("['ratios']"), [], "not 2 of them"),
    (block("['ratios', 'sums', 'integers']"), [], "not 2 of them"),
    (block("['ratios', 'Ratios']"), [], "one of them twice"),
    (block("['ratios', ' ']"), [], "one of them is no concept"),
    (block(f"['ratios', '{'x' * 201}']"), [], "one of them is no concept"),
    (block("['ratios', '<!-- BEGIN PROBLEM -->']"), [], "one of them is no concept"),
]


@pytest.mark.parametrize(("text", "concepts", "reason"), CONCEPTS, ids=lambda value: str(value)[:40])
def test_concepts_are_the_last_list_after_the_thoughts(text: str, concepts: list[str], reason: str | None) -> None:
    assert read_concepts(done(text), 2) == (concepts, reason)


def test_a_completion_at_the_token_limit_names_nothing() -> None:
    assert read_concepts(done(block(TWO), "length"), 2) == ([], "cut off at the token limit")
    assert read_rationale(done("So it is.", "length"), PROBLEM) == (None, "cut off at the token limit")


# completion, rationale that is read, why there is none
RATIONALES: list[tuple[str, str | None, str | None]] = [
    ("  Begin with ratios.\n", "Begin with ratios.", None),
    ("<think>hm</think>Begin with ratios.", "Begin with ratios.", None),
    ("<think>hm</think> ", None, "empty"),
    ("Begin <!-- END RATIONALE --> with", None, "contains a marker"),
    (f"It reads: {PROBLEM}", None, "quotes the whole problem"),
    (f"<think>{PROBLEM}</think>A ratio of 1:2.", "A ratio of 1:2.", None),
]


@pytest.mark.parametrize(("text", "rationale", "reason"), RATIONALES)
def test_a_rationale_is_what_stands_after_the_thoughts(text: str, rationale: str | None, reason: str | None) -> None:
    assert read_rationale(done(text), PROBLEM) == (rationale, reason)


# ---- asking
def seed(number: int, split: str = "train", **given: object) -> Row:
    problem = {"problem_id": f"p{number}", "domain": "maths", "problem": f"Problem {number}?", "level": "AIME"}
    known = {"answer": "1", "solution": None, "tests": None, "source": "a.jsonl", "source_row": number, "split": split}
    return problem | known | {"concepts": [], "rationale": None, "annotator": None} | given


def writer(concepts: str = block(TWO), rationale: str = "Begin with ratios.") -> ExactModel:
    """Answers both questions by their last line."""

    def texts(prompt: str) -> Sequence[str]:
        return [concepts if prompt.endswith("```python block.\n") else rationale]

    return one_of(texts, ".\n")


def asked(seeds: Sequence[Row], model: ExactModel, annotator: str = "one") -> list[Row]:
    return annotate(seeds, model, FREE, 2, annotator, "teacher_model/1", 0)


def test_only_what_a_source_lacks_is_asked_for() -> None:
    whole = seed(1, concepts=["a"], rationale="z", annotator="source")
    seeds = [
        whole,
        seed(2),
        seed(3, concepts=["a", "b", "c"]),
        seed(4, "held_out"),
        seed(5, "held_out", concepts=["a"]),
    ]
    rows = {row["seed_problem_id"]: row for row in asked(seeds, writer())}
    assert list(rows) == ["p2", "p3", "p4"]
    assert (rows["p2"]["concepts"], rows["p2"]["rationale"]) == (["ratios", "sums"], "Begin with ratios.")
    assert (rows["p3"]["concepts"], rows["p3"]["concept_seed"]) == (
        ["a", "b", "c"],
        None,
    )  # the source's own, of any number
    assert (rows["p4"]["concepts"], rows["p4"]["rationale"]) == (["ratios", "sums"], None)
    assert all(row["drop_reason"] is None and row["model"] == "teacher_model/1" for row in rows.values())
    assert rows["p2"]["tokens"] == 4 and rows["p2"]["concept_seed"] != rows["p2"]["rationale_seed"]


def test_a_bad_answer_is_kept_with_its_reason_and_no_rationale_is_asked_without_concepts() -> None:
    (row,) = asked([seed(1)], writer("no list"))
    assert (row["concepts"], row["rationale_seed"]) == ([], None)
    assert row["drop_reason"] == "concepts: no code block" and row["concept_completion"] == "no list"
    (row,) = asked([seed(1)], writer(rationale="It is Problem 1?"))
    assert row["concepts"] == ["ratios", "sums"] and row["rationale"] is None
    assert row["drop_reason"] == "rationale: quotes the whole problem"


def test_prompts_hold_all_that_the_paper_asks_for() -> None:
    read: list[str] = []

    def texts(prompt: str) -> Sequence[str]:
        read.append(prompt)
        return [block(TWO) if "python block" in prompt else "Begin."]

    asked([seed(1), seed(2) | {"domain": "code"}], one_of(texts, ".\n"))
    concepts, rationale = (
        next(one for one in read if "python block" in one),
        next(one for one in read if "designer" in one),
    )
    assert "Problem 1?" in concepts and "exactly 2 concepts" in concepts and "mathematics problem" in concepts
    assert all(text in rationale for text in ("1. ratios\n2. sums", "Difficulty level: AIME", "Problem 1?", "exactly"))
    assert any("programming problem" in one for one in read)


# ---- using
def test_a_seed_takes_the_concepts_of_a_whole_triple_and_its_own_triple_comes_first() -> None:
    seeds = [seed(1), seed(2), seed(3, concepts=["a"], rationale="z", annotator="source"), seed(4, "held_out"), seed(5)]
    concepts_only = writer(block('["lines", "points"]'), "")
    written = [*asked(seeds, concepts_only, "brief"), *asked(seeds, writer(), "one")]
    written += [*asked(seeds, writer(block('["x", "y"]'), "Another way."), "two")]
    written = [row for row in written if row["seed_problem_id"] != "p5"]
    ours = annotated_seeds(seeds, written)
    assert [row["concepts"] for row in ours if row["problem_id"] in ("p3", "p5")] == [["a"], []]
    own = {row["problem_id"]: row["concepts"] for row in ours}
    assert own["p1"] in (["ratios", "sums"], ["x", "y"]) and own["p4"]  # never those of the one without a rationale

    rows, dropped = annotated_triples(ours, written)
    assert [(row["problem_id"], row["annotator"]) for row in rows if row["problem_id"] == "p3"] == [("p3", "source")]
    assert sorted((row["problem_id"], row["annotator"]) for row in rows if row["problem_id"] < "p3") == [
        ("p1", "one"), ("p1", "two"), ("p2", "one"), ("p2", "two"),
    ]  # fmt: skip
    assert dropped == {"rationale: empty": 2}
    triples, more = seed_triples(rows)
    assert not more and len({row["rationale_id"] for row in triples}) == len(triples) == 5
    em_seeds = loop.one_a_problem(triples)
    assert [row["problem_id"] for row in em_seeds] == ["p1", "p2", "p3"]
    assert all(row["concepts"] == own[row["problem_id"]] for row in em_seeds)


def test_equal_rationales_of_two_annotators_count_once() -> None:
    written = [*asked([seed(1)], writer(), "one"), *asked([seed(1)], writer(block('["x", "y"]')), "two")]
    rows, dropped = annotated_triples(annotated_seeds([seed(1)], written), written)
    assert len(rows) == 1 and dropped == {"the same rationale as another annotator's": 1}


def test_a_rationale_that_a_source_gives_without_concepts_is_not_mixed_with_an_annotators() -> None:
    half = seed(1, rationale="the source's", annotator="source")
    written = asked([half], writer())
    (ours,) = annotated_seeds([half], written)
    assert (ours["concepts"], ours["rationale"]) == (["ratios", "sums"], None)
    assert [row["rationale"] for row in annotated_triples([ours], written)[0]] == ["Begin with ratios."]


def test_the_order_of_annotators_changes_no_seed() -> None:
    written = [*asked([seed(1)], writer(), "one"), *asked([seed(1)], writer(block('["x", "y"]'), "B."), "two")]
    assert annotated_seeds([seed(1)], written) == annotated_seeds([seed(1)], written[::-1])
