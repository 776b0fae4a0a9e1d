"""Mutants of a program: copies with one operator or constant changed, for what a set of tests fails to notice.

Made token by token, so that an untrusted program is never parsed, let alone compiled, outside the sandbox (Python's own
parser can be crashed by its input). Some mutants compute the same as the program they come from: the best possible
score is often below 1.
"""

from __future__ import annotations

import io
import keyword
import random
import tokenize
from collections.abc import Iterator
from tokenize import TokenInfo

SWAPS = {
    "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==",
    "+": "-", "-": "+", "*": "+", "/": "*", "//": "*", "%": "+",
    "and": "or", "or": "and", "True": "False", "False": "True", "min": "max", "max": "min",
}  # fmt: skip
ARITHMETIC = {"+", "-", "*", "/", "//", "%"}  # only between two operands: `-x` and `f(*args)` stay
CALLED = {"min", "max"}
LAYOUT = {tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.COMMENT, tokenize.ENCODING}


def mutants(program: str, count: int, seed: int) -> list[str]:
    """At most `count` mutants of `program`, drawn without replacement; fewer, or none, where it offers fewer places."""
    places = list(_places(program))
    drawn = random.Random(seed).sample(places, min(count, len(places)))
    lines = list(io.StringIO(program))  # as the tokenizer counts them
    return [_changed(lines, token, text) for token, text in drawn]


def _places(program: str) -> Iterator[tuple[TokenInfo, str]]:
    """Every token that can be changed, with what comes in its place."""
    tokens = [token for token in _tokens(program) if token.type not in LAYOUT]
    for before, token, after in zip([None, *tokens], tokens, [*tokens[1:], None], strict=False):
        text = token.string
        if token.type == tokenize.NUMBER:
            if text.isdecimal():
                yield token, str(int(text) + 1) if len(text) < 20 else text[:-1]
        elif (
            text not in SWAPS
            or (text in ARITHMETIC and not _ends_operand(before))
            or (text in CALLED and (after is None or after.string != "("))
        ):
            continue
        elif token.type in (tokenize.OP, tokenize.NAME):
            yield token, SWAPS[text]


def _tokens(program: str) -> Iterator[TokenInfo]:
    """The tokens up to where the program stops being Python."""
    try:
        yield from tokenize.generate_tokens(io.StringIO(program).readline)
    except (tokenize.TokenError, SyntaxError):
        return


def _ends_operand(token: TokenInfo | None) -> bool:
    if token is None or token.type == tokenize.STRING:  # `"%d" % n` formats, it does not compute
        return False
    is_name = token.type == tokenize.NAME and not keyword.iskeyword(token.string)
    return is_name or token.type == tokenize.NUMBER or token.string in (")", "]")


def _changed(lines: list[str], token: TokenInfo, text: str) -> str:
    (row, start), (_, end) = token.start, token.end
    line = lines[row - 1]
    return "".join([*lines[: row - 1], line[:start] + text + line[end:], *lines[row:]])
