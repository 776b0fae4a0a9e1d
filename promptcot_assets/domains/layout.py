"""How concepts, rationales and problems become the text that the models read and write.

The block markers are those of the published generator (method section 1); every domain and profile uses them. Here
stands no domain knowledge: prompts that differ by domain are in the domain's own file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

BEGIN_RATIONALE, END_RATIONALE = "<!-- BEGIN RATIONALE -->", "<!-- END RATIONALE -->"
BEGIN_PROBLEM, END_PROBLEM = "<!-- BEGIN PROBLEM -->", "<!-- END PROBLEM -->"
BEGIN_THINK, END_THINK = "<think>", "</think>"
MARKERS = (BEGIN_RATIONALE, END_RATIONALE, BEGIN_PROBLEM, END_PROBLEM)
TOKENIZER_MARKERS = (*MARKERS, BEGIN_THINK, END_THINK, "\\boxed{", "```python")


@dataclass(frozen=True)
class Block:
    """A generator's completion, split at the markers. `drop_reason` says why there is no problem."""

    rationale: str | None
    problem: str | None
    drop_reason: str | None


def rationale_block(rationale: str) -> str:
    return f"{BEGIN_RATIONALE}{rationale}{END_RATIONALE}"


def problem_block(problem: str) -> str:
    return f"{BEGIN_PROBLEM}{problem}{END_PROBLEM}"


def generator_completion(rationale: str, problem: str) -> str:
    """What p(z, x | c) writes."""
    return rationale_block(rationale) + problem_block(problem)


def has_marker(text: str) -> bool:
    return any(marker in text for marker in MARKERS)


def parse_completion(completion: str, finished: bool) -> Block:
    """Split a generator's completion into its two blocks; each must appear once, in order, and be non-empty."""
    if not finished:
        return Block(None, None, "cut off at the token limit")
    rationale, reason = _between(completion, BEGIN_RATIONALE, END_RATIONALE)
    if reason:
        return Block(None, None, f"rationale block {reason}")
    problem, reason = _between(completion, BEGIN_PROBLEM, END_PROBLEM)
    if reason:
        return Block(rationale, None, f"problem block {reason}")
    if completion.index(BEGIN_PROBLEM) < completion.index(BEGIN_RATIONALE):
        return Block(rationale, None, "problem block before the rationale")
    return Block(rationale, problem, None)


def _between(text: str, begin: str, end: str) -> tuple[str | None, str | None]:
    if text.count(begin) != 1 or text.count(end) != 1:
        return None, "missing" if begin not in text or end not in text else "more than once"
    if text.index(end) < text.index(begin):
        return None, "ends before it begins"
    inside = text.partition(begin)[2].partition(end)[0].strip()
    if not inside:
        return None, "empty"
    return (None, "contains a marker") if has_marker(inside) else (inside, None)


def numbered(concepts: Sequence[str]) -> str:
    """Concepts as the published prompt lists them."""
    return "\n".join(f"{i}. {concept}" for i, concept in enumerate(concepts, 1))


def solution_text(thoughts: str, remainder: str) -> str:
    """A reasoning trace in the form every student here is trained on and every grader reads."""
    return f"{BEGIN_THINK}{thoughts}{END_THINK}{remainder}"
