"""The rows of a new version that its page shows: few, and of every kind, not five candidates of one seed.

Kinds are told apart by the first two of KINDS that a table has; within one kind, rows about different problems come
first. What is looked at is the first rows of each kind, so that a table of millions costs one pass over three columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import zip_longest

import pyarrow as pa

from promptcot_assets.lake import Row

ROWS, WHOLE_UP_TO, OF_A_KIND = 5, 20, 5
MOST_KINDS = 60
# What makes rows differ in kind, the plainest first; and what several rows may be about.
KINDS = (
    "domain", "benchmark", "reason", "drop_reason", "verdict", "stage", "series", "split", "style", "origin",
    "selected", "valid", "source",
)  # fmt: skip
ABOUT = ("problem_id", "item_id", "seed_problem_id", "concept_set_id", "own_problem_id")
AT = "_row"


class Sampled:
    """Collects while the tables of a commit pass through."""

    def __init__(self, schema: pa.Schema) -> None:
        names = schema.names
        self._kinds = [name for name in KINDS if name in names][:2]
        own = {field.name for field in schema if (field.metadata or {}).get(b"unique") == b"true"}
        self._about = next((name for name in ABOUT if name in names and name not in own), None)
        self._schema, self._seen = schema, 0
        self._first: list[Row] = []
        self._of_kind: dict[tuple[str, ...], list[Row]] = {}

    def passing(self, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        for table in tables:
            self._look(table)
            yield table

    @property
    def table(self) -> pa.Table:
        """All rows of a small table; of another ROWS of them, kind after kind."""
        if self._seen <= WHOLE_UP_TO:
            return pa.Table.from_pylist(self._first, self._schema)
        by_kind = [self._of_kind[kind] for kind in sorted(self._of_kind)]
        step = max(1, len(by_kind) // ROWS)  # of many kinds those that are spread over all
        by_kind = by_kind[::step]
        turns = (row for turn in zip_longest(*by_kind) for row in turn if row is not None)
        return pa.Table.from_pylist([row for row, _ in zip(turns, range(ROWS), strict=False)], self._schema)

    def _look(self, table: pa.Table) -> None:
        room = WHOLE_UP_TO + 1 - len(self._first)
        if room > 0:
            self._first += table.slice(0, room).to_pylist()
        self._seen += len(table)
        keys = [*self._kinds, *([self._about] if self._about else [])]
        places = table.select(keys).append_column(AT, pa.array(range(len(table)), pa.int64()))
        if keys:
            places = places.group_by(keys).aggregate([(AT, "min")])
        at = f"{AT}_min" if keys else AT
        for found in places.sort_by(at).to_pylist():
            kind = tuple(str(found[name]) for name in self._kinds)
            own = self._of_kind.get(kind, [])
            if len(own) < OF_A_KIND and (own or len(self._of_kind) < MOST_KINDS):
                self._of_kind[kind] = [*own, *table.slice(found[at], 1).to_pylist()]
