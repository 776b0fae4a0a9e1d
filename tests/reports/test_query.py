from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from promptcot_assets.lake import LakeError
from promptcot_assets.reports.query import PRINTED_ROWS, query, write_parquet
from promptcot_assets.tables import SCHEMAS, open_lake
from promptcot_assets.text.printing import to_json
from tests.small_home import Home, vote

DOCUMENT = Path(__file__).parents[2] / "docs" / "queries.md"
EXAMPLES = re.findall(r"```sql\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def recoded(arc: Home, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The arc with one table that newer code has made again, and what labels are decided from."""
    home = Home(Path(shutil.copytree(arc.path, tmp_path_factory.mktemp("recoded") / "home")))
    home.refs |= arc.refs
    vote(home)
    lake = open_lake(home.path)
    ref = arc.refs["concept_corpus"]
    newer = dataclasses.replace(lake.commit_of(ref).provenance, code_version="2")
    lake.commit(ref.asset, [lake.table(ref)], SCHEMAS[ref.asset], newer)
    return lake.home


@pytest.mark.parametrize("sql", EXAMPLES, ids=[sql.split("\n")[0][:40] for sql in EXAMPLES])
def test_every_documented_query_gives_rows(recoded: Path, sql: str) -> None:
    answer = query(recoded, sql)
    assert answer.names and answer.rows


def test_there_are_documented_queries() -> None:
    assert len(EXAMPLES) >= 10


def test_rows_come_as_table_csv_and_json(arc: Home) -> None:
    answer = query(arc.path, "select problem_id, concepts, well_posed, 1.5 as x from problems order by 1")
    assert answer.text().splitlines()[0].split() == ["problem_id", "concepts", "well_posed", "x"]
    assert answer.csv().splitlines() == [
        "problem_id,concepts,well_posed,x",
        'problem_1,"[""ratios""]",,1.5',
        'problem_2,"[""sums""]",,1.5',
    ]
    document = json.loads(to_json(answer.records()))
    assert document[0] == {"problem_id": "problem_1", "concepts": ["ratios"], "well_posed": None, "x": 1.5}


def test_an_answer_is_written_to_parquet_with_its_types(arc: Home, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    assert write_parquet(arc.path, "select problem_id, concepts, 1.5::double as x from problems order by 1", out) == 2
    table = pq.read_table(out)
    assert table.to_pylist()[0] == {"problem_id": "problem_1", "concepts": ["ratios"], "x": 1.5}
    with pytest.raises(LakeError, match="two columns of the answer are named 'a'"):
        write_parquet(arc.path, "select 1 as a, 2 as a", tmp_path / "twice.parquet")
    with pytest.raises(LakeError, match="cannot write"):
        write_parquet(arc.path, "select 1 as a", tmp_path / "nowhere" / "out.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]


def test_csv_writes_what_is_nested_as_json(arc: Home) -> None:
    answer = query(
        arc.path,
        "select ['a', 'é'] as a, {'at': timestamp '2026-01-02 03:04:05', 'n': null} as b, [date '2026-01-02'] as c",
    )
    (row,) = csv.DictReader(io.StringIO(answer.csv()))
    assert row == {"a": '["a", "é"]', "b": '{"at": "2026-01-02T03:04:05", "n": null}', "c": '["2026-01-02"]'}


def test_records_never_drop_a_column(arc: Home) -> None:
    answer = query(arc.path, "select p.problem, s.problem from problems p, seed_problems s limit 1")
    with pytest.raises(LakeError, match="two columns of the answer are named 'problem'"):
        answer.records()


def test_every_view_and_column_is_commented(arc: Home) -> None:
    bare = query(
        arc.path,
        """
        select view_name from duckdb_views() where not internal and comment is null
        union all
        select table_name || '.' || column_name from duckdb_columns() join duckdb_views() on view_name = table_name
        where not duckdb_views.internal and duckdb_columns.comment is null
          and column_name <> '_part' and view_name <> 'runs'
        """,
    ).rows
    assert bare == []


def test_a_moved_home_reads_its_own_files(arc: Home, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(arc.path, tmp_path / "it's moved"))
    (lost,) = (moved / "lake" / "code_tests").glob("_part=*/*.parquet")
    assert query(moved, "select count(*) from problems").rows == [(2,)]
    lost.unlink()  # the files of the old home are no longer what is read
    with pytest.raises(LakeError, match=rf"code_tests.*file {lost} is gone"):
        query(moved, "select * from code_tests")


@pytest.mark.parametrize("left", [None, b"", b"no database" * 1000])
def test_a_lost_or_damaged_catalogue_is_written_anew(own_arc: Home, left: bytes | None) -> None:
    (own_arc.path / "catalog.duckdb").unlink()
    if left is not None:
        (own_arc.path / "catalog.duckdb").write_bytes(left)
    assert query(own_arc.path, "select count(*) from problems").rows == [(2,)]


def test_no_lake_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="run `promptcot run`"):
        query(tmp_path, "select 1")
    assert list(tmp_path.iterdir()) == []


def test_the_catalogue_is_not_writable(arc: Home) -> None:
    with pytest.raises(LakeError, match="read-only"):
        query(arc.path, "drop table lineage")
    assert query(arc.path, "select count(*) > 0 from lineage").rows == [(True,)]


@pytest.mark.parametrize("sql", ["", " ; ", "-- nothing"])
def test_an_empty_query_says_so(arc: Home, tmp_path: Path, sql: str) -> None:
    with pytest.raises(LakeError, match="the query is empty"):
        query(arc.path, sql)
    with pytest.raises(LakeError, match="the query is empty"):
        write_parquet(arc.path, sql, tmp_path / "out.parquet")


@pytest.mark.parametrize("sql", [
    "copy (select 1) to '{out}'",
    "select 1; COPY (select 1) to '{out}'",
    "copy (pivot (select 1 as a) on a) to '{out}'",
    "explain analyze copy (select 1) to '{out}'",
    "select 'é'; explain /* é */ (analyze) copy (select 1) to '{out}'",
    "prepare it as copy (select 1) to '{out}'; execute it",
    "attach '{out}' (read_write)",
    "export database '{out}'",
    "pragma enable_profiling = 'json'; pragma profiling_output = '{out}'; select 1",
    "set profiling_output = '{out}'; set enable_profiling = 'json'; select 1",
    "pragma profiling_output = '{out}'",
    "set log_query_path = '{out}'; select 1",
    "call enable_logging(storage = 'file', storage_path = '{out}')",
    "set secret_directory = '{out}'; create persistent secret one (type http)",
    "create persistent secret one (type http)",
    "create temp table one as select 1",
    "install httpfs from '{out}'",
    "force install httpfs",
    "load '{out}'",
    "update extensions",
    "set temp_directory = '{out}'",
    "reset temp_directory",
    "set variable one = 1; select 1",
    "use memory",
    "copy from database memory to catalog",
    "import database '{out}'",
    "checkpoint",
    "vacuum",
    "analyze",
    "begin; select 1; commit",
    "detach memory",
    "comment on table lineage is 'mine'",
    "insert into lineage select * from lineage",
    "update lineage set seed = 1",
    "delete from lineage",
    "drop view problems",
    "alter table lineage add column one int",
    "create macro one() as 1",
    "explain analyze create table one as select 1",
    "explain call enable_logging()",
    "execute one",
])  # fmt: skip
def test_a_query_writes_no_file(arc: Home, tmp_path: Path, sql: str) -> None:
    for ask in (query, lambda home, sql: write_parquet(home, sql, tmp_path / "out.parquet")):
        with pytest.raises(LakeError, match=r"a query only reads.*--csv, --json and --parquet") as error:
            ask(arc.path, sql.format(out=tmp_path / "out"))
        assert len(str(error.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("sql", [
    "from enable_logging(storage = 'file', storage_path = '{out}')",
    "from enable_profiling(save_location = '{out}')",
    "explain analyze from enable_logging(storage = 'file', storage_path = '{out}')",
    "from query('from enable_logging(storage = ''file'', storage_path = ''{out}'')')",
    "pivot (from enable_logging(storage = 'file', storage_path = '{out}')) on scope",
    "from read_csv('{outside}')",
    "from read_text('/etc/passwd')",
    "from glob('/etc/*')",
    "from '{outside}'",
    "from read_parquet('{lake}/../../outside.csv')",
])  # fmt: skip
def test_no_function_of_a_select_leaves_the_lake(arc: Home, tmp_path: Path, sql: str) -> None:
    (tmp_path / "outside.csv").write_text("a\n1\n")
    places = {"out": tmp_path / "out", "outside": tmp_path / "outside.csv", "lake": arc.path / "lake"}
    with pytest.raises(LakeError):
        query(arc.path, sql.format(**places))
    assert [path.name for path in tmp_path.iterdir()] == ["outside.csv"]


def test_a_large_query_spills_outside_the_home(arc: Home) -> None:
    before = sorted(arc.path.iterdir())
    assert query(arc.path, "select count(distinct hash(range)) from range(3_000_000)").rows[0][0] > 2_999_000
    assert sorted(arc.path.iterdir()) == before


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3+cmd", "@sum(a1)", "\t=1", " =1", "＝1"])
def test_no_cell_of_csv_is_a_formula(arc: Home, text: str) -> None:
    quoted = text.replace("'", "''")
    answer = query(arc.path, f"select '{quoted}' as a, -1.5 as b, '-5' as c").csv()
    (row,) = csv.DictReader(io.StringIO(answer, newline=""))
    assert row == {"a": f"'{text}", "b": "-1.5", "c": "-5"}


def test_a_catalogue_that_missed_a_commit_is_written_anew(own_arc: Home) -> None:
    lake = own_arc.lake  # which publishes nothing, as one that is killed right after its commit
    before = query(own_arc.path, "select count(*) from lineage").rows[0][0]
    ref = own_arc.refs["concept_corpus"]
    lake.commit(ref.asset, [lake.table(ref)], SCHEMAS[ref.asset], lake.commit_of(ref).provenance)
    assert query(own_arc.path, "select count(*) from lineage").rows == [(before + 1,)]


def test_a_bit_anywhere_in_the_catalogue_is_mended_before_it_is_read(own_arc: Home) -> None:
    path = own_arc.path / "catalog.duckdb"
    asked = ["from lineage order by all", "from models order by all"]
    own_arc.publish()
    before, whole = [query(own_arc.path, sql).rows for sql in asked], path.read_bytes()
    for place in range(12):
        damaged = bytearray(whole)
        damaged[place * (len(whole) - 1) // 11] ^= 1
        path.write_bytes(damaged)
        assert [query(own_arc.path, sql).rows for sql in asked] == before, place


DAMAGE = {
    "a bit of a page": lambda content: content[:40] + bytes([content[40] ^ 4]) + content[41:],
    "a bit of the footer": lambda content: content[:-60] + bytes([content[-60] ^ 1]) + content[-59:],
    "a bit of the length": lambda content: content[:-8] + bytes([content[-8] ^ 1]) + content[-7:],
    "half of it": lambda content: content[: len(content) // 2],
    "nothing left": lambda content: b"",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_table_costs_its_own_queries_only(own_arc: Home, damage: Callable[[bytes], bytes]) -> None:
    (file,) = (own_arc.path / "lake" / "code_tests").glob("_part=*/*.parquet")
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(
        LakeError, match=rf"code_tests\[.*\]@1: file {file} is damaged .*; restore it from a copy or re-"
    ):
        query(own_arc.path, "select * from code_tests")
    assert query(own_arc.path, "select count(*) from problems").rows == [(2,)]
    open_lake(own_arc.path).publish()
    ref = own_arc.refs["problems"]
    own_arc.lake.commit(
        "problems", [own_arc.lake.table(ref)], SCHEMAS["problems"], own_arc.lake.commit_of(ref).provenance
    )
    assert query(own_arc.path, "select count(*) from problems").rows == [(4,)]


@pytest.mark.parametrize("sql", [
    "explain select 1",
    "explain analyze select 'copy' as \"copy\" -- copy",
    "show tables",
    "describe lineage",
    "summarize problems",
    "from problems",
    "with one as (values (1)) from one",
    "pivot problems on domain",
    "explain pivot problems on domain",
    "explain (format json) from problems",
    "from pragma_table_info('lineage')",
    "select count(*) from read_json('{lake}/problems/_delta_log/*.json')",
])  # fmt: skip
def test_what_only_reads_is_answered(arc: Home, sql: str) -> None:
    assert query(arc.path, sql.format(lake=arc.path / "lake")).rows


def test_a_wrong_query_gives_duckdbs_message(arc: Home) -> None:
    with pytest.raises(LakeError, match='Did you mean "lineage"'):
        query(arc.path, "select * from lineagee")


def test_a_long_answer_is_cut_in_print_only(arc: Home) -> None:
    answer = query(arc.path, f"select * from range({PRINTED_ROWS + 5})")
    assert answer.text().endswith("… 5 more rows (--csv and --json give all)")
    assert len(answer.csv().splitlines()) == PRINTED_ROWS + 6
