"""SQL on the catalogue, read-only."""

from __future__ import annotations

import csv
import io
import json
import re
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from promptcot_assets.lake import Lake, LakeError
from promptcot_assets.lake.catalogue import CATALOGUE
from promptcot_assets.lake.data_version import quoted
from promptcot_assets.reports.text import table, to_json

PRINTED_ROWS = 200
PARQUET_ROWS = 100_000  # of one row group

# A catalogue that is open read-only refuses its changes itself, and temporary tables are in memory; these write files.
WRITES = frozenset({"ATTACH", "COPY", "EXPORT"})
# These hide the kind of the statement in them (MULTI is any with a pivot); of WRITES, DuckDB takes only COPY there.
WRAPS = frozenset({"EXPLAIN", "MULTI", "PREPARE"})


@dataclass(frozen=True)
class Answer:
    """What a query gave: names of columns, rows in the query's order."""

    names: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def records(self) -> list[dict[str, Any]]:
        """One object a row. Raises: LakeError when two columns have one name, of which an object keeps only one."""
        _check_names(self.names)
        return [dict(zip(self.names, row, strict=True)) for row in self.rows]

    def csv(self) -> str:
        """RFC 4180, with a header line; null is an empty cell, lists and structs are JSON."""
        sink = io.StringIO()
        writer = csv.writer(sink, lineterminator="\n")
        writer.writerow(self.names)
        writer.writerows(map(_cell, row) for row in self.rows)
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

    Raises: LakeError when there is no lake, when `sql` is empty or writes, or with DuckDB's own message.
    """
    with _catalogue(home) as database:
        _check_reads(database, sql)
        result = database.execute(sql)
        return Answer([name for name, *_ in result.description or []], result.fetchall())


def write_parquet(home: Path, sql: str, out: Path) -> int:
    """Write the answer to one Parquet file, which appears when it is complete, in bounded memory; its rows.

    Raises: LakeError as `query`, when two columns have one name, and when `out` cannot be written.
    """
    part = out.with_name(f".{out.name}.{uuid.uuid4().hex}")
    try:
        with _catalogue(home) as database:
            _check_reads(database, sql)
            answer = database.sql(sql)
            if answer is None:
                raise LakeError("the query has no answer to write; end it with a select")
            batches = answer.to_arrow_reader(PARQUET_ROWS)
            _check_names(batches.schema.names)
            rows = 0
            with pq.ParquetWriter(part, batches.schema, compression="zstd") as writer:
                for batch in batches:
                    writer.write_batch(batch)
                    rows += batch.num_rows
        part.rename(out)
    except pa.ArrowException as error:  # what DuckDB says while the answer is read
        raise LakeError(str(error)) from error
    except OSError as error:
        raise LakeError(f"cannot write {out}: {error}") from error
    finally:
        part.unlink(missing_ok=True)
    return rows


def _check_names(names: Sequence[str]) -> None:
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise LakeError(f"two columns of the answer are named {twice[0]!r}; rename one with `as`")


def _check_reads(database: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Before any statement runs, whether there is one and none of them writes a file."""
    statements = database.extract_statements(sql)
    if not statements:
        raise LakeError('the query is empty; give one, e.g. `promptcot sql "select view_name from duckdb_views()"`')
    for statement in statements:
        kind = statement.type.name
        if kind in WRITES or (kind in WRAPS and "copy" in _keywords(statement.query)):
            writer = "COPY" if kind in WRAPS else kind
            raise LakeError(
                f"a query only reads, and {writer} writes; --csv, --json and --parquet FILE write what a select gives"
            )


def _keywords(sql: str) -> set[str]:
    """The keywords of a statement in lower case: no comment, string or quoted name is one."""
    text = sql.encode()  # which DuckDB counts in
    starts = [start for start, kind in duckdb.tokenize(sql) if kind == duckdb.token_type.keyword]
    return {found[0].decode().lower() for start in starts if (found := re.match(rb"\w+", text[start:]))}


def _cell(value: Any) -> Any:
    """A value as the CSV writer takes it: what is nested as JSON on one line, by the rules of --json."""
    if isinstance(value, list | tuple | dict):
        return json.dumps(json.loads(to_json(value)), ensure_ascii=False)
    return value


@contextmanager
def _catalogue(home: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """The catalogue, open. Raises: LakeError with what DuckDB says of anything that goes wrong inside."""
    path = current_catalogue(home)
    try:
        with duckdb.connect(str(path), read_only=True) as database:
            yield database
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
