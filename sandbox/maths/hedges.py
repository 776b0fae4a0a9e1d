"""What may stand between two boxes that are offered as one answer, and what a box holds that only speaks of boxes."""

from __future__ import annotations

import re

WORDS = set(
    """
and or either else also maybe perhaps possibly probably alternatively alternately otherwise equivalently rather
instead the a answer answers is are it its be could can may might another other second option solution value final
here respectively oder und ou et o y e ó и или либо 或 或者 和 及 与 または もしくは と 또는 혹은 와 과 أو और
या veya ve atau dan hoặc hay và eller och of en lub albo i czy nebo alebo vagy és sau și או vel aut sive oppure tai ili
або чи же ή หรือ अथवा 或是 bzw beziehungsweise bien también vs versus xor equally likely less more most
""".split()  # noqa: SIM905
)
COMMANDS = set(
    """
text textbf mathrm mbox quad qquad lor vee land wedge cup mid left right big Big ldots dots or and
""".split()  # noqa: SIM905
)
OR_ELSE = re.compile(  # the sentence of the first box goes on with another one
    r"[\s,;:()$*\\]*+(?:text *\{ *)?"
    r"(?:(?:x?or|oder|ou|o|oppure|или|либо|veya|atau|hoặc|lub|albo|nebo|vagy|alternatively|perhaps|possibly|maybe|unless"
    r"|otherwise|failing|(?:and )?if (?:not|that))\b|或|または|또는|หรือ)[^.!?;=]*",
    re.IGNORECASE,
)
PIECE = re.compile(r"\\([a-zA-Z]+|.)|((?:[^\W\d_]|[\u0900-\u0dff\u0e00-\u0e7f])+)|(\d)|.", re.DOTALL)
LAYOUT = re.compile(
    r"\n *(?:-{3,}|[-*+]|\d\d?[.)])|<\w{1,9} ?/?>|\\[hv]space\*?\{[^{}]*\}"
    r"|\b(?:option|answer|solution|choice|possibility|candidate|guess) ?#?(?:\d|[A-E])\b",
    re.IGNORECASE,
)
NO_HEDGE = {"=", "≈", "+", "-", "<", ">", "^", "_"}  # a formula goes on from box to box

PLACEHOLDERS = {
    "...", "…", r"\ldots", r"\dots", r"\cdots", r"\cdot", r"\square", "?", "{}", r"\text{}", r"\text{...}", "answer",
    "ANSWER", "the answer", "your answer", "final answer", "your final answer", r"\text{answer}", r"\text{ANSWER}",
    r"\text{your answer}", r"\text{final answer}",
}  # fmt: skip


def offers_another(between: str) -> bool:
    """Whether the text between two boxes makes the second another answer beside the first: marks, `or`, `possibly`."""
    if OR_ELSE.fullmatch(between):
        return True
    for match in PIECE.finditer(LAYOUT.sub(" ", between)):
        command, word, digit = match.groups()
        if digit or match[0] in NO_HEDGE:
            return False
        if command is not None and len(command) > 1 and command not in COMMANDS:
            return False
        if word is not None and word.lower() not in WORDS:
            return False
    return True
