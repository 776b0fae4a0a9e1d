"""Shards of work in progress: each finished shard is a file, so a killed run resumes at the first missing one."""

from __future__ import annotations

import hashlib
import shutil
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from promptcot_assets.lake.disk import sync
from promptcot_assets.lake.ref import canonical_json

T = TypeVar("T")


class Spool:
    """The shards of one computation, in a folder named after its fingerprint: other settings never meet old shards."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def map(
        self,
        phase: str,
        items: Sequence[T],
        function: Callable[[T], pa.Table],
        key: Callable[[T], str] | None = None,
    ) -> Iterator[pa.Table]:
        """`function(item)` for every item, in order, each computed once: a finished shard is read from its file.

        A shard is known by its place and by `key(item)`; without `key` by the item's content (a table's rows or the
        canonical JSON). A damaged shard file is computed again, with a warning. `function` must give the same table
        whenever it is called, else a resumed run differs from an uninterrupted one.
        """
        folder = self.folder / phase
        for index, item in enumerate(items):
            name = hashlib.sha256((key or _content)(item).encode()).hexdigest()[:16]
            path = folder / f"{index:06d}-{name}.parquet"
            table = _read(path)
            if table is None:
                table = function(item)
                _write(path, table)
            yield table

    def clear(self) -> None:
        """Remove all shards; called when their rows are committed."""
        discarded = self.folder.with_name(f".{self.folder.name}.{uuid.uuid4().hex}")
        try:
            self.folder.rename(discarded)  # at once for others who may be writing the same shards
        except FileNotFoundError:
            return
        shutil.rmtree(discarded)


def _content(item: object) -> str:
    if isinstance(item, pa.Table | pa.RecordBatch):
        return canonical_json([item.schema.names, [str(kind) for kind in item.schema.types], item.to_pylist()])
    return canonical_json(item)


def _read(path: Path) -> pa.Table | None:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return file.read()
    except FileNotFoundError:
        return None
    except (pa.ArrowException, OSError) as error:
        warnings.warn(f"shard {path} is damaged and will be computed again: {error}", stacklevel=3)
        return None


def _write(path: Path, table: pa.Table) -> None:
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    for attempt in (1, 2):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # plain nested names: a shard read back must have the schema it was computed with
            pq.write_table(table, part, compression="zstd", write_page_checksum=True, use_compliant_nested_type=False)
            sync(part)
            part.rename(path)
            return
        except FileNotFoundError:  # a twin finished and cleared the folder in between
            if attempt == 2:
                raise
