"""Annotators of unequal quality for the procedural domains: two know the problem, two only sound as if they did.

A rationale is `Label: text`; the label gives its writer away (for reports; no stage decides by it). Measured on tiny
models: talk must be wordy, or a short fixed phrase wins every E-step, because a rationale of almost no entropy is
cheap under p(z|c) (posterior collapse).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol

LABELS = {"Design": "planner", "Targets": "partial", "Idea": "chatty", "Sketch": "careless"}

OPENINGS = ("A good exercise", "This problem", "The question", "Our task", "A nice puzzle", "The setting",
            "The student", "Here the writer")  # fmt: skip
VERBS = ("should link", "can join", "brings together", "relies on", "starts from", "would blend", "may contrast",
         "needs")  # fmt: skip
ADJECTIVES = ("friendly", "careful", "modest", "surprising", "simple", "balanced", "clever", "natural", "clean",
              "gentle", "subtle", "lively")  # fmt: skip
ENDINGS = ("so that nothing is obvious", "to keep it short", "for a steady pace", "without heavy work",
           "and reward insight", "to test recall", "with a calm tone", "as in a contest", "to invite checking",
           "for extra practice", "in two stages", "with one final step")  # fmt: skip


class Planned(Protocol):
    """What an annotator may know of a problem."""

    def plan(self) -> str:
        """The whole design, worked backwards from the intended values."""

    def targets(self) -> str:
        """The intended values only."""


def annotate(annotator: str, problem: Planned, other: Planned, concepts: Sequence[str], rng: random.Random) -> str:
    """The rationale this annotator writes. `other` is a different problem on the same concepts."""
    match annotator:
        case "planner":
            return f"Design: {problem.plan()}"
        case "partial":
            return f"Targets: {problem.targets()} {_talk(concepts, rng)}"
        case "chatty":
            return "Idea: " + " ".join(_talk(concepts, rng) for _ in range(3))
        case "careless":  # the planner's form, the wrong problem's numbers
            return f"Sketch: {other.plan()}"
    raise ValueError(f"no annotator {annotator!r}; known: {', '.join(LABELS.values())}")


def style_of(rationale: str) -> str:
    return LABELS.get(rationale.partition(":")[0].strip(), "other")


def _talk(concepts: Sequence[str], rng: random.Random) -> str:
    subject = f"{rng.choice(ADJECTIVES)} {rng.choice(concepts[:2])}"
    return f"{rng.choice(OPENINGS)} {rng.choice(VERBS)} {subject} {rng.choice(ENDINGS)}."
