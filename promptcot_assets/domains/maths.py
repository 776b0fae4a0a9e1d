"""Mathematics problems with an answer in a box: competition seeds, AIME, HMMT, GSM8K."""

from __future__ import annotations

import re

from promptcot_assets.domains.domain import Answers
from promptcot_assets.domains.published import PublishedPrompts

FIGURE = re.compile(
    r"\[asy\]|\\includegraphics|(?:figure|diagram|graph|table) (?:below|above|shown)|shown (?:below|above)", re.I
)
PROOF = re.compile(r"(?:^|[.!?$]\s+)(?:prove|show) that\b", re.I)
ASKS = re.compile(
    r"\?|\b(?:answer|calculate|choose|complete|compute|convert|count|derive|determine|enter|estimate|evaluate|expand|"
    r"express|factor|find|give|how|identify|list|name|rationalize|report|round|select|simplify|solve|state|what|which|"
    r"write)\b",
    re.I,
)
DOLLAR = re.compile(r"(?<!\\)\$")  # begins or ends a formula; an escaped one is money
MONEY = re.compile(r"\$\d[\d,.]*(?=[\s,.;:?!)]|$)")  # or the start of a formula: a text is sound if either reading is


class Maths(PublishedPrompts):
    name = "maths"
    answers: Answers = "maths"

    what, kind = "question", ""
    instruction = "Please reason step by step, and put your final answer within \\boxed{}."

    def defect(self, problem: str) -> str | None:
        open_formula = all(len(DOLLAR.findall(text)) % 2 for text in (problem, MONEY.sub("", problem)))
        if open_formula or not problem.rstrip().endswith((".", "?", "$", "]", ")", "!", "}")):
            return "truncated"
        if FIGURE.search(problem):
            return "refers to a figure it does not have"
        if not ASKS.search(problem):  # nor can a proof be put in a box
            return "asks for a proof" if PROOF.search(problem) else "asks nothing"
        return None
