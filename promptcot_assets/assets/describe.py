"""How assets, rows and plots look in the Dagster UI. Values stay small: they live in the event log."""

from __future__ import annotations

import dagster as dg
import pyarrow as pa

SAMPLE_ROWS, SAMPLE_TEXT = 5, 160
COLUMN_TYPES = {"int64": "int", "double": "float", "bool": "bool"}
KINDS_OF_A_TABLE = {"deltalake", "parquet"}
KINDS_OF_A_MODEL = {"pytorch", "huggingface"}


def asset_page(name: str, schema: pa.Schema, partitioned: bool) -> dict[str, dg.MetadataValue]:
    """What an asset's page shows before anything is materialized: its columns, and where to go from there."""
    lineage = f"promptcot lineage {name}{' PARTITION' if partitioned else ''}"
    return {
        "dagster/column_schema": dg.MetadataValue.table_schema(column_schema(schema)),
        "query": dg.MetadataValue.text(f'promptcot sql "from {name} limit 5"'),
        "exact versions behind it": dg.MetadataValue.text(lineage),
        "made from": dg.MetadataValue.url(f"/assets/{name}?view=lineage&lineageScope=upstream&lineageDepth=20"),
        "used by": dg.MetadataValue.url(f"/assets/{name}?view=lineage&lineageScope=downstream&lineageDepth=20"),
    }


def sample(table: pa.Table) -> dg.TableMetadataValue:
    """The first rows, long texts cut."""
    records = [
        dg.TableRecord({name: _short(value) for name, value in row.items()})
        for row in table.slice(0, SAMPLE_ROWS).to_pylist()
    ]
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
    if value is None or isinstance(value, bool | int | float):
        return value
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= SAMPLE_TEXT else text[: SAMPLE_TEXT - 1] + "…"
