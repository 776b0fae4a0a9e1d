"""What our deduplication gains over a per-document loop on datasketch, and how it grows.

    python benchmarks/deduplication.py [ROWS]

The peer inserts one document after the other: words, shingles, one MinHash update a shingle, LSH query, exact Jaccard
with the candidates, LSH insert (how the released script works), with the bands of ours so that both find the same. It
is timed on the first 4,000 statements, as its cost a document does not depend on how many there are; ours on all.
Peers take turns in one process, in CPU time on one thread (the cores are shared); the best of three counts.
Then: kept sets against exhaustive comparison, cost a row at ten times the rows, and of a small batch on a large index.
"""

import re
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from datasketch import MinHash, MinHashLSH

from promptcot_assets.stages.deduplication import deduplicate

THRESHOLD = 0.8


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
    return pa.concat_tables(tables)


def shingles(text: str) -> set[str]:
    words = re.findall(r"[a-z]+|\d+", text.lower())
    return {" ".join(words[i : i + 3]) for i in range(len(words) - 2)}


def one_by_one(rows: pa.Table) -> list[str]:
    lsh = MinHashLSH(params=(32, 4), num_perm=128)
    kept: dict[str, set[str]] = {}
    for row in sorted(rows.to_pylist(), key=lambda row: row["id"]):
        ours = shingles(row["text"])
        sketch = MinHash(num_perm=128)
        for shingle in ours:
            sketch.update(shingle.encode())
        if not any(len(ours & kept[other]) >= THRESHOLD * len(ours | kept[other]) for other in lsh.query(sketch)):
            lsh.insert(row["id"], sketch)
            kept[row["id"]] = ours
    return list(kept)


def exhaustive(rows: pa.Table) -> list[str]:
    """Every row against every kept one before it, by matrix products over the shingles."""
    from scipy.sparse import csr_array

    ordered = sorted(rows.to_pylist(), key=lambda row: row["id"])
    sets = [shingles(row["text"]) for row in ordered]
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


def cpu_seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def main(rows: int = 200_000) -> None:
    table = statements(rows)
    few = table.slice(0, 4000)
    theirs, ours = np.inf, np.inf
    for _ in range(3):
        seconds, naive = cpu_seconds(lambda: one_by_one(few))
        theirs = min(theirs, seconds / len(few))
        seconds, whole = cpu_seconds(lambda: deduplicate(table, threshold=THRESHOLD))
        ours = min(ours, seconds / rows)
    print(
        f"{rows:,} statements, a document on one thread: {theirs / ours:6.1f}x   "
        f"({ours * 1e6:.1f} against {theirs * 1e6:.0f} CPU microseconds)"
    )
    same = deduplicate(few, threshold=THRESHOLD).kept["id"].to_pylist() == naive
    print(f"kept set of {len(few):,} equals datasketch's: {same}")
    some = table.slice(0, 5000)
    same = deduplicate(some, threshold=THRESHOLD).kept["id"].to_pylist() == exhaustive(some)
    print(f"kept set of {len(some):,} equals exhaustive comparison's: {same}")

    start = time.perf_counter()
    one_by_one(few)
    naive_wall = (time.perf_counter() - start) / len(few)
    start = time.perf_counter()
    parallel = deduplicate(table, threshold=THRESHOLD, workers=2)
    wall = (time.perf_counter() - start) / rows
    same = parallel.kept.equals(whole.kept) and parallel.dropped.equals(whole.dropped)
    print(f"with two threads, by the clock (idle cores needed): {naive_wall / wall:.1f}x; same result: {same}")

    batch = statements(10_000, seed=1)
    small = deduplicate(table.slice(0, rows // 10), threshold=THRESHOLD)
    costs = [cpu_seconds(lambda: deduplicate(table.slice(0, rows // 10), threshold=THRESHOLD))[0] / (rows // 10)]
    print(f"a row at {rows:,} against one at {rows // 10:,}: {ours / costs[0]:.2f}x")
    onto = []
    for index in (None, small.index, whole.index):
        add = partial(deduplicate, batch, index, threshold=THRESHOLD)
        onto.append(min(cpu_seconds(add)[0] for _ in range(3)))
    print(
        f"10,000 rows onto an index of {len(whole.index):,} against {len(small.index):,}: {onto[2] / onto[1]:.2f}x; "
        f"against none: {onto[2] / onto[0]:.2f}x"
    )
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
