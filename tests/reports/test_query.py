from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from promptcot_assets.lake import Lake, LakeError
from promptcot_assets.lake.schemas import SCHEMAS
from promptcot_assets.reports.query import PRINTED_ROWS, query, write_parquet
from promptcot_assets.reports.text import to_json
from tests.reports.small_home import Home

DOCUMENT = Path(__file__).parents[2] / "docs" / "queries.md"
EXAMPLES = re.findall(r"```sql\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def recoded(arc: Home, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The arc with one table that newer code has made again."""
    lake = Lake(Path(shutil.copytree(arc.path, tmp_path_factory.mktemp("recoded") / "home")))
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
    with pytest.raises(LakeError, match=r"IO Error|No files found"):
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
])  # fmt: skip
def test_a_query_writes_no_file(arc: Home, tmp_path: Path, sql: str) -> None:
    for ask in (query, lambda home, sql: write_parquet(home, sql, tmp_path / "out.parquet")):
        with pytest.raises(LakeError, match=r"a query only reads.*--csv, --json and --parquet") as error:
            ask(arc.path, sql.format(out=tmp_path / "out"))
        assert len(str(error.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("sql", [
    "explain select 1",
    "explain analyze select 'copy' as \"copy\" -- copy",
    "pragma table_info('lineage')",
    "show tables",
    "describe lineage",
    "summarize problems",
    "from problems",
    "with one as (values (1)) from one",
    "pivot problems on domain",
    "set threads = 1; select 1",
    "set variable one = 1; select getvariable('one')",
    "create temp table one as select 1; insert into one values (2); from one",
    "prepare it as select 1; execute it",
    "call pragma_version()",
])  # fmt: skip
def test_what_only_reads_is_answered(arc: Home, sql: str) -> None:
    assert query(arc.path, sql).rows


def test_a_wrong_query_gives_duckdbs_message(arc: Home) -> None:
    with pytest.raises(LakeError, match='Did you mean "lineage"'):
        query(arc.path, "select * from lineagee")


def test_a_long_answer_is_cut_in_print_only(arc: Home) -> None:
    answer = query(arc.path, f"select * from range({PRINTED_ROWS + 5})")
    assert answer.text().endswith("… 5 more rows (--csv and --json give all)")
    assert len(answer.csv().splitlines()) == PRINTED_ROWS + 6
