"""Difficulty for a model that was never trained here, held against a reference's answers."""

from collections.abc import Iterator

import pytest

from promptcot_assets.judging.opening import open_verifier
from promptcot_assets.judging.verifier import Verifier
from promptcot_assets.lake import Row
from promptcot_assets.settings.engines import Sandbox
from promptcot_assets.settings.profile import Sampling
from promptcot_assets.stages.analysis.zero_shot import CUT_OFF, NO_REFERENCE, references, sampled, solved, summary
from tests.exact_models import ExactModel, one_of

FREE = Sampling(max_new_tokens=4)


def problem(number: int, domain: str = "maths") -> Row:
    return {"problem_id": f"p{number}", "domain": domain, "problem": f"{number}?"}


def answering(answers: dict[str, str]) -> ExactModel:
    return one_of(lambda prompt: [next(text for key, text in answers.items() if prompt.startswith(key))], ".\n")


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    with open_verifier(Sandbox(workers=1, cpu_s=1.0, wall_s=4.0, memory_mb=256)) as verifier:
        yield verifier


def test_agreement_is_counted_where_there_is_a_reference(verifier: Verifier) -> None:
    known = references(
        [problem(number) for number in (1, 2, 3)],
        answering({"1": "<think>a</think>\\boxed{\\frac12}", "2": "\\boxed{7}", "3": "I cannot say."}),
        FREE, "reference/1", 0,
    )  # fmt: skip
    rows = solved(known, answering({"": "<think>b</think>\\boxed{0.5}"}), FREE, verifier, "solver/1", 0)
    assert [(row["passed"], row["drop_reason"]) for row in rows] == [(True, None), (False, None), (None, NO_REFERENCE)]
    assert {(row["teacher"], row["model"]) for row in rows} == {("reference/1", "solver/1")}
    figures = summary(rows)
    assert (figures["zero_shot_accuracy"], figures["counted"], figures["mean_reference_tokens"]) == (0.5, 2, 2.0)
    assert figures["accuracy_low"] < 0.5 < figures["accuracy_high"]
    assert summary(rows[2:]) == {}


def test_a_reference_that_was_cut_off_is_none(verifier: Verifier) -> None:
    cut = ExactModel(lambda _: {"\\boxed{1} ": 1.0})
    (row,) = references([problem(1)], cut, FREE, "reference/1", 0)
    assert row["reference"] is None and row["reference_tokens"] == 4


def test_references_that_were_cut_off_count_in_the_mean_length_and_are_told(verifier: Verifier) -> None:
    """Two short references of 2 tokens and two that end at the limit of 4: the mean is 3 at least, not 2."""
    known = references([problem(1), problem(2)], answering({"": "\\boxed{1}"}), FREE, "reference/1", 0)
    known += references([problem(3), problem(4)], ExactModel(lambda _: {"hm ": 1.0}), FREE, "reference/1", 0)
    rows = solved(known, answering({"": "\\boxed{1}"}), FREE, verifier, "solver/1", 0)
    assert [row["drop_reason"] for row in rows] == [None, None, CUT_OFF, CUT_OFF]
    figures = summary(rows)
    assert (figures["counted"], figures["mean_reference_tokens"], figures["cut_off_references"]) == (2, 3.0, 0.5)
    assert summary(rows[2:]) == {"mean_reference_tokens": 4.0, "cut_off_references": 1.0}


def test_the_sample_is_of_maths_and_follows_from_the_ids() -> None:
    problems = [problem(number, "code" if number % 2 else "maths") for number in range(40)]
    drawn = sampled(problems, 5)
    assert len(drawn) == 5 and all(row["domain"] == "maths" for row in drawn)
    assert {row["problem_id"] for row in drawn} == {row["problem_id"] for row in sampled(problems[::-1], 5)}
    assert len(sampled(problems, 1000)) == 20
