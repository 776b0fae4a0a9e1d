"""Completions in channels (gpt-oss's harmony format) as `<think>thoughts</think>answer`.

    as sampled    `<|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>final<|message|>…<|return|>`
    as decoded    the same without its special tokens: `analysis…assistantfinal…`

All analysis becomes one think block, the last final message the answer; commentary is neither. A completion that was
cut off before its final message stays without the end of the block, and so without an answer. Nothing is stripped: of a
completion with one analysis and one final message `with_channels` gives back what was sampled, token for token.
"""

import re

BEGIN_THINK, END_THINK = "<think>", "</think>"
MARK = "<|channel|>"
ANALYSIS, FINAL = f"{MARK}analysis<|message|>", f"{MARK}final<|message|>"
NEXT = "<|end|><|start|>assistant"
MESSAGE = re.compile(
    r"<\|channel\|>(?P<channel>\w+)[^<]*<\|message\|>(?P<text>.*?)(?=<\|(?:end|return|call|start|channel)\|>|\Z)",
    re.DOTALL,
)
DECODED = re.compile(r"\Aanalysis(?P<thoughts>.*)assistantfinal(?P<answer>.*)\Z", re.DOTALL)


def without_channels(completion: str) -> str:
    """The completion of a model that is known to write channels. Idempotent."""
    if MARK in completion:
        messages = [(match["channel"], match["text"]) for match in MESSAGE.finditer(completion)]
        finals = [text for channel, text in messages if channel == "final"]
        thoughts = "\n\n".join(text for channel, text in messages if channel == "analysis" and text)
        if finals and not any(channel == "analysis" for channel, _ in messages):
            return finals[-1]
        return f"{BEGIN_THINK}{thoughts}{END_THINK}{finals[-1]}" if finals else BEGIN_THINK + thoughts
    if match := DECODED.match(completion):
        return f"{BEGIN_THINK}{match['thoughts']}{END_THINK}{match['answer']}"
    if completion.startswith("analysis"):
        return BEGIN_THINK + completion.removeprefix("analysis")
    return completion.removeprefix("final") if completion.startswith("final") else completion


def with_channels(completion: str) -> str:
    """What a model of channels writes for a completion in the one form, its last end token left out."""
    thoughts, closed, answer = completion.partition(END_THINK)
    if not completion.startswith(BEGIN_THINK):
        return FINAL + completion
    analysis = ANALYSIS + thoughts.removeprefix(BEGIN_THINK)
    return f"{analysis}{NEXT}{FINAL}{answer}" if closed else analysis
