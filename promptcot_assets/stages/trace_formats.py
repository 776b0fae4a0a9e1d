"""Teachers' completions in the one form that students learn and graders read: `<think>thoughts</think>answer`.

harmony (gpt-oss)   `<|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>final<|message|>…<|return|>`
stripped harmony    the same decoded without special tokens: `analysis…assistantfinal…`
opened by a prompt  `…</think>…`: the chat template wrote `<think>` (Qwen3-Thinking, DeepSeek-R1)

Anything else comes back as it is; whether it is valid is for the judge to say.
"""

from __future__ import annotations

import re

from promptcot_assets.domains.layout import BEGIN_THINK, END_THINK, solution_text

CHANNEL = re.compile(
    r"<\|channel\|>(?P<channel>\w+)[^<]*<\|message\|>(?P<text>.*?)(?=<\|(?:end|return|call|start|channel)\|>|\Z)",
    re.DOTALL,
)
STRIPPED = re.compile(r"\Aanalysis(?P<thoughts>.*)assistantfinal(?P<answer>.*)\Z", re.DOTALL)


def normal_trace(completion: str) -> str:
    """The completion in the students' form. Idempotent."""
    if "<|channel|>" in completion:
        return _harmony(completion)
    if match := STRIPPED.match(completion):
        return solution_text(match["thoughts"].strip(), match["answer"].strip())
    if completion.count(END_THINK) == 1 and BEGIN_THINK not in completion:
        return BEGIN_THINK + completion
    return completion


def _harmony(completion: str) -> str:
    """All analysis as one think block, the last final message as the answer; commentary is neither. A completion
    that was cut off before its final message stays without one, and so without an answer."""
    messages = [(match["channel"], match["text"].strip()) for match in CHANNEL.finditer(completion)]
    thoughts = "\n\n".join(text for channel, text in messages if channel == "analysis" and text)
    finals = [text for channel, text in messages if channel == "final"]
    return solution_text(thoughts, finals[-1]) if finals else BEGIN_THINK + thoughts
