"""What the lake is told of its tables by those who know them (promptcot_assets.tables); it knows none itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import pyarrow as pa

Batch = TypeVar("Batch", pa.Table, pa.RecordBatch)


@dataclass(frozen=True)
class Declared:
    """schemas: by table, the columns that new commits have. pinning: tables whose versions keep what they rest on."""

    schemas: Mapping[str, pa.Schema] = field(default_factory=dict)
    pinning: tuple[str, ...] = ()

    def since(self, table: str, stored: Iterable[str]) -> list[str]:
        """Columns that are declared and that an older version, which has only the `stored` ones, lacks.

        None for a table that is not declared, or has columns that are not: that one is not of our making.
        """
        have, declared = set(stored), self.schemas[table].names if table in self.schemas else []
        return [name for name in declared if name not in have] if have.issubset(declared) else []

    def completed(self, table: str, rows: Batch, names: Iterable[str]) -> Batch:
        """`rows` in the order of `names`; a column that they lack is the declared one without a value."""
        columns, fields = [], []
        for name in names:
            if name in rows.schema.names:
                columns.append(rows.column(name))
                fields.append(rows.schema.field(name))
            else:
                type_ = self.schemas[table].field(name).type
                columns.append(pa.nulls(rows.num_rows, type_))
                fields.append(pa.field(name, type_))
        return type(rows).from_arrays(columns, schema=pa.schema(fields).with_metadata(rows.schema.metadata))
