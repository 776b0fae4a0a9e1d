"""Optional deduplication by meaning: problems whose sentence vectors nearly agree, though their words do not.

Two problems say the same when the cosine of their vectors is at least the threshold *and* they hold the same numbers,
in any order. Sentence models hardly see a changed number, and a problem with other numbers is another problem
(stages/deduplication.py). So only problems of the same numbers are compared, each with every other: nothing is missed,
and the cost grows with the square of the largest such group, in practice of the problems without any number.

Precedence is that of deduplication: published problems, then ids. Vectors are rounded to whole numbers below 2^20, so
their products are exact, and the outcome does not depend on how a linear algebra library adds them up. The vectors
themselves come from a model, whose last digits another machine may round otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from promptcot_assets.text.ngrams import Hashes, mix, tokenize

Embed = Callable[[Sequence[str]], NDArray[np.float32]]  # texts -> unit vectors [texts, width]
_ONE = 1 << 20  # what a unit vector's largest possible entry is rounded to
_BLOCK = 256  # problems compared with all before them at once
_TEXTS = 1024  # embedded at once

_MEANING_FIELDS: list[tuple[str, Any]] = [
    ("id", pa.string()),
    ("numbers", pa.int64()),  # a hash of the numbers in the text, in any order
    ("vector", pa.list_(pa.int32())),  # the unit vector, rounded to whole 2^-20ths
]
_FALL_FIELDS: list[tuple[str, Any]] = [("id", pa.string()), ("survivor_id", pa.string()), ("similarity", pa.float64())]
MEANING_SCHEMA = pa.schema(_MEANING_FIELDS)
FALL_SCHEMA = pa.schema(_FALL_FIELDS)


def meanings(problems: Any, embed: Embed) -> Any:
    """A table of MEANING_SCHEMA for the rows (`id`, `text`) of a table."""
    tables = [MEANING_SCHEMA.empty_table()]
    for start in range(0, len(problems), _TEXTS):
        rows = problems.slice(start, _TEXTS)
        texts = rows["text"].to_pylist()
        vectors = embed(texts)
        is_vector = np.isfinite(vectors).all(axis=1, keepdims=True)  # else the text cannot be embedded: like no other
        rounded = np.rint(np.where(is_vector, vectors, 0) * _ONE).astype(np.int32)
        columns = [rows["id"].cast(pa.string()), _numbers(texts).view(np.int64), list(rounded)]
        tables.append(pa.table(columns, schema=MEANING_SCHEMA))
    return pa.concat_tables(tables)


def semantic_duplicates(batch: Any, former: Any, threshold: float) -> Any:
    """Which rows of `batch` say what a row of `former` or a staying row of `batch` with a lesser id says.

    Both are tables of MEANING_SCHEMA. One row of FALL_SCHEMA for each that falls, in id order; the survivor is the most
    similar one (of equals, the one with precedence).
    """
    batch = batch.sort_by("id")
    rows = pa.concat_tables([former, batch])
    groups = rows["numbers"].to_numpy()
    order = np.argsort(groups, kind="stable")  # former ones stay first in their group
    falls: list[tuple[int, int, float]] = []
    for group in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
        published = int(np.searchsorted(group, len(former)))
        if published < len(group) > 1:
            vectors = np.array(rows["vector"].take(group).to_pylist(), np.float64)
            found = _fallen(vectors, published, threshold)
            falls += [(int(group[row]), int(group[survivor]), cosine) for row, survivor, cosine in found]
    ids = rows["id"].to_pylist()
    return pa.Table.from_pylist(
        [{"id": ids[row], "survivor_id": ids[other], "similarity": cosine} for row, other, cosine in sorted(falls)],
        FALL_SCHEMA,
    )


def _fallen(vectors: NDArray[np.float64], published: int, threshold: float) -> list[tuple[int, int, float]]:
    """`(row, survivor, cosine)` of the rows that fall; the first `published` ones stay."""
    stays = np.ones(len(vectors), bool)
    falls = []
    for start in range(published, len(vectors), _BLOCK):
        end = min(start + _BLOCK, len(vectors))
        cosines = vectors[start:end] @ vectors[:end].T / float(_ONE) ** 2
        for row in np.flatnonzero((np.tril(cosines, start - 1) >= threshold).any(axis=1)) + start:
            before = np.where(stays[:row], cosines[row - start, :row], -1.0)
            survivor = int(before.argmax())
            if before[survivor] >= threshold:
                stays[row] = False
                falls.append((int(row), survivor, float(before[survivor])))
    return falls


def _numbers(texts: Sequence[str]) -> Hashes:
    """One hash a text, equal when the same numbers occur in them equally often. [texts]"""
    tokens = tokenize(texts)
    numbers = np.flatnonzero(tokens.numeric)
    sums = np.concatenate((np.zeros(1, np.uint64), np.cumsum(mix(tokens.hashes[numbers]))))
    limits = np.searchsorted(numbers, tokens.offsets)
    return sums[limits[1:]] - sums[limits[:-1]]
