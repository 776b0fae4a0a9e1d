"""A problem set from plain rows, for tests: through a lake of its own, as the asset makes it."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from promptcot_assets.lake import Provenance, Row
from promptcot_assets.settings.profile import Deduplication
from promptcot_assets.stages.synthesis.problem_set import Encoder, kept_rows, published, settle
from promptcot_assets.tables import SCHEMAS, open_lake


def assemble(
    rows: Sequence[Row],
    former: Sequence[Row],
    benchmarks: Sequence[Row],
    values: Deduplication,
    encoder: Encoder | None = None,
) -> tuple[list[Row], list[Row]]:
    """Rows of `problems` and of `dropped_problems`, three raw rows read at a time."""
    batches = pa.Table.from_pylist(list(rows), SCHEMAS["raw_problems"]).to_batches(max_chunksize=3)
    with tempfile.TemporaryDirectory() as folder:
        lake = open_lake(Path(folder))
        schema = pa.schema({"problem_id": pa.string(), "problem": pa.string()})
        ref = lake.commit("seeds", [pa.Table.from_pylist(list(former), schema)], schema, Provenance("1", "{}", 0))
        before = published(lake, [ref], values, encoder=encoder)
        fates = settle(batches, before, benchmarks, values, Path(folder), 2, encoder)
    kept = [row for table in kept_rows(batches, fates.kept) for row in table.to_pylist()]
    return kept, fates.dropped.to_pylist()
