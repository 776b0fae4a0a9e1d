"""Reports as plain text (tables, trees) and as JSON."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import json
import math
import textwrap
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CELL = 60


@dataclass
class Branch:
    """A node of a printed tree."""

    label: str
    children: list[Branch] = field(default_factory=list)


def tree(root: Branch) -> str:
    """One node a line, children below their parent."""
    return "\n".join([root.label, *_below(root, "")])


def _below(branch: Branch, indent: str) -> Iterator[str]:
    for at, child in enumerate(branch.children, 1):
        is_last = at == len(branch.children)
        yield f"{indent}{'└─ ' if is_last else '├─ '}{child.label}"
        yield from _below(child, indent + ("   " if is_last else "│  "))


def table(names: Sequence[str], rows: Iterable[Sequence[object]], cell: int = CELL) -> str:
    """Aligned columns under their names, numbers to the right; longer cells end in an ellipsis."""
    given = [tuple(row) for row in rows]
    texts = [[short(value, cell) for value in row] for row in given]
    widths = [max(map(len, column)) for column in zip(names, *texts, strict=True)]
    right = [bool(given) and all(_is_number(row[at]) or row[at] is None for row in given) for at in range(len(names))]

    def line(cells: Sequence[str]) -> str:
        aligned = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right, strict=True))
        return "  ".join(aligned).rstrip()

    return "\n".join([line(names), "  ".join("─" * width for width in widths), *map(line, texts)])


def record(names: Sequence[str], row: Sequence[object]) -> str:
    """One row whole: short values beside their names, long texts below them, to their end.

    What a model wrote cannot steer the terminal: control characters are shown as escapes.
    """
    lines = []
    for name, value in zip(names, row, strict=True):
        text = "" if value is None else value if isinstance(value, str) else str(_plain(value))
        shown = printable(text)
        below = "\n" in shown or len(shown) > CELL
        lines.append(f"{name}:\n{textwrap.indent(shown, '  ')}\n" if below else f"{name}: {shown}")
    return "\n".join(lines)


def printable(text: str) -> str:
    """A text with its lines, and with escapes for what steers a terminal or is no Unicode."""
    return "".join(c if c in "\n\t" or c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def short(value: object, length: int = CELL) -> str:
    """A value on one line of at most `length` characters."""
    if isinstance(value, float):
        return f"{value:.6g}"
    text = "" if value is None else value if isinstance(value, str) else str(_plain(value))
    text = "".join(c if c.isprintable() else " " for c in " ".join(text.split()))
    return text if len(text) <= length else text[: length - 1] + "…"


def to_json(value: Any) -> str:
    """One JSON document. Times are ISO 8601, paths their text; NaN and infinity, which JSON lacks, are null. What is
    no Unicode, as half of a pair in somebody's file, is written as its escape."""
    text = json.dumps(_plain(value), indent=1, ensure_ascii=False, allow_nan=False)
    return text.encode(errors="backslashreplace").decode()


def _plain(value: Any) -> Any:
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case decimal.Decimal():
            return _plain(float(value))
        case datetime.datetime() | datetime.date() | datetime.time():
            return value.isoformat()
        case dict():
            return {str(key): _plain(one) for key, one in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(one) for one in value]
        case bytes():
            return value.hex()
        case Path() | uuid.UUID() | datetime.timedelta():
            return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain({one.name: getattr(value, one.name) for one in dataclasses.fields(value)})
    raise TypeError(f"no JSON for a {type(value).__name__}: {value!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | decimal.Decimal) and not isinstance(value, bool)
