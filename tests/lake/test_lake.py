"""Tables through the public interface: commit, read back, history, validation, homes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from promptcot_assets.lake import Lake, LakeError, Ref
from promptcot_assets.lake.rows import MAX_GROUP_BYTES
from promptcot_assets.tables import open_lake
from tests.lake.lake_examples import PROBLEMS, problems, provenance, train


def test_commit_and_read_back(lake: Lake) -> None:
    ref = lake.commit("problems", [problems(3)], PROBLEMS, provenance())
    assert (ref.asset, ref.partition, ref.rows) == ("problems", "all", 3)
    assert lake.table(ref).equals(problems(3), check_metadata=True)
    assert lake.newest("problems") == ref
    assert lake.verify(ref)


def test_unknown_tables_and_partitions_are_none_or_empty(lake: Lake) -> None:
    assert lake.newest("problems") is None
    assert lake.find("problems", "f") is None
    assert lake.history("problems") == lake.partitions("problems") == lake.lineage() == []
    lake.commit("problems", [problems(1)], PROBLEMS, provenance(), "a")
    assert lake.newest("problems") is None
    assert lake.partitions("problems") == ["a"]


def test_every_version_stays_readable(lake: Lake) -> None:
    refs = [lake.commit("problems", [problems(n)], PROBLEMS, provenance(n)) for n in (1, 2, 0, 3)]
    assert [lake.table(ref).num_rows for ref in refs] == [1, 2, 0, 3]
    assert [commit.ref for commit in lake.history("problems")] == refs
    assert [lake.commit_of(ref).provenance.seed for ref in refs] == [1, 2, 0, 3]


def test_partitions_are_independent(lake: Lake) -> None:
    keys = ["2026-11-20", "em1.algebra", "a-b", "A_b", "00"]
    refs = {key: lake.commit("problems", [problems(2, key)], PROBLEMS, provenance(), key) for key in keys}
    lake.commit("problems", [], PROBLEMS, provenance(1), "00")
    assert lake.partitions("problems") == sorted(set(keys) - {"00"})
    for key in keys[:-1]:
        assert lake.newest("problems", key) == refs[key]
        assert lake.table(refs[key])["problem"][0].as_py() == f"{key} 0?"
    assert [commit.ref.rows for commit in lake.history("problems", "00")] == [2, 0]


@pytest.mark.parametrize("part", ["", "a b", "a/b", "..", "ä", "a\n", "a'b", "a=b"])
def test_partition_keys_that_paths_or_predicates_would_misread(lake: Lake, part: str) -> None:
    if part == "..":  # a strange key, but it only names a folder `_part=..`
        assert lake.commit("problems", [problems(1)], PROBLEMS, provenance(), part).partition == part
        return
    with pytest.raises(LakeError, match="partition"):
        lake.commit("problems", [problems(1)], PROBLEMS, provenance(), part)


@pytest.mark.parametrize("asset", ["", "lineage", "models", "runs", "Runs", "a/b", "../x", "_x", "a-b", "ä"])
def test_names_that_cannot_be_tables(lake: Lake, asset: str) -> None:
    with pytest.raises(LakeError, match="cannot be a table"):
        lake.commit(asset, [problems(1)], PROBLEMS, provenance())


def test_find_only_answers_for_the_newest_commit(lake: Lake) -> None:
    first = lake.commit("problems", [problems(1)], PROBLEMS, provenance(1))
    assert lake.find("problems", provenance(1).fingerprint) == first
    second = lake.commit("problems", [problems(2)], PROBLEMS, provenance(2))
    assert lake.find("problems", provenance(1).fingerprint) is None
    assert lake.find("problems", provenance(2).fingerprint) == second
    assert lake.find("problems", provenance(2).fingerprint, "other") is None


def test_rows_stay_in_the_committed_order_whatever_the_batches(lake: Lake) -> None:
    whole = problems(20_000).take(pa.array([(i * 7919) % 20_000 for i in range(20_000)]))
    pieces: list[pa.Table | pa.RecordBatch] = [
        whole.slice(0, 1),
        whole.slice(1, 0),
        whole.slice(1, 15_000),
        *whole.slice(15_001).to_batches(),
    ]
    ref = lake.commit("problems", pieces, PROBLEMS, provenance())
    assert ref.data_version == lake.commit("problems", [whole], PROBLEMS, provenance()).data_version
    batches = list(lake.batches(ref, ["tries", "problem_id"], rows=300))
    assert max(batch.num_rows for batch in batches) == 300
    assert pa.Table.from_batches(batches).equals(whole.select(["tries", "problem_id"]))
    assert lake.table(ref, ["tries"]).equals(whole.select(["tries"]))


def test_one_read_holds_little_of_a_partition_of_long_texts(lake: Lake) -> None:
    """Row groups are bounded in bytes, so that rows of 1 MB do not make a batch reader hold 8192 of them."""
    rows = 3 * MAX_GROUP_BYTES // (1 << 20)
    table = pa.table({"text": pa.array(["x" * (1 << 20)] * 16)})
    ref = lake.commit("traces", (table for _ in range(rows // 16)), table.schema, provenance())
    before = pa.total_allocated_bytes()
    for batch in lake.batches(ref, rows=1):
        assert batch.num_rows == 1
        assert pa.total_allocated_bytes() - before < 2.5 * MAX_GROUP_BYTES


def test_generator_failure_leaves_the_old_version_and_no_litter(lake: Lake) -> None:
    old = lake.commit("problems", [problems(2)], PROBLEMS, provenance())

    def failing() -> Iterator[pa.Table]:
        yield problems(1)
        raise RuntimeError("the engine died")

    with pytest.raises(RuntimeError, match="the engine died"):
        lake.commit("problems", failing(), PROBLEMS, provenance(1))
    assert lake.newest("problems") == old
    assert not list((lake.home / "spool" / "problems").iterdir())


def with_column(name: str, values: list[object], kind: pa.DataType | None = None) -> pa.Table:
    table = problems(3)
    column = pa.array(values, kind or PROBLEMS.field(name).type)
    return table.set_column(table.column_names.index(name), name, column)


# after two good rows comes one of these tables; the message must hold these words
BAD_ROWS = {
    "missing column": (problems(3).drop_columns(["tries"]), ["'tries'", "missing", "row 2"]),
    "extra column": (problems(3).append_column("typo", pa.array([1, 2, 3])), ["'typo'", "from 2"]),
    "column twice": (problems(3).append_column("tries", pa.array([1, 2, 3])), ["'tries'", "once"]),
    "wrong type": (with_column("tries", ["1", "2", "3"], pa.string()), ["'tries'", "string", "int32", "row 2"]),
    "wider integers": (with_column("tries", [1, 2, 3], pa.int64()), ["'tries'", "int64", "int32"]),
    "wrong type inside": (with_column("concepts", [[1]] * 3, pa.list_(pa.int64())), ["'concepts'", "int64", "row 2"]),
    "null": (with_column("problem", ["x", "y", None]), ["'problem'", "null in row 4"]),
    "only nulls": (with_column("problem", [None] * 3, pa.null()), ["'problem'", "null in row 2"]),
    "duplicate id in the batch": (with_column("problem_id", ["x", "y", "x"]), ["'problem_id'", "row 4 repeats 'x'"]),
    "duplicate id across batches": (
        with_column("problem_id", ["x", "q0", "y"]),
        ["'problem_id'", "row 3 repeats 'q0'"],
    ),
}


@pytest.mark.parametrize(("table", "words"), BAD_ROWS.values(), ids=BAD_ROWS.keys())
def test_bad_rows_are_named_and_nothing_is_written(lake: Lake, table: pa.Table, words: list[str]) -> None:
    with pytest.raises(LakeError) as error:
        lake.commit("problems", [problems(2, "q"), table], PROBLEMS, provenance())
    assert all(word in str(error.value) for word in ["problems", *words]), error.value
    assert lake.newest("problems") is None
    assert not list(lake.home.rglob("*.parquet"))


GOOD_CLOTHES = {
    "large strings": with_column("problem", ["a", "b", "c"], pa.large_string()),
    "dictionary": with_column("problem", ["a", "b", "c"]).set_column(
        1, "problem", pa.array(["a", "b", "c"]).dictionary_encode()
    ),
    "large lists": with_column("concepts", [["a"], None, []], pa.large_list(pa.large_string())),
    "a column without any value": with_column("tries", [None] * 3, pa.null()),
    "another order of columns": problems(3).select(["tries", "problem", "concepts", "problem_id"]),
}


@pytest.mark.parametrize("table", GOOD_CLOTHES.values(), ids=GOOD_CLOTHES.keys())
def test_equal_types_in_other_clothes_are_accepted(lake: Lake, table: pa.Table) -> None:
    ref = lake.commit("problems", [table], PROBLEMS, provenance())
    assert lake.table(ref).schema.equals(PROBLEMS, check_metadata=True)
    assert lake.table(ref).to_pylist() == table.select(PROBLEMS.names).to_pylist()


UNKEEPABLE = [pa.uint32(), pa.float16(), pa.null(), pa.timestamp("ns"), pa.timestamp("ms", "UTC"), pa.duration("s")]


@pytest.mark.parametrize("kind", [*UNKEEPABLE, pa.list_(pa.uint8()), pa.struct([("x", pa.time32("s"))])], ids=str)
def test_types_that_delta_would_change_are_refused(lake: Lake, kind: pa.DataType) -> None:
    with pytest.raises(LakeError, match=r"column 'x'.*use "):
        lake.commit("odd", [], pa.schema([("x", kind)]), provenance())


KEEPABLE = {
    "integers": (pa.int8(), [-1, None]),
    "reals": (pa.float32(), [0.5, -0.0]),
    "decimals": (pa.decimal128(10, 2), [None, None]),
    "bytes": (pa.binary(), [b"\x00\xff", b""]),
    "dates": (pa.date32(), [None, None]),
    "utc times": (pa.timestamp("us", "UTC"), [0, 1]),
    "local times": (pa.timestamp("us"), [0, 1]),
    "nested": (
        pa.list_(pa.struct([("stdin", pa.string()), ("n", pa.list_(pa.int64()))])),
        [[{"stdin": "a", "n": [1]}], []],
    ),
    "maps": (pa.map_(pa.string(), pa.int64()), [[("a", 1)], None]),
}


@pytest.mark.parametrize(("kind", "values"), KEEPABLE.values(), ids=KEEPABLE.keys())
def test_other_types_come_back_unchanged(lake: Lake, kind: pa.DataType, values: list[object]) -> None:
    table = pa.table({"x": pa.array(values, kind)})
    ref = lake.commit("odd", [table], table.schema, provenance())
    assert lake.table(ref).equals(table)
    assert lake.verify(ref)
    DeltaTable((lake.home / "lake" / "odd").as_uri()).to_pyarrow_table()  # other Delta readers agree on the type


def test_a_new_column_joins_and_old_partitions_keep_their_data_version(lake: Lake) -> None:
    old = lake.commit("problems", [problems(2)], PROBLEMS, provenance(), "a")
    wider = PROBLEMS.append(pa.field("level", pa.int64()))
    new = lake.commit("problems", [problems(2, "q").append_column("level", pa.array([1, 2]))], wider, provenance(), "b")
    assert lake.verify(old) and lake.verify(new)
    assert lake.table(old).schema.names == PROBLEMS.names
    again = lake.commit(
        "problems", [problems(2).append_column("level", pa.nulls(2, pa.int64()))], wider, provenance(), "a"
    )
    assert again.data_version == old.data_version
    rows = DeltaTable((lake.home / "lake" / "problems").as_uri()).to_pyarrow_table()
    assert sorted(map(str, rows["level"].to_pylist())) == ["1", "2", "None", "None"]


def test_a_column_may_not_have_two_types_at_once(lake: Lake) -> None:
    text = PROBLEMS.set(2, pa.field("tries", pa.string()))
    rows = with_column("tries", ["1", "2", "3"], pa.string())
    lake.commit("problems", [problems(2)], PROBLEMS, provenance(), "a")
    with pytest.raises(LakeError, match=r"problems\[b\]: column 'tries' has type string, .* as int32"):
        lake.commit("problems", [rows], text, provenance(), "b")
    assert len(list((lake.home / "lake" / "problems").rglob("_part*/*.parquet"))) == 1
    replaced = lake.commit("problems", [rows], text, provenance(), "a")  # nothing of the old type is left
    assert lake.table(replaced)["tries"].to_pylist() == ["1", "2", "3"]


def test_a_ref_that_is_not_in_the_lake_is_refused(lake: Lake) -> None:
    ref = lake.commit("problems", [problems(2)], PROBLEMS, provenance())
    for wrong in (
        Ref("problems", 7, "all", ref.data_version, 2),
        Ref("problems", 0, "all", ref.data_version, 2),
        Ref("problems", ref.version, "all", "other", 2),
        Ref("problems", ref.version, "b", ref.data_version, 2),
        Ref("missing", 1, "all", ref.data_version, 2),
    ):
        for use in (
            lake.table,
            lake.verify,
            lake.commit_of,
            lake.ancestors,
            lake.checkpoint,
            lambda r: list(lake.batches(r)),
        ):
            with pytest.raises(LakeError, match="is not in the lake"):
                use(wrong)


def test_unknown_columns_are_named(lake: Lake) -> None:
    ref = lake.commit("problems", [problems(2)], PROBLEMS, provenance())
    with pytest.raises(LakeError, match=r"no column 'typo'; it has problem_id, problem"):
        lake.table(ref, ["problem", "typo"])


def data_file(lake: Lake, asset: str) -> Path:
    return next((lake.home / "lake" / asset).glob("_part*/*.parquet"))


def flip_byte(path: Path, where: int) -> None:
    content = bytearray(path.read_bytes())
    content[where] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", ["flipped byte", "truncated", "gone", "other rows"])
def test_damaged_data_is_never_given_out_as_good(lake: Lake, damage: str) -> None:
    ref = lake.commit("problems", [problems(500)], PROBLEMS, provenance())
    other = lake.commit("others", [problems(500, "x")], PROBLEMS, provenance())
    path = data_file(lake, "problems")
    if damage == "flipped byte":
        flip_byte(path, 600)
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-10])
    elif damage == "gone":
        path.unlink()
    else:
        shutil.copy(data_file(lake, "others"), path)
    assert lake.verify(ref) is False
    assert lake.find("problems", provenance().fingerprint) is None  # else nobody would make it again
    assert lake.verify(other) is True
    if damage != "other rows":  # a well-formed file with other rows is found by verify, not by every read
        for read in (lake.table, lambda r: list(lake.batches(r))):
            with pytest.raises(LakeError, match=rf"{path.name}.*re-materialize problems"):
                read(ref)


@pytest.mark.parametrize("lost", [False, True])
def test_making_damaged_rows_again_mends_the_version_that_a_model_rests_on(lake: Lake, lost: bool) -> None:
    ref, rows = lake.commit("problems", [problems(500)], PROBLEMS, provenance()), problems(500)
    train(lake, "student", b"1", provenance(1, ref))
    path = data_file(lake, "problems")
    path.unlink() if lost else flip_byte(path, 600)
    lake.commit("problems", [problems(3)], PROBLEMS, provenance(2))
    assert lake.verify(ref) is False  # those were other rows
    again = lake.commit("problems", [rows], PROBLEMS, provenance())
    assert lake.verify(ref) and lake.verify(again) and lake.table(ref).equals(rows)


def test_a_copied_home_reads_and_continues(lake: Lake, tmp_path: Path) -> None:
    ref = lake.commit("problems", [problems(2)], PROBLEMS, provenance())
    shutil.copytree(lake.home, tmp_path / "copy")
    shutil.rmtree(lake.home)
    copy = open_lake(tmp_path / "copy")
    assert copy.verify(ref)
    assert copy.commit("problems", [problems(3)], PROBLEMS, provenance(1)).version == ref.version + 1


@pytest.mark.parametrize("name", ["it's here", "ümläut #1", "a&b;c {x}", '"q"'])
def test_homes_with_unusual_names_work(tmp_path: Path, name: str) -> None:
    import duckdb

    lake = open_lake(tmp_path / name)
    ref = lake.commit("problems", [problems(2)], PROBLEMS, provenance())
    assert lake.commit("problems", [problems(1)], PROBLEMS, provenance(), "b").version == ref.version + 1
    assert lake.verify(ref)
    lake.gc(grace_hours=0, dry_run=False)
    with duckdb.connect(str(lake.home / "catalog.duckdb"), read_only=True) as con:
        assert con.execute("select count(*), count(distinct _part) from problems").fetchone() == (3, 2)
    assert {file.parent.parent.parent.parent for file in tmp_path.rglob("*.parquet")} == {lake.home}


@pytest.mark.parametrize("name", ["a%20b", "x=1", "st*ar", "wh?t", "[x]"])
def test_homes_that_duckdb_or_delta_misread_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(LakeError, match="PROMPTCOT_HOME"):
        open_lake(tmp_path / name)
    assert not (tmp_path / name).exists()


def test_a_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(LakeError, match=rf"{tmp_path / 'home'}.*PROMPTCOT_HOME"):
        open_lake(tmp_path / "home")
    with pytest.raises(LakeError, match="PROMPTCOT_HOME"):
        open_lake(Path("/proc/promptcot"))
