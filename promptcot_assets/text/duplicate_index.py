"""The index of deduplication: what a batch of problems is compared with, as a plain table.

Each batch adds one *run* of rows, sorted by id. A run carries its sorted postings (text/sketches.py) dealt out over
its rows, so a new batch finds its candidates by binary search and costs its own size, not the index's. Whole runs, in
memory or memory-mapped, are taken as they are; rows may also come back from storage in any order, and a run that lost
rows is hashed again from its texts.
"""

from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from promptcot_assets.text.ngrams import Positions
from promptcot_assets.text.sketches import DeduplicationError, Each, Rule, sketch

_FIELDS: list[tuple[str, Any]] = [
    ("id", pa.string()),
    ("text", pa.large_string()),
    ("rule", pa.string()),  # the settings the run was made with
    ("run", pa.int64()),  # names the run: a hash of its ids and settings
    ("position", pa.int64()),  # of the row in its run
    ("size", pa.int64()),  # rows in the run
    ("postings", pa.list_(pa.int64())),
]
INDEX_SCHEMA = pa.schema(_FIELDS)
INDEX_VERSION = 1  # of the hashes in it: another one when text/ngrams.py or text/sketches.py hash otherwise
_PROBES = 1024  # rows of a run whose place is looked at


def new_run(ids: Any, texts: Any, postings: Positions, rule: Rule) -> Any:
    """A table of one run. `ids` and `texts` are Arrow arrays in id order; `postings` [bands, rows] is sorted."""
    size = len(ids)
    if not size:
        return INDEX_SCHEMA.empty_table()
    ids = ids.cast(pa.string())
    name = sha256(str(rule).encode())
    for one in ids.buffers()[1:]:
        name.update(one)
    offsets: Any = pa.array(np.arange(size + 1, dtype=np.int32) * (postings.size // size))
    columns = {
        "id": ids,
        "text": texts,
        "rule": pa.repeat(str(rule), size),
        "run": pa.repeat(int.from_bytes(name.digest()[:8]) >> 1, size),
        "position": np.arange(size),
        "size": pa.repeat(size, size),
        "postings": pa.ListArray.from_arrays(offsets, pa.array(postings.reshape(-1))),
    }
    return pa.table(columns).cast(INDEX_SCHEMA)


def hashed_run(ids: Any, texts: Any, rule: Rule, each: Each = map) -> Any:
    """A run of all these rows, whether or not they are near each other. Arrow arrays, in any order."""
    order = pc.sort_indices(ids)
    ids, texts = ids.take(order), texts.take(order)
    _, postings = sketch(texts, np.arange(len(ids)), rule, each)
    return new_run(ids, texts, postings, rule)


def runs_of(index: Any, rule: Rule) -> list[Any]:
    """The runs of an index, each one record batch, whole and in order, whatever storage did to the rows.

    Raises: DeduplicationError when the table is no index, or one made with other settings.
    """
    if index is None:
        return []
    missing = [name for name in INDEX_SCHEMA.names if name not in index.column_names]
    if missing:
        raise DeduplicationError(f"the index lacks {missing}; give `Deduplicated.index` of the former batch, or None")
    whole: list[Any] = []
    rest: list[Any] = []
    for batch in index.select(INDEX_SCHEMA.names).cast(INDEX_SCHEMA).to_batches():
        if len(batch):
            (whole if _is_whole(batch) else rest).append(batch)
    runs = [*whole, *_mended(pa.Table.from_batches(rest, INDEX_SCHEMA), rule)]
    others = {found for run in runs if (found := run["rule"][0].as_py()) != str(rule)}
    if others:
        raise DeduplicationError(
            f"the index was made with {min(others)!r}, asked for is {str(rule)!r}: keep those settings or start anew"
        )
    return runs


def compact(index: Any) -> Any:
    """The same index as one run: worth it when hundreds of batches have added one each. Costs the index's size."""
    if not len(index):
        return INDEX_SCHEMA.empty_table()
    rule = Rule.read(index["rule"][0].as_py())
    whole = pa.Table.from_batches(runs_of(index, rule)).combine_chunks()
    return hashed_run(whole["id"].combine_chunks(), whole["text"].combine_chunks(), rule)


def postings_of(run: Any) -> Positions:
    """The sorted postings of a run, without copying them."""
    flat: Positions = run["postings"].flatten().to_numpy()
    return flat


def _is_whole(batch: Any) -> bool:
    """Whether the rows are one run as it was made. Looks at a thousand rows: any reordering would show there."""
    places = np.unique(np.linspace(0, len(batch) - 1, _PROBES).astype(np.int64))
    run, position, size = (batch[name].take(pa.array(places)).to_numpy() for name in ("run", "position", "size"))
    return bool((position == places).all() and (size == len(batch)).all() and (run == run[0]).all())


def _mended(rows: Any, rule: Rule) -> Iterator[Any]:
    """The runs of rows that are not in order."""
    rows = rows.sort_by([("run", "ascending"), ("position", "ascending")])
    for run in pc.unique(rows["run"]):
        (batch,) = rows.filter(pc.equal(rows["run"], run)).combine_chunks().to_batches()
        if _is_whole(batch):
            yield batch
        else:
            yield from hashed_run(batch["id"], batch["text"], rule).combine_chunks().to_batches()


def as_table(runs: Iterable[Any]) -> Any:
    """An index of runs: record batches or tables."""
    tables = [pa.Table.from_batches([run]) if isinstance(run, pa.RecordBatch) else run for run in runs]
    return pa.concat_tables([INDEX_SCHEMA.empty_table(), *tables])
