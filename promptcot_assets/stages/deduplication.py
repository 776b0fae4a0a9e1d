"""Deduplication: which problems of a batch say something that no earlier problem said (method.md section 4).

**When are two problems the same?** *Exactly*, when their normal forms agree (stages/ngrams.py: case, spacing,
punctuation and LaTeX dressing do not count; numbers and mathematical signs do). *Nearly*, when the same numbers occur
in the same order and the Jaccard similarity of their sets of `shingle` consecutive tokens is at least `threshold`.
Numbers are content: a template filled with other numbers is another problem, however long the text both share;
`numbers="text"` makes them mere words.

**Which of them stays?** Rows of the `index` (former batches) always stay. Within a batch rows take their turn in the
order of their ids, and a row falls if and only if it is the same as a row that stays and came before it. So in a chain
a ~ b ~ c whose ends differ, b falls when its id comes after that of a or c, and then both ends stay; else both ends
fall to b. The kept set is the greedy maximal independent set of the similarity graph in id order, and therefore
- it and all evidence are functions of the set of rows: neither row order nor the number of workers can change them;
- no two kept rows of a batch are the same, and every dropped row is the same as the survivor it names;
- a later batch never withdraws a row: the kept set depends on the batches' contents and their sequence alone.

**How is it found?** MinHash with 128 permutations (circulant: one random table read at 128 shifts, Li & Li, C-MinHash,
2022), cut into bands such that a pair at the threshold is missed with probability under 1e-6; rows that share a band
are compared by exact Jaccard. The greedy set is computed in parallel rounds (Blelloch, Fineman & Shun, 2012).

**The index** is a plain table of kept rows. Each batch adds one *run* of rows, which carries its (band key, position)
pairs sorted and dealt out over its rows in column `postings`: a new batch finds its candidates by binary search and so
costs its own size, not the index's. `compact` merges many runs into one. Rows may come back from storage in any order;
a run that lost rows is hashed again from its texts.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from hashlib import sha256
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from promptcot_assets.stages.ngrams import Hashes, Positions, Tokens, mix, tokenize

Row = dict[str, Any]
PERMUTATIONS = 128
_MISS = 1e-6  # the largest tolerated probability of missing a pair exactly at the threshold
_CHUNK = 256  # texts or pairs handled together: their arrays stay in the core's cache
# A posting is band (7 bits), band key (32) and position (24): a positive int64, which every store can hold.
_KEY_BITS, _POSITION_BITS = 32, 24
_MAX_ROWS = 1 << _POSITION_BITS
_POSITION = _MAX_ROWS - 1
_CHUNK_BYTES = 1 << 20
_HASH_BITS = 44  # of a shingle, beside a row number, when a chunk of pairs is compared

_INDEX_FIELDS: list[tuple[str, Any]] = [
    ("id", pa.string()),
    ("text", pa.large_string()),
    ("rule", pa.string()),  # the settings the run was made with
    ("run", pa.int64()),  # names the batch that added the row: a hash of its kept ids
    ("position", pa.int64()),  # of the row in its run
    ("size", pa.int64()),  # rows in the run
    ("postings", pa.list_(pa.int64())),
]
_DROPPED_FIELDS: list[tuple[str, Any]] = [
    ("id", pa.string()),
    ("survivor_id", pa.string()),
    ("similarity", pa.float64()),
    ("reason", pa.string()),  # exact | near
    ("shared_span", pa.string()),  # the longest stretch whose shingles the survivor has too; all of an exact copy
]
INDEX_SCHEMA = pa.schema(_INDEX_FIELDS)
DROPPED_SCHEMA = pa.schema(_DROPPED_FIELDS)


class DeduplicationError(ValueError):
    """Rows, settings or an index that cannot be deduplicated: names the row or setting and the mend."""


@dataclass(frozen=True)
class Deduplicated:
    """What stays, what falls and why, and the index that the next batch is compared with."""

    kept: Any  # the given rows that stay, in id order: a list of dicts, or a table if `problems` was one
    dropped: Any  # one row of DROPPED_SCHEMA for each other one, in id order; likewise
    index: Any  # pa.Table of INDEX_SCHEMA: the given index, then this batch's kept rows
    added: Any  # the new part of `index` alone: all that has to be written


@dataclass(frozen=True)
class _Rule:
    """The settings that decide which rows are the same."""

    threshold: float
    shingle: int
    numbers: str

    def __str__(self) -> str:
        return f"threshold={self.threshold} shingle={self.shingle} numbers={self.numbers}"

    @classmethod
    def read(cls, text: str) -> "_Rule":
        threshold, shingle, numbers = (setting.partition("=")[2] for setting in text.split(" "))
        return cls(float(threshold), int(shingle), numbers)

    def checked(self) -> "_Rule":
        if not 0.2 <= self.threshold <= 1:
            raise DeduplicationError(f"threshold={self.threshold}: the similarity of near duplicates lies in [0.2, 1]")
        if self.shingle < 1:
            raise DeduplicationError(f"shingle={self.shingle}: a shingle has at least one token")
        if self.numbers not in ("content", "text"):
            raise DeduplicationError(f'numbers={self.numbers!r}: choose "content" (they must agree) or "text"')
        return self

    @cached_property
    def rows_a_band(self) -> int:
        """The most rows a band, so the fewest false candidates, that still catch a pair at the threshold."""
        missed = {rows: (1 - self.threshold**rows) ** (PERMUTATIONS // rows) for rows in range(1, 17)}
        return max(rows for rows in missed if rows == 1 or missed[rows] <= _MISS)

    @property
    def bands(self) -> int:
        return PERMUTATIONS // self.rows_a_band


def deduplicate(
    problems: Any,
    index: Any = None,
    threshold: float = 0.8,
    shingle: int = 3,
    numbers: Literal["content", "text"] = "content",
    workers: int = 1,
) -> Deduplicated:
    """Keep the problems that are not the same as a kept problem before them; say of every other one which, and why.

    `problems` are rows with `id` (the order of precedence) and `text`, as a list of dicts or a `pa.Table`; other
    columns pass through. `index` is `Deduplicated.index` of the former batches. It must not hold this very batch, as
    when one is made anew: every row would fall to its own former self. `workers` threads do the hashing.

    Raises: DeduplicationError on a missing id or text, on one id with two texts, on bad settings, on more than 16
    million rows at once, and on an index made with other settings.
    """
    rule = _Rule(float(threshold), shingle, numbers).checked()
    batch = _Batch.of(problems)
    former = _checked_index(index, rule)
    fingerprints, postings = _sketch(batch, rule, workers)
    first_of = _first_equals(fingerprints)
    stands = first_of == np.arange(len(batch))
    postings = _only(stands, postings)
    falls = _falls_to_index(batch, former, postings, rule)
    stands[list(falls)] = False
    falls |= _falls_within(batch, _only(stands, postings), rule)
    stands[list(falls)] = False

    added = _new_run(batch, stands, postings, rule)
    kept = batch.rows(np.flatnonzero(stands))
    dropped = _evidence(batch, stands, first_of, falls)
    return Deduplicated(
        kept=kept,
        dropped=dropped if batch.is_table else dropped.to_pylist(),
        index=pa.concat_tables([former, added]),
        added=added,
    )


def similarity(left: str, right: str, shingle: int = 3, numbers: Literal["content", "text"] = "content") -> float:
    """How nearly two statements are the same, in [0, 1]: what `deduplicate` compares with its threshold."""
    return float(_compare([left], [right], _Rule(1.0, shingle, numbers).checked()).similarities[0])


def compact(index: Any) -> Any:
    """The same index as one run: worth it when hundreds of batches have added one each. Costs the index's size."""
    rules = pc.unique(index["rule"]).to_pylist()
    if len(rules) > 1:
        raise DeduplicationError(f"the index mixes the settings {rules}; rebuild it from its texts with one of them")
    if not rules:
        return INDEX_SCHEMA.empty_table()
    runs = list(_runs(_checked_index(index, _Rule.read(rules[0]))))
    starts = np.cumsum([0, *(len(run) for run in runs)]).tolist()
    _check_size(starts[-1])
    postings = np.sort(np.concatenate([_postings(run) + start for run, start in zip(runs, starts, strict=False)]))
    whole = pa.concat_tables(runs)
    return _as_run(whole["id"], whole["text"], postings, rules[0])


# --- the batch ---


@dataclass(frozen=True)
class _Batch:
    """The rows in id order. A position, below, is a place in that order."""

    problems: Any
    order: Positions  # position -> row number in `problems`
    ids: Any  # pa.Array of strings, in id order
    texts: Any  # likewise, but in the order of `problems`: texts are large, and copied only when needed

    @classmethod
    def of(cls, problems: Any) -> "_Batch":
        ids, texts = (_column(problems, name) for name in ("id", "text"))
        _check_size(len(ids))
        # Arrow compares strings by their UTF-8 bytes: one order on every machine
        order = pc.sort_indices(ids).to_numpy().astype(np.int64)
        batch = cls(problems, order, ids.take(order), texts)
        batch._check_ids()
        return batch

    def _check_ids(self) -> None:
        twins = np.flatnonzero(pc.equal(self.ids[1:], self.ids[:-1]).to_numpy(zero_copy_only=False))
        for twin in twins.tolist():
            if self.texts[self.order[twin]] != self.texts[self.order[twin + 1]]:
                raise DeduplicationError(
                    f"id {self.ids[twin]}: two rows with different texts; an id is a hash of content"
                )

    def __len__(self) -> int:
        return len(self.order)

    @property
    def is_table(self) -> bool:
        return isinstance(self.problems, pa.Table)

    def rows(self, positions: Positions) -> Any:
        if self.is_table:
            return self.problems.take(self.order[positions])
        return [self.problems[row] for row in self.order[positions].tolist()]

    @cached_property
    def position(self) -> Positions:
        """Row number in `problems` -> position."""
        position = np.empty_like(self.order)
        position[self.order] = np.arange(len(self.order))
        return position

    def texts_at(self, positions: Positions) -> Any:
        return self.texts.take(self.order[positions])


def _column(problems: Any, name: str) -> Any:
    """Column `name` of the rows as one Arrow array of large strings."""
    values: Any
    if isinstance(problems, pa.Table):
        if name not in problems.column_names:
            raise DeduplicationError(f"problems have no column `{name}`; they have {problems.column_names}")
        values = problems[name].cast(pa.large_string()).combine_chunks()
        missing = np.flatnonzero(pc.is_null(values).to_numpy(zero_copy_only=False)).tolist()
    else:
        values = [row.get(name) for row in problems]
        missing = [number for number, value in enumerate(values) if not isinstance(value, str)]
    if missing:
        raise DeduplicationError(f"problem {missing[0]} (from 0) has no `{name}`; every row needs an id and a text")
    return values if isinstance(values, pa.Array) else pa.array(values, pa.large_string())


def _check_size(rows: int) -> None:
    if rows > _MAX_ROWS:
        raise DeduplicationError(f"{rows} rows at once, at most {_MAX_ROWS}: give them as several batches")


# --- sketches: fingerprints, MinHash, bands ---


def _sketch(batch: _Batch, rule: _Rule, workers: int) -> tuple[Hashes, Positions]:
    """Exact fingerprints [rows] and postings [bands, rows] of the batch, each band's sorted."""
    fingerprints = np.empty(len(batch), np.uint64)
    postings = np.empty((rule.bands, len(batch)), np.int64)

    def sketch(rows: slice) -> None:
        tokens = tokenize(batch.texts[rows].to_pylist())
        positions = batch.position[rows]
        fingerprints[positions] = tokens.fingerprints()
        postings[:, positions] = (_band_keys(tokens, rule) << _POSITION_BITS) | positions

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(sketch, _chunks(batch)))
        list(pool.map(np.ndarray.sort, postings))
    return fingerprints, postings


def _chunks(batch: _Batch) -> Iterator[slice]:
    """Rows of `problems` in chunks: a few hundred, fewer of long texts."""
    ends = np.cumsum(pc.binary_length(batch.texts).to_numpy())
    start = 0
    while start < len(ends):
        fitting = int(np.searchsorted(ends, ends[start] + _CHUNK_BYTES))
        end = min(start + _CHUNK, max(fitting, start + 1))
        yield slice(start, end)
        start = end


def _shingles(tokens: Tokens, n: int) -> tuple[Hashes, Positions]:
    """`n`-grams of each text; a text of fewer than `n` tokens is one shingle as a whole. So every text has one."""
    grams, offsets = tokens.ngrams(n)
    counts = np.diff(offsets)
    short = np.flatnonzero(counts == 0)
    if not len(short):
        return grams, offsets
    grams = np.insert(grams, offsets[short], tokens.fingerprints()[short])
    return grams, np.concatenate(([0], np.cumsum(np.maximum(counts, 1))))


@cache
def _shifts() -> NDArray[np.void]:
    """Entry s is the 128 values from s on of one random table: what 128 permutations make of a shingle s."""
    table = (mix(np.arange((1 << 16) + PERMUTATIONS, dtype=np.uint64)) >> np.uint64(48)).astype(np.uint16)
    return np.ndarray((1 << 16,), f"V{2 * PERMUTATIONS}", table.data, strides=(2,))


def _minhash(grams: Hashes, offsets: Positions) -> NDArray[np.uint16]:
    """MinHash signatures [texts, 128] of the shingle sets `grams[offsets[i]:offsets[i + 1]]`, none of them empty."""
    slots = (grams >> np.uint64(48)).astype(np.int64)
    counts = np.diff(offsets)
    signatures = np.empty((len(counts), PERMUTATIONS), np.uint16)
    by_count = np.argsort(counts)
    starts, counts = offsets[by_count], counts[by_count]
    step = max(1, 4096 // int(counts.max(initial=1)))  # a megabyte of values at a time
    for start in range(0, len(counts), step):
        some = slice(start, start + step)
        # texts padded to one length by repeating their last shingle, which cannot change a minimum
        ranks = np.minimum(np.arange(counts[some].max())[:, None], counts[some] - 1)
        values = _shifts()[slots[starts[some] + ranks]].view(np.uint16)
        signatures[by_count[some]] = np.minimum.reduce(values).reshape(-1, PERMUTATIONS)
    return signatures


def _band_keys(tokens: Tokens, rule: _Rule) -> Positions:
    """Band and key [bands, texts]; texts that share one are candidates. Texts with other numbers share none."""
    signatures = _minhash(*_shingles(tokens, rule.shingle))
    keys = np.zeros((rule.bands, len(signatures)), np.uint64)
    if rule.numbers == "content":
        keys += tokens.number_fingerprints()
    for row in range(rule.rows_a_band):
        keys *= np.uint64(0x9E3779B97F4A7C15)
        keys += signatures.T[row :: rule.rows_a_band][: rule.bands]
    bands = np.arange(rule.bands)[:, None] << _KEY_BITS
    return (mix(keys) >> np.uint64(64 - _KEY_BITS)).astype(np.int64) | bands


# --- who falls to whom ---


class _Fall(NamedTuple):
    """Why one row falls: the survivor and what both share."""

    survivor_id: str
    similarity: float
    exact: bool
    shared_span: str


class _Compared(NamedTuple):
    """What a comparison of pairs of texts found; arrays over the pairs."""

    similarities: NDArray[np.float64]
    exact: NDArray[np.bool_]
    spans: dict[int, str]  # the longest shared stretch of the pairs at or above the threshold


def _first_equals(fingerprints: Hashes) -> Positions:
    """For each position the first one with the same normal form (itself, if there is none before it)."""
    order = np.argsort(fingerprints, kind="stable")
    new = np.concatenate(([True], np.diff(fingerprints[order]) != 0))[: len(order)]
    first_of = np.empty(len(order), np.int64)
    first_of[order] = order[new][np.cumsum(new) - 1]
    return first_of


def _only(wanted: NDArray[np.bool_], postings: Positions) -> Positions:
    """The postings of the wanted positions, still sorted. [bands, positions wanted]"""
    return np.stack([band[wanted[band & _POSITION]] for band in postings])


def _falls_to_index(batch: _Batch, index: Any, postings: Positions, rule: _Rule) -> dict[int, _Fall]:
    """Rows of the batch that are the same as a row of the index, each with its most similar survivor."""
    falls: dict[int, _Fall] = {}
    for run in _runs(index):
        stored = _postings(run)
        found = [_shared_keys(stored, band) for band in postings]
        mates, positions = _distinct(*(np.concatenate(side) for side in zip(*found, strict=True)))
        _settle(falls, run["id"], run["text"].take, mates, batch, positions, rule)
    return falls


def _shared_keys(ours: Positions, theirs: Positions) -> tuple[Positions, Positions]:
    """Pairs (our position, their position) with the same band and key; both postings are sorted."""
    keys = theirs >> _POSITION_BITS
    first = np.searchsorted(ours, keys << _POSITION_BITS)
    counts = np.searchsorted(ours, (keys + 1) << _POSITION_BITS) - first
    ours_hit = _ranges(first, counts)
    return ours[ours_hit] & _POSITION, np.repeat(theirs & _POSITION, counts)


def _ranges(starts: Positions, counts: Positions) -> Positions:
    """The numbers starts[i], starts[i] + 1, ... counts[i] of them, for each i in turn."""
    return np.repeat(starts - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())


def _distinct(lefts: Positions, rights: Positions) -> tuple[Positions, Positions]:
    pairs = _sorted_set(lefts << 32 | rights)
    return pairs >> 32, pairs & 0xFFFFFFFF


def _sorted_set(values: Positions) -> Positions:
    """np.unique, several times as fast."""
    values = np.sort(values)
    return values[np.concatenate(([True], values[1:] != values[:-1]))] if len(values) else values


def _falls_within(batch: _Batch, postings: Positions, rule: _Rule) -> dict[int, _Fall]:
    """Rows of the batch that are the same as a row of the batch that stays and comes before them, in parallel rounds.

    In each round every row with no undecided candidate before it stays, and its later candidates are compared with it;
    those that are the same fall, and the rest are free of it. The outcome is that of taking one row at a time.
    """
    falls: dict[int, _Fall] = {}
    found = [_shared_buckets(band >> _POSITION_BITS, band & _POSITION) for band in postings]
    buckets, positions = (np.concatenate(side) for side in zip(*found, strict=True))
    while len(positions):
        first = np.concatenate(([True], buckets[1:] != buckets[:-1]))
        leaders = positions[first][np.cumsum(first) - 1]
        waits = np.zeros(len(batch), bool)
        waits[positions[~first]] = True
        compared = ~first & ~waits[leaders]
        survivors, others = _distinct(leaders[compared], positions[compared])
        _settle(falls, batch.ids, batch.texts_at, survivors, batch, others, rule)
        decided = ~waits
        decided[[other for other in _sorted_set(others).tolist() if other in falls]] = True
        open_ = ~decided[positions]
        buckets, positions = _shared_buckets(buckets[open_], positions[open_])
    return falls


def _shared_buckets(buckets: Positions, positions: Positions) -> tuple[Positions, Positions]:
    """Sorted entries without those that are alone in their bucket."""
    same = buckets[1:] == buckets[:-1]
    shared = np.concatenate((same, [False])) | np.concatenate(([False], same)) if len(buckets) else same
    return buckets[shared], positions[shared]


def _settle(
    falls: dict[int, _Fall],
    ids: Any,
    texts_at: Callable[[Positions], Any],
    survivors: Positions,
    batch: _Batch,
    others: Positions,
    rule: _Rule,
) -> None:
    """Compare candidate pairs; note for each row that falls its most similar survivor (of equals, the least id)."""
    for start in range(0, len(others), _CHUNK):
        some = slice(start, start + _CHUNK)
        found = _compare(texts_at(survivors[some]).to_pylist(), batch.texts_at(others[some]).to_pylist(), rule)
        names = ids.take(survivors[some]).to_pylist()
        for pair, span in found.spans.items():
            other = int(others[start + pair])
            fall = _Fall(names[pair], float(found.similarities[pair]), bool(found.exact[pair]), span)
            held = falls.get(other)
            if held is None or (-fall.similarity, fall.survivor_id) < (-held.similarity, held.survivor_id):
                falls[other] = fall


def _compare(lefts: list[str], rights: list[str], rule: _Rule) -> _Compared:
    """Exact Jaccard similarity and shared span (of the right text) of each pair; a few hundred pairs at a time."""
    row_of = {text: row for row, text in enumerate(dict.fromkeys(lefts + rights))}
    tokens = tokenize(list(row_of))
    left, right = (np.array([row_of[text] for text in texts], np.int64) for texts in (lefts, rights))
    grams, offsets = _shingles(tokens, rule.shingle)
    hashes = (grams >> np.uint64(64 - _HASH_BITS)).astype(np.int64)
    # each row's set of shingles, one row after the other
    sets = _sorted_set((np.repeat(np.arange(len(row_of)), np.diff(offsets)) << _HASH_BITS) | hashes)
    sizes = np.bincount(sets >> _HASH_BITS, minlength=len(row_of))
    starts = np.cumsum(sizes) - sizes

    pair = np.repeat(np.arange(len(left)), sizes[right])
    theirs = sets[_ranges(starts[right], sizes[right])] & ((1 << _HASH_BITS) - 1)
    shared = np.bincount(pair[_contains(sets, (left[pair] << _HASH_BITS) | theirs)], minlength=len(left))
    similarities = shared / (sizes[left] + sizes[right] - shared)
    if rule.numbers == "content":
        numbers = tokens.number_fingerprints()
        similarities[numbers[left] != numbers[right]] = 0.0
    prints = tokens.fingerprints()
    exact = prints[left] == prints[right]
    similarities[exact] = 1.0

    same = np.flatnonzero(similarities >= rule.threshold)
    counts = np.diff(offsets)[right[same]]
    in_order = hashes[_ranges(offsets[:-1][right[same]], counts)]
    has = _contains(sets, np.repeat(left[same] << _HASH_BITS, counts) | in_order)
    spans = {}
    for pair_, (first, end) in zip(same.tolist(), _longest_runs(has, counts), strict=True):
        begin, limit = tokens.offsets[right[pair_]], tokens.offsets[right[pair_] + 1]
        spans[pair_] = tokens.text_between(begin + first, min(begin + end - 1 + rule.shingle, limit))
    return _Compared(similarities, exact, spans)


def _contains(ordered: Positions, values: Positions) -> NDArray[np.bool_]:
    found = np.searchsorted(ordered, values)
    return ordered[np.minimum(found, len(ordered) - 1)] == values


def _longest_runs(flags: NDArray[np.bool_], counts: Positions) -> list[tuple[int, int]]:
    """For each stretch of `counts[i]` flags the first longest run of true ones, as [first, end) from its start."""
    if not len(counts):
        return []
    starts = np.cumsum(counts) - counts
    places = np.arange(len(flags))
    before = np.maximum(np.where(flags, -1, places), np.repeat(starts - 1, counts))
    lengths = places - np.maximum.accumulate(before)  # of the run that ends here
    longest = np.maximum.reduceat(lengths, starts)
    is_longest = np.flatnonzero(lengths == np.repeat(longest, counts))
    last = is_longest[np.searchsorted(is_longest, starts)] - starts
    return list(zip((last - longest + 1).tolist(), (last + 1).tolist(), strict=True))


def _evidence(batch: _Batch, stands: NDArray[np.bool_], first_of: Positions, falls: dict[int, _Fall]) -> Any:
    """One row of DROPPED_SCHEMA for each row that fell; a copy of a fallen row falls to that row's survivor."""
    positions = np.flatnonzero(~stands)
    firsts = first_of[positions]
    copies = zip(
        firsts.tolist(), batch.ids.take(firsts).to_pylist(), batch.texts_at(positions).to_pylist(), strict=True
    )
    rows = [falls.get(first) or _Fall(survivor_id, 1.0, True, text) for first, survivor_id, text in copies]
    return pa.table(
        [
            batch.ids.take(positions).cast(pa.string()),
            [fall.survivor_id for fall in rows],
            [fall.similarity for fall in rows],
            ["exact" if fall.exact else "near" for fall in rows],
            [fall.shared_span for fall in rows],
        ],
        schema=DROPPED_SCHEMA,
    )


# --- the index ---


def _checked_index(index: Any, rule: _Rule) -> Any:
    if index is None:
        return INDEX_SCHEMA.empty_table()
    missing = [name for name in INDEX_SCHEMA.names if name not in index.column_names]
    if missing:
        raise DeduplicationError(f"the index lacks {missing}; give `Deduplicated.index` of the former batch, or None")
    index = index.select(INDEX_SCHEMA.names).cast(INDEX_SCHEMA)
    others = [found for found in pc.unique(index["rule"]).to_pylist() if found != str(rule)]
    if others:
        raise DeduplicationError(
            f"the index was made with {others[0]!r}, asked for is {str(rule)!r}: keep those settings or start anew"
        )
    return _mended(index, rule)


def _mended(index: Any, rule: _Rule) -> Any:
    """The index with each run whole and in order, as `_new_run` made it, whatever storage did to the rows."""
    if _is_in_runs(index):
        return index
    index = index.sort_by([("run", "ascending"), ("position", "ascending")]).combine_chunks()
    runs = []
    for run in pc.unique(index["run"]):
        rows = index.filter(pc.equal(index["run"], run))
        runs.append(rows if _is_in_runs(rows) else _rehashed(rows, rule))
    return pa.concat_tables(runs)


def _is_in_runs(index: Any) -> bool:
    """Whether positions go 0, 1, ... size - 1 in each run and runs do not mix."""
    run, position, size = (index[name].to_numpy() for name in ("run", "position", "size"))
    begins, ends = position == 0, position == size - 1
    follows = (position[1:] == position[:-1] + 1) & (run[1:] == run[:-1]) & (size[1:] == size[:-1])
    return bool(len(run) == 0 or (begins[0] and ends[-1] and np.all(np.where(ends[:-1], begins[1:], follows))))


def _rehashed(rows: Any, rule: _Rule) -> Any:
    batch = _Batch.of(rows)
    _, postings = _sketch(batch, rule, workers=1)
    return _as_run(batch.ids, batch.texts.take(batch.order), postings, str(rule))


def _runs(index: Any) -> Iterator[Any]:
    """The runs of an index in which each is whole and in order."""
    begins = [*np.flatnonzero(index["position"].to_numpy() == 0).tolist(), len(index)]
    for begin, end in pairwise(begins):
        yield index.slice(begin, end - begin)


def _postings(run: Any) -> Positions:
    return pc.list_flatten(run["postings"]).to_numpy()


def _new_run(batch: _Batch, stands: NDArray[np.bool_], postings: Positions, rule: _Rule) -> Any:
    """The rows that stand, as one run of the index; dropping positions keeps the postings sorted."""
    new_position = np.cumsum(stands) - 1
    of_standing = _only(stands, postings)
    for band in of_standing:
        places = band & _POSITION
        band += new_position[places] - places
    return _as_run(batch.ids.filter(stands), batch.texts_at(np.flatnonzero(stands)), of_standing, str(rule))


def _as_run(ids: Any, texts: Any, postings: Positions, rule: str) -> Any:
    size = len(ids)
    if not size:
        return INDEX_SCHEMA.empty_table()
    name = int.from_bytes(sha256("\n".join(ids.to_pylist()).encode()).digest()[:8]) >> 1
    offsets: Any = pa.array(np.arange(size + 1, dtype=np.int32) * (postings.size // size))
    columns = {
        "id": ids.cast(pa.string()),
        "text": texts,
        "rule": pa.repeat(rule, size),
        "run": pa.repeat(name, size),
        "position": np.arange(size),
        "size": pa.repeat(size, size),
        "postings": pa.ListArray.from_arrays(offsets, pa.array(postings.reshape(-1))),
    }
    return pa.table(columns).cast(INDEX_SCHEMA)
