"""What the domains of the paper share: the published generator's prompt, and our layout of the other two."""

from __future__ import annotations

from collections.abc import Sequence

from promptcot_assets.domains.layout import BEGIN_RATIONALE, numbered


class PublishedPrompts:
    """Prompts of a domain that differ only in three phrases. Nothing can be told of a text exactly."""

    what: str  # that the generator develops: "question", "coding problem"
    kind: str  # of concepts: "", "programming "
    instruction: str  # that a student's prompt ends with

    def generator_prompt(self, concepts: Sequence[str], level: str) -> str:
        """The published prompt of the generator (method section 1): numbered concepts, then the level."""
        return (
            f"Given foundational {self.kind}concepts and difficulty level, identify connections and develop a "
            f"{self.what} that integrates these concepts with appropriate complexity.\n\n"
            f"Foundational {self.kind.title()}Concepts:\n{numbered(concepts)}\n\nDifficulty Level: {level}\n\n"
        )

    def rationale_prompt(self, concepts: Sequence[str], level: str, problem: str) -> str:
        """Our choice of q's layout: what p reads, then the problem."""
        return f"{self.generator_prompt(concepts, level)}Problem:\n{problem}\n\n{BEGIN_RATIONALE}"

    def solve_prompt(self, problem: str) -> str:
        return f"{problem}\n{self.instruction}\n"

    def well_posed(self, problem: str) -> None:
        return None

    def concepts_of(self, problem: str) -> None:
        return None

    def worked_example(self, problem: str) -> dict[str, str] | None:
        return None

    def with_worked_example(self, problem: str, expected: str) -> str | None:
        return None

    def style(self, rationale: str) -> None:
        return None
