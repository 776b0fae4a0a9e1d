from __future__ import annotations

import os
import threading
from pathlib import Path

import pyarrow as pa
import pytest

from promptcot_assets.lake import Lake, LakeError, Spool


class Counting:
    """A function that remembers what it was called for."""

    def __init__(self) -> None:
        self.calls: list[object] = []

    def __call__(self, item: object) -> pa.Table:
        self.calls.append(item)
        return pa.table({"item": [str(item)], "length": [len(str(item))]})


@pytest.fixture
def spool(lake: Lake) -> Spool:
    return lake.spool("problems", "all", "f" * 64)


def run(spool: Spool, items: list[object], **options: object) -> tuple[list[str], list[object]]:
    """The items that came out, in order, and those that were computed for it."""
    function = Counting()
    tables = list(spool.map("generate", items, function, **options))  # type: ignore[arg-type]
    return [table["item"][0].as_py() for table in tables], function.calls


def shards(spool: Spool) -> list[Path]:
    return sorted((spool.folder / "generate").glob("*.parquet"))


def test_each_shard_is_computed_once_and_comes_back_in_order(spool: Spool) -> None:
    assert run(spool, ["c", "a", "b"]) == (["c", "a", "b"], ["c", "a", "b"])
    assert run(spool, ["c", "a", "b"]) == (["c", "a", "b"], [])
    assert len(shards(spool)) == 3


def test_a_run_that_stopped_resumes_at_the_first_missing_shard(spool: Spool) -> None:
    function = Counting()
    for _ in zip(range(2), spool.map("generate", ["a", "b", "c", "d"], function), strict=False):
        pass
    assert function.calls[:2] == ["a", "b"] and len(function.calls) < 4
    assert run(spool, ["a", "b", "c", "d"]) == (["a", "b", "c", "d"], ["a", "b", "c", "d"][len(function.calls) :])


def test_a_failing_item_keeps_the_finished_ones(spool: Spool) -> None:
    def fail_at_b(item: str) -> pa.Table:
        if item == "b":
            raise RuntimeError("the engine died")
        return pa.table({"item": [item]})

    with pytest.raises(RuntimeError, match="the engine died"):
        list(spool.map("generate", ["a", "b"], fail_at_b))
    assert run(spool, ["a", "b"]) == (["a", "b"], ["b"])


@pytest.mark.filterwarnings("ignore:.*is damaged")
def test_no_flipped_byte_in_the_rows_changes_what_comes_back(spool: Spool) -> None:
    table = pa.table({"item": [f"text {i}" for i in range(50)], "length": list(range(50))})
    list(spool.map("generate", [0], lambda _: table))
    good = shards(spool)[0].read_bytes()
    rows_end = len(good) - 8 - int.from_bytes(good[-8:-4], "little")  # the footer has no checksum in Parquet
    for place in range(0, rows_end, 11):
        bad = bytearray(good)
        bad[place] ^= 1
        shards(spool)[0].write_bytes(bad)
        (found,) = spool.map("generate", [0], lambda _: table)
        assert found.equals(table), place


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" * 9], ids=["empty", "cut", "without footer"])
def test_a_damaged_shard_is_computed_again_with_a_warning(spool: Spool, content: bytes) -> None:
    run(spool, ["a", "b"])
    path = shards(spool)[1]
    path.write_bytes(content)
    with pytest.warns(UserWarning, match=rf"{path.name} is damaged"):
        assert run(spool, ["a", "b"]) == (["a", "b"], ["b"])
    assert run(spool, ["a", "b"]) == (["a", "b"], [])


KEYS = [
    ("another item", {"p": 1}, {"p": 2}, True),
    ("the order of keys", {"p": 1, "q": 2}, {"q": 2, "p": 1}, False),
    ("a table's rows", pa.table({"a": [1, 2]}), pa.table({"a": [2, 1]}), True),
    ("a table's chunks", pa.table({"a": [1, 2]}), pa.concat_tables([pa.table({"a": [i]}) for i in (1, 2)]), False),
    ("a table's column names", pa.table({"a": [1]}), pa.table({"b": [1]}), True),
    ("a table's types", pa.table({"a": [1]}), pa.table({"a": ["1"]}), True),
    ("a slice of a table", pa.table({"a": [1, 2, 3]}).slice(1, 1), pa.table({"a": [2]}), False),
]


@pytest.mark.parametrize(("what", "before", "after", "differs"), KEYS, ids=[what for what, *_ in KEYS])
def test_a_shard_is_known_by_its_content(spool: Spool, what: str, before: object, after: object, differs: bool) -> None:
    run(spool, [before])
    assert (len(run(spool, [after])[1]) == 1) == differs, what


def test_a_key_of_ones_own_and_the_place_decide(spool: Spool) -> None:
    run(spool, [1, 2], key=lambda item: "same")
    assert run(spool, [8, 9], key=lambda item: "same") == (["1", "2"], [])
    assert run(spool, [2, 1])[1] == [2, 1]


def test_phases_partitions_and_fingerprints_do_not_meet(lake: Lake, spool: Spool) -> None:
    run(spool, ["a"])
    function = Counting()
    list(spool.map("score", ["a"], function))
    list(lake.spool("problems", "b", "f" * 64).map("generate", ["a"], function))
    list(lake.spool("problems", "all", "e" * 64).map("generate", ["a"], function))
    list(lake.spool("pairs", "all", "f" * 64).map("generate", ["a"], function))
    assert function.calls == ["a"] * 4


def test_schema_and_nested_values_survive(spool: Spool) -> None:
    schema = pa.schema([pa.field("l", pa.list_(pa.string()), metadata={"comment": "c"}), pa.field("n", pa.int32())])
    table = pa.table({"l": [["a", None], None], "n": [1, None]}, schema=schema)
    for _ in range(2):
        (found,) = spool.map("generate", [0], lambda item: table)
        assert found.equals(table, check_metadata=True)


def test_clear_removes_all_and_may_come_twice_or_in_between(spool: Spool) -> None:
    for index, _ in enumerate(spool.map("generate", ["a", "b", "c"], Counting())):
        if index == 1:
            spool.clear()  # a twin that finished first
    assert len(shards(spool)) == 1
    spool.clear()
    spool.clear()
    assert not spool.folder.exists() and not list(spool.folder.parent.iterdir())


def test_side_by_side_gives_the_same_as_one_after_the_other(spool: Spool, lake: Lake) -> None:
    items = [f"item {i}" for i in range(20)]
    other = lake.spool("problems", "b", "f" * 64)
    alone = [table.to_pylist() for table in other.map("generate", items, Counting())]
    assert [table.to_pylist() for table in spool.map("generate", items, Counting(), at_once=4)] == alone
    assert [path.name for path in shards(spool)] == [path.name for path in shards(other)]


def test_as_many_items_as_asked_for_run_side_by_side_each_in_a_thread(spool: Spool) -> None:
    together = threading.Barrier(3, timeout=30)

    def meet(item: object) -> pa.Table:
        together.wait()  # breaks unless three are here at once
        return pa.table({"item": [str(item)]})

    assert len(list(spool.map("generate", list(range(6)), meet, at_once=3))) == 6


def test_a_failure_side_by_side_keeps_what_finished_and_starts_nothing_new(spool: Spool) -> None:
    started: list[int] = []

    def fail_at_zero(item: int) -> pa.Table:
        started.append(item)
        if item == 0:
            raise RuntimeError("the engine died")
        return pa.table({"item": [str(item)]})

    with pytest.raises(RuntimeError, match="the engine died"):
        list(spool.map("generate", range(100), fail_at_zero, at_once=2))
    kept = len(shards(spool))
    assert len(started) < 10 and kept >= len(started) - 1
    found, computed = run(spool, list(range(100)))
    assert len(found) == 100 and len(computed) == 100 - kept and 0 in computed


def test_collected_rows_are_read_from_the_shards_and_each_shard_is_announced(spool: Spool) -> None:
    announced: list[int] = []
    rows = spool.collect("generate", (item for item in "abc"), Counting(), on_shard=announced.append)
    assert announced == [0, 1, 2] and len(rows) == 3
    assert [row["item"] for row in rows] == ["a", "b", "c"] == [row["item"] for row in rows]
    shards(spool)[1].unlink()
    with pytest.raises(LakeError, match="was lost while its rows were read"):
        list(rows)


def test_an_interrupt_side_by_side_does_not_wait_for_what_runs(spool: Spool) -> None:
    let_go, running = threading.Event(), threading.Semaphore(0)

    def wait(item: int) -> pa.Table:
        running.release()
        if item:
            assert let_go.wait(60)
        return pa.table({"item": [str(item)]})

    finished = spool.map("generate", range(3), wait, at_once=3)
    try:
        next(finished)
        for _ in range(3):
            assert running.acquire(timeout=60)
        finished.close()  # what an interrupt does to a generator: it comes back though two shards still run
    finally:
        let_go.set()


def collected(lake: Lake) -> list[str]:
    """What garbage collection deletes two days later."""
    for path in lake.home.glob("spool/**/*"):
        os.utime(path, (0, 0))
    return [file.name for one in lake.gc(dry_run=False) for file in one.files]


def test_a_resumed_run_keeps_its_old_shards(lake: Lake, spool: Spool) -> None:
    run(spool, ["a", "b"])
    spool._let_go()  # its process was killed
    resumed, calls = lake.spool("problems", "all", "f" * 64), []

    def compute(item: str) -> pa.Table:
        calls.append(item)
        assert collected(lake) == []
        return pa.table({"item": [item]})

    rows = resumed.collect("generate", "abc", compute)
    del resumed
    assert collected(lake) == []  # the rows are still to be read
    assert [row["item"] for row in rows] == ["a", "b", "c"] and calls == ["c"]
    del rows
    assert collected(lake) == ["all-ffffffffffffffff"]


def test_a_spool_is_let_go_when_cleared_and_held_again_when_used_again(lake: Lake, spool: Spool) -> None:
    twin = lake.spool("problems", "all", "f" * 64)
    run(spool, ["a"])
    run(twin, ["a"])  # several may use it at once
    spool.clear()
    run(twin, ["a"])
    assert collected(lake) == []  # the twin holds the new folder
    spool.clear()
    del twin
    run(spool, ["a"])
    assert collected(lake) == []


def test_a_spool_that_is_collected_just_before_it_is_used_is_made_anew(lake: Lake, spool: Spool) -> None:
    run(lake.spool("problems", "all", "f" * 64), ["a", "b"])
    assert collected(lake) == ["all-ffffffffffffffff"]
    assert run(spool, ["a", "b"]) == (["a", "b"], ["a", "b"])
