"""What our deduplication gains over a per-document loop on datasketch, how it grows, and what a later batch costs.

    python -m benchmarks.deduplication [ROWS [LARGE]]          200,000 and 1,000,000

The peer restates how the released script works: one document after the other; its words are cleaned with a regular
expression; one `MinHash.update` a shingle, 128 permutations; a query of `MinHashLSH` with 50 bands of 2; exact Jaccard
of Python sets with every candidate; an insert. Two things differ, so that both sides answer the same question: shingles
are ours (three words; the script takes single words of four letters or more), and there is no rolling cache of frequent
words, which makes its verdicts depend on the order of rows. Its cost a document hardly depends on how many there are,
so it is timed on the first 5,000 statements and its rate extrapolated; ours on all.

Every contestant runs in a process of its own, in turns, each of two runs in the process; the best counts. The ratio is
printed in CPU time of one thread, which a loaded machine changes less, and in wall-clock time. Both sides end with the
ids of the kept rows and what finds their near duplicates later (LSH tables; sorted postings). The table of the index,
which also copies the kept texts, is made when the next batch asks for it; its cost is printed beside.
"""

import hashlib
import re
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pyarrow as pa

from promptcot_assets.lake.derived import mapped
from promptcot_assets.stages.deduplication import deduplicate

THRESHOLD = 0.8
PEER_ROWS = 5000
TURNS = 3


class Seconds(NamedTuple):
    """What a run took. Tuples compare: the least CPU time is the best run."""

    cpu: float
    wall: float


def statements(count: int, seed: int = 0) -> pa.Table:
    """Statements of 600 characters; every tenth an edited copy of another, every twentieth an exact one."""
    rng = np.random.default_rng(seed)
    words = np.array(["".join(map(chr, rng.integers(97, 123, rng.integers(2, 9)))) for _ in range(5000)])
    tables = []
    for start in range(0, count, 100_000):
        size = min(100_000, count - start)
        rows = rng.integers(0, 5000, (size, 100))
        copies = rng.permutation(size)[: size * 3 // 20]
        rows[copies] = rows[rng.integers(0, size, len(copies))]
        edited = copies[: size // 10]
        rows[edited, rng.integers(0, 100, len(edited))] = 7
        names = [f"{name:016x}" for name in rng.integers(0, 2**63, size).tolist()]
        tables.append(pa.table({"id": names, "text": [" ".join(row) for row in words[rows].tolist()]}))
    return pa.concat_tables(tables).combine_chunks()


def shingles(text: str) -> list[str]:
    words = re.sub(r"[(){}\[\]$^+\-*/=]", " ", text.lower()).split()
    return [" ".join(words[i : i + 3]) for i in range(len(words) - 2)]


# --- contestants; each returns what its best run took and the ids it kept ---


def one_by_one(rows: int) -> tuple[Seconds, list[str]]:
    """The released script's way, in the order of ids."""
    from datasketch import MinHash, MinHashLSH

    documents = sorted(statements(rows).to_pylist(), key=lambda row: row["id"])

    def loop() -> list[str]:
        lsh = MinHashLSH(threshold=THRESHOLD, params=(50, 2), num_perm=128)
        kept: dict[str, list[str]] = {}
        for row in documents:
            ours = shingles(row["text"])
            sketch = MinHash(num_perm=128)
            for shingle in ours:
                sketch.update(shingle.encode())
            if not any(_similarity(ours, kept[other]) >= THRESHOLD for other in lsh.query(sketch)):
                lsh.insert(row["id"], sketch)
                kept[row["id"]] = ours
        return list(kept)

    return min(timed(loop) for _ in range(2))


def _similarity(left: list[str], right: list[str]) -> float:
    return len(set(left) & set(right)) / len(set(left) | set(right))


def at_once(rows: int, workers: int = 1) -> tuple[Seconds, list[str]]:
    table = statements(rows)
    deduplicate(table.slice(0, 1000))  # loads the libraries

    def work() -> list[str]:
        staying = deduplicate(table, threshold=THRESHOLD, workers=workers).staying
        return cast(list[str], table["id"].take(staying).to_pylist())

    return min(timed(work) for _ in range(2))


def exhaustive(rows: int) -> tuple[Seconds, list[str]]:
    """Every row against every kept one before it, by matrix products over the shingles."""
    return timed(lambda: _exhaustively(statements(rows).to_pylist()))


def _exhaustively(documents: list[dict[str, Any]]) -> list[str]:
    from scipy.sparse import csr_array

    ordered = sorted(documents, key=lambda row: row["id"])
    sets = [set(shingles(row["text"])) for row in ordered]
    column = {shingle: number for number, shingle in enumerate(sorted(set().union(*sets)))}
    cells = np.array([(row, column[shingle]) for row, found in enumerate(sets) for shingle in found]).T
    member = csr_array((np.ones(cells.shape[1], np.int32), tuple(cells)), (len(sets), len(column)))
    common = (member @ member.T).tocsr()
    sizes = np.array([len(found) for found in sets])
    stays = np.zeros(len(sets), bool)
    for row in range(len(sets)):
        span = slice(common.indptr[row], common.indptr[row + 1])
        others, shared = common.indices[span], common.data[span]
        same = shared >= THRESHOLD * (sizes[row] + sizes[others] - shared)
        stays[row] = not (same & stays[others] & (others < row)).any()
    return [row["id"] for row, stay in zip(ordered, stays, strict=True) if stay]


def growth(large: int) -> dict[str, float]:
    """CPU seconds of ten rows to one, peak memory, and CPU seconds of 10,000 more rows on indexes of both sizes."""
    table = statements(large)
    small = table.slice(0, large // 10)
    found = {"small": min(timed(lambda: deduplicate(small, threshold=THRESHOLD))[0].cpu for _ in range(3))}
    (found["large"], _), result = timed(lambda: deduplicate(table, threshold=THRESHOLD))
    (found["index"], _), _ = timed(lambda: result.index)
    found["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    batch = statements(10_000, seed=1)
    with tempfile.TemporaryDirectory() as folder:
        indexes = {"none": None, "on_small": deduplicate(small, threshold=THRESHOLD).index, "on_large": result.index}
        for name, index in indexes.items():
            lying = index and mapped(Path(folder) / f"{name}.arrow", index)
            add = [timed(partial(deduplicate, batch, lying, threshold=THRESHOLD))[0].cpu for _ in range(5)]
            found[name] = min(add)
    return found


# --- the report ---


def timed(work: Callable[[], Any]) -> tuple[Seconds, Any]:
    cpu, wall = time.process_time(), time.perf_counter()
    result = work()
    return Seconds(time.process_time() - cpu, time.perf_counter() - wall), result


def best(seconds: list[Seconds], rows: int) -> Seconds:
    """Least CPU and least wall-clock microseconds a row, each by itself."""
    return Seconds(*(min(of) / rows * 1e6 for of in zip(*seconds, strict=True)))


def alone(function: Callable[..., Any], *arguments: int) -> Any:
    """`function(*arguments)` in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def digest(ids: list[str]) -> str:
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()[:12]


def main(rows: int = 200_000, large: int = 1_000_000) -> None:
    few = min(PEER_ROWS, rows)
    turns = [(alone(one_by_one, few), alone(at_once, rows)) for _ in range(TURNS)]
    (_, naive), (_, kept) = turns[0]
    theirs = best([seconds for (seconds, _), _ in turns], few)
    ours = best([seconds for _, (seconds, _) in turns], rows)
    print(f"{rows:,} statements on one thread (the peer's rate is that of its first {few:,}):")
    print(f"  CPU time  {theirs.cpu / ours.cpu:6.1f}x   ({ours.cpu:.1f} against {theirs.cpu:.0f} microseconds a row)")
    print(f"  wall time {theirs.wall / ours.wall:6.1f}x   ({ours.wall:.1f} against {theirs.wall:.0f})")
    _, of_few = alone(at_once, few)
    _, right = alone(exhaustive, few)
    print(f"kept set of {few:,}: equal to datasketch's {of_few == naive}, to exhaustive comparison's {of_few == right}")
    _, by_two = alone(at_once, rows, 2)
    print(f"kept set of {rows:,} with two threads: equal {by_two == kept} ({len(kept):,} rows, {digest(kept)})")

    found = alone(growth, large)
    print(f"a row at {large:,} against one at {large // 10:,}: {found['large'] / found['small'] / 10:.2f}x")
    print(f"the table of the index of {large:,}: {found['index'] / large * 1e6:.1f} more CPU microseconds a row")
    print(f"peak memory with {large:,} rows, all in one part, and that table: {found['peak_gib']:.2f} GiB")
    print(
        f"10,000 rows onto a mapped index of {large:,} against one of {large // 10:,}: "
        f"{found['on_large'] / found['on_small']:.2f}x; against none: {found['on_large'] / found['none']:.2f}x"
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
