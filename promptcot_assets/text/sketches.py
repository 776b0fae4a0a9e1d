"""Sketches of texts: what tells near duplicates apart without comparing every pair (MinHash and its bands).

A text is the set of its runs of `shingle` tokens. MinHash gives each set so many values that two sets agree in each
with the probability of their Jaccard similarity (circulant permutations: one random table read at many shifts, Li & Li,
C-MinHash, 2022). Values are joined in bands; texts that agree in all values of a band are candidates, to be compared
exactly. A pair at the threshold is missed by every band with probability under 1e-6, a more similar one less often.

A *posting* is band, band key and position of a text in one number. Sorted postings are an index: those with equal band
and key stand together, and another text's are found by binary search.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from math import ceil, log
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from promptcot_assets.text.ngrams import Hashes, Positions, Tokens, mix, ranges, tokenize

Each = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]  # `map`, or one that shares out the work

PERMUTATIONS = 128  # at most; as many as the threshold asks for
MAX_ROWS = 1 << 24
KEY_BITS, POSITION_BITS = 32, 24  # with 7 bits for the band a posting is a positive int64, which every store can hold
POSITION = MAX_ROWS - 1
_MISS = 1e-6  # the largest tolerated probability of missing a pair exactly at the threshold
_CHUNK, _CHUNK_BYTES = 256, 1 << 20  # texts handled together: their arrays stay in the core's cache
_GATHERED = 4096  # shingles whose values are looked up together, for the same reason


class DeduplicationError(ValueError):
    """Rows, settings or an index that cannot be deduplicated: names the row or setting and the mend."""


@dataclass(frozen=True)
class Rule:
    """The settings that decide which texts are the same."""

    threshold: float
    shingle: int
    numbers: str

    def __str__(self) -> str:
        return f"threshold={self.threshold} shingle={self.shingle} numbers={self.numbers}"

    @classmethod
    def read(cls, text: str) -> "Rule":
        threshold, shingle, numbers = (setting.partition("=")[2] for setting in text.split(" "))
        return cls(float(threshold), int(shingle), numbers)

    def checked(self) -> "Rule":
        """Raises: DeduplicationError naming the setting out of range."""
        if not 0.2 <= self.threshold <= 1:
            raise DeduplicationError(f"threshold={self.threshold}: the similarity of near duplicates lies in [0.2, 1]")
        if self.shingle < 1:
            raise DeduplicationError(f"shingle={self.shingle}: a shingle has at least one token")
        if self.numbers not in ("content", "text"):
            raise DeduplicationError(f'numbers={self.numbers!r}: choose "content" (they must agree) or "text"')
        return self

    @cached_property
    def banding(self) -> tuple[int, int]:
        """`(bands, values a band)`: the most values a band, so the fewest false candidates, for the tolerated miss."""
        for values in range(16, 1, -1):
            missed_by_one = 1 - self.threshold**values
            bands = ceil(log(_MISS) / log(missed_by_one)) if missed_by_one else 1
            if bands * values <= PERMUTATIONS:
                return bands, values
        return PERMUTATIONS, 1


class Shingles(NamedTuple):
    """Shingles of texts: those of text i are `hashes[starts[i] : starts[i] + counts[i]]`, at least one."""

    hashes: Hashes
    starts: Positions
    counts: Positions

    def places(self) -> Positions:
        """Where the shingles of all texts are, one text after the other."""
        return ranges(self.starts, self.counts)


def shingles(tokens: Tokens, n: int) -> Shingles:
    """Runs of `n` tokens of each text; a text of fewer tokens is one shingle as a whole."""
    hashes, counts = tokens.ngrams(n)
    starts = tokens.offsets[:-1]
    short = np.flatnonzero(counts == 0)
    if len(short):
        wholes = len(hashes) + np.arange(len(short))
        hashes = np.concatenate((hashes, tokens.fingerprints()[short]))
        starts, counts = starts.copy(), counts.copy()
        starts[short], counts[short] = wholes, 1
    return Shingles(hashes, starts, counts)


def sketch(texts: Any, names: Positions, rule: Rule, each: Each = map) -> tuple[Hashes, Positions]:
    """Fingerprints [texts] and postings [bands, texts] of an Arrow array of large strings, each band's sorted.

    `names[i]` is the position that the postings of text i name; `each` shares out the work.
    """
    bands, _ = rule.banding
    fingerprints = np.empty(len(texts), np.uint64)
    postings = np.empty((bands, len(texts)), np.int64)

    def fill(rows: slice) -> None:
        tokens = tokenize(texts[rows])
        fingerprints[rows] = tokens.fingerprints()
        keys = band_keys(tokens, rule)
        keys <<= POSITION_BITS
        np.bitwise_or(keys, names[rows], out=postings[:, rows])

    list(each(fill, _chunks(texts)))
    for band, in_order in enumerate(each(in_ascending_order, postings)):
        postings[band] = in_order
    return fingerprints, postings


@contextmanager
def threads(workers: int) -> Iterator[Each]:
    """`map`, done by so many threads. One worker is the caller itself."""
    if workers == 1:
        yield map
    else:
        with ThreadPoolExecutor(workers) as pool:
            yield pool.map


def _chunks(texts: Any) -> list[slice]:
    """Texts in chunks: a few hundred, fewer of long ones."""
    ends = np.cumsum(pc.binary_length(texts).to_numpy())
    chunks = []
    start = 0
    while start < len(ends):
        before = int(ends[start - 1]) if start else 0
        fitting = int(np.searchsorted(ends, before + _CHUNK_BYTES, "right"))
        end = min(start + _CHUNK, max(fitting, start + 1))
        chunks.append(slice(start, end))
        start = end
    return chunks


@cache
def _shifts(values: int) -> NDArray[np.void]:
    """Entry s is the values from s on of one random table: what so many permutations make of a shingle s."""
    table = (mix(np.arange((1 << 16) + values, dtype=np.uint64)) >> np.uint64(48)).astype(np.uint16)
    return _windows(table, values)[: 1 << 16]


def _windows(array: NDArray[np.uint16], width: int) -> NDArray[np.void]:
    """Entry i is `array[i : i + width]` as one item: numpy copies such items several times as fast as rows."""
    return np.ndarray((len(array) - width + 1,), f"V{2 * width}", array.data, strides=(2,))


def minhash(found: Shingles, values: int) -> NDArray[np.uint16]:
    """MinHash signatures [texts, values] of sets of shingles."""
    signatures = np.empty((len(found.counts), values), np.uint16)
    by_count = np.argsort(found.counts)
    starts, counts = found.starts[by_count], found.counts[by_count]
    widest = int(counts.max(initial=1))
    slots = np.concatenate(((found.hashes >> np.uint64(48)).astype(np.uint16), np.zeros(widest, np.uint16)))
    step = max(1, _GATHERED // widest)
    for some in (slice(start, start + step) for start in range(0, len(counts), step)):
        width = int(counts[some].max())
        rows = _windows(slots, width)[starts[some]].view(np.uint16).reshape(-1, width)
        # a text's row is filled up with its first shingle, which cannot change a minimum
        np.copyto(rows, rows[:, :1], where=np.arange(width) >= counts[some][:, None])
        looked_up = _shifts(values)[rows.T.astype(np.intp, order="C")].view(np.uint16)
        signatures[by_count[some]] = np.minimum.reduce(looked_up).reshape(-1, values)
    return signatures


def band_keys(tokens: Tokens, rule: Rule) -> Positions:
    """Band and key [bands, texts]; texts that share one are candidates. Texts with other numbers share none."""
    bands, values = rule.banding
    signatures = minhash(shingles(tokens, rule.shingle), bands * values).reshape(-1, bands, values)
    keys = np.zeros((bands, len(signatures)), np.uint64)
    if rule.numbers == "content":
        keys += tokens.number_fingerprints()
    for value in range(values):
        keys *= np.uint64(0x9E3779B97F4A7C15)
        keys += signatures[:, :, value].T
    return (mix(keys) >> np.uint64(64 - KEY_BITS)).astype(np.int64) | (np.arange(bands)[:, None] << KEY_BITS)


# --- arrays of positions ---


def in_ascending_order(values: Positions) -> Positions:
    """np.sort; that one is five times slower where AVX-512 stores are slow (AMD's Zen 4)."""
    import polars as pl

    return pl.Series(values).sort(multithreaded=False).to_numpy()


def sorted_set(values: Positions) -> Positions:
    """np.unique, several times as fast."""
    values = in_ascending_order(values)
    return values[np.concatenate(([True], values[1:] != values[:-1]))] if len(values) else values
