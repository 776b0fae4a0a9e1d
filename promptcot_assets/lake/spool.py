"""Shards of work in progress: each finished shard is a file, so a killed run resumes at the first missing one."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import threading
import uuid
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from promptcot_assets.lake.checkpoints import is_same_folder
from promptcot_assets.lake.disk import cannot_write, complete
from promptcot_assets.lake.errors import LakeError
from promptcot_assets.lake.ref import canonical_json
from promptcot_assets.lake.stream import RowStream

T = TypeVar("T")


class Spool:
    """The shards of one computation, in a folder named after its fingerprint: other settings never meet old shards.

    Several processes may share the folder. Who has read or written a shard holds a shared lock on it, until the shards
    are cleared or neither this object nor rows of `collect` are left; garbage collection leaves a locked folder alone.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._claiming = threading.Lock()  # shards may be worked on in several threads
        self._lock: int | None = None
        self._release: Callable[[], object] = lambda: None

    def map(
        self,
        phase: str,
        items: Iterable[T],
        function: Callable[[T], pa.Table],
        key: Callable[[T], str] | None = None,
        at_once: int = 1,
    ) -> Iterator[pa.Table]:
        """`function(item)` for every item, in order, each computed once: a finished shard is read from its file.

        A shard is known by its place and by `key(item)`; without `key` by the item's content (a table's rows or the
        canonical JSON). A damaged shard file is computed again, with a warning. `function` must give the same table
        whenever it is called, else a resumed run differs from an uninterrupted one. at_once: how many items are worked
        on side by side, each in a thread of its own; when one fails, those that run are finished first and kept.
        """
        yield from (table for _, table in self._finished(phase, items, function, key, at_once))

    def collect(
        self,
        phase: str,
        items: Iterable[T],
        function: Callable[[T], pa.Table],
        at_once: int = 1,
        on_shard: Callable[[int], None] = lambda index: None,
    ) -> RowStream:
        """The rows of all shards, computed as by `map` and left in their files. `on_shard` is told of each in order."""
        files: list[Path] = []
        count = 0
        for path, table in self._finished(phase, items, function, None, at_once):
            files.append(path)
            count += table.num_rows
            on_shard(len(files) - 1)
        return RowStream(lambda: map(self._stored, files), count)

    def _finished(
        self,
        phase: str,
        items: Iterable[T],
        function: Callable[[T], pa.Table],
        key: Callable[[T], str] | None,
        at_once: int,
    ) -> Iterator[tuple[Path, pa.Table]]:
        folder = self.folder / phase

        def shard(index: int, item: T) -> tuple[Path, pa.Table]:
            name = hashlib.sha256((key or _content)(item).encode()).hexdigest()[:16]
            path = folder / f"{index:06d}-{name}.parquet"
            self._claim()  # finished shards may be older than what garbage collection spares
            table = _read(path)
            if table is None:
                table = function(item)
                _write(path, table)
                self._claim()  # the folder may be new
            return path, table

        if at_once == 1:  # in the caller's own thread: not every engine can be used from another
            yield from (shard(index, item) for index, item in enumerate(items))
            return
        threads, ahead = ThreadPoolExecutor(at_once), deque[Future[tuple[Path, pa.Table]]]()
        try:
            for index, item in enumerate(items):
                ahead.append(threads.submit(shard, index, item))
                if len(ahead) == 2 * at_once:  # so that a slow shard does not leave the other threads idle
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        except Exception:
            threads.shutdown(cancel_futures=True)
            raise
        finally:  # interrupted, nobody waits for what runs: it ends with the engine that the caller closes
            threads.shutdown(wait=False, cancel_futures=True)

    def clear(self) -> None:
        """Remove all shards; called when their rows are committed."""
        discarded = self.folder.with_name(f".{self.folder.name}.{uuid.uuid4().hex}")
        try:
            self.folder.rename(discarded)  # at once for others who may be writing the same shards
        except FileNotFoundError:
            return
        else:
            shutil.rmtree(discarded)
        finally:
            with self._claiming:
                self._let_go()

    def _claim(self) -> None:
        """Hold the lock of the folder that is there now, if one is: a twin may have cleared the former one."""
        with self._claiming:
            while self._lock is None or not is_same_folder(self._lock, self.folder):
                self._let_go()
                try:
                    lock = os.open(self.folder, os.O_RDONLY)
                except FileNotFoundError:
                    return
                self._release = weakref.finalize(self, os.close, lock)
                fcntl.flock(lock, fcntl.LOCK_SH)  # waits for garbage collection only, which may just remove the folder
                self._lock = lock

    def _let_go(self) -> None:
        self._lock = None
        self._release()

    def _stored(self, path: Path) -> pa.Table:
        """A shard that was there a moment ago. Raises: LakeError when it is gone or damaged since."""
        table = _read(path)
        if table is None:
            raise LakeError(
                f"shard {path} was lost while its rows were read; run the same step again, it computes it anew"
            )
        return table


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
    for attempt in (1, 2):
        try:
            with complete(path) as draft:
                # plain nested names: a shard read back must have the schema it was computed with
                pq.write_table(
                    table, draft, compression="zstd", write_page_checksum=True, use_compliant_nested_type=False
                )
            return
        except FileNotFoundError:  # a twin finished and cleared the folder in between
            if attempt == 2:
                raise
        except OSError as error:
            raise cannot_write(f"shard {path.name}", path.parent, error) from error
