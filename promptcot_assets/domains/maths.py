"""Mathematics problems with an answer in a box: competition seeds, AIME, HMMT, GSM8K."""

from __future__ import annotations

import re
from collections.abc import Sequence

from promptcot_assets.domains.domain import Answers
from promptcot_assets.domains.layout import BEGIN_RATIONALE, numbered

INSTRUCTION = "Please reason step by step, and put your final answer within \\boxed{}."
FIGURE = re.compile(
    r"\[asy\]|\\includegraphics|(?:figure|diagram|graph|table) (?:below|above|shown)|shown (?:below|above)", re.I
)
DOLLAR = re.compile(r"(?<!\\)\$")  # begins or ends a formula; an escaped one is money


class Maths:
    name = "maths"
    answers: Answers = "maths"

    def generator_prompt(self, concepts: Sequence[str], level: str) -> str:
        """The published prompt of the generator (method section 1)."""
        return (
            "Given foundational concepts and difficulty level, identify connections and develop a question that "
            "integrates these concepts with appropriate complexity.\n\n"
            f"Foundational Concepts:\n{numbered(concepts)}\n\nDifficulty Level: {level}\n\n"
        )

    def rationale_prompt(self, concepts: Sequence[str], level: str, problem: str) -> str:
        """Our choice of q's layout: what p reads, then the problem."""
        return f"{self.generator_prompt(concepts, level)}Problem:\n{problem}\n\n{BEGIN_RATIONALE}"

    def solve_prompt(self, problem: str) -> str:
        return f"{problem}\n{INSTRUCTION}\n"

    def defect(self, problem: str) -> str | None:
        if len(DOLLAR.findall(problem)) % 2 or not problem.rstrip().endswith((".", "?", "$", "]", ")", "!", "}")):
            return "truncated"
        return "refers to a figure it does not have" if FIGURE.search(problem) else None

    def well_posed(self, problem: str) -> None:
        return None

    def style(self, rationale: str) -> None:
        return None
