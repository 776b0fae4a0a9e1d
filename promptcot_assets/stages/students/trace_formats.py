"""Teachers' completions in the one form that students learn and graders read: `<think>thoughts</think>answer`.

harmony (gpt-oss)   channels, with their special tokens or decoded without them (inference/channels.py)
opened by a prompt  `…</think>…`: the chat template wrote `<think>` (Qwen3-Thinking, DeepSeek-R1)

A model that is asked through its own chat template answers in this form already (inference/chat.py); raw prompts and
old tables have the others. Anything else comes back as it is; whether it is valid is for the judge to say.
"""

from __future__ import annotations

from promptcot_assets.domains.layout import BEGIN_THINK, END_THINK
from promptcot_assets.inference.channels import DECODED, MARK, without_channels


def normal_trace(completion: str) -> str:
    """The completion in the students' form. Idempotent."""
    if MARK in completion or DECODED.match(completion):
        return without_channels(completion)
    if completion.count(END_THINK) == 1 and BEGIN_THINK not in completion:
        return BEGIN_THINK + completion
    return completion
