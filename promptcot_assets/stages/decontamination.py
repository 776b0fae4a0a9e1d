"""Decontamination: which problems share text with a benchmark (13-gram overlap, as the paper; method.md section 4).

A problem is contaminated by a benchmark item
- when both have the same `n` words in a row (13 by default). A word is a run of letters and digits of the text in
  Unicode NFKC and lower case; signs, punctuation and LaTeX marks between words do not count (text/ngrams.py);
- or when both are the same text. For texts of fewer than `n` words, which have no n-gram, this is the only test, and
  mathematical signs count in it: "compute 3 + 4" is not "compute 3 - 4".

Chat wrappers and standing instructions are taken off benchmark items (text/wrappers.py), so a wrapper
neither hides a match nor makes one. A wrapped problem is searched whole, and compared as a whole without its wrapper.

Not found: paraphrases, translations, and copies that leave no `n` words in a row alone. Found beyond copies: stock
phrases. AIME's "where m and n are relatively prime positive integers, find m + n" and the input sections of Codeforces
are longer than 13 words, and the paper's test removes whatever shares them. `overlap` tells the two apart: the share of
the item's n-grams that the problem has, near 1 for a copy; `min_overlap` forgives what lies below it.
"""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from promptcot_assets.text.ngrams import Hashes, Positions, Tokens, ranges, tokenize
from promptcot_assets.text.wrappers import strip_wrapper

_CHUNK = 256  # texts compared together: their arrays stay in the core's cache
_FILTER_BITS = 22
_ID_NAMES, _TEXT_NAMES = ("id", "problem_id", "item_id"), ("text", "problem", "prompt")

_HIT_FIELDS: list[tuple[str, Any]] = [
    ("problem_id", pa.string()),
    ("benchmark", pa.string()),
    ("item_id", pa.string()),
    ("matched_span", pa.string()),  # the longest run of words whose n-grams the item has; lower case, single spaces
    ("problem_span", pa.string()),  # the same as it stands in the problem, lower case
    ("words", pa.int64()),  # how many words it has
    ("overlap", pa.float64()),  # share of the item's n-grams that the problem has; 1 for a whole copy
    ("match", pa.string()),  # ngram | exact
]
HIT_SCHEMA = pa.schema(_HIT_FIELDS)

Hit = tuple[str, str, str, str, str, int, float, str]


class DecontaminationError(ValueError):
    """Problems or benchmarks that cannot be compared: names the row or setting and the mend."""


def contaminated(problems: Any, benchmarks: Any, n: int = 13, min_overlap: float = 0.0, workers: int = 1) -> Any:
    """Every pair of a problem and a benchmark item that share text: a `pa.Table` of HIT_SCHEMA, sorted by its ids.

    `problems` are rows with `id` and `text` (also read: `problem_id`, and `problem` or `prompt`), a list of dicts or a
    table. `benchmarks` maps each benchmark's name to such rows (also read: `item_id`), or is one list or table whose
    rows name their `benchmark`. `min_overlap=0` is the paper's test: one common n-gram suffices. A problem is clean if
    and only if its id is not in the result. `workers` threads share the work.

    Raises: DecontaminationError on a missing id, text or benchmark and on `n` or `min_overlap` out of range.
    """
    if n < 2:
        raise DecontaminationError(f"n={n}: one word in common contaminates nothing; 13 is the paper's, at least 2")
    if not 0 <= min_overlap <= 1:
        raise DecontaminationError(f"min_overlap={min_overlap}: a share of the item's n-grams lies in [0, 1]")
    items = _Items.of(benchmarks, n)
    given = _Rows.of(problems, "problems")
    with ThreadPoolExecutor(workers) as pool:
        found = pool.map(lambda some: _hits(some, items), given.chunks())
        hits = sorted(hit for some in found for hit in some if hit[-2] >= min_overlap)
    columns: list[Any] = list(zip(*hits, strict=True)) if hits else [()] * len(HIT_SCHEMA)
    return pa.table(columns, schema=HIT_SCHEMA)


def with_texts(hits: Any, problems: Any, benchmarks: Any) -> Any:
    """The report: `hits` with column `problem` and `item`, both texts whole. A text is stored once (dictionary)."""
    rows = _Rows.of(problems, "problems")
    names, texts = _named_items(benchmarks)
    items = {name: place for place, name in enumerate(names)}
    named = zip(hits["benchmark"].to_pylist(), hits["item_id"].to_pylist(), strict=True)
    asked = pc.index_in(hits["problem_id"].cast(pa.large_string()).combine_chunks(), rows.ids)
    shown = pc.unique(asked)
    return hits.append_column(
        "problem", pa.DictionaryArray.from_arrays(pc.index_in(asked, shown), rows.texts.take(shown))
    ).append_column(
        "item", pa.DictionaryArray.from_arrays(pa.array([items[name] for name in named], pa.int32()), pa.array(texts))
    )


def text_fingerprints(texts: Iterable[str]) -> list[int]:
    """One number a text, equal where two differ in letter case, white space, punctuation and framing alone.

    Words, numbers and mathematical signs count: `3 + 4` is not `3 - 4`.
    """
    found: list[int] = tokenize([strip_wrapper(text) for text in texts]).fingerprints().tolist()
    return found


# --- the benchmarks ---


@dataclass(frozen=True)
class _Items:
    """All items of all benchmarks, ready to be searched for."""

    n: int
    names: list[tuple[str, str]]  # (benchmark, item_id)
    grams: Hashes  # sorted; one entry for each (n-gram, item that has it)
    owners: Positions  # the items
    sizes: Positions  # how many different n-grams each item has
    wholes: dict[int, list[int]]  # fingerprint of an item's words -> items
    exact: Hashes  # fingerprint of an item's words and signs
    any_short: bool  # whether any item has fewer than n words
    seen: NDArray[np.bool_]  # of the first bits of an n-gram: whether any item's n-gram begins so

    @classmethod
    def of(cls, benchmarks: Any, n: int) -> "_Items":
        names, texts = _named_items(benchmarks)
        tokens = tokenize(texts, symbols=False)
        hashes, counts = tokens.ngrams(n)
        hashes = hashes[ranges(tokens.offsets[:-1], counts)]
        owners = np.repeat(np.arange(len(texts)), counts)
        order = np.lexsort((owners, hashes))
        grams, owners = hashes[order], owners[order]
        new = (np.diff(grams, prepend=~grams[:1]) != 0) | (np.diff(owners, prepend=-1) != 0)
        grams, owners = grams[new], owners[new]
        sizes = np.bincount(owners, minlength=len(texts))
        wholes: dict[int, list[int]] = {}
        for item, fingerprint in enumerate(tokens.fingerprints().tolist()):
            wholes.setdefault(fingerprint, []).append(item)
        seen = np.zeros(1 << _FILTER_BITS, bool)
        seen[grams >> np.uint64(64 - _FILTER_BITS)] = True
        any_short = bool((counts == 0).any())
        return cls(n, names, grams, owners, sizes, wholes, tokenize(texts).fingerprints(), any_short, seen)

    def same_as(self, bare: str) -> list[int]:
        """Items that are this very text: in words, and below `n` words in signs too."""
        words = tokenize([bare], symbols=False)
        same = self.wholes.get(int(words.fingerprints()[0]), [])
        if not same or len(words.hashes) >= self.n:
            return same
        with_signs = tokenize([bare])
        return [item for item in same if len(with_signs.hashes) and with_signs.fingerprints()[0] == self.exact[item]]


def _named_items(benchmarks: Any) -> tuple[list[tuple[str, str]], list[str]]:
    """`(benchmark, item_id)` and bare text of every item."""
    named = list(benchmarks.items()) if isinstance(benchmarks, Mapping) else _by_benchmark(benchmarks)
    names: list[tuple[str, str]] = []
    bare: list[str] = []
    for name, given in named:
        rows = _Rows.of(given, f"benchmark {name}")
        names += [(name, item_id) for item_id in rows.ids.to_pylist()]
        bare += [strip_wrapper(text) for text in rows.texts.to_pylist()]
    if not names:
        raise DecontaminationError("no benchmark items were given: nothing would be found; name the benchmarks in use")
    return names, bare


def _by_benchmark(rows: Any) -> list[tuple[str, list[dict[str, Any]]]]:
    named: dict[str, list[dict[str, Any]]] = {}
    for number, row in enumerate(rows.to_pylist() if isinstance(rows, pa.Table) else rows):
        if not isinstance(row.get("benchmark"), str):
            raise DecontaminationError(f"benchmark item {number} (from 0) does not name its `benchmark`")
        named.setdefault(row["benchmark"], []).append(row)
    return list(named.items())


# --- the search ---


def _hits(rows: "_Rows", items: _Items) -> list[Hit]:
    """Hits of one chunk of problems."""
    tokens = tokenize(rows.texts, symbols=False)
    runs = list(_common_runs(tokens, items))
    # who is a copy of an item of n words or more has a run in common with it
    suspects = range(len(rows.ids)) if items.any_short else sorted({run.problem for run in runs})
    hits: list[Hit] = []
    whole = set()
    for problem, text in zip(suspects, rows.texts.take(pa.array(suspects, pa.int64())).to_pylist(), strict=True):
        bare = strip_wrapper(text)
        for item in items.same_as(bare):
            whole.add((problem, item))
            words = tokenize([bare], symbols=False).words(0)
            shown = " ".join(words), bare.lower(), len(words)
            hits.append((rows.name(problem), *items.names[item], *shown, 1.0, "exact"))
    for run in runs:
        if (run.problem, run.item) not in whole:
            start = tokens.offsets[run.problem]
            words = tokens.words(run.problem)[run.first - start : run.end - start]
            shown = " ".join(words), tokens.text_between(run.first, run.end), len(words)
            hits.append((rows.name(run.problem), *items.names[run.item], *shown, run.overlap, "ngram"))
    return hits


class _CommonRun(NamedTuple):
    """The longest run of a problem's words whose n-grams an item has, and the share of the item's that it has."""

    problem: int
    item: int
    first: int  # token
    end: int  # token after the last
    overlap: float


def _common_runs(tokens: Tokens, items: _Items) -> Iterator[_CommonRun]:
    grams, counts = tokens.ngrams(items.n)
    likely = np.flatnonzero(items.seen[grams >> np.uint64(64 - _FILTER_BITS)])
    problem_of = np.searchsorted(tokens.offsets, likely, "right") - 1
    likely = likely[likely - tokens.offsets[problem_of] < counts[problem_of]]  # others would leave their text
    low = np.searchsorted(items.grams, grams[likely], "left")
    owned = np.searchsorted(items.grams, grams[likely], "right") - low
    places = np.repeat(likely, owned)
    if not len(places):
        return
    owners = items.owners[ranges(low, owned)]
    problems = np.searchsorted(tokens.offsets, places, "right") - 1
    order = np.lexsort((places, owners, problems))
    places, owners, problems = places[order], owners[order], problems[order]
    changes = (np.diff(owners) != 0) | (np.diff(problems) != 0)
    for pair in np.split(np.arange(len(places)), np.flatnonzero(changes) + 1):
        item, here = int(owners[pair[0]]), places[pair]
        run = max(np.split(here, np.flatnonzero(np.diff(here) != 1) + 1), key=len)
        overlap = len(np.unique(grams[here])) / int(items.sizes[item])
        yield _CommonRun(int(problems[pair[0]]), item, int(run[0]), int(run[-1]) + items.n, overlap)


# --- rows ---


@dataclass(frozen=True)
class _Rows:
    """Ids and texts as Arrow arrays of large strings."""

    ids: Any
    texts: Any

    @classmethod
    def of(cls, rows: Any, what: str) -> "_Rows":
        """Raises: DecontaminationError naming `what`, the row and the column it lacks."""
        if not isinstance(rows, pa.Table):
            return cls(_listed(rows, _ID_NAMES, what), _listed(rows, _TEXT_NAMES, what))
        return cls(_column(rows, _ID_NAMES, what), _column(rows, _TEXT_NAMES, what))

    def name(self, row: int) -> str:
        name: str = self.ids[row].as_py()
        return name

    def chunks(self) -> "Iterator[_Rows]":
        for start in range(0, len(self.ids), _CHUNK):
            yield _Rows(self.ids[start : start + _CHUNK], self.texts[start : start + _CHUNK])


def _listed(rows: Any, names: tuple[str, ...], what: str) -> Any:
    values = [row.get(names[0]) for row in rows]
    for name in names[1:]:
        if all(isinstance(value, str) for value in values):
            break
        values = [value if isinstance(value, str) else row.get(name) for value, row in zip(values, rows, strict=True)]
    for number, value in enumerate(values):
        if not isinstance(value, str):
            raise _lacking(what, number, names)
    return pa.array(values, pa.large_string())


def _column(table: Any, names: tuple[str, ...], what: str) -> Any:
    """The first of the columns that has a value, row by row."""
    present = [table[name].cast(pa.large_string()) for name in names if name in table.column_names]
    values = pc.coalesce(*present) if present else pa.chunked_array([], pa.large_string())
    if not present and len(table):
        raise _lacking(what, 0, names)
    if values.null_count:
        raise _lacking(what, pc.index(pc.is_null(values), True).as_py(), names)
    return values.combine_chunks()


def _lacking(what: str, row: int, names: tuple[str, ...]) -> DecontaminationError:
    return DecontaminationError(f"{what}: row {row} (from 0) has no `{names[0]}` (nor {' or '.join(names[1:])})")
