"""SQL on the catalogue, read-only."""

from __future__ import annotations

import csv
import io
import json
import re
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from promptcot_assets.lake import LakeError
from promptcot_assets.lake.data_version import identifier, quoted
from promptcot_assets.lake.disk import draft_beside
from promptcot_assets.tables import SCHEMAS, open_lake
from promptcot_assets.tables.marks import MARKS
from promptcot_assets.tables.references import id_column
from promptcot_assets.text.printing import record, table, to_json

PRINTED_ROWS = 200
PARQUET_ROWS = 100_000  # of one row group

READS = frozenset({"SELECT", "EXPLAIN", "MULTI"})  # kinds of statements; describe, show and summarize are SELECT too
# EXPLAIN hides a statement of any kind in it, and so does MULTI, which is any with a pivot: these may begin it.
WRAPS = frozenset({"EXPLAIN", "MULTI"})
BEGINS = frozenset({"select", "from", "with", "values", "table", "describe", "show", "summarize",
                    "pivot", "pivot_wider", "unpivot", "pivot_longer"})  # fmt: skip
EXPLAINS = frozenset({"explain", "analyze", "analyse", "verbose", "format", "json"})
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # what begins one in some spreadsheet
NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?|[+-]?\.\d+")
LOCKED = {
    "allow_persistent_secrets": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}


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
        """RFC 4180, with a header line; null is an empty cell, lists and structs are JSON.

        A text that a spreadsheet would run as a formula has an apostrophe before it.
        """
        sink = io.StringIO()
        writer = csv.writer(sink, lineterminator="\n")
        writer.writerow(map(_cell, self.names))
        writer.writerows(map(_cell, row) for row in self.rows)
        return sink.getvalue().removesuffix("\n")

    def text(self) -> str:
        """A table for people: long cells and rows past PRINTED_ROWS are cut, and it says so."""
        if not self.names:
            return "done"
        more = len(self.rows) - PRINTED_ROWS
        lines = [table(self.names, self.rows[:PRINTED_ROWS])]
        return "\n".join(lines + ([f"… {more:,} more rows (--csv and --json give all)"] if more > 0 else []))

    def pages(self) -> list[str]:
        """One text a row, every value whole, under the number of the row."""
        return [
            f"── {at:,} of {len(self.rows):,} ──\n{record(self.names, row)}" for at, row in enumerate(self.rows, 1)
        ] or ["no rows"]


def query(home: Path, sql: str, longest_s: float | None = None) -> Answer:
    """The answer of the last statement of `sql`. longest_s: how long it may take; None: as long as it needs.

    Raises: LakeError when there is no lake, when `sql` is empty or writes, takes longer, or with DuckDB's own message.
    """
    with _catalogue(home, sql) as database, _ended_after(database, longest_s):
        result = database.execute(sql)
        return Answer([name for name, *_ in result.description or []], result.fetchall())


def show(home: Path, table: str, ids: Sequence[str] = (), where: str = "", limit: int = 10) -> Answer:
    """Rows of one table, whole: those with these ids in their order, or the first that fulfil the condition.

    Raises: LakeError for an unknown table, an id that it has not, and as `query`.
    """
    if table not in (*SCHEMAS, MARKS):
        raise LakeError(f"there is no table {table!r}; there are {', '.join(SCHEMAS)}")
    id_name = "mark_id" if table == MARKS else id_column(table)
    own = identifier(id_name)
    parts = [condition(where)] if where else []
    if ids:
        parts.append(f"{own} in ({', '.join(map(quoted, ids))})")
    rows = f"from {identifier(table)}" + (f" where {' and '.join(parts)}" if parts else "")
    answer = query(home, f"select * {rows} order by {own}" + ("" if ids else f" limit {limit}"))
    if ids:
        at = list(answer.names).index(id_name)
        found = {row[at]: row for row in answer.rows}
        if not where and (missing := [one for one in ids if one not in found]):
            raise LakeError(
                f"{table} has no row {missing[0]!r} in its newest versions; `promptcot trace` looks everywhere"
            )
        return Answer(answer.names, [found[one] for one in dict.fromkeys(ids) if one in found])
    return answer


def condition(where: str) -> str:
    """An SQL condition, in brackets. Raises: LakeError when it is not one expression."""
    try:
        statements = duckdb.extract_statements(f"select 1 where ({where}\n)")
    except duckdb.Error as error:
        raise LakeError(f"{where!r} is no SQL condition: {error}") from error
    if len(statements) != 1:
        raise LakeError(f"one SQL condition is asked for, not {where!r}")
    return f"({where}\n)"


def write_parquet(home: Path, sql: str, out: Path) -> int:
    """Write the answer to one Parquet file, which appears when it is complete, in bounded memory; its rows.

    Raises: LakeError as `query`, when two columns have one name, and when `out` cannot be written.
    """
    part = draft_beside(out)
    try:
        with _catalogue(home, sql) as database:
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
    """Before any statement runs, whether there is one and all of them only read."""
    try:
        statements = [(one.type.name, one.query) for one in database.extract_statements(sql)]
    except (ValueError, RuntimeError) as error:  # of a kind that DuckDB's own Python does not know
        raise _more_than_reads("this") from error
    if not statements:
        raise LakeError('the query is empty; give one, e.g. `promptcot sql "select view_name from duckdb_views()"`')
    for kind, text in statements:
        verb = next((word for word in _keywords(text) if word not in EXPLAINS), "") if kind in WRAPS else kind
        if kind not in READS or (kind in WRAPS and verb not in BEGINS):
            raise _more_than_reads(verb.upper())


def _more_than_reads(what: str) -> LakeError:
    return LakeError(
        f"a query only reads, and {what} does not: the catalogue is read-only; --csv, --json and --parquet FILE write "
        "what a select gives"
    )


def _keywords(sql: str) -> Iterator[str]:
    """The keywords of a statement in lower case, in order: no comment, string or quoted name is one."""
    text = sql.encode()  # which DuckDB counts in
    for start, kind in duckdb.tokenize(sql):
        if kind == duckdb.token_type.keyword and (found := re.match(rb"\w+", text[start:])):
            yield found[0].decode().lower()


def _cell(value: Any) -> Any:
    """A value as the CSV writer takes it: what is nested as JSON on one line, by the rules of --json."""
    if isinstance(value, list | tuple | dict):
        return json.dumps(json.loads(to_json(value)), ensure_ascii=False)
    if isinstance(value, str) and value.lstrip(" ").startswith(FORMULA) and not NUMBER.fullmatch(value):
        return f"'{value}"
    return value


@contextmanager
def _ended_after(database: duckdb.DuckDBPyConnection, seconds: float | None) -> Iterator[None]:
    if seconds is None:
        yield
        return
    timer = threading.Timer(seconds, database.interrupt)
    timer.start()
    try:
        yield
    except duckdb.InterruptException as error:
        raise LakeError(f"ended after {seconds:g} seconds; ask for less, or use `promptcot sql`") from error
    finally:
        timer.cancel()


@contextmanager
def _catalogue(home: Path, sql: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """The catalogue for this query, which was found to read only; open and locked: it reads nothing outside the lake.

    Every table that the query names is held against its data version first. Raises: LakeError with what DuckDB says of
    anything that goes wrong inside.
    """
    if not any(home.glob("lake/*/_delta_log")):
        raise LakeError(f"there is no lake in {home} yet; run `promptcot run`, or set PROMPTCOT_HOME")
    lake = open_lake(home)
    try:
        with tempfile.TemporaryDirectory(prefix="promptcot-sql-") as scratch:
            path = lake.current_catalogue(Path(scratch))
            config = {**LOCKED, "temp_directory": f"{scratch}/spilled"}
            with duckdb.connect(str(path), read_only=True, config=config) as database:
                _check_reads(database, sql)
                for asset in set(lake.assets()) & set(re.findall(r"\w+", sql.lower())):
                    for ref in lake.current(asset):
                        lake.check_rows(ref)
                database.execute(f"set allowed_directories = [{quoted(f'{lake.home}/lake/')}]")
                database.execute("set enable_external_access = false")
                database.execute("set lock_configuration = true")
                yield database
    except duckdb.Error as error:
        raise LakeError(str(error)) from error
