"""Rows too many to hold: read from their files a batch at a time, as often as one likes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

Row = dict[str, Any]
"""One row of a table, as promptcot_assets.tables declares it."""


class Rows(Protocol):
    """Rows that can be counted and gone through as often as one likes: a list, or what is read from files."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Row]: ...


@dataclass(frozen=True)
class RowStream:
    """`Rows` of which one batch is in memory. `batches` opens them anew."""

    batches: Callable[[], Iterator[pa.Table | pa.RecordBatch]]
    count: int

    @classmethod
    def of(cls, table: pa.Table, rows_at_once: int = 2048) -> RowStream:
        """The rows of a table as Python objects, a few at a time."""
        return cls(lambda: iter(table.to_batches(max_chunksize=rows_at_once)), table.num_rows)

    @staticmethod
    def of_rows(rows: Callable[[], Iterable[Row]]) -> Transformed:
        """Rows that are made anew at every iteration."""
        return Transformed((), lambda _: rows())

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Row]:
        for batch in self.batches():
            yield from batch.to_pylist()

    def through(self, transform: Callable[[Iterable[Row]], Iterable[Row]]) -> Transformed:
        """What `transform` makes of the rows, made anew at every iteration."""
        return Transformed(self, transform)


class Transformed:
    """Rows derived from a stream one by one; counting them takes a pass of its own."""

    def __init__(self, stream: Iterable[Row], transform: Callable[[Iterable[Row]], Iterable[Row]]) -> None:
        self._stream, self._transform = stream, transform
        self._count: int | None = None

    def __len__(self) -> int:
        if self._count is None:
            self._count = sum(1 for _ in self)
        return self._count

    def __iter__(self) -> Iterator[Row]:
        return iter(self._transform(self._stream))


def batched(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    """Lists of `size` rows, the last one shorter."""
    left = iter(rows)
    while batch := list(itertools.islice(left, size)):
        yield batch
