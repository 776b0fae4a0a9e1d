"""The final answer of a completion: the last boxed span after the thinking, or nothing. No guessing by last number."""

from __future__ import annotations

import re
from typing import NamedTuple

from sandbox.maths.hedges import PLACEHOLDERS, offers_another

BOX, FRAME = "\\boxed", "\\fbox"
LONGEST = 4_000  # characters; a longer "answer" is none
BETWEEN = 200  # characters between boxes that stand side by side
MOST_BOXES = 16  # looked at from the end: mentions of boxes, answers side by side
BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
SHALLOW = re.compile(r"\{((?:[^{}\\]++|\\.|\{(?:[^{}\\]++|\\.)*+\})*+)\}", re.DOTALL)  # braces in braces, not deeper
BARE = re.compile(r" ?([-+]?[0-9](?:[0-9.,/]*[0-9])?|[a-zA-Z](?![a-zA-Z ]))")


class Box(NamedTuple):
    """Where a box begins and ends, and what is in it; content and end are None when it is never closed."""

    start: int
    content: str | None
    end: int | None


def extract_answer(completion: str) -> str | None:
    """The inside of the last `\\boxed{...}` (or `\\fbox`) after the think block, stripped.

    None when there is none, when it is empty or never closed, or when it stands inside the thinking. Of boxes in a box
    the outer one counts: `\\boxed{7 \\text{ or } \\boxed{8}}` is no 8. A `\\boxed{}` that prose only mentions is none.
    """
    last = _last_box(completion)
    if last is None or last.end is None:
        return None
    start = _outermost(completion, last.start, last.end)
    if _is_thinking(completion, start):
        return None
    answer = last.content if start == last.start else _box(completion, start).content
    return unboxed(answer) or None if answer else None


def unboxed(answer: str) -> str:
    """The inside, where all of the answer is one box."""
    while answer.startswith((BOX, FRAME)):
        box = _box(answer, 0)
        if box.content is None or box.end != len(answer):
            break
        answer = box.content
    return answer


def answers_beside(completion: str) -> list[str]:
    """The boxed answers that stand side by side at the end, first to last: several, where one was asked for."""
    box = _last_box(completion)
    found = []
    for _ in range(MOST_BOXES):
        if box is None or box.content is None:
            break
        found.append(box.content)
        start = _start_before(completion, box.start, box.start - LONGEST)
        before = _box(completion, start) if start >= 0 else None
        if before is None or before.end is None or not 0 <= box.start - before.end <= BETWEEN:
            break
        if not offers_another(completion[before.end : box.start]):
            break
        box = before
    return found[::-1]


def is_hedged(completion: str) -> bool:
    """Whether boxes with different contents stand side by side at the end: several answers in the place of one."""
    return len(set(answers_beside(completion))) > 1


def _start_before(completion: str, end: int, earliest: int = 0) -> int:
    """Where the last box before `end` begins, or -1. Frames are looked for behind the last `\\boxed` only."""
    boxed = completion.rfind(BOX, max(earliest, 0), end)
    return max(boxed, completion.rfind(FRAME, max(boxed, earliest, 0), end))


def _last_box(completion: str) -> Box | None:
    """The last box that is an answer: prose speaks of empty ones."""
    start, box = len(completion), None
    for _ in range(MOST_BOXES):
        start = _start_before(completion, start)
        if start < 0:
            return box
        box = _box(completion, start)
        if not _is_mention(completion, box):
            return box
    return box


def _is_mention(completion: str, box: Box) -> bool:
    if box.content is None:
        return "{" not in completion[box.start : box.start + len(BOX) + 2]
    return not box.content or box.content in PLACEHOLDERS


def _outermost(completion: str, last: int, end: int) -> int:
    """Where the outermost closed box around that from `last` to `end` starts, or `last`. One pass around it."""
    if completion.find("}", end, end + LONGEST) < 0:
        return last
    closing = depth = 0  # braces closed behind the box that were opened before it
    for brace in BRACE.finditer(completion, end, end + LONGEST):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth < 0:
            closing, depth = closing + 1, 0
    start = last
    if closing:
        first = max(completion.rfind("</think>", 0, last), last - LONGEST, 0)
        for brace in reversed(list(BRACE.finditer(completion, first, last))):
            depth += {"{": -1, "}": 1}.get(brace[0], 0)
            if depth < 0:
                closing, depth = closing - 1, 0
                before = completion[max(brace.start() - 8, first) : brace.start()].rstrip()
                if before.endswith((BOX, FRAME)):
                    start = brace.start() - len(completion[max(brace.start() - 8, first) : brace.start()])
                    start += max(before.rfind(BOX), before.rfind(FRAME))
                if not closing:
                    break
    return start


def _is_thinking(completion: str, position: int) -> bool:
    if completion.find("</think>", position) >= 0:
        return True
    closed = completion.rfind("</think>", 0, position)
    return completion.find("<think>", max(closed, 0), position) >= 0


def _box(completion: str, start: int) -> Box:
    position = start + (len(FRAME) if completion.startswith(FRAME, start) else len(BOX))
    opening = position
    if completion[position : position + 1] != "{":
        opening = completion.find("{", position, position + 3)
        if opening < 0 or completion[position:opening].strip():
            bare = BARE.match(completion, position)
            if bare is None or completion[position : position + 1].isalpha():
                return Box(start, None, None)
            return Box(start, bare[1], bare.end())
    if shallow := SHALLOW.match(completion, opening, opening + LONGEST):
        return Box(start, shallow[1].strip(), shallow.end())
    depth = 0
    for brace in BRACE.finditer(completion, opening, opening + LONGEST):
        sign = brace[0]
        depth += (sign == "{") - (sign == "}")
        if depth == 0 and sign == "}":
            return Box(start, completion[opening + 1 : brace.start()].strip(), brace.end())
    return Box(start, None, None)
