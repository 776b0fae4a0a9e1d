"""The final answer of a completion: the last boxed span after the thinking, or nothing. No guessing by last number."""

from __future__ import annotations

import re

BOX = "\\boxed"
LONGEST = 4_000  # characters; a longer "answer" is none
BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
BARE = re.compile(r"\s*([^\s{}$\\][^\s{}$]*)")
BETWEEN = re.compile(r"[\s$,;.]*(?:\\?(?:text|quad|,|;)?\s*\{?\s*(?:and|or)?\s*\}?)[\s$,;.]*")


def extract_answer(completion: str) -> str | None:
    """The inside of the last `\\boxed{...}` after the think block, stripped.

    None when there is none, when it is empty or never closed, or when it stands inside the thinking. Of boxes in a box
    the outer one counts: `\\boxed{7 \\text{ or } \\boxed{8}}` is no 8.
    """
    last = completion.rfind(BOX)
    if last < 0:
        return None
    start = _outermost(completion, last)
    if _is_thinking(completion, start):
        return None
    answer, _ = _inside(completion, start)
    return unboxed(answer) or None if answer else None


def unboxed(answer: str) -> str:
    """The inside, where all of the answer is one box."""
    while answer.startswith(BOX):
        inside, end = _inside(answer, 0)
        if inside is None or end != len(answer):
            break
        answer = inside
    return answer


def is_hedged(completion: str) -> bool:
    """Whether boxes with different contents stand side by side at the end: several answers in the place of one."""
    last = completion.rfind(BOX)
    before = completion.rfind(BOX, 0, last)
    if before < 0:
        return False
    (first, end), (second, _) = _inside(completion, before), _inside(completion, last)
    return end is not None and end <= last and first != second and bool(BETWEEN.fullmatch(completion, end, last))


def _outermost(completion: str, last: int) -> int:
    """Where the outermost closed box around the one at `last` starts, or `last`. One pass over what is around it."""
    _, end = _inside(completion, last)
    if end is None:
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
                before = completion[first : brace.start()].rstrip()
                if before.endswith(BOX):
                    start = first + len(before) - len(BOX)
                if not closing:
                    break
    return start


def _is_thinking(completion: str, position: int) -> bool:
    if completion.find("</think>", position) >= 0:
        return True
    if completion.rfind("</think>", 0, position) >= 0:
        return False
    return completion.find("<think>", 0, position) >= 0


def _inside(completion: str, start: int) -> tuple[str | None, int | None]:
    """The content of the box at `start` and where it ends; (None, None) when it is not closed."""
    position = start + len(BOX)
    if completion[position : position + 1] != "{":
        bare = BARE.match(completion, position)
        if bare is None or completion[position : position + 1].isalpha():
            opening = completion.find("{", position, position + 3)
            if opening < 0 or completion[position:opening].strip():
                return None, None
            position = opening
        else:
            return bare[1].rstrip(".,;"), bare.end()
    depth = 0
    for brace in BRACE.finditer(completion, position, position + LONGEST):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0 and brace[0] == "}":
            return completion[position + 1 : brace.start()].strip(), brace.end()
    return None, None
