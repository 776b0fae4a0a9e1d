"""Completions in channels (gpt-oss's harmony format) as `<think>thoughts</think>answer`.

    as sampled    `<|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>final<|message|>…<|return|>`
    as decoded    the same without its special tokens: `analysis…assistantfinal…`

All analysis becomes one think block, the last final message the answer; commentary is neither. A completion that was
cut off before its final message stays without the end of the block, and so without an answer.
"""

import re

BEGIN_THINK, END_THINK = "<think>", "</think>"
MARK = "<|channel|>"
MESSAGE = re.compile(
    r"<\|channel\|>(?P<channel>\w+)[^<]*<\|message\|>(?P<text>.*?)(?=<\|(?:end|return|call|start|channel)\|>|\Z)",
    re.DOTALL,
)
DECODED = re.compile(r"\Aanalysis(?P<thoughts>.*)assistantfinal(?P<answer>.*)\Z", re.DOTALL)


def without_channels(completion: str) -> str:
    """The completion of a model that is known to write channels. Idempotent."""
    if MARK in completion:
        messages = [(match["channel"], match["text"].strip()) for match in MESSAGE.finditer(completion)]
        finals = [text for channel, text in messages if channel == "final"]
        thoughts = "\n\n".join(text for channel, text in messages if channel == "analysis" and text)
        return f"{BEGIN_THINK}{thoughts}{END_THINK}{finals[-1]}" if finals else BEGIN_THINK + thoughts
    if match := DECODED.match(completion):
        return f"{BEGIN_THINK}{match['thoughts'].strip()}{END_THINK}{match['answer'].strip()}"
    if completion.startswith("analysis"):
        return BEGIN_THINK + completion.removeprefix("analysis").strip()
    return completion.removeprefix("final").strip() if completion.startswith("final") else completion
