"""The literal tables of this folder, as rows.

A table is lines of `reference ;; answer ;; same or differ`, under headings `## kind | why | source` that hold for all
rows up to the next; source is a public place where answers of the kind are from, or empty.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent


class Row(NamedTuple):
    reference: str
    answer: str
    same: bool
    kind: str
    why: str
    source: str


def rows(name: str) -> list[Row]:
    found, kind, why, source = [], "", "", ""
    for line in (FOLDER / name).read_text().splitlines():
        if line.startswith("## "):
            kind, why, source = (part.strip() for part in line.removeprefix("## ").split(" | "))
        elif line.strip():
            reference, answer, verdict = (part.strip() for part in line.split(" ;; "))
            assert verdict in ("same", "differ") and kind and why, line
            found.append(Row(reference, answer.replace("⏎", "\n"), verdict == "same", kind, why, source))
    return found
