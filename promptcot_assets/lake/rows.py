"""Rows on their way into and out of one Parquet file: validated against a schema, in bounded memory, in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from promptcot_assets.lake.disk import sync
from promptcot_assets.lake.errors import LakeError

MAX_GROUP_ROWS = 8192
MAX_GROUP_BYTES = 16 << 20  # readers and the content hash hold some groups: long traces must stay in memory


def storage_type(kind: pa.DataType) -> pa.DataType:
    """`kind` without what Parquet forgets: string widths, dictionary encoding, nested names and null flags."""
    if pa.types.is_dictionary(kind):
        return storage_type(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_map(kind):
        return pa.map_(storage_type(kind.key_type), storage_type(kind.item_type))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(pa.field("element", storage_type(kind.value_type)))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, storage_type(field.type)) for field in kind])
    return kind


def storage_schema(schema: pa.Schema) -> pa.Schema:
    """The schema as the table's log keeps it: every column nullable, since another partition may lack it."""
    return pa.schema([pa.field(field.name, storage_type(field.type)) for field in schema])


def check_schema(asset: str, schema: pa.Schema) -> None:
    """Raises: LakeError for a column whose type the lake would not give back unchanged."""
    for field in schema:
        for kind in _all_types(field.type):
            mend = _supported_instead(kind)
            if mend:
                raise LakeError(
                    f"{asset}: column {field.name!r} has type {kind}, which the lake cannot keep; use {mend}"
                )


def _supported_instead(kind: pa.DataType) -> str | None:
    """What to use instead of a type that Parquet keeps but Delta gives back as another one; None for good types."""
    if pa.types.is_null(kind):
        return "the type the values will have"
    if pa.types.is_unsigned_integer(kind):
        return "int64"
    if pa.types.is_float16(kind):
        return "float32"
    if pa.types.is_timestamp(kind) and kind.unit != "us":
        return "microseconds"
    if pa.types.is_time(kind) or pa.types.is_duration(kind) or pa.types.is_interval(kind):
        return "a number with the unit in the column's name"
    return None


def _all_types(kind: pa.DataType) -> Iterator[pa.DataType]:
    """The type and all types inside it."""
    yield kind
    for i in range(kind.num_fields):
        yield from _all_types(kind.field(i).type)


def checked(asset: str, batch: pa.Table | pa.RecordBatch, schema: pa.Schema, first_row: int = 0) -> pa.Table:
    """`batch` as a table of exactly `schema`, columns in the schema's order.

    `first_row` is the number of rows before this batch, for the message. Equal types in other clothes (large strings,
    dictionaries, an all-null column without a type) are accepted; nothing else is cast.

    Numbers must be finite, also those in lists and structs, unless the field's metadata has `not_finite: true`.

    Raises: LakeError naming asset, column and first bad row: missing or extra column, wrong type, forbidden null, NaN
    or infinity.
    """
    table = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
    for name in schema.names:
        if name not in table.column_names:
            raise LakeError(f"{asset}: column {name!r} is missing from row {first_row} on; the schema asks for it")
    for name in table.column_names:
        if table.column_names.count(name) > 1 or name not in schema.names:
            raise LakeError(f"{asset}: column {name!r} is in the rows from {first_row} on, not (once) in the schema")
    columns = []
    for field in schema:
        column = table.column(field.name)
        is_untyped = pa.types.is_null(column.type)
        if not is_untyped and storage_type(column.type) != storage_type(field.type):
            raise LakeError(
                f"{asset}: column {field.name!r} has type {column.type} from row {first_row} on, not {field.type}"
            )
        if column.null_count and not field.nullable:
            row = first_row + column.is_null().to_pylist().index(True)
            raise LakeError(f"{asset}: column {field.name!r} is null in row {row}; it must have a value")
        if (field.metadata or {}).get(b"not_finite") != b"true" and (odd := _first_not_finite(column)):
            raise LakeError(
                f"{asset}: column {field.name!r} holds {odd[1]} in row {first_row + odd[0]}; it must be a finite number"
            )
        columns.append(column if column.type == field.type else column.cast(field.type))
    return pa.table(columns, schema=schema)


def _first_not_finite(column: pa.ChunkedArray) -> tuple[int, float] | None:
    """Row and value of the first NaN or infinity in a column, in whatever it is nested; None when there is none."""
    chunk = pa.concat_arrays(column.chunks) if column.chunks else pa.array([], column.type)
    for values, places in _numbers(chunk, pa.array(np.arange(len(chunk)))):
        odd = np.flatnonzero(~np.isfinite(pc.fill_null(values, 0.0).to_numpy(zero_copy_only=False)))
        if odd.size:
            return places[odd[0]].as_py(), values[odd[0]].as_py()
    return None


def _numbers(values: Any, rows: Any) -> Iterator[tuple[Any, Any]]:
    """The floating-point values in an array, however deep, and the row that each is of."""
    kind = values.type
    if pa.types.is_floating(kind):
        yield values, rows
    elif pa.types.is_dictionary(kind):
        yield from _numbers(values.dictionary_decode(), rows)
    elif pa.types.is_map(kind):
        yield from _numbers(values.cast(pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)]))), rows)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        yield from _numbers(pc.list_flatten(values), rows.take(pc.list_parent_indices(values)))
    elif pa.types.is_struct(kind):
        for column in values.flatten():
            yield from _numbers(column, rows)


def write_rows(path: Path, tables: Iterable[pa.Table], schema: pa.Schema) -> None:
    """One Parquet file with page checksums, forced to disk; zero tables give a file of zero rows."""
    with pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        compression_level=3,
        write_page_checksum=True,
        use_compliant_nested_type=False,  # list items keep their name: the schema comes back as it was
    ) as writer:
        for group in _row_groups(tables):
            writer.write_table(group, row_group_size=max(group.num_rows, 1))
    sync(path)


def read_rows(path: Path, columns: list[str] | None, rows: int) -> Iterator[pa.RecordBatch]:
    """The file's rows in order, at most `rows` at a time, one row group in memory. Raises: OSError on damaged pages."""
    with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False) as file:
        names = columns if columns is not None else file.schema_arrow.names
        for batch in file.iter_batches(batch_size=rows, columns=names):
            yield batch.select(names)


def first_duplicate(path: Path, column: str) -> tuple[int, object] | None:
    """Row and value of the first value of `column` that an earlier row has too. Holds that column in memory."""
    with pq.ParquetFile(path) as file:
        values = file.read([column]).column(0)
    if pc.count_distinct(values, mode="only_valid").as_py() == len(values) - values.null_count:
        return None
    seen: set[object] = set()
    for row, value in enumerate(values.to_pylist()):
        if value in seen:
            return row, value
        if value is not None:
            seen.add(value)
    return None


def _row_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows regrouped: small tables together, large ones apart, by rows and by bytes."""
    waiting: list[pa.Table] = []
    rows = size = 0
    for table in tables:
        for piece in _pieces(table):
            if waiting and (rows + piece.num_rows > MAX_GROUP_ROWS or size + piece.nbytes > MAX_GROUP_BYTES):
                yield pa.concat_tables(waiting)
                waiting, rows, size = [], 0, 0
            waiting.append(piece)
            rows, size = rows + piece.num_rows, size + piece.nbytes
    if waiting:
        yield pa.concat_tables(waiting)


def _pieces(table: pa.Table) -> Iterator[pa.Table]:
    if table.num_rows == 0:
        return
    row_bytes = max(1, table.nbytes // table.num_rows)
    step = max(1, min(MAX_GROUP_ROWS, MAX_GROUP_BYTES // row_bytes))
    for start in range(0, table.num_rows, step):
        yield table.slice(start, step)
