"""Tests that a model writes for a program problem: the prompt, and one {input, output} read from each completion."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from promptcot_assets.domains.layout import BEGIN_THINK, END_THINK
from promptcot_assets.inference import Completion

PROMPT = """{problem}

Write one test for programs that solve this problem: {focus}.
Work out the right output step by step. Then give the test as one JSON object in a ```json block.
Its two keys are both text: "input" is all that the program reads from standard input, "output" all it prints.
"""
FOCUS = (  # the calls of one problem ask for different tests: equal prompts mostly give equal ones
    "a typical case, small enough to work out by hand",
    "an edge case, the smallest or most extreme input that the statement allows",
    "a larger case, where a careless program goes wrong",
    "a case that a plausible but wrong program fails",
)
WORKED_EXAMPLE, DRAWN, WRITTEN = "worked example", "drawn", "written"  # where a test comes from


@dataclass(frozen=True)
class WrittenTest:
    """What one call gave. `defect` says why it is no test; its `stdin` is then None.

    proposed: the output its writer expects; None where it only gives an input.
    """

    stdin: str | None
    proposed: str | None = None
    defect: str | None = None
    completion: str | None = None
    seed: int | None = None
    worked_example: bool = False  # the statement's own
    tokens: int | None = None  # sampled, of what a model wrote


def writing_prompt(problem: str, call: int) -> str:
    return PROMPT.format(problem=problem, focus=FOCUS[call % len(FOCUS)])


def read_test(completion: Completion) -> WrittenTest:
    """The test in one completion: the last JSON object after the think block, its types checked."""
    text = completion.text
    if completion.refusal:
        return _defective(completion, completion.refusal.reason)
    if completion.finish_reason != "stop" or (BEGIN_THINK in text and END_THINK not in text):
        return _defective(completion, "the test was cut off at the token limit")
    objects = list(_json_objects(text.rpartition(END_THINK)[2]))
    if not objects:
        return _defective(completion, "no JSON object in what was written")
    written = objects[-1]
    if set(written) != {"input", "output"}:
        return _defective(completion, "not exactly an input and an output")
    stdin, proposed = (_as_text(written[name]) for name in ("input", "output"))
    if stdin is None or proposed is None:
        return _defective(completion, "input or output is not text")
    if not (is_unicode(stdin) and is_unicode(proposed)):
        return _defective(completion, "not valid Unicode")
    if not proposed.strip():
        return _defective(completion, "the output is empty")
    return WrittenTest(stdin, proposed.strip(), None, text, completion.seed, tokens=completion.tokens)


def _defective(completion: Completion, reason: str) -> WrittenTest:
    return WrittenTest(None, None, reason, completion.text, completion.seed, tokens=completion.tokens)


def is_unicode(text: str) -> bool:
    """False with a lone surrogate in it: JSON can spell one, undecodable bytes are read as some, no table holds any."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _as_text(value: Any) -> str | None:
    """A number can only mean its own digits; what a list or a truth value looks like on standard input is a guess."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _json_objects(text: str) -> Iterator[dict[str, Any]]:
    """The outermost JSON objects of a text, in order. Line breaks may stand raw inside their strings."""
    decoder, at = json.JSONDecoder(strict=False), text.find("{")
    while at >= 0:
        try:
            found, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            yield found
        at = text.find("{", end)
