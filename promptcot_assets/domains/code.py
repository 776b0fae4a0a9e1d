"""Programming problems judged by tests on standard input: Codeforces seeds, LiveCodeBench."""

from __future__ import annotations

from collections.abc import Sequence

from promptcot_assets.domains.domain import Answers
from promptcot_assets.domains.layout import BEGIN_RATIONALE, numbered

INSTRUCTION = (
    "Write a Python program that reads standard input and writes the answer to standard output. "
    "Put the program in one ```python block."
)


class Code:
    name = "code"
    answers: Answers = "program"

    def generator_prompt(self, concepts: Sequence[str], level: str) -> str:
        """The published prompt of the generator (method section 1)."""
        return (
            "Given foundational programming concepts and difficulty level, identify connections and develop a coding "
            "problem that integrates these concepts with appropriate complexity.\n\n"
            f"Foundational Programming Concepts:\n{numbered(concepts)}\n\nDifficulty Level: {level}\n\n"
        )

    def rationale_prompt(self, concepts: Sequence[str], level: str, problem: str) -> str:
        """Our choice of q's layout: what p reads, then the problem."""
        return f"{self.generator_prompt(concepts, level)}Problem:\n{problem}\n\n{BEGIN_RATIONALE}"

    def solve_prompt(self, problem: str) -> str:
        return f"{problem}\n{INSTRUCTION}\n"

    def defect(self, problem: str) -> str | None:
        missing = [part for part in ("input", "output") if part not in problem.lower()]
        return f"says nothing of its {' or '.join(missing)}" if missing else None

    def well_posed(self, problem: str) -> None:
        return None

    def style(self, rationale: str) -> None:
        return None
