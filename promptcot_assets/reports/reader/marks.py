"""What readers think of records: marks, good or bad, with a reason. Kept in a table, so nothing is ever deleted.

Every version of `marks` holds the rows of the one before it and the new ones. Of several marks of one reader on one
row the last counts. Who the reader is, is left to the operating system.
"""

from __future__ import annotations

import fcntl
import os
import pwd
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa

from promptcot_assets.lake import Lake, LakeError, Provenance, Ref, Row
from promptcot_assets.lake.ids import content_id
from promptcot_assets.lineage.history import History
from promptcot_assets.tables import open_lake
from promptcot_assets.tables.marks import MARKS, SCHEMA
from promptcot_assets.text.printing import table

Verdict = Literal["good", "bad"]
VERDICTS: tuple[str, ...] = get_args(Verdict)
LONGEST_REASON = 2_000


def reader() -> str:
    """The operating system's name of who runs this process."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user may have no name
        return str(os.getuid())


def mark(home: Path, ref: Ref, row_id: str, verdict: str, reason: str = "", by: str | None = None) -> Row:
    """Add one mark on a row of `ref` and give it. Raises: LakeError for another verdict or an endless reason."""
    if verdict not in VERDICTS:
        raise LakeError(f"a mark is {' or '.join(VERDICTS)}, not {verdict!r}")
    if len(reason) > LONGEST_REASON:
        raise LakeError(f"the reason has {len(reason):,} characters; {LONGEST_REASON:,} are kept at most")
    lake = open_lake(home)
    with (home / ".marks.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two readers at once must not lose a mark
        before = lake.newest(MARKS)
        rows = _rows(lake, before)
        about = {
            "number": len(rows), "row_id": row_id, "table": ref.asset, "version": str(ref),
            "data_version": ref.data_version, "verdict": verdict, "reason": reason, "reader": by or reader(),
        }  # fmt: skip
        new = {"mark_id": content_id(*about.values()), **about}
        made = Provenance(code_version="1", settings="{}", seed=0, inputs=(before,) if before else ())
        lake.commit(MARKS, [pa.Table.from_pylist([*rows, new], SCHEMA)], SCHEMA, made)
    return new


def marks(home: Path) -> list[Row]:
    """Every mark, oldest first. Raises: LakeError when there is no lake."""
    History(home)  # says so when there is none; `open_lake` would make one
    lake = open_lake(home)
    return _rows(lake, lake.newest(MARKS))


def current(every: Sequence[Row]) -> list[Row]:
    """Of every reader's marks on a row the last one."""
    return list({(one["reader"], one["table"], one["row_id"]): one for one in every}.values())


def bad_rows(home: Path) -> list[str]:
    """Rows that a reader's last mark calls bad, in the order of the marks: what `recall --marked` takes."""
    return list(dict.fromkeys(one["row_id"] for one in current(marks(home)) if one["verdict"] == "bad"))


@dataclass(frozen=True)
class Agreement:
    """Two readers on the rows that both have marked. `kappa` is None where chance alone explains everything."""

    readers: tuple[str, str]
    rows: int
    agreed: int
    kappa: float | None


def agreement(every: Sequence[Row]) -> list[Agreement]:
    """Cohen's kappa of every two readers with marks on the same rows: (observed - chance) / (1 - chance).

    Chance is how often two readers with these shares of "bad" agree when neither looks (Cohen 1960).
    """
    by_reader: dict[str, dict[tuple[str, str], str]] = defaultdict(dict)
    for one in current(every):
        by_reader[one["reader"]][one["table"], one["row_id"]] = one["verdict"]
    found = []
    for first, second in combinations(sorted(by_reader), 2):
        both = by_reader[first].keys() & by_reader[second].keys()
        if both:
            pairs = [(by_reader[first][row], by_reader[second][row]) for row in both]
            found.append(Agreement((first, second), len(both), sum(a == b for a, b in pairs), kappa(pairs)))
    return found


def kappa(pairs: Sequence[tuple[Any, Any]]) -> float | None:
    """Cohen's kappa of two readers' verdicts on the same rows; None when chance agreement is 1."""
    n = len(pairs)
    observed = sum(a == b for a, b in pairs) / n
    verdicts = {verdict for pair in pairs for verdict in pair}
    chance = sum(sum(a == v for a, _ in pairs) * sum(b == v for _, b in pairs) for v in verdicts) / n**2
    return None if chance == 1 else (observed - chance) / (1 - chance)


def as_text(every: Sequence[Row]) -> str:
    """Every mark, newest first, then what each two readers agree on."""
    if not every:
        return "no row is marked yet; promptcot mark ROW_ID good|bad --reason TEXT"
    names = ("verdict", "row_id", "table", "reader", "reason")
    lines = [table(names, [[one[name] for name in names] for one in every[::-1]])]
    for one in agreement(every):
        shown = "kappa is not defined: all verdicts are alike" if one.kappa is None else f"kappa {one.kappa:.2f}"
        lines.append(f"{' and '.join(one.readers)} agree on {one.agreed} of {one.rows} rows, {shown}")
    return "\n".join(lines)


def _rows(lake: Lake, ref: Ref | None) -> list[Row]:
    return lake.table(ref).to_pylist() if ref else []
