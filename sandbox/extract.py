r"""The program of a completion: the last block of Python between fences, after the thinking. Nothing without fences.

A fence is three or more backticks or tildes, and what follows the first one says the language: `python`, `Python3`,
`py`, `pypy3.10`, `{.python}`, `python title="a.py"`. A block that says nothing counts where no block says Python, if it
looks like Python at all: most others are sample inputs and outputs. A block ends at its fence, but not at one that
stands in a string or a comment of the program. Linear in the completion's length, whatever it holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

BEGIN_THINK, END_THINK = "<think>", "</think>"
LONGEST_FENCE = 8  # longer ones are taken for one of so many: few lengths, few searches

# at the start of a line, behind the marks of a quote or a list; or, with a plain name of Python, anywhere in it
OPENING = re.compile(
    r"^(?P<mark>[ \t>]*+(?:(?:[-*+]|\d{1,3}[.)])[ \t]++)?)(?P<fence>`{3,}+(?=[^`\n]*$)|~{3,}+)(?P<info>[^\n]*)$"
    r"|(?<!`)(?P<inline>`{3,}+)(?P<name>[ \t]*+(?:python|pypy|py)[\d.]*+[ \t]*+\r?)$",
    re.M | re.I,
)
PYTHON = re.compile(r"[ \t]*\{?[ \t]*\.?(?:[ci]?python|pypy|py)[ -]?[\d.]*(?![\w+#-])", re.I)
SAYS_NOTHING = re.compile(r"\s*")
HOLDS_BLOCKS = re.compile(r"[ \t]*(?:markdown|mdx?)\b", re.I)  # all of the answer, in a block of its own
LOOKS_LIKE_PYTHON = re.compile(
    r"^[ \t>]*+(?:import[ \t]+\w|from[ \t]+[\w.]+[ \t]+import\b|(?:async[ \t]+)?def[ \t]+\w|class[ \t]+\w)"
    r"|\b(?:print|write|exec|input)[ \t]*\(",
    re.M,
)
# in Python: strings of three quotes, other strings and comments, where a fence ends nothing; and fences
IN_PYTHON = re.compile(
    r"(?P<long>\"\"\"|''')|\"(?:\\[^\n]|[^\"\\\n])*+\"?|'(?:\\[^\n]|[^'\\\n])*+'?|\#[^\n]*"
    r"|(?P<ticks>`{3,}+)|^[ \t>]*+(?P<tildes>~{3,}+)(?=[ \t\r]*$)",
    re.M,
)
IN_OTHERS = re.compile(r"^[ \t>]*+(?:(?P<ticks>`{3,}+)|(?P<tildes>~{3,}+))", re.M)
LONG_END = {quotes: re.compile(rf"\\.|{quotes}", re.DOTALL) for quotes in ('"""', "'''")}


def extract_program(completion: str) -> str | None:
    """The program's text, or None: no block of Python, an empty or never closed one, or a think block that is open."""
    if BEGIN_THINK in completion and END_THINK not in completion:
        return None
    named: str | None = None
    nameless: str | None = None
    for info, code in _blocks(completion.rpartition(END_THINK)[2].partition(BEGIN_THINK)[0]):
        if PYTHON.match(info):
            named = code
        elif LOOKS_LIKE_PYTHON.search(code):
            nameless = code
    program = nameless if named is None else named
    return program.rstrip() if program and program.strip() else None


def _blocks(text: str) -> Iterator[tuple[str, str]]:
    """(what its fence says, its text) of every closed block that may hold Python, in order."""
    position = 0
    endless: set[str] = set()  # fences and quotes that nothing closes from here on: never looked for again
    while opening := OPENING.search(text, position):
        position = opening.end()
        fence, info = opening["fence"] or opening["inline"], opening["info"] or opening["name"] or ""
        fence = fence[:LONGEST_FENCE]
        if HOLDS_BLOCKS.match(info) or fence in endless:
            continue
        is_python = bool(PYTHON.match(info) or SAYS_NOTHING.fullmatch(info))
        closing = _closing(text, position, fence, is_python, endless)
        if closing is None:
            endless.add(fence)
            continue
        if is_python:
            yield info, _unmarked(text[position + 1 : closing[0]], opening["mark"] or "")
        line_end = text.find("\n", closing[1])
        says = text[closing[1] : line_end if line_end >= 0 else len(text)]
        position = closing[0] if PYTHON.match(says) else closing[1]  # a block that is closed by the next one's fence


def _closing(text: str, start: int, fence: str, is_python: bool, endless: set[str]) -> tuple[int, int] | None:
    """Start and end of the fence that closes the block."""
    position, kind = start, "ticks" if fence[0] == "`" else "tildes"
    pattern = IN_PYTHON if is_python else IN_OTHERS
    while found := pattern.search(text, position):
        position = found.end()
        if found[kind] and len(found[kind]) >= len(fence):
            return found.span(kind)
        if is_python and found["long"] and found["long"] not in endless:
            end = _long_end(text, position, found["long"])
            if end is None:
                endless.add(found["long"])  # never closed: the program is broken, its block need not be
            else:
                position = end
    return None


def _long_end(text: str, position: int, quotes: str) -> int | None:
    """Behind the quotes that close a string; escaped ones do not."""
    return next((found.end() for found in LONG_END[quotes].finditer(text, position) if found[0] == quotes), None)


def _unmarked(code: str, mark: str) -> str:
    """Without what stands before every line: the marks of a quote, and the indentation of the first statement."""
    lines = code.split("\n")
    if ">" in mark:
        quote = re.compile(rf"(?:[ \t]*+>){{1,{mark.count('>')}}} ?")
        lines = [quote.sub("", line, count=1) if quote.match(line) else line for line in lines]
    first = next((line for line in lines if line.strip() and not line.lstrip().startswith("#")), "")
    indent = first[: len(first) - len(first.lstrip(" \t"))]
    return "\n".join(line.removeprefix(indent) for line in lines)
