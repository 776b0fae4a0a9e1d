"""What readers think of rows. No asset makes it: readers do, in the reader and by `promptcot mark`."""

from __future__ import annotations

import pyarrow as pa

from promptcot_assets.tables.columns import integer, row_id, text

MARKS = "marks"
COLUMNS = (
    row_id("mark_id", "content hash of the mark and its number"),
    integer("number", "from 0, in the order in which the marks were made"),
    text("row_id", "row, or model, that is marked"),
    text("table", "table that the row is in; role of a model"),
    text("version", "exact version that was read: asset[partition]@version"),
    text("data_version", "content hash of that version"),
    text("verdict", "good or bad"),
    text("reason", "in the reader's words; may be empty"),
    text("reader", "user of the operating system"),
)
SCHEMA = pa.schema(
    [column.field for column in COLUMNS],
    metadata={"comment": "what readers think of rows; of a reader's marks on one row the last counts"},
)
