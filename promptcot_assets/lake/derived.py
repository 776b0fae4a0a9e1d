"""Tables that follow from committed rows alone, kept so that they are computed once: search indexes.

    home/derived/<kind>/<asset>/<partition>-<data version>.<checksum>.arrow

They are named after the content they were computed from, so they are never stale, and memory-mapped, so that only what
is read is held. Before it is mapped, a file's bytes are held against the checksum in its name, once per process.
Nothing is lost with them: a missing or damaged one is made again.
"""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa

from promptcot_assets.lake.disk import complete, file_hash, sync, written
from promptcot_assets.lake.ref import Ref

_CHECKSUM = 16  # hex digits in a file's name


def derived(home: Path, kind: str, ref: Ref, make: Callable[[], pa.Table]) -> pa.Table:
    """`make()`, which must be a function of `kind` and the rows of `ref` alone; from its file once it has one.

    `kind` names the computation and its settings and can be part of a path. Files of other versions of the partition
    are removed: who still has one mapped keeps it.
    """
    folder = home / "derived" / kind / ref.asset
    name = f"{ref.partition}-{ref.data_version}"
    path = _intact(folder, name)
    if path is None:
        path = _write(folder, name, make())
        for other in folder.glob(f"{ref.partition}-*.arrow"):
            if other != path and other.name.rpartition("-")[0] == ref.partition:
                other.unlink(missing_ok=True)
    return _opened(path)


def mapped(path: Path, table: pa.Table) -> pa.Table:
    """The same table lying in a file, to be read from there page by page instead of from memory."""
    with complete(path) as draft:
        _write_arrow(draft, table)
    return _opened(path)


def unfinished(home: Path) -> Iterator[Path]:
    """Files of tables that are being written, or were when their process was killed; nobody reads those again."""
    yield from sorted(home.glob("derived/**/.*.arrow.*"))


def _intact(folder: Path, name: str) -> Path | None:
    """The file of this name whose bytes are those that were written; others of the name are damaged, which is said."""
    for path in sorted(folder.glob(f"{name}.*arrow")):
        try:
            if file_hash(path)[:_CHECKSUM] == path.name.removeprefix(f"{name}.").removesuffix(".arrow"):
                return path
            reason = "its checksum differs"
        except OSError as error:
            reason = str(error)
        warnings.warn(f"{path} is damaged and will be computed again: {reason}", stacklevel=3)
    return None


def _opened(path: Path) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def _write(folder: Path, name: str, table: pa.Table) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{name}.arrow.{uuid.uuid4().hex}"  # as `unfinished` knows it
    try:
        with written(f"search index {name}", folder):
            _write_arrow(part, table)
            path = folder / f"{name}.{file_hash(part)[:_CHECKSUM]}.arrow"
            sync(part)
            part.rename(path)
            sync(folder)
    finally:
        part.unlink(missing_ok=True)
    return path


def _write_arrow(path: Path, table: pa.Table) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
