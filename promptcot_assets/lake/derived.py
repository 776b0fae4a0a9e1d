"""Tables that follow from committed rows alone, kept so that they are computed once: search indexes.

    home/derived/<kind>/<asset>/<partition>-<data version>.arrow

They are named after the content they were computed from, so they are never stale, and memory-mapped, so that opening
one costs nothing and reading it costs what is read. Nothing is lost with them: a missing or damaged one is made again.
"""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa

from promptcot_assets.lake.disk import sync
from promptcot_assets.lake.ref import Ref


def derived(home: Path, kind: str, ref: Ref, make: Callable[[], pa.Table]) -> pa.Table:
    """`make()`, which must be a function of `kind` and the rows of `ref` alone; from its file once it has one.

    `kind` names the computation and its settings and can be part of a path. Files of other versions of the partition
    are removed: who still has one mapped keeps it.
    """
    folder = home / "derived" / kind / ref.asset
    path = folder / f"{ref.partition}-{ref.data_version}.arrow"
    table = _opened(path)
    if table is None:
        _write(path, make())
        for other in folder.glob(f"{ref.partition}-*.arrow"):
            if other != path and other.name.rpartition("-")[0] == ref.partition:
                other.unlink(missing_ok=True)
        table = _opened(path)
        assert table is not None  # it was written a moment ago
    return table


def mapped(path: Path, table: pa.Table) -> pa.Table:
    """The same table lying in a file, to be read from there page by page instead of from memory."""
    _write(path, table)
    opened = _opened(path)
    assert opened is not None
    return opened


def unfinished(home: Path) -> Iterator[Path]:
    """Files of tables that are being written, or were when their process was killed; nobody reads those again."""
    yield from sorted(home.glob("derived/**/.*.arrow.*"))


def _opened(path: Path) -> pa.Table | None:
    try:
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except FileNotFoundError:
        return None
    except (pa.ArrowException, OSError) as error:
        warnings.warn(f"{path} is damaged and will be computed again: {error}", stacklevel=3)
        return None


def _write(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")  # as `unfinished` knows it
    try:
        with pa.OSFile(str(part), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table.combine_chunks())
        sync(part)
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)
