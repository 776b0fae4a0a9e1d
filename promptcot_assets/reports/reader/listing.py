"""The records of one table as a list: filtered, searched, sorted and paged by DuckDB, on the catalogue's own view.

Every condition that a reader gives runs where `promptcot sql` runs: on the catalogue, which is open for reading only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from promptcot_assets.lake import LakeError
from promptcot_assets.lake.data_version import identifier, quoted
from promptcot_assets.lake.tables import PARTITION_COLUMN
from promptcot_assets.reports.query import condition, query
from promptcot_assets.reports.reader.library import about
from promptcot_assets.tables import MODEL_ROLES, SCHEMAS, TABLES, open_lake
from promptcot_assets.tables.references import id_column, model_columns

PAGE = 50  # rows of one page
MOST_VALUES = 30  # a column with more distinct values is no filter
LOOKED_AT = 20_000  # rows in which the values of a filter are looked for
SHORT = 60  # characters: longer texts are read, not filtered by
NULL = "(none)"
PROBLEM = "problem"  # column of a list: the text of the problem that a row is about
SIDE = 6  # columns beside the gist
LONGEST_CONDITION, MOST_BRACKETS = 20_000, 500  # of an SQL condition


@dataclass(frozen=True)
class Asked:
    """What a reader wants to see of a table."""

    table: str
    partition: str = ""
    where: str = ""  # an SQL condition
    search: str = ""  # text that some column contains, whatever its case
    chosen: Mapping[str, str] = field(default_factory=dict)  # column -> value, as text; NULL for none
    sort: str = ""  # a column
    descending: bool = False
    page: int = 1
    sample: int = 0  # so many rows, drawn by their ids: the same in every listing; 0: all
    within: str = ""  # the column that is searched; empty: every text


@dataclass(frozen=True)
class Listed:
    """One page of it."""

    rows: list[dict[str, Any]]  # id, partition, gist and the columns beside it
    total: int  # rows that fulfil all conditions
    first: int  # place of the first row in them, from 0


def known(table: str) -> str:
    """The table, if it has rows that can be read. Raises: LakeError naming the tables there are."""
    if table not in SCHEMAS:
        tables = ", ".join(one for one in SCHEMAS if one not in MODEL_ROLES)
        raise LakeError(f"there is no table {table!r}; there are {tables}")
    return table


def read(home: Path, asked: Asked, longest_s: float | None = None) -> Listed:
    """One page. longest_s: how long a query may take.

    Raises: LakeError for an unknown table or column, and with DuckDB's words on a wrong condition.
    """
    known(asked.table)
    first = max(0, asked.page - 1) * PAGE
    names = shown_columns(asked.table)
    # where every text has to be looked at, once: of a whole table the log knows the count without that
    counted = ", count(*) over ()" if asked.where or asked.search or asked.chosen else ""
    columns = ", ".join(map(identifier, names)) + counted
    sql = f"select {columns} from {_matching(home, asked)} order by {_order(asked)} limit {PAGE} offset {first}"
    found = query(home, sql, longest_s)
    total = int(found.rows[0][-1]) if counted and found.rows else count(home, asked, longest_s)
    return Listed([dict(zip(names, row, strict=False)) for row in found.rows], total, first)


def count(home: Path, asked: Asked, longest_s: float | None = None) -> int:
    """Rows that fulfil all conditions."""
    return int(query(home, f"select count(*) from {_matching(home, asked)}", longest_s).rows[0][0])


def places(
    home: Path, asked: Asked, first: int = 0, most: int | None = None, longest_s: float | None = None
) -> list[tuple[str, str]]:
    """(partition, id) of the matching rows, in their order; `most` of them from place `first` on."""
    own = identifier(id_column(known(asked.table)))
    limit = "" if most is None else f" limit {most} offset {first}"
    sql = f"select {PARTITION_COLUMN}, {own} from {_matching(home, asked)} order by {_order(asked)}{limit}"
    return [(partition, one) for partition, one in query(home, sql, longest_s).rows]


def filters(home: Path, table: str, partition: str = "") -> dict[str, list[tuple[str, int]]]:
    """Columns with few distinct values -> the values as text and how often they occur in the first LOOKED_AT rows."""
    names = [one.name for one in SCHEMAS[table] if _may_filter(table, one)]
    if not names:
        return {}
    within = f"(select * from {_matching(home, Asked(table, partition))} limit {LOOKED_AT})"
    counted = ", ".join(
        f"approx_count_distinct({identifier(name)}), max(length({identifier(name)}::varchar))" for name in names
    )
    looked = query(home, f"select {counted} from {within}").rows[0]
    few = [
        name for at, name in enumerate(names)
        if fewest_values(name) <= looked[2 * at] <= MOST_VALUES and (looked[2 * at + 1] or 0) <= SHORT
    ]  # fmt: skip
    if not few:
        return {}
    each = (
        f"select {quoted(name)} as filter, coalesce({identifier(name)}::varchar, {quoted(NULL)}) as value, "
        f"count(*) as times from {within} group by all"
        for name in few
    )
    counts: dict[str, list[tuple[str, int]]] = {name: [] for name in few}
    for name, value, times in query(home, f"{' union all '.join(each)} order by times desc, value").rows:
        counts[name].append((value, times))
    return {name: own for name, own in counts.items() if fewest_values(name) <= len(own) <= MOST_VALUES}


def fewest_values(column: str) -> int:
    """Distinct values that make a column a filter: that all rows passed, or none, is worth telling too."""
    return 1 if column in TELLING else 2


def numbers(table: str) -> list[str]:
    """Columns to sort by: every number but the seeds, which have no order."""
    return [
        one.name for one in SCHEMAS[table]
        if (pa.types.is_floating(one.type) or pa.types.is_integer(one.type)) and not one.name.endswith("seed")
    ]  # fmt: skip


def shown_columns(table: str) -> list[str]:
    """Columns of a list: the id, what shows best what a row is, and those that tell rows apart at a glance."""
    own, gist = id_column(table), TABLES[table].gist
    told = [
        one.name for one in SCHEMAS[table]
        if one.name not in (own, gist) and not one.name.endswith(("_id", "_ids", "seed")) and _is_short(one)
        and one.name not in model_columns(table)
    ]  # fmt: skip
    telling = sorted(told, key=lambda name: (name not in TELLING, told.index(name)))[:SIDE]
    return (
        [own, PARTITION_COLUMN, gist, *(name for name in told if name in telling)]
        if own != gist
        else [own, PARTITION_COLUMN, *telling]
    )


# words that tell a good row from a bad one come first in a list, whatever table they are in
TELLING = ("passed", "verdict", "valid", "selected", "reward", "reason", "drop_reason", "lost_because", "pass_rate",
           "band", "value", "stage", "benchmark", "rule", "answer", "split", "round", "style", "metric", "low",
           "high")  # fmt: skip


def _matching(home: Path, asked: Asked) -> str:
    """SQL of the rows that fulfil every condition."""
    table = known(asked.table)
    names = SCHEMAS[table].names
    parts = [f"{PARTITION_COLUMN} = {quoted(asked.partition)}"] if asked.partition else []
    if asked.where:
        parts.append(condition(_bounded(asked.where)))
    for column, value in asked.chosen.items():
        if column not in names:
            raise LakeError(f"{table} has no column {column!r}; it has {', '.join(names)}")
        held = f"{identifier(column)}::varchar"
        parts.append(f"{held} is null" if value == NULL else f"{held} = {quoted(value)}")
    if asked.search:
        looked = _looked_in(home, table, quoted(asked.search.lower()))
        if asked.within and asked.within not in looked:
            raise LakeError(f"{table} has no text {asked.within!r} to search; it has {', '.join(looked)}")
        parts.append(f"({looked[asked.within] if asked.within else ' or '.join(looked.values())})")
    rows = f"{identifier(table)}{' where ' + ' and '.join(parts) if parts else ''}"
    if not asked.sample:
        return f"(from {rows})"
    own = identifier(id_column(table))
    return f"(from {rows} order by md5({own}), {own} limit {int(asked.sample)})"


def _bounded(where: str) -> str:
    """The condition, if it is read in no time: DuckDB needs minutes for some thousands of brackets in each other."""
    if len(where) > LONGEST_CONDITION:
        raise LakeError(f"the condition has {len(where):,} characters; {LONGEST_CONDITION:,} are read at most")
    if (brackets := sum(map(where.count, "([{"))) > MOST_BRACKETS:
        raise LakeError(f"the condition opens {brackets:,} brackets; {MOST_BRACKETS:,} are read at most")
    return where


def searched(table: str) -> list[str]:
    """Columns that can be searched; of rows about a problem its text too, which the list shows."""
    texts = [
        one.name for one in SCHEMAS[table] if pa.types.is_string(one.type) or one.type == pa.list_(pa.string())
    ]  # fmt: skip
    return texts if PROBLEM in texts or not about(table) else [PROBLEM, *texts]


def _looked_in(home: Path, table: str, wanted: str) -> dict[str, str]:
    """Searched column -> SQL condition: its text holds what is wanted, which is in lower case."""
    found = {}
    for name in searched(table):
        if name not in SCHEMAS[table].names:
            found[name] = _of_problem(home, table, wanted)
        else:
            is_text = pa.types.is_string(SCHEMAS[table].field(name).type)
            text = identifier(name) if is_text else f"array_to_string({identifier(name)}, ', ')"
            found[name] = f"contains(lower({text}), {wanted})"
    return found


def _of_problem(home: Path, table: str, wanted: str) -> str:
    """SQL condition: the problem that the row is about holds what is wanted, in whichever table it is."""
    made, parts = set(open_lake(home).assets()), ["false"]
    for reference in (one for one in about(table) if one.to in made):
        ((column, _),) = reference.columns
        own, gist = identifier(id_column(reference.to)), identifier(TABLES[reference.to].gist)
        told = f"select {own} from {identifier(reference.to)} where contains(lower({gist}), {wanted})"
        parts.append(f"{identifier(column)} in ({told})")
    return " or ".join(parts)


def _order(asked: Asked) -> str:
    own = identifier(id_column(asked.table))
    if not asked.sort:
        return f"{PARTITION_COLUMN}, {own}"
    if asked.sort not in SCHEMAS[asked.table].names:
        raise LakeError(f"{asked.table} has no column {asked.sort!r}; it has {', '.join(SCHEMAS[asked.table].names)}")
    return f"{identifier(asked.sort)} {'desc' if asked.descending else 'asc'} nulls last, {own}"


def _may_filter(table: str, column: pa.Field) -> bool:
    is_id = column.name.endswith(("_id", "_ids")) or column.name in (id_column(table), TABLES[table].gist)
    few = pa.types.is_boolean(column.type) or pa.types.is_string(column.type) or column.name in ("round", "attempt")
    return few and not is_id


def _is_short(column: pa.Field) -> bool:
    """Whether a column's values fit into a list: numbers, flags, names."""
    long = {"problem", "rationale", "completion", "trace", "prompt", "chosen", "rejected", "solution", "tests", "stdin",
            "proposed", "expected", "concept_completion", "dropped", "matched_span", "path", "batch",
            "domain"}  # fmt: skip
    return not pa.types.is_list(column.type) and column.name not in long
