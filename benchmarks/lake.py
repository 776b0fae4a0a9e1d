"""What the lake costs: a commit against a bare Parquet write of the same rows, reads against bare reads, publishing.

    python benchmarks/lake.py [ROWS]

Prints ratios against a peer measured in the same run (the best of three each), seconds only beside them.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from promptcot_assets.lake import Provenance
from promptcot_assets.lake.catalogue import CATALOGUE
from promptcot_assets.tables import open_lake


def field(name: str, kind: pa.DataType, comment: str, unique: bool = False) -> pa.Field:
    return pa.field(name, kind, False, {"comment": comment, "unique": "true" if unique else "false"})


SCHEMA = pa.schema(
    [
        field("problem_id", pa.string(), "content hash", unique=True),
        field("problem", pa.string(), "problem text"),
        field("rationale", pa.string(), "how to get from the concepts to the problem"),
        field("tokens", pa.int64(), "sampled tokens"),
    ]
)
PROBLEM_CHARACTERS, RATIONALE_CHARACTERS = 600, 1500
TABLES, COMMITS = 30, 100


def text(seed: int, characters: int) -> str:
    """Text about as compressible as prose: words of a small vocabulary."""
    digest = hashlib.shake_128(str(seed).encode()).digest(characters // 6)
    return " ".join(f"w{byte:03d}a" for byte in digest)


def batches(rows: int) -> Iterator[pa.Table]:
    for start in range(0, rows, 1000):
        ids = range(start, min(start + 1000, rows))
        columns = [
            [hashlib.sha256(str(i).encode()).hexdigest() for i in ids],
            [text(i, PROBLEM_CHARACTERS) for i in ids],
            [text(-i, RATIONALE_CHARACTERS) for i in ids],
            list(ids),
        ]
        yield pa.table(columns, schema=SCHEMA)


def seconds(action: Callable[[], object]) -> float:
    """The best of three."""
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        action()
        taken.append(time.perf_counter() - start)
    return min(taken)


def report(what: str, ours: float, peer: str, theirs: float) -> None:
    print(f"{what}: {ours / theirs:6.2f} x {peer}   ({ours:.3f} s against {theirs:.3f} s)")


def bare_write(path: Path, tables: list[pa.Table]) -> None:
    with path.open("wb") as sink:
        with pq.ParquetWriter(sink, SCHEMA, compression="zstd", compression_level=3) as writer:
            for table in tables:
                writer.write_table(table)
        os.fsync(sink.fileno())


def large_partition(folder: Path, rows: int) -> None:
    tables = list(batches(rows))
    lake, bare = open_lake(folder / "large"), folder / "bare.parquet"
    theirs = seconds(lambda: bare_write(bare, tables))
    ours = seconds(lambda: lake.commit("problems", tables, SCHEMA, Provenance("1", "{}", 0)))
    size = sum(table.nbytes for table in tables) >> 20
    report(f"commit of {rows} rows ({size} MiB), hashed and checked", ours, "a bare Parquet write", theirs)
    ref = lake.newest("problems")
    assert ref is not None
    theirs = seconds(lambda: pq.read_table(bare))
    report("table() of them", seconds(lambda: lake.table(ref)), "read_table", theirs)
    report("batches() of them", seconds(lambda: sum(1 for _ in lake.batches(ref))), "read_table", theirs)
    report("verify() of them", seconds(lambda: lake.verify(ref)), "read_table", theirs)


def many_commits(folder: Path) -> None:
    lake, rows = open_lake(folder / "many"), next(batches(100))
    for i in range(COMMITS):
        lake.commit(f"table{i % TABLES}", [rows], SCHEMA, Provenance("1", "{}", i, f"run{i // TABLES}"))

    def plain_views() -> None:
        path = folder / "plain.duckdb"
        path.unlink(missing_ok=True)
        with duckdb.connect(str(path)) as con:
            for i in range(TABLES):
                file = next((lake.home / "lake" / f"table{i}").glob("*/*.parquet"))
                con.execute(f"create view table{i} as from read_parquet('{file}')")

    theirs = seconds(plain_views)
    what = f"publish() of {TABLES} tables, {COMMITS} commits"

    def from_nothing() -> None:
        (lake.home / CATALOGUE).unlink()
        lake.publish()

    report(f"{what}, without a catalogue before", seconds(from_nothing), f"{TABLES} plain views", theirs)
    report(f"{what}, in the process that committed", seconds(lake.publish), f"{TABLES} plain views", theirs)
    report(f"{what}, in a new one", seconds(lambda: open_lake(lake.home).publish()), f"{TABLES} plain views", theirs)


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 25_000
    with tempfile.TemporaryDirectory() as folder:
        large_partition(Path(folder), rows)
        many_commits(Path(folder))


if __name__ == "__main__":
    main()
