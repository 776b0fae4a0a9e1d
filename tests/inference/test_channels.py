import pytest

from promptcot_assets.inference.channels import with_channels, without_channels

# (what a model that writes channels wrote, in the one form, why)
COMPLETIONS = [
    (
        "<|channel|>analysis<|message|>2+2=4<|end|><|start|>assistant<|channel|>final<|message|>\\boxed{4}<|return|>",
        "<think>2+2=4</think>\\boxed{4}",
        "as sampled",
    ),
    ("analysis2+2=4assistantfinal\\boxed{4}", "<think>2+2=4</think>\\boxed{4}", "decoded without its special tokens"),
    ("analysis so \\boxed{3}? wait", "<think> so \\boxed{3}? wait", "cut off while it thinks: no answer"),
    ("<|channel|>analysis<|message|>so \\boxed{3}?", "<think>so \\boxed{3}?", "the same as sampled"),
    ("final\\boxed{4}", "\\boxed{4}", "an answer without thoughts"),
    ("Four.", "Four.", "no channel at all"),
    ("<think>2+2=4</think>\\boxed{4}", "<think>2+2=4</think>\\boxed{4}", "in the one form already"),
]


@pytest.mark.parametrize(("written", "form", "why"), COMPLETIONS)
def test_channels_become_one_think_block_and_an_answer(written: str, form: str, why: str) -> None:
    assert without_channels(written) == form, why
    assert without_channels(form) == form, why


SAMPLED = [
    "<|channel|>analysis<|message|>2 + 2\n<|end|><|start|>assistant<|channel|>final<|message|> \\boxed{4}",
    "<|channel|>analysis<|message|>so \\boxed{3}? wait",
    "<|channel|>final<|message|>Four.",
    "<|channel|>analysis<|message|><|end|><|start|>assistant<|channel|>final<|message|>Four.",
]


@pytest.mark.parametrize("sampled", SAMPLED)
def test_what_was_sampled_comes_back_to_the_letter_with_and_without_its_special_tokens(sampled: str) -> None:
    decoded = sampled
    for token in ("<|channel|>", "<|message|>", "<|end|>", "<|start|>"):
        decoded = decoded.replace(token, "")
    assert with_channels(without_channels(sampled)) == with_channels(without_channels(decoded)) == sampled
