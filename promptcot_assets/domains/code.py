"""Programming problems judged by tests on standard input: Codeforces seeds, LiveCodeBench."""

from __future__ import annotations

from promptcot_assets.domains.domain import Answers
from promptcot_assets.domains.published import PublishedPrompts


class Code(PublishedPrompts):
    name = "code"
    answers: Answers = "program"

    what, kind = "coding problem", "programming "
    instruction = (
        "Write a Python program that reads standard input and writes the answer to standard output. "
        "Put the program in one ```python block."
    )

    def defect(self, problem: str) -> str | None:
        missing = [part for part in ("input", "output") if part not in problem.lower()]
        return f"says nothing of its {' or '.join(missing)}" if missing else None
