"""Decontamination: which problems share text with a benchmark (13-gram overlap, as the paper; method.md section 4).

A problem is contaminated by a benchmark item
- when both have the same `n` words in a row (13 by default). A word is a run of letters and digits of the text in
  Unicode NFKC and lower case; signs, punctuation and LaTeX marks between words do not count (stages/ngrams.py);
- or when both are the same text. For texts of fewer than `n` words, which have no n-gram, this is the only test, and
  mathematical signs count in it: "compute 3 + 4" is not "compute 3 - 4".

Chat wrappers and standing instructions are taken off benchmark items (stages/seeds.py), so a wrapper neither hides a
match nor makes one. A wrapped problem is searched whole, and compared as a whole without its wrapper.

Not found: paraphrases, translations, and copies that leave no `n` words in a row alone. Found beyond copies: stock
phrases. AIME's "where m and n are relatively prime positive integers, find m + n" and the input sections of Codeforces
are longer than 13 words, and the paper's test removes whatever shares them. `overlap` tells the two apart: the share of
the item's n-grams that the problem has, near 1 for a copy; `min_overlap` forgives what lies below it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from promptcot_assets.stages.ngrams import Hashes, Positions, Tokens, tokenize
from promptcot_assets.stages.seeds import strip_wrapper

_CHUNK = 256  # texts compared together: their arrays stay in the core's cache
_FILTER_BITS = 22

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


def contaminated(problems: Any, benchmarks: Any, n: int = 13, min_overlap: float = 0.0) -> Any:
    """Every pair of a problem and a benchmark item that share text: a `pa.Table` of HIT_SCHEMA, sorted by its ids.

    `problems` are rows with `id` and `text` (also read: `problem_id`, and `problem` or `prompt`), a list of dicts or a
    table. `benchmarks` maps each benchmark's name to such rows (also read: `item_id`), or is one list or table whose
    rows name their `benchmark`. `min_overlap=0` is the paper's test: one common n-gram suffices. A problem is clean if
    and only if its id is not in the result.

    Raises: DecontaminationError on a missing id, text or benchmark and on `n` or `min_overlap` out of range.
    """
    if n < 2:
        raise DecontaminationError(f"n={n}: one word in common contaminates nothing; 13 is the paper's, at least 2")
    if not 0 <= min_overlap <= 1:
        raise DecontaminationError(f"min_overlap={min_overlap}: a share of the item's n-grams lies in [0, 1]")
    items = _Items.of(benchmarks, n)
    hits: list[Hit] = []
    for ids, texts in _chunks(problems, "problems"):
        hits += (hit for hit in _hits(ids, texts, items) if hit[-2] >= min_overlap)
    columns: list[Any] = list(zip(*sorted(hits), strict=True)) if hits else [()] * len(HIT_SCHEMA)
    return pa.table(columns, schema=HIT_SCHEMA)


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
    seen: NDArray[np.bool_]  # of the first bits of an n-gram: whether any item's n-gram begins so

    @classmethod
    def of(cls, benchmarks: Any, n: int) -> "_Items":
        names, texts = _named_items(benchmarks)
        tokens = tokenize(texts, symbols=False)
        hashes, offsets = tokens.ngrams(n)
        owners = np.repeat(np.arange(len(texts)), np.diff(offsets))
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
        return cls(n, names, grams, owners, sizes, wholes, tokenize(texts).fingerprints(), seen)


def _named_items(benchmarks: Any) -> tuple[list[tuple[str, str]], list[str]]:
    """`(benchmark, item_id)` and bare text of every item."""
    if isinstance(benchmarks, Mapping):
        named = [(name, rows) for name, rows in benchmarks.items()]
    else:
        named = _by_benchmark(benchmarks)
    names: list[tuple[str, str]] = []
    bare: list[str] = []
    for name, rows in named:
        for ids, texts in _chunks(rows, f"benchmark {name}"):
            names += [(name, item_id) for item_id in ids]
            bare += [strip_wrapper(text) for text in texts]
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


def _hits(ids: list[str], texts: list[str], items: _Items) -> Iterator[Hit]:
    """Hits of one chunk of problems."""
    tokens = tokenize(texts, symbols=False)
    whole = _whole_copies(texts, tokens, items)
    for problem, item in whole:
        words = tokenize([strip_wrapper(texts[problem])], symbols=False).words(0)
        text = strip_wrapper(texts[problem]).lower()
        yield ids[problem], *items.names[item], " ".join(words), text, len(words), 1.0, "exact"
    for problem, item, first, end, overlap in _common_runs(tokens, items):
        if (problem, item) not in whole:
            start = tokens.offsets[problem]
            words = tokens.words(problem)[first - start : end - start]
            span = tokens.text_between(first, end)
            yield ids[problem], *items.names[item], " ".join(words), span, len(words), overlap, "ngram"


def _whole_copies(texts: list[str], tokens: Tokens, items: _Items) -> set[tuple[int, int]]:
    """Pairs (problem, item) that are the same text, wrappers aside."""
    prints = tokens.fingerprints()
    bare = {problem: stripped for problem, text in enumerate(texts) if (stripped := strip_wrapper(text)) != text}
    if bare:
        prints[list(bare)] = tokenize(list(bare.values()), symbols=False).fingerprints()
    copies = set()
    for problem, fingerprint in enumerate(prints.tolist()):
        for item in items.wholes.get(fingerprint, ()):
            alone = tokenize([bare.get(problem, texts[problem])])
            long = len(tokenize([bare.get(problem, texts[problem])], symbols=False).hashes) >= items.n
            if long or (len(alone.hashes) and alone.fingerprints()[0] == items.exact[item]):
                copies.add((problem, item))
    return copies


def _common_runs(tokens: Tokens, items: _Items) -> Iterator[tuple[int, int, int, int, float]]:
    """`(problem, item, first token, end, overlap)`: the longest run of a problem's words whose n-grams an item has."""
    grams, offsets = tokens.ngrams(items.n)
    likely = np.flatnonzero(items.seen[grams >> np.uint64(64 - _FILTER_BITS)])
    low = np.searchsorted(items.grams, grams[likely], "left")
    counts = np.searchsorted(items.grams, grams[likely], "right") - low
    places = np.repeat(likely, counts)
    if not len(places):
        return
    owners = items.owners[np.repeat(low - (np.cumsum(counts) - counts), counts) + np.arange(len(places))]
    problems = np.searchsorted(offsets, places, "right") - 1
    order = np.lexsort((places, owners, problems))
    places, owners, problems = places[order], owners[order], problems[order]
    changes = (np.diff(owners) != 0) | (np.diff(problems) != 0)
    for pair in np.split(np.arange(len(places)), np.flatnonzero(changes) + 1):
        problem, item, here = int(problems[pair[0]]), int(owners[pair[0]]), places[pair]
        run = max(np.split(here, np.flatnonzero(np.diff(here) != 1) + 1), key=len)
        first = int(tokens.offsets[problem] + run[0] - offsets[problem])
        overlap = len(np.unique(grams[here])) / int(items.sizes[item])
        yield problem, item, first, first + len(run) - 1 + items.n, overlap


# --- rows ---


def _chunks(rows: Any, what: str) -> Iterator[tuple[list[str], list[str]]]:
    """Ids and texts of `rows`, some at a time."""
    for start in range(0, len(rows), _CHUNK):
        some = rows.slice(start, _CHUNK).to_pylist() if isinstance(rows, pa.Table) else rows[start : start + _CHUNK]
        yield (
            [_field(row, ("id", "problem_id", "item_id"), start + i, what) for i, row in enumerate(some)],
            [_field(row, ("text", "problem", "prompt"), start + i, what) for i, row in enumerate(some)],
        )


def _field(row: dict[str, Any], names: tuple[str, ...], number: int, what: str) -> str:
    for name in names:
        if isinstance(value := row.get(name), str):
            return value
    raise DecontaminationError(f"{what}: row {number} (from 0) has no `{names[0]}` (nor {' or '.join(names[1:])})")
