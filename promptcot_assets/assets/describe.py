"""How assets, rows and plots look in the Dagster UI. Values stay small: they live in the event log."""

from __future__ import annotations

import dagster as dg
import pyarrow as pa

SAMPLE_ROWS, WHOLE_UP_TO, SAMPLE_TEXT = 5, 20, 160
COLUMN_TYPES = {
    "int64": "int", "double": "float", "bool": "bool",
    "list<item: string>": "array<string>", "list<item: int64>": "array<int>",
}  # fmt: skip
KINDS_OF_A_TABLE = {"deltalake", "parquet"}
KINDS_OF_A_MODEL = {"pytorch", "huggingface"}


def asset_page(name: str, schema: pa.Schema) -> dict[str, dg.MetadataValue]:
    """What an asset's page shows before anything is materialized: its columns, and where to go from there."""
    return {
        "dagster/column_schema": dg.MetadataValue.table_schema(column_schema(schema)),
        "query": dg.MetadataValue.text(f'promptcot sql "from {name} limit 5"'),
        "made from": dg.MetadataValue.url(f"/assets/{name}?view=lineage&lineageScope=upstream&lineageDepth=20"),
        "used by": dg.MetadataValue.url(f"/assets/{name}?view=lineage&lineageScope=downstream&lineageDepth=20"),
    }


def sample(table: pa.Table) -> dg.TableMetadataValue:
    """The first rows, of a small table all; long texts cut, numbers to six digits."""
    shown = table if table.num_rows <= WHOLE_UP_TO else table.slice(0, SAMPLE_ROWS)
    records = [dg.TableRecord({name: _short(value) for name, value in row.items()}) for row in shown.to_pylist()]
    return dg.MetadataValue.table(records, schema=column_schema(table.schema))


def column_schema(schema: pa.Schema) -> dg.TableSchema:
    """A lake schema as Dagster shows it: types, comments, which columns may be null."""
    return dg.TableSchema(
        [
            dg.TableColumn(
                field.name,
                COLUMN_TYPES.get(str(field.type), "string"),
                description=(field.metadata or {}).get(b"comment", b"").decode(),
                constraints=dg.TableColumnConstraints(nullable=field.nullable),
            )
            for field in schema
        ]
    )


def plot(markdown: str) -> dg.MarkdownMetadataValue:
    return dg.MetadataValue.md(markdown)


def _short(value: object) -> str | int | float | bool | None:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if value is None or isinstance(value, bool | int):
        return value
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= SAMPLE_TEXT else text[: SAMPLE_TEXT - 1] + "…"
