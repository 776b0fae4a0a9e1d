"""What speaks against a label: the rationale's own answer, other graders, rivals."""

import pytest

from promptcot_assets.lake import Row
from promptcot_assets.settings.profile import Labels
from promptcot_assets.stages.labels.agreement import (
    CONTRADICTED,
    label_agreement,
    stated_answer,
    stated_answers,
    without_contradicted,
)
from promptcot_assets.stages.labels.votes import math_answers

# (rationale, the answer that it states)
STATED: list[tuple[str, str | None]] = [
    (r"Start from 3 and 4, so the answer is \boxed{12}.", "12"),
    ("We double it. The final answer is 42.", "42"),
    ("We double it. The answer: $-7/2$, as wanted.", "-7/2"),
    ("First the answer is 3; then we ask for more: the answer is 5.", "5"),
    ("The answer is not obvious, which makes it hard.", None),
    ("The answer is unique.", None),
    ("Choose 3 and 4, so that solvers must answer 12 questions.", None),
    ("", None),
]


@pytest.mark.parametrize(("rationale", "answer"), STATED)
def test_only_what_is_surely_an_answer_is_read_in_a_rationale(rationale: str, answer: str | None) -> None:
    assert stated_answer(rationale) == answer


def votes(problem: str, *answers: str | None) -> list[Row]:
    from sandbox.maths import normal_form

    return [
        {"problem_id": problem, "domain": "maths", "answer": one, "normal_form": normal_form(one) if one else None,
         "finish_reason": "stop", "seed": at, "model": "m"}
        for at, one in enumerate(answers)
    ]  # fmt: skip


def test_rivals_and_graders() -> None:
    cast = votes("a", "1/2", "0.5", "0.5", "7", "7", None) + votes("b", "1", "2", "3", None, None, None)
    labels = math_answers(cast, Labels(votes=6, min_votes=3))
    rows = label_agreement(labels, cast, {"a": "0.50", "b": "1"})
    assert [row["label_id"] for row in rows] == [row["label_id"] for row in labels]
    first, second = rows
    assert (first["answer"], first["by_text"], first["stated_agrees"]) == ("0.5", None, True)  # two and two letters
    assert first["graders_agree"] is False and first["runner_up"] == pytest.approx(2 / 6)
    assert (first["distinct_answers"], first["unanswered"]) == (2, pytest.approx(1 / 6))
    assert (second["answer"], second["graders_agree"], second["stated_agrees"]) == (None, None, None)


def test_a_label_falls_where_the_rationale_says_something_else() -> None:
    cast = votes("a", "4", "4") + votes("b", "4", "4") + votes("c", "4", "4") + votes("d", "4", "5")
    labels = math_answers(cast, Labels(votes=2, min_votes=2))
    stated = stated_answers(
        {"problem_id": name, "rationale": text} for name, text in (("a", "The answer is 4."), ("b", "The answer is 5."),
                                                                  ("c", "No."), ("d", "The answer is 5."))
    )  # fmt: skip
    rows = without_contradicted(labels, stated)
    assert [(row["answer"], row["drop_reason"]) for row in rows] == [
        ("4", None), (None, CONTRADICTED), ("4", None), (None, "tie"),
    ]  # fmt: skip
