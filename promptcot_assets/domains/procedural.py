"""What the procedural domains share: compact prompts for tiny models, and drawing seeds, held-out set and benchmark.

Seeds and held-out problems use the same 60 % of a world's concept sets; the benchmark and synthesis use all of them,
so a student is also asked what no seed showed.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence

from promptcot_assets.domains.annotators import style_of
from promptcot_assets.domains.domain import Attempt, ProceduralSeeds, Seed
from promptcot_assets.domains.layout import BEGIN_RATIONALE

SHARE_OF_SEEN_CONCEPT_SETS = 0.6
MOST_REPEATS = 10_000  # known texts in a row after which a world counts as exhausted


class ProceduralWorld(ABC):
    """Implements `ProceduralDomain` but for the world itself."""

    name: str

    @abstractmethod
    def concept_sets(self) -> list[list[str]]:
        """Every concept set of the world, in the order its writer takes them."""

    @abstractmethod
    def write(self, concepts: Sequence[str], rng: random.Random) -> str:
        """One well-posed problem on these concepts."""

    @abstractmethod
    def seed(self, text: str, concepts: list[str], annotator: str, rng: random.Random) -> Seed:
        """The problem with its reference and one annotator's rationale."""

    @abstractmethod
    def teach(self, problem: str, error: float, rng: random.Random) -> Attempt:
        """A noisy teacher that reads the text only."""

    def shuffled(self, concepts: list[str], rng: random.Random) -> list[str]:
        """The concepts in another order that means the same, where the world has one."""
        return concepts

    def worked_example(self, problem: str) -> dict[str, str] | None:
        """The test that a statement carries itself; most worlds have none."""
        return None

    def with_worked_example(self, problem: str, expected: str) -> str | None:
        return None

    def generator_prompt(self, concepts: Sequence[str], level: str) -> str:
        return f"Concepts: {'; '.join(concepts)}\nLevel: {level}\n"

    def rationale_prompt(self, concepts: Sequence[str], level: str, problem: str) -> str:
        return f"{self.generator_prompt(concepts, level)}Problem: {problem}\n{BEGIN_RATIONALE}"

    def solve_prompt(self, problem: str) -> str:
        return f"Problem: {problem}\nSolution:"

    def style(self, rationale: str) -> str:
        return style_of(rationale)

    def write_seeds(self, count: int, held_out: int, annotators: dict[str, float], seed: int) -> ProceduralSeeds:
        every = self.concept_sets()
        random.Random(f"{self.name} concept sets {seed}").shuffle(every)
        seen = every[: round(SHARE_OF_SEEN_CONCEPT_SETS * len(every))]
        rng = random.Random(f"{self.name} seeds {seed}")
        used: set[str] = set()
        drawn = [self._draw(seen, annotators, used, rng) for _ in range(count + held_out)]
        return ProceduralSeeds(train=drawn[held_out:], held_out=drawn[:held_out])

    def write_benchmark(self, count: int, seed: int, avoid: set[str]) -> list[Seed]:
        rng = random.Random(f"{self.name} benchmark {seed}")
        used = set(avoid)
        return [self._draw(self.concept_sets(), {"planner": 1}, used, rng) for _ in range(count)]

    def _draw(self, pool: list[list[str]], annotators: dict[str, float], used: set[str], rng: random.Random) -> Seed:
        """One problem whose text is not used yet. Raises: ValueError when the world seems to have no more."""
        for _ in range(MOST_REPEATS):
            concepts = self.shuffled(list(rng.choice(pool)), rng)
            text = self.write(concepts, rng)
            if text not in used:
                used.add(text)
                annotator = rng.choices(list(annotators), list(annotators.values()))[0]
                return self.seed(text, concepts, annotator, rng)
        raise ValueError(
            f"{self.name} has no new problem after {len(used)}: "
            f"lower seeds, held_out or benchmark of corpus.procedural.{self.name}"
        )


def level_of(concepts: Sequence[str]) -> str:
    return "hard" if len(concepts) > 2 else "easy"
