"""The data version: a hash of the rows themselves, whatever their order, their file or the library that wrote them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

_SMALL_INTEGERS = {"TINYINT", "SMALLINT", "INTEGER", "UTINYINT", "USMALLINT", "UINTEGER"}


def quoted(text: str) -> str:
    """`text` as an SQL string."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """`name` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def content_hash(file: Path, ordered: bool = False) -> tuple[str, int]:
    """Hash and number of the rows of one Parquet file. ordered: in another order they are other content.

    The hash is a sum over rows of the md5 of the row's JSON, so it ignores the order of rows and needs no memory. It
    also ignores what is not content: columns without any value (a column added later leaves old rows as they were),
    the width of integers, the unit of timestamps, the order of columns. It identifies data and finds damage;
    being a sum it is no defence against someone who wants to forge rows.
    """
    with _memory_database(file.parent) as con:
        rows = f"read_parquet({quoted(str(file))}, hive_partitioning=false, file_row_number={str(ordered).lower()})"
        types = {name: kind for name, kind, *_ in con.execute(f"describe select * from {rows}").fetchall()}
        counts = con.execute(
            "select count(*), " + ", ".join(f"count({identifier(name)})" for name in types) + f" from {rows}"
        ).fetchone()
        assert counts is not None  # an aggregate always has one row
        names = sorted(name for name, count in zip(types, counts[1:], strict=True) if count)
        low, high = 0, 0
        if names:
            fields = ", ".join(f"{identifier(name)} := {_normal(name, types[name])}" for name in names)
            sums = con.execute(
                "select sum(md5_number_lower(row)::hugeint), sum(md5_number_upper(row)::hugeint) "
                f"from (select to_json(struct_pack({fields}))::varchar as row from {rows})"
            ).fetchone()
            assert sums is not None
            low, high = sums
    text = json.dumps([names, counts[0], str(low), str(high)])
    return hashlib.sha256(text.encode()).hexdigest()[:32], counts[0]


def _normal(name: str, kind: str) -> str:
    column = identifier(name)
    if kind in _SMALL_INTEGERS:
        return f"{column}::bigint"
    if kind.startswith("TIMESTAMP") and not kind.endswith("]"):
        return f"epoch_us({column})"
    return column


@contextmanager
def _memory_database(scratch: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A small private DuckDB that spills into `scratch` and gives the same answer in every time zone.

    Raises: OSError with DuckDB's words for anything that goes wrong inside.
    """
    import duckdb

    config = {"threads": 2, "memory_limit": "1GB", "temp_directory": str(scratch / ".duckdb")}
    try:
        with duckdb.connect(config=config) as con:
            con.execute("set TimeZone = 'UTC'")
            yield con
    except duckdb.Error as error:
        raise OSError(str(error)) from error
