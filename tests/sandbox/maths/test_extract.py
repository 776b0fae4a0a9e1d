"""Where the final answer stands in a completion, and where none does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.maths import extract_answer
from sandbox.maths.extract import is_hedged

CASES = [
    (r"so \boxed{42}.", "42", "plain"),
    (r"\boxed{1} then \boxed{2}", "2", "the last one"),
    (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}", "nested braces"),
    (r"\boxed{\boxed{5}}", "5", "a box in a box"),
    (r"\boxed{7 \text{ or } \boxed{8}}", r"7 \text{ or } \boxed{8}", "a box inside an answer is not the answer"),
    (r"\boxed{\boxed{1}\boxed{2}}", r"\boxed{1}\boxed{2}", "two boxes in a box"),
    (r"$\boxed{\boxed{5}+1}$", r"\boxed{5}+1", "a box around a part"),
    (r"\boxed{\boxed{}}", None, "an empty box in a box"),
    (r"\boxed{ </think> \boxed{7}}", "7", "a box that the thinking left open"),
    (r"<think>\boxed{1</think>\boxed{7}}", "7", "the same, with the thinking's start"),
    (r"\boxed{ " * 300 + r"\boxed{7}", "7", "boxes that never close are none"),
    (r"{\boxed{{x}+{\boxed{7}}}}", r"{x}+{\boxed{7}}", "braces between a box and a box"),
    (r"\boxed{7</think>}", None, "the end of the thinking inside a box"),
    (r"\boxed{\{1, 2\}}", r"\{1, 2\}", "escaped braces"),
    (r"\boxed {7}", "7", "a space before the brace"),
    (r"\boxed 7", "7", "no brace, as in old MATH solutions"),
    (r"$\boxed{ 7 }$", "7", "spaces inside"),
    ("\\boxed{\n7\n}", "7", "lines inside"),
    (r"\boxed{}", None, "empty"),
    (r"\boxed{  }", None, "blank"),
    (r"\boxed{1", None, "cut off"),
    (r"\boxed{1} and \boxed{2", None, "the last one cut off: nothing is guessed"),
    (r"\boxed", None, "nothing behind it"),
    ("", None, "empty completion"),
    ("The answer is 7.", None, "no last-number guess"),
    (r"<think>\boxed{1}</think>\boxed{2}", "2", "after the thinking"),
    (r"<think>\boxed{1}</think> I give up.", None, "in the thinking only"),
    (r"<think>\boxed{1}", None, "thinking that never ends"),
    (r"thoughts \boxed{1} </think> \boxed{2}", "2", "the prompt opened the thinking"),
    (r"thoughts \boxed{1} </think> done", None, "the prompt opened the thinking; no answer after it"),
    (r"<think>a</think>\boxed{1}<think>b</think>", None, "thinking again after the answer"),
    (r"\boxed{" + "1" * 5000 + "}", None, "longer than any answer"),
]


@pytest.mark.parametrize(("completion", "answer", "why"), CASES, ids=[why for _, _, why in CASES])
def test_extraction(completion: str, answer: str | None, why: str) -> None:
    assert extract_answer(completion) == answer


@given(before=st.text(alphabet=st.characters(exclude_characters="<\\"), max_size=200), answer=st.integers())
def test_a_boxed_answer_is_found_behind_any_text(before: str, answer: int) -> None:
    assert extract_answer(f"{before}\\boxed{{{answer}}}{before}") == str(answer)


@given(st.text(alphabet="\\boxed{}<think>/ 1", max_size=80))
def test_extraction_never_raises(completion: str) -> None:
    answer = extract_answer(completion)
    assert answer is None or answer == answer.strip() != ""
    is_hedged(completion)


@pytest.mark.parametrize(
    ("completion", "hedged"),
    [
        (r"\boxed{1}\boxed{2}", True),
        (r"\boxed{1} or \boxed{2}", True),
        (r"$\boxed{1}$, $\boxed{2}$", True),
        (r"\boxed{1} \text{ or } \boxed{2}", True),
        (r"\boxed{2}\boxed{2}", False),
        (r"We get \boxed{1} at first, but the sign was wrong: \boxed{2}", False),
        (r"\boxed{2}", False),
    ],
)
def test_hedging(completion: str, hedged: bool) -> None:
    assert is_hedged(completion) == hedged
