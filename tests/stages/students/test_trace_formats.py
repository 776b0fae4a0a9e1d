import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptcot_assets.stages.students.trace_formats import normal_trace

FINAL = "<|start|>assistant<|channel|>final<|message|>So \\boxed{4}.<|return|>"
CASES = [
    ("<think>a</think>\\boxed{4}", "<think>a</think>\\boxed{4}", "already so"),
    ("no thoughts, \\boxed{4}", "no thoughts, \\boxed{4}", "no format we know"),
    ("a\n</think>\n\\boxed{4}", "<think>a\n</think>\n\\boxed{4}", "the prompt opened the block"),
    ("a</think>b</think>", "a</think>b</think>", "two ends: for the judge to refuse"),
    (f"<|channel|>analysis<|message|>a < b<|end|>{FINAL}", "<think>a < b</think>So \\boxed{4}.", "harmony"),
    (
        "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>commentary to=tool<|message|>x<|call|>"
        f"<|start|>assistant<|channel|>analysis<|message|>b<|end|>{FINAL}",
        "<think>a\n\nb</think>So \\boxed{4}.",
        "analysis in two parts, commentary left out",
    ),
    ("<|channel|>analysis<|message|>a and", "<think>a and", "cut off: no end of the block, no answer"),
    ("<|channel|>analysis<|message|>a<|end|>" + FINAL.removesuffix("<|return|>"), "<think>a</think>So \\boxed{4}.",
     "stopped at the end token"),
    ("analysisWe add.assistantfinalSo 4.", "<think>We add.</think>So 4.", "special tokens stripped"),
    ("analysis of the case", "analysis of the case", "a word, not a channel"),
]  # fmt: skip


@pytest.mark.parametrize(("completion", "expected", "why"), CASES)
def test_formats(completion: str, expected: str, why: str) -> None:
    assert normal_trace(completion) == expected, why
    assert normal_trace(expected) == expected


@settings(deadline=None)
@given(st.lists(st.sampled_from(["<think>", "</think>", "<|channel|>", "analysis", "<|message|>", "final", "x",
                                 "<|end|>", "assistantfinal"]), max_size=12))  # fmt: skip
def test_any_mixture_of_marks_is_brought_into_form_once(parts: list[str]) -> None:
    once = normal_trace("".join(parts))
    assert "<|channel|>" in once or normal_trace(once) == once
