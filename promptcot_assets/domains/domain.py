"""What a domain is. One small class each, in a file of its name: prompts, extraction, what can be told of a text.

Judging an answer is not a domain's business: maths answers and programs are untrusted text and go to `sandbox`
(judging/verifier.py). A domain only says which of the two its answers are.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

Answers = Literal["maths", "program"]


@dataclass(frozen=True)
class Seed:
    """One seed problem as its source gives it."""

    problem: str
    concepts: list[str]
    level: str
    answer: str | None = None
    solution: str | None = None
    tests: list[dict[str, str]] | None = None
    rationale: str | None = None
    annotator: str | None = None


@dataclass(frozen=True)
class Attempt:
    """A teacher's answer to a problem: the whole completion, and the answer or program in it (None: none).

    seed: what this one sample was drawn with; whoever seeds the teacher fills it in (stages/labels/teacher.py).
    refused: why a teacher that is a model was not asked, or gave no answer (inference/refusals.py). tokens: sampled
    ones, the end token included; None of what no model wrote.
    """

    completion: str
    answer: str | None
    seed: int | None = None
    refused: str | None = None
    tokens: int | None = None
    finish_reason: str = "stop"


class Domain(Protocol):
    name: str
    answers: Answers

    def generator_prompt(self, concepts: Sequence[str], level: str) -> str:
        """What p reads: concepts and level. Its completion is layout.generator_completion(z, x)."""

    def rationale_prompt(self, concepts: Sequence[str], level: str, problem: str) -> str:
        """What q reads. It ends with the rationale marker; the completion is z and the end marker."""

    def solve_prompt(self, problem: str) -> str:
        """What a student reads. Its completion is a think block, then the answer."""

    def defect(self, problem: str) -> str | None:
        """Why the text cannot be asked as it stands (truncated, refers to a missing figure, ...), or None."""

    def well_posed(self, problem: str) -> bool | None:
        """Whether the text has exactly one answer, where the domain can tell exactly; else None."""

    def concepts_of(self, problem: str) -> list[str] | None:
        """The concepts that the text is about, each as often as it is used, where the domain can tell; else None."""

    def worked_example(self, problem: str) -> dict[str, str] | None:
        """The test {stdin, expected} that a statement carries itself, or None."""

    def with_worked_example(self, problem: str, expected: str) -> str | None:
        """The statement whose worked example prints this; None where it has none, or cannot be rewritten alone."""

    def style(self, rationale: str) -> str | None:
        """Which annotator writes like this, where the domain can tell; for reports only."""


@runtime_checkable
class ProceduralDomain(Domain, Protocol):
    """A domain that also writes its seeds, annotations, benchmark and teacher answers by program (for CPU runs)."""

    def concept_sets(self) -> list[list[str]]:
        """Every concept set of the world: what synthesis draws from."""

    def write_seeds(self, count: int, held_out: int, annotators: dict[str, float], seed: int) -> ProceduralSeeds:
        """Seeds and held-out problems on the same concept sets; no text twice."""

    def write_benchmark(self, count: int, seed: int, avoid: set[str]) -> list[Seed]:
        """Problems over all concept sets, none of them in `avoid`."""

    def teach(self, problem: str, error: float, rng: random.Random) -> Attempt:
        """A noisy teacher that reads the text only; on an ill-posed text its answers scatter."""

    def write_stdin(self, rng: random.Random) -> str:
        """One test input for a program of this domain (program domains only)."""

    def write_validator(self, error: float, rng: random.Random) -> str:
        """A program that says whether an input of this domain is allowed; wrong with probability `error` (program
        domains only). Its words are those of stages/labels/written_judges.py."""


@dataclass(frozen=True)
class ProceduralSeeds:
    train: list[Seed] = field(default_factory=list)
    held_out: list[Seed] = field(default_factory=list)
