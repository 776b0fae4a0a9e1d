"""`make real-seeds` on a file of each public shape: does the arc come to its last screen, and with which answers?

    python -m tests.assets.real_shapes [SHAPE ...]      all shapes of tests/stages/corpus/public_forms.py; hours

One line a shape: seeds, how many of them have an answer and tests, rows that fell, and the last screen or the error.
Ends with exit code 1 when a shape of problems did not come to its end.
"""

from __future__ import annotations

import copy
import json
import re
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptcot_assets.lake import Row
from promptcot_assets.stages.corpus.reading import recognised, row_of
from promptcot_assets.stages.corpus.values import UnusableRow
from promptcot_assets.tables import open_lake
from tests.assets.arc_runs import PROMPTCOT, ROOT, run
from tests.stages.corpus.public_forms import SHAPES

PROFILE = ROOT / "tests" / "profiles" / "real_small.yaml"
COPIES = 12  # of each row of a shape, every one another problem


@dataclass(frozen=True)
class Arc:
    """What became of one source. error: empty where the last screen was reached."""

    home: Path
    seeds: list[Row]
    dropped: list[Row]
    printed: str
    error: str


def arc_on(source: Path | str, home: Path, profile: Path = PROFILE) -> Arc:
    """The command of `make real-seeds SEEDS=source`, on the small profile."""
    done = run([*PROMPTCOT, "run"], home, 3600, PROMPTCOT_PROFILE=str(profile), SEEDS=str(source))
    lake = open_lake(home)
    tables = {name: ref for name in ("seed_problems", "dropped_seed_rows") if (ref := lake.newest(name))}
    rows = {name: lake.table(ref).to_pylist() for name, ref in tables.items()}
    reached = not done.returncode and "Read it:" in done.stdout
    _, named, said = done.stderr.rpartition("Error: ")
    said = said if named else (done.stderr + done.stdout).strip().rpartition("\n")[2]
    error = "" if reached else f"exit code {done.returncode}: {said.strip()}"
    return Arc(home, rows.get("seed_problems", []), rows.get("dropped_seed_rows", []), done.stdout, error)


def write_copies(rows: list[Row], path: Path, copies: int = COPIES) -> Path:
    """The rows, and each so many times with a number behind the first line of its statement."""
    with path.open("w") as file:
        for number in range(copies):
            for row in rows:
                file.write(json.dumps(_numbered(row, number) if number else row) + "\n")
    return path


def _numbered(row: Row, number: int) -> Row:
    try:
        statement = row_of(recognised([row], "a row"), row)["problem"]
    except UnusableRow:
        return row
    first = statement.partition("\n")[0]
    return json.loads(json.dumps(_replaced(copy.deepcopy(row), first, f"{first} (Task {number})")))


def _replaced(value: Any, old: str, new: str) -> Any:
    if isinstance(value, dict):
        return {key: _replaced(one, old, new) for key, one in value.items()}
    if isinstance(value, list):
        return [_replaced(one, old, new) for one in value]
    return value.replace(old, new) if isinstance(value, str) else value


def main(names: list[str]) -> int:
    failed = 0
    for name in names or SHAPES:
        with tempfile.TemporaryDirectory() as folder:
            shape, begun = SHAPES[name], time.monotonic()
            source = Path(folder) / (re.sub(r"\W+", "_", name) + ".jsonl")
            arc = arc_on(write_copies(shape.rows, source), Path(folder) / "home")
            answers, tests = (sum(bool(seed[column]) for seed in arc.seeds) for column in ("answer", "tests"))
            end = arc.error.splitlines()[0] if arc.error else "last screen"
            print(
                f"{name}: {len(arc.seeds)} seeds, {answers} with answers, {tests} with tests, {len(arc.dropped)} fell; "
                f"{end} ({time.monotonic() - begun:.0f} s)", flush=True,
            )  # fmt: skip
            failed += bool(arc.error) and bool(shape.answers)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
