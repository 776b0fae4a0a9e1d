"""Which columns of which table name rows of another: the joins that `trace` and `recall` walk along.

What a table refers to follows from its declaration (tables/). A reference is always read within exact
versions: a row refers to the versions of the other table that its own commit was made from, the nearest ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import pyarrow as pa

from promptcot_assets.lake.data_version import identifier
from promptcot_assets.tables import SCHEMAS, TABLES

# A concept is counted from the seeds that carry it: what `trace` shows above it. A bad seed does not make a concept
# bad, so it is not followed downwards; a bad concept is as bad as its seeds, so `recall` of a concept starts from both.
COUNTED_FROM = ("concept_corpus", "seed_problems", {"domain": "domain", "concept": "concepts"})


@dataclass(frozen=True)
class Reference:
    """Rows of `table` refer to the rows of `to` with equal values: `columns` pairs an own column with one there."""

    table: str
    to: str
    columns: tuple[tuple[str, str], ...]
    shared: bool  # whether it names a group of rows by what they share, rather than one row by its id

    @property
    def name(self) -> str:
        return ", ".join(own for own, _ in self.columns) or "all rows"


def id_column(table: str) -> str:
    """The column that names a row of this table. Raises: KeyError for an unknown table."""
    return TABLES[table].id_column.name


def owns_its_id(table: str) -> bool:
    """Whether the table's id is its own, not that of the row it is about (a verdict has its rollout's id)."""
    return not TABLES[table].id_column.rows_of


def learned_rows(table: str) -> str:
    """SQL condition on the rows of a table that a model learns from."""
    return (TABLES[table].trained_on if table in TABLES else None) or "true"


@cache
def references(table: str) -> tuple[Reference, ...]:
    """What the rows of `table` refer to, besides models."""
    if table not in TABLES or TABLES[table].checkpoint:
        return ()
    named = [
        Reference(table, to, ((column.name, id_column(to)),), shared=False)
        for column in TABLES[table].columns
        for to in column.rows_of
        if to != table
    ]
    shared = [Reference(table, one.to, tuple(one.columns.items()), shared=True) for one in TABLES[table].made_of]
    return (*named, *shared)


def counted_from(table: str) -> tuple[Reference, ...]:
    own, to, columns = COUNTED_FROM
    return (Reference(own, to, tuple(columns.items()), shared=True),) if table == own else ()


def model_columns(table: str) -> list[str]:
    """The columns of `table` that name models."""
    return [column.name for column in TABLES[table].columns if column.names_model] if table in TABLES else []


def values(table: str, column: str) -> str:
    """SQL of the values that a column holds: its one value, or those of its list."""
    name = identifier(column)
    if pa.types.is_list(SCHEMAS[table].field(column).type):
        return f"unnest({name})"
    return f"""unnest(from_json({name}, '["VARCHAR"]'))""" if column.endswith("_ids") else name
