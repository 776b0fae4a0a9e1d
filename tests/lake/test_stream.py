from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from promptcot_assets.lake import RowStream

TABLE = pa.table({"n": list(range(10)), "text": [f"row {n}" for n in range(10)]})


def test_rows_come_in_order_as_often_as_one_likes_and_are_counted_without_being_read() -> None:
    opened: list[int] = []

    def batches() -> Iterator[pa.RecordBatch]:
        opened.append(1)
        yield from TABLE.to_batches(max_chunksize=3)

    stream = RowStream(batches, 10)
    assert len(stream) == 10 and opened == []
    assert list(stream) == TABLE.to_pylist() == list(stream)
    assert len(opened) == 2
    assert [row["n"] for row in RowStream.of(TABLE, rows_at_once=4)] == list(range(10))


def test_one_batch_at_a_time_is_read() -> None:
    read: list[int] = []

    def batches() -> Iterator[pa.RecordBatch]:
        for number, batch in enumerate(TABLE.to_batches(max_chunksize=5)):
            read.append(number)
            yield batch

    rows = iter(RowStream(batches, 10))
    assert next(rows)["n"] == 0 and read == [0]


def test_a_transformed_stream_is_made_anew_and_counted_by_itself() -> None:
    odd = RowStream.of(TABLE).through(lambda rows: (row for row in rows if row["n"] % 2))
    assert [row["n"] for row in odd] == [1, 3, 5, 7, 9] == [row["n"] for row in odd]
    assert len(odd) == 5
    assert len(RowStream.of(TABLE.slice(0, 0))) == 0 and not list(RowStream.of(TABLE.slice(0, 0)))
