"""Mathematics problems with an answer in a box: competition seeds, AIME, HMMT, GSM8K."""

from __future__ import annotations

import re

from promptcot_assets.domains.domain import Answers
from promptcot_assets.domains.published import PublishedPrompts

FIGURE = re.compile(
    r"\[asy\]|\\includegraphics|(?:figure|diagram|graph|table) (?:below|above|shown)|shown (?:below|above)", re.I
)
DOLLAR = re.compile(r"(?<!\\)\$")  # begins or ends a formula; an escaped one is money


class Maths(PublishedPrompts):
    name = "maths"
    answers: Answers = "maths"

    what, kind = "question", ""
    instruction = "Please reason step by step, and put your final answer within \\boxed{}."

    def defect(self, problem: str) -> str | None:
        if len(DOLLAR.findall(problem)) % 2 or not problem.rstrip().endswith((".", "?", "$", "]", ")", "!", "}")):
            return "truncated"
        return "refers to a figure it does not have" if FIGURE.search(problem) else None
