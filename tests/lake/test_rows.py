from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from promptcot_assets.lake.rows import MAX_GROUP_BYTES, MAX_GROUP_ROWS, first_duplicate, write_rows


def test_first_duplicate_names_the_later_row(tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"id": ["a", "b", None, None, "c", "b", "a"]}), file, row_group_size=2)
    assert first_duplicate(file, "id") == (5, "b")
    pq.write_table(pa.table({"id": ["a", "b", None, None]}), file)
    assert first_duplicate(file, "id") is None


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(0, 3 * MAX_GROUP_ROWS), max_size=6), width=st.sampled_from([0, 1000, 50_000]))
def test_row_groups_are_few_and_bounded_whatever_the_batches(sizes: list[int], width: int, tmp_path: Path) -> None:
    sizes = [min(size, 40) if width == 50_000 else min(size, 9000) for size in sizes]
    total = sum(sizes)
    whole = pa.table({"row": pa.array(range(total), pa.int64()), "text": ["x" * width] * total})
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    parts = [whole.slice(start, size) for start, size in zip(starts, sizes, strict=True)]
    write_rows(tmp_path / "rows.parquet", parts, whole.schema)
    with pq.ParquetFile(tmp_path / "rows.parquet") as file:
        assert file.read(["row"])["row"].to_pylist() == list(range(total))
        groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    assert all(rows <= MAX_GROUP_ROWS and rows * width <= MAX_GROUP_BYTES for rows in groups)
    assert all(a + b > MAX_GROUP_ROWS or (a + b) * (width + 12) > MAX_GROUP_BYTES for a, b in pairwise(groups))
