"""SQL on the catalogue, read-only."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from promptcot_assets.lake import Lake, LakeError
from promptcot_assets.lake.catalogue import CATALOGUE
from promptcot_assets.lake.data_version import quoted
from promptcot_assets.reports.text import table

PRINTED_ROWS = 200


@dataclass(frozen=True)
class Answer:
    """What a query gave: names of columns, rows in the query's order."""

    names: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def records(self) -> list[dict[str, Any]]:
        return [dict(zip(self.names, row, strict=True)) for row in self.rows]

    def csv(self) -> str:
        """RFC 4180, with a header line; null is an empty cell."""
        sink = io.StringIO()
        writer = csv.writer(sink, lineterminator="\n")
        writer.writerow(self.names)
        writer.writerows(self.rows)
        return sink.getvalue().removesuffix("\n")

    def text(self) -> str:
        """A table for people: long cells and rows past PRINTED_ROWS are cut, and it says so."""
        if not self.names:
            return "done"
        more = len(self.rows) - PRINTED_ROWS
        lines = [table(self.names, self.rows[:PRINTED_ROWS])]
        return "\n".join(lines + ([f"… {more:,} more rows (--csv and --json give all)"] if more > 0 else []))


def query(home: Path, sql: str) -> Answer:
    """The answer of the last statement of `sql`.

    Raises: LakeError when there is no lake, or with DuckDB's own message when the query is wrong.
    """
    path = current_catalogue(home)
    try:
        with duckdb.connect(str(path), read_only=True) as database:
            result = database.execute(sql)
            return Answer([name for name, *_ in result.description or []], result.fetchall())
    except duckdb.Error as error:
        raise LakeError(str(error)) from error


def current_catalogue(home: Path) -> Path:
    """The catalogue, written anew when it is lost, damaged, or of the place that the home was moved or copied from.

    Raises: LakeError when there is no lake.
    """
    path = home / CATALOGUE
    if not any(home.glob("lake/*/_delta_log")):
        raise LakeError(f"there is no lake in {home} yet; run `promptcot run`, or set PROMPTCOT_HOME")
    if not _is_of(home, path):
        Lake(home).publish()
    return path


def _is_of(home: Path, path: Path) -> bool:
    """Whether there is a catalogue and its views read the files of this home."""
    here = quoted(str(home / "lake"))[:-1] + "/"
    try:
        with duckdb.connect(str(path), read_only=True) as database:
            views = database.execute("select sql from duckdb_views() where not internal and sql like '%read_parquet(%'")
            return all(here in sql for (sql,) in views.fetchall())
    except duckdb.Error:  # missing, damaged, or opened by somebody for writing
        return False
