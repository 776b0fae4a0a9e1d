"""Deduplication: which problems of a batch say something that no earlier problem said (method.md section 4).

**When are two problems the same?** *Exactly*, when their normal forms agree (text/ngrams.py: case, spacing,
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

**How is it found?** Candidates share a band of MinHash values (text/sketches.py), and are compared by exact Jaccard.
The greedy set is computed in parallel rounds (Blelloch, Fineman & Shun, 2012). A batch of more than `rows_at_once` rows
goes in parts in the order of ids, each compared with the index and the parts before it: the same kept set, less memory.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from promptcot_assets.lake.derived import mapped
from promptcot_assets.text.duplicate_index import INDEX_SCHEMA, as_table, hashed_run, new_run, postings_of, runs_of
from promptcot_assets.text.ngrams import Hashes, Positions, ranges, tokenize
from promptcot_assets.text.sketches import (
    MAX_ROWS,
    POSITION,
    POSITION_BITS,
    DeduplicationError,
    Each,
    Rule,
    shingles,
    sketch,
    sorted_set,
    threads,
)

Row = dict[str, Any]
_PAIRS = 256  # compared together: their arrays stay in the core's cache
_HASH_BITS = 54  # of a shingle, beside the number of a pair and a side, when pairs are compared

_DROPPED_FIELDS: list[tuple[str, Any]] = [
    ("id", pa.string()),
    ("survivor_id", pa.string()),
    ("similarity", pa.float64()),
    ("reason", pa.string()),  # exact | near
    ("shared_span", pa.string()),  # the longest stretch whose shingles the survivor has too; all of an exact copy
]
DROPPED_SCHEMA = pa.schema(_DROPPED_FIELDS)

__all__ = ["DROPPED_SCHEMA", "INDEX_SCHEMA", "Deduplicated", "DeduplicationError", "deduplicate", "indexed"]


@dataclass(frozen=True)
class Deduplicated:
    """What stays, what falls and why, and the index that the next batch is compared with."""

    problems: Any  # as they were given
    staying: Positions  # numbers of the rows that stay, in id order
    dropped: Any  # one row of DROPPED_SCHEMA for each other one, in id order: a list of dicts, or a table
    _former: list[Any]  # runs of the given index
    _parts: list["_Part"]

    @cached_property
    def added(self) -> Any:
        """The new part of `index` alone."""
        return as_table(part.run for part in self._parts)

    @cached_property
    def index(self) -> Any:
        """A table of INDEX_SCHEMA: the given index, then this batch's kept rows, copied when it is first asked for."""
        return as_table([*self._former, *(part.run for part in self._parts)])

    @cached_property
    def kept(self) -> Any:
        """The rows that stay, in id order: a list of dicts, or a table if `problems` was one."""
        if isinstance(self.problems, pa.Table):
            return self.problems.take(self.staying)
        return [self.problems[row] for row in self.staying.tolist()]


def deduplicate(
    problems: Any,
    index: Any = None,
    threshold: float = 0.8,
    shingle: int = 3,
    numbers: Literal["content", "text"] = "content",
    workers: int = 1,
    rows_at_once: int = MAX_ROWS,
    spill: Path | None = None,
) -> Deduplicated:
    """Keep the problems that are not the same as a kept problem before them; say of every other one which, and why.

    `problems` are rows with `id` (the order of precedence) and `text`, as a list of dicts or a `pa.Table`; other
    columns pass through. `index` is `Deduplicated.index` of the former batches, or what `indexed` makes. It must not
    hold this very batch, as when one is made anew: every row would fall to its own former self. `workers` threads share
    the work. With a folder `spill` the index of each part of `rows_at_once` rows lies in a file there, memory-mapped.

    Raises: DeduplicationError on a missing id or text, on one id with two texts, on bad settings, and on an index made
    with other settings.
    """
    rule = Rule(float(threshold), shingle, numbers).checked()
    batch = _Batch.of(problems)
    if not 0 < rows_at_once <= MAX_ROWS:
        raise DeduplicationError(f"rows_at_once={rows_at_once}: between 1 and {MAX_ROWS} rows are handled together")
    former = runs_of(index, rule)
    runs, parts = list(former), list[_Part]()
    with threads(workers) as each:
        for number, rows in enumerate(batch.parts(rows_at_once)):
            part = _part(rows, runs, rule, each)
            if len(rows) < len(batch):
                part.lay_down(spill and spill / f"{number:05d}.arrow")
                runs += part.run.combine_chunks().to_batches()
            parts.append(part)
    dropped = pa.concat_tables([DROPPED_SCHEMA.empty_table(), *(part.dropped for part in parts)])
    return Deduplicated(
        problems=problems,
        staying=np.concatenate([np.zeros(0, np.int64), *(part.staying for part in parts)]),
        dropped=dropped if isinstance(problems, pa.Table) else dropped.to_pylist(),
        _former=former,
        _parts=parts,
    )


def indexed(
    problems: Any,
    threshold: float = 0.8,
    shingle: int = 3,
    numbers: Literal["content", "text"] = "content",
    workers: int = 1,
) -> Any:
    """An index of all `problems`, also of those that are near one another: what is published is never withdrawn."""
    rule = Rule(float(threshold), shingle, numbers).checked()
    texts = _Batch.of(problems).texts
    with threads(workers) as each:
        return hashed_run(_column(problems, "id"), texts, rule, each)


def similarity(left: str, right: str, shingle: int = 3, numbers: Literal["content", "text"] = "content") -> float:
    """How nearly two statements are the same, in [0, 1]: what `deduplicate` compares with its threshold."""
    lefts, rights = (pa.array([text], pa.large_string()) for text in (left, right))
    return float(_compare(lefts, rights, Rule(1.0, shingle, numbers).checked()).similarities[0])


# --- the batch ---


@dataclass(frozen=True)
class _Batch:
    """The rows in id order. A position, below, is a place in that order."""

    order: Positions  # position -> row number
    ids: Any  # pa.Array of strings, in id order
    texts: Any  # likewise, but in the order of rows: texts are large, and copied only when needed

    @classmethod
    def of(cls, problems: Any) -> "_Batch":
        ids, texts = (_column(problems, name) for name in ("id", "text"))
        # Arrow compares strings by their UTF-8 bytes: one order on every machine
        order = pc.sort_indices(ids).to_numpy().astype(np.int64)
        batch = cls(order, ids.take(order), texts)
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

    def parts(self, rows: int) -> "Iterator[_Batch]":
        """The rows in stretches of the order of ids."""
        for start in range(0, len(self), rows):
            yield _Batch(self.order[start : start + rows], self.ids[start : start + rows], self.texts)

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


@dataclass
class _Part:
    """The outcome of one part of a batch."""

    staying: Positions
    dropped: Any
    make_run: Callable[[], Any]

    @cached_property
    def run(self) -> Any:
        """The rows that stay as a run of the index."""
        return self.make_run()

    def lay_down(self, path: Path | None) -> None:
        """Make the run, in a file if there is a path, and let go of what it is made from."""
        run = mapped(path, self.run) if path else self.run
        self.run, self.make_run = run, lambda: run


def _part(batch: _Batch, runs: list[Any], rule: Rule, each: Each) -> _Part:
    fingerprints, postings = _sketch(batch, rule, each)
    first_of = _first_equals(fingerprints)
    stands = first_of == np.arange(len(batch))
    falls = _falls_to_index(batch, stands, runs, postings, rule, each)
    stands[list(falls)] = False
    falls |= _falls_within(batch, stands, postings, rule, each)
    stands[list(falls)] = False
    return _Part(
        staying=batch.order[stands],
        dropped=_evidence(batch, stands, first_of, falls),
        make_run=partial(_run_of_standing, batch, stands, postings, rule),
    )


def _sketch(batch: _Batch, rule: Rule, each: Each) -> tuple[Hashes, Positions]:
    """Fingerprints by position, and postings. Texts are read in the order they lie in memory."""
    by_row = np.argsort(batch.order)  # positions in the order of rows
    rows = batch.order[by_row]
    adjacent = len(rows) == 0 or rows[-1] - rows[0] == len(rows) - 1
    texts = batch.texts[rows[0] : rows[-1] + 1] if adjacent and len(rows) else batch.texts.take(rows)
    found, postings = sketch(texts, by_row, rule, each)
    fingerprints = np.empty_like(found)
    fingerprints[by_row] = found
    return fingerprints, postings


def _run_of_standing(batch: _Batch, stands: NDArray[np.bool_], postings: Positions, rule: Rule) -> Any:
    """The rows that stand, as one run of the index; dropping positions keeps the postings sorted."""
    new_position = np.cumsum(stands) - 1
    of_standing = np.stack([band[stands[band & POSITION]] for band in postings])
    for band in of_standing:
        places = band & POSITION
        band += new_position[places] - places
    return new_run(batch.ids.filter(stands), batch.texts_at(np.flatnonzero(stands)), of_standing, rule)


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


def _falls_to_index(
    batch: _Batch, stands: NDArray[np.bool_], runs: list[Any], postings: Positions, rule: Rule, each: Each
) -> dict[int, _Fall]:
    """Standing rows that are the same as a row of the index, each with its most similar survivor."""
    falls: dict[int, _Fall] = {}
    for run in runs:
        stored = postings_of(run).reshape(len(postings), -1)
        found = [_shared_keys(*bands) for bands in zip(stored, postings, strict=True)]
        mates, positions = (np.concatenate(side) for side in zip(*found, strict=True))
        mates, positions = _distinct(mates[stands[positions]], positions[stands[positions]])
        _settle(falls, run["id"], run["text"].take, mates, batch, positions, rule, each)
    return falls


def _shared_keys(ours: Positions, theirs: Positions) -> tuple[Positions, Positions]:
    """Pairs (our position, their position) with the same band and key; both postings are sorted, ours not empty."""
    keys = theirs & ~POSITION
    first = np.searchsorted(ours, keys)
    hit = np.flatnonzero(ours[np.minimum(first, len(ours) - 1)] & ~POSITION == keys)
    counts = np.searchsorted(ours, keys[hit] | POSITION, "right") - first[hit]
    return ours[ranges(first[hit], counts)] & POSITION, np.repeat(theirs[hit] & POSITION, counts)


def _distinct(lefts: Positions, rights: Positions) -> tuple[Positions, Positions]:
    pairs = sorted_set(lefts << 32 | rights)
    return pairs >> 32, pairs & 0xFFFFFFFF


def _falls_within(
    batch: _Batch, stands: NDArray[np.bool_], postings: Positions, rule: Rule, each: Each
) -> dict[int, _Fall]:
    """Standing rows that are the same as one of them that stays and comes before them, in parallel rounds.

    In each round every row with no undecided candidate before it stays, and its later candidates are compared with it;
    those that are the same fall, and the rest are free of it. The outcome is that of taking one row at a time.
    """
    falls: dict[int, _Fall] = {}
    shared = np.concatenate([band[_in_company(band >> POSITION_BITS)] for band in postings])
    buckets, positions = _shared_buckets(shared >> POSITION_BITS, shared & POSITION, stands)
    while len(positions):
        first = np.concatenate(([True], buckets[1:] != buckets[:-1]))
        leaders = positions[first][np.cumsum(first) - 1]
        waits = np.zeros(len(batch), bool)
        waits[positions[~first]] = True
        compared = ~first & ~waits[leaders]
        survivors, others = _distinct(leaders[compared], positions[compared])
        _settle(falls, batch.ids, batch.texts_at, survivors, batch, others, rule, each)
        decided = ~waits
        decided[[other for other in sorted_set(others).tolist() if other in falls]] = True
        buckets, positions = _shared_buckets(buckets, positions, ~decided)
    return falls


def _shared_buckets(buckets: Positions, positions: Positions, wanted: NDArray[np.bool_]) -> tuple[Positions, Positions]:
    """Entries of wanted positions that are not alone in their bucket then; the buckets are sorted."""
    left = wanted[positions]
    buckets, positions = buckets[left], positions[left]
    shared = _in_company(buckets)
    return buckets[shared], positions[shared]


def _in_company(buckets: Positions) -> Positions:
    """Which entries of the sorted buckets have a neighbour in the same one."""
    same = np.zeros(len(buckets) + 1, bool)
    same[1:-1] = buckets[1:] == buckets[:-1]
    return np.flatnonzero(same[1:] | same[:-1])


def _settle(
    falls: dict[int, _Fall],
    ids: Any,
    texts_at: Callable[[Positions], Any],
    survivors: Positions,
    batch: _Batch,
    others: Positions,
    rule: Rule,
    each: Each,
) -> None:
    """Compare candidate pairs; note for each row that falls its most similar survivor (of equals, the least id)."""

    def compare(start: int) -> _Compared:
        some = slice(start, start + _PAIRS)
        return _compare(texts_at(survivors[some]), batch.texts_at(others[some]), rule)

    starts = range(0, len(others), _PAIRS)
    for start, found in zip(starts, each(compare, starts), strict=True):
        pairs = np.array(list(found.spans), np.int64)
        names = ids.take(survivors[start + pairs]).to_pylist()
        for (pair, span), other, name in zip(found.spans.items(), others[start + pairs].tolist(), names, strict=True):
            fall = _Fall(name, float(found.similarities[pair]), bool(found.exact[pair]), span)
            held = falls.get(other)
            if held is None or (-fall.similarity, fall.survivor_id) < (-held.similarity, held.survivor_id):
                falls[other] = fall


def _compare(lefts: Any, rights: Any, rule: Rule) -> _Compared:
    """Exact Jaccard similarity and shared span (of the right text) of each pair; a few hundred pairs at a time."""
    pairs = len(lefts)
    tokens = tokenize(pa.concat_arrays([lefts, rights]))
    found = shingles(tokens, rule.shingle)
    # one number a shingle: pair, hash and, in the last bit, the side. Sorted, what both sides have stands together
    hashes = (found.hashes >> np.uint64(64 - _HASH_BITS)).astype(np.int64)[found.places()] << 1
    side = np.repeat(np.arange(2 * pairs) % pairs << (_HASH_BITS + 1) | np.arange(2 * pairs) // pairs, found.counts)
    tagged = hashes | side
    sets = sorted_set(tagged)
    has_other_side = np.concatenate(([False], (sets[1:] ^ sets[:-1]) == 1))
    in_both = np.bincount(sets[has_other_side] >> (_HASH_BITS + 1), minlength=pairs)
    in_either = np.bincount(sets >> (_HASH_BITS + 1), minlength=pairs) - in_both
    similarities = in_both / in_either
    if rule.numbers == "content":
        numbers = tokens.number_fingerprints()
        similarities[numbers[:pairs] != numbers[pairs:]] = 0.0
    prints = tokens.fingerprints()
    exact = prints[:pairs] == prints[pairs:]
    similarities[exact] = 1.0

    same = np.flatnonzero(similarities >= rule.threshold)
    counts = found.counts[pairs:][same]
    in_order = tagged[ranges((np.cumsum(found.counts) - found.counts)[pairs:][same], counts)]
    has = ~_contains(sets[(sets & 1 == 1) & ~has_other_side], in_order)
    spans = {}
    for pair, (first, end) in zip(same.tolist(), _longest_runs(has, counts), strict=True):
        begin, limit = tokens.offsets[pairs + pair], tokens.offsets[pairs + pair + 1]
        spans[pair] = tokens.text_between(begin + first, min(begin + end - 1 + rule.shingle, limit))
    return _Compared(similarities, exact, spans)


def _contains(ordered: Positions, values: Positions) -> NDArray[np.bool_]:
    if not len(ordered):
        return np.zeros(len(values), bool)
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
            pa.array([fall.survivor_id for fall in rows], pa.string()),
            pa.array([fall.similarity for fall in rows], pa.float64()),
            pa.array(["exact" if fall.exact else "near" for fall in rows], pa.string()),
            pa.array([fall.shared_span for fall in rows], pa.string()),
        ],
        schema=DROPPED_SCHEMA,
    )
