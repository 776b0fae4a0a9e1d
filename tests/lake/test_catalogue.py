"""`catalog.duckdb` as a user's plain DuckDB sees it."""

from __future__ import annotations

import errno
import hashlib
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import duckdb
import pyarrow as pa
import pytest

from promptcot_assets.lake import Lake, LakeError, Ref, catalogue
from promptcot_assets.tables import SCHEMAS, open_lake
from tests.lake.lake_examples import PROBLEMS, column, problems, provenance, train

PART = "partition that the row is of; all: not partitioned"


def query(lake: Lake, sql: str) -> list[dict[str, Any]]:
    """The rows of a query on the catalogue; no extension may be loaded for it."""
    config = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
    with duckdb.connect(str(lake.home / "catalog.duckdb"), read_only=True, config=config) as con:
        return con.sql(sql).to_arrow_table().to_pylist()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, dict[str, Ref]]:
    """seeds -> problems in two batches -> two versions of a student, the second on one batch; an empty table."""
    lake = open_lake(tmp_path_factory.mktemp("template") / "home")
    refs = {"seeds": lake.commit("seeds", [problems(4, "s")], PROBLEMS, provenance(0, run_id="first", tokens=10))}
    for batch in ("a", "b"):
        made = provenance(1, refs["seeds"], run_id="second", tokens=100, seconds=1.5)
        refs[batch] = lake.commit("problems", [problems(3, batch)], PROBLEMS, made, batch)
    refs["old"] = train(lake, "student", b"1", provenance(1, refs["a"], refs["b"], run_id="third"), "small", loss=2.0)
    refs["new"] = train(lake, "student", b"2", provenance(2, refs["a"], run_id="third"), "small", loss=1.0)
    refs["empty"] = lake.commit("pairs", [], PROBLEMS, provenance(3, refs["new"], run_id=""))
    return lake, refs


@pytest.fixture
def filled(template: tuple[Lake, dict[str, Ref]], tmp_path: Path) -> tuple[Lake, dict[str, Ref]]:
    """A copy of the template with a catalogue of its own."""
    shutil.copytree(template[0].home, tmp_path / "home")
    lake = open_lake(tmp_path / "home")
    lake.publish()
    return lake, template[1]


def test_an_empty_lake_has_its_three_tables(lake: Lake) -> None:
    lake.publish()
    for name in ("lineage", "runs", "models"):
        assert query(lake, f"from {name}") == []
        assert query(lake, f"select count(*) n from {name}") == [{"n": 0}]


def test_a_declared_table_that_nothing_was_committed_to_is_an_empty_view_with_its_columns(lake: Lake) -> None:
    lake.publish()
    for name, schema in SCHEMAS.items():
        assert query(lake, f"from {name}") == []
        columns = query(lake, f"select column_name c, comment from duckdb_columns() where table_name = '{name}'")
        assert {row["c"]: row["comment"] for row in columns} == {
            **{field.name: ((field.metadata or {}).get(b"comment") or b"").decode() or None for field in schema},
            "_part": PART,
        }
    kinds = {row["column_name"]: row["column_type"] for row in query(lake, "describe problems")}
    assert (kinds["problem"], kinds["concepts"], kinds["_part"]) == ("VARCHAR", "VARCHAR[]", "VARCHAR")


def test_an_empty_log_of_a_table_that_nobody_declares_is_no_table(lake: Lake) -> None:
    (lake.home / "lake" / "left_over" / "_delta_log").mkdir(parents=True)
    lake.publish()
    assert query(lake, "select count(*) n from duckdb_views() where view_name = 'left_over'") == [{"n": 0}]


def test_views_show_the_newest_version_of_every_table(filled: tuple[Lake, dict[str, Ref]]) -> None:
    lake, _ = filled
    lake.commit("problems", [problems(1, "c")], PROBLEMS, provenance(9), "b")
    counts = query(lake, "select _part, count(*) n from problems group by all order by all")
    assert counts == [{"_part": "a", "n": 3}, {"_part": "b", "n": 1}]
    assert query(lake, "select concepts from problems where problem_id = 'a1'") == [{"concepts": ["a", "1"]}]
    assert [row["problem_id"] for row in query(lake, "from problems where _part = 'a'")] == ["a0", "a1", "a2"]


def test_a_table_of_no_rows_has_its_columns(filled: tuple[Lake, dict[str, Ref]]) -> None:
    lake, _ = filled
    assert query(lake, "from pairs") == []
    kinds = {row["column_name"]: row["column_type"] for row in query(lake, "describe pairs")}
    assert kinds == {
        "problem_id": "VARCHAR",
        "problem": "VARCHAR",
        "tries": "INTEGER",
        "concepts": "VARCHAR[]",
        "_part": "VARCHAR",
    }


def test_comments_come_from_the_schema(filled: tuple[Lake, dict[str, Ref]]) -> None:
    lake, _ = filled
    views = query(lake, "select comment from duckdb_views() where view_name = 'pairs'")
    assert views == [{"comment": "problems as the generator wrote them"}]
    columns = query(lake, "select column_name c, comment from duckdb_columns() where table_name = 'problems'")
    for name in ("lineage", "models", "runs"):
        columns_of = f"select column_name c, comment from duckdb_columns() where table_name = '{name}'"
        assert [row["c"] for row in query(lake, f"from ({columns_of}) where comment is null and c <> 'loss'")] == []
    assert {row["c"]: row["comment"] for row in columns} == {
        "problem_id": "content hash of the problem",
        "problem": "problem text, it's x in the paper",
        "tries": None,
        "concepts": None,
        "_part": PART,
    }


def test_lineage_has_one_row_a_commit(filled: tuple[Lake, dict[str, Ref]]) -> None:
    lake, _ = filled
    rows = query(lake, "from lineage order by committed_at, asset, version")
    assert len(rows) == len(lake.lineage()) == 6
    for row, commit in zip(rows, lake.lineage(), strict=True):
        assert row.pop("inputs") == [vars(ref) for ref in commit.provenance.inputs]
        assert row == {
            **vars(commit.ref),
            "fingerprint": commit.fingerprint,
            "run_id": commit.provenance.run_id,
            "code_version": "1",
            "settings": '{"n":8}',
            "settings_hash": hashlib.sha256(b'{"n":8}').hexdigest()[:12],
            "seed": commit.provenance.seed,
            "tokens": commit.provenance.tokens,
            "seconds": commit.provenance.seconds,
            "committed_at": commit.timestamp,
        }


def test_ancestors_are_one_recursive_query_away(filled: tuple[Lake, dict[str, Ref]]) -> None:
    lake, refs = filled
    rows = query(
        lake,
        """with recursive up as (
             select unnest(inputs) as i from lineage where asset = 'pairs'
             union select unnest(l.inputs) from up
             join lineage l on (l.asset, l.version, l.partition) = (i.asset, i.version, i.partition))
           select i.* from up""",
    )
    assert {Ref(**row) for row in rows} == {refs["new"], refs["a"], refs["seeds"]}
    assert {commit.ref for commit in lake.ancestors(refs["empty"])} == {refs["new"], refs["a"], refs["seeds"]}


def test_runs_add_up(filled: tuple[Lake, dict[str, Ref]]) -> None:
    lake, _ = filled
    runs = {row["run_id"]: row for row in query(lake, "from runs")}
    assert list(runs) == ["first", "second", "third"]
    second = runs["second"]
    assert (second["assets"], second["commits"], second["rows"]) == (["problems"], 2, 6)
    assert (second["tokens"], second["seconds"]) == (200, 3.0)
    assert runs["first"]["last_commit"] <= second["first_commit"] <= second["last_commit"]


def test_models_keeps_superseded_checkpoints(filled: tuple[Lake, dict[str, Ref]]) -> None:
    lake, refs = filled
    rows = query(lake, "from models order by committed_at")
    assert [(row["role"], row["partition"], row["loss"]) for row in rows] == [
        ("student", "small", 2),
        ("student", "small", 1),
    ]
    for row, ref in zip(rows, (refs["old"], refs["new"]), strict=True):
        assert lake.home / row["path"] == lake.checkpoint(ref)
        assert row["model_id"] == row["path"].removeprefix("models/")
        assert (row["data_version"], row["version"]) == (ref.data_version, ref.version)
        assert [Ref(**given) for given in row["inputs"]] == list(lake.commit_of(ref).provenance.inputs)
    assert query(lake, "select loss from student") == [{"loss": 1.0}]


def test_models_has_the_columns_of_all_roles_and_each_model_once(filled: tuple[Lake, dict[str, Ref]]) -> None:
    lake, _ = filled
    train(lake, "student", b"1", provenance(7), "small")  # the first one's weights again
    folder = lake.work_folder("teacher", "f")
    (folder / "w").write_text("x")
    schema = pa.schema([column("steps", pa.int64()), column("loss", pa.string()), column("role", pa.string())])
    lake.commit_checkpoint("teacher", folder, schema, {"steps": 5, "loss": "n/a", "role": "clash"}, provenance())
    rows = query(lake, "select role, loss, steps from models order by role, loss")
    assert rows == [
        {"role": "student", "loss": "1.0", "steps": None},
        {"role": "student", "loss": "1.0", "steps": None},
        {"role": "teacher", "loss": "n/a", "steps": 5},
    ]


def test_partitions_with_different_columns_are_one_view(lake: Lake) -> None:
    lake.commit("problems", [problems(1, "old")], PROBLEMS, provenance(), "a")
    wider = PROBLEMS.insert(0, pa.field("level", pa.int64(), True, {"comment": "new"}))
    rows = problems(1, "new").append_column("level", pa.array([3]))
    lake.commit("problems", [rows], wider, provenance(), "b")
    assert query(lake, "select problem, level from problems order by level") == [
        {"problem": "new 0?", "level": 3},
        {"problem": "old 0?", "level": None},
    ]
    assert query(
        lake, "select comment c from duckdb_columns() where table_name = 'problems' and column_name = 'level'"
    ) == [{"c": "new"}]


def test_a_copied_home_is_healed_by_publishing(filled: tuple[Lake, dict[str, Ref]], tmp_path: Path) -> None:
    lake, _ = filled
    copy = tmp_path / "copy"
    shutil.copytree(lake.home, copy)
    shutil.rmtree(lake.home)
    with pytest.raises(duckdb.IOException, match="No files found"):
        query(open_lake(copy), "from problems")
    open_lake(copy).publish()
    assert query(open_lake(copy), "select count(*) n from problems") == [{"n": 6}]


def test_a_lost_or_damaged_catalogue_is_healed_by_publishing(filled: tuple[Lake, dict[str, Ref]]) -> None:
    lake, _ = filled
    for content in (None, b"", b"not a database"):
        (lake.home / "catalog.duckdb").unlink()
        if content is not None:
            (lake.home / "catalog.duckdb").write_bytes(content)
        lake.publish()
        assert query(lake, "select count(*) n from problems") == [{"n": 6}]


def test_a_missing_file_spoils_one_view_and_says_how_to_mend_it(filled: tuple[Lake, dict[str, Ref]]) -> None:
    lake, _ = filled
    for file in (lake.home / "lake" / "problems").glob("_part=b/*.parquet"):
        file.unlink()
    for file in (lake.home / "lake" / "student").glob("_part*/*.parquet"):
        file.unlink()
    lake.publish()
    with pytest.raises(duckdb.InvalidInputException, match=r"table problems: file .* is missing; restore"):
        query(lake, "from problems")
    assert query(lake, "select count(*) n from seeds") == [{"n": 4}]
    assert query(lake, "select count(path) n from models") == [{"n": 2}]
    again = lake.commit("problems", [problems(1, "b")], PROBLEMS, provenance(), "b")
    assert lake.verify(again)
    assert query(lake, "select count(*) n from problems") == [{"n": 4}]


@pytest.mark.parametrize("left", [0, 8, 300])
def test_a_damaged_file_spoils_one_view_and_no_commit(filled: tuple[Lake, dict[str, Ref]], left: int) -> None:
    lake, _ = filled
    (file,) = (lake.home / "lake" / "problems").glob("_part=b/*.parquet")  # DuckDB would open that of _part=a alone
    for one in (file, *(lake.home / "lake" / "student").glob("_part*/*.parquet")):
        one.write_bytes(one.read_bytes()[:left])
    lake.commit("seeds", [problems(5, "s")], PROBLEMS, provenance())
    assert query(lake, "select count(*) n from seeds") == [{"n": 5}]
    with pytest.raises(duckdb.InvalidInputException, match=rf"table problems: file {file} is damaged \(.*; restore"):
        query(lake, "from problems")
    assert query(lake, "select count(path) n from models") == [{"n": 2}]
    lake.commit("problems", [problems(1, "b")], PROBLEMS, provenance(), "b")
    assert query(lake, "select count(*) n from problems") == [{"n": 4}]


def test_open_readers_keep_their_catalogue_while_others_publish(filled: tuple[Lake, dict[str, Ref]]) -> None:
    lake, _ = filled
    program = """if True:
        import duckdb, sys
        with duckdb.connect(sys.argv[1], read_only=True) as con:
            counts = "select count(*), (select count(*) from lineage) from problems"
            for _ in sys.stdin:
                print(con.execute(counts).fetchone(), flush=True)
    """
    command = [sys.executable, "-c", program, str(lake.home / "catalog.duckdb")]
    reader = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert reader.stdin is not None and reader.stdout is not None
    for _ in range(3):
        reader.stdin.write("\n")
        reader.stdin.flush()
        assert reader.stdout.readline() == "(6, 6)\n"
        lake.commit("problems", [problems(9, "c")], PROBLEMS, provenance(), "c")
    reader.stdin.close()
    assert reader.wait() == 0
    assert query(lake, "select count(*) n from problems") == [{"n": 15}]


def test_concurrent_publishers_leave_a_whole_and_new_catalogue(filled: tuple[Lake, dict[str, Ref]]) -> None:
    lake, _ = filled
    threads = [threading.Thread(target=open_lake(lake.home).publish) for _ in range(4)]
    for thread in threads:
        thread.start()
    lake.commit("problems", [problems(2, "c")], PROBLEMS, provenance(), "c")
    for thread in threads:
        thread.join()
    assert query(lake, "select count(*) n from problems") == [{"n": 8}]
    assert sorted(path.name for path in lake.home.glob("*catalog*")) == ["catalog.duckdb"]


def test_what_someone_wrote_into_the_catalogue_does_not_haunt_the_next_one(lake: Lake) -> None:
    """A write-ahead log left by a killed writer must not be replayed into the new file."""
    lake.commit("problems", [problems(1)], PROBLEMS, provenance())
    program = "import duckdb, os, sys; con = duckdb.connect(sys.argv[1]); con.execute('create table mine as select 1');"
    program += "con.execute('checkpoint'); con.execute('insert into mine values (2)'); os._exit(9)"
    subprocess.run([sys.executable, "-c", program, str(lake.home / "catalog.duckdb")], check=False)
    assert (lake.home / "catalog.duckdb.wal").exists()
    lake.publish()
    assert query(lake, "select count(*) n from problems") == [{"n": 1}]
    assert query(lake, "select count(*) n from duckdb_tables() where table_name = 'mine'") == [{"n": 0}]


def test_no_catalogue_misses_what_a_commit_in_it_was_made_from(lake: Lake) -> None:
    """Tables are listed in the order of their names: `a_source`, then maybe a commit to both, then `z_derived`."""
    writer = open_lake(lake.home)
    stop = threading.Event()

    def write() -> None:
        seed = 0
        while not stop.is_set():
            source = writer._commit("a_source", [problems(1)], PROBLEMS, provenance(seed), "all")
            writer._commit("z_derived", [problems(1)], PROBLEMS, provenance(seed, source), "all")
            seed += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(6):
            open_lake(lake.home).publish()
            lost = query(
                lake,
                """
                select i.version from (select unnest(inputs) as i from lineage) where (i.asset, i.version) not in
                (select (asset, version) from lineage)
            """,
            )
            assert lost == []
    finally:
        stop.set()
        thread.join()


MISSED = {
    "a new table": ("others", "all"),
    "a new partition": ("problems", "c"),
    "a new version": ("problems", "a"),
}


@pytest.mark.parametrize(("asset", "partition"), MISSED.values(), ids=MISSED)
def test_a_catalogue_that_missed_a_commit_is_written_when_somebody_asks(
    filled: tuple[Lake, dict[str, Ref]], asset: str, partition: str
) -> None:
    lake, path = filled[0], filled[0].home / "catalog.duckdb"
    published = path.stat().st_ino
    lake.publish_if_stale()
    assert path.stat().st_ino == published  # it misses nothing
    lake._commit(asset, [problems(9, "new")], PROBLEMS, provenance(5), partition)  # killed before it published
    Lake(lake.home).publish_if_stale()
    assert query(lake, f"select count(*) n from {asset} where problem_id like 'new%'") == [{"n": 9}]
    assert path.stat().st_ino != published


def test_a_commit_writes_the_view_of_its_table_and_leaves_the_others(
    filled: tuple[Lake, dict[str, Ref]], monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, _ = filled
    written: list[str] = []
    create = catalogue._create_view
    monkeypatch.setattr(catalogue, "_create_view", lambda *given: (written.append(given[3]), create(*given)))
    lake.commit("problems", [problems(1, "c")], PROBLEMS, provenance(9), "c")
    assert written == ["problems"]
    assert query(lake, "select count(*) n from problems") == [{"n": 7}]
    comments = "select count(*) n from duckdb_columns() where table_name = 'seeds' and comment is not null"
    assert query(lake, comments) == [{"n": 3}]
    assert query(lake, "select count(*) n from runs") == [{"n": 4}]
    shutil.rmtree(lake.home / "lake" / "pairs")
    lake.publish()
    assert written == ["problems"] and query(lake, "from duckdb_views() where view_name = 'pairs'") == []


CHANGES = [
    "create or replace view seeds as select 1", "drop view seeds", "comment on view seeds is 'mine'",
    "comment on column seeds.problem is 'mine'", "create table mine as select 1", "create table views as select 1",
    "drop table models", "create schema mine", "create macro mine(x) as x", "create type mine as enum ('a')",
    "create sequence mine", "create or replace table published.views as select 'seeds' as name, 'x' as made_of",
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_what_somebody_changed_in_the_catalogue_is_as_it_was_after_the_next_commit(
    filled: tuple[Lake, dict[str, Ref]], change: str
) -> None:
    lake, _ = filled
    with duckdb.connect(str(lake.home / "catalog.duckdb")) as con:
        con.execute(change)
    lake.commit("problems", [problems(1, "c")], PROBLEMS, provenance(9), "c")
    after = described(lake)
    (lake.home / "catalog.duckdb").unlink()
    lake.publish()
    assert after == described(lake)


def described(lake: Lake) -> list[list[dict[str, Any]]]:
    """What a catalogue holds, and what it says of that."""
    names = {
        "views": "schema_name, view_name, sql, comment",
        "columns": "schema_name, table_name, column_name, data_type, comment",
        "schemas": "schema_name",
        "functions": "function_name",
        "types": "type_name",
    }
    kinds = [query(lake, f"select {what} from duckdb_{kind}() where not internal") for kind, what in names.items()]
    kinds += [query(lake, "select sequence_name from duckdb_sequences()"), query(lake, "from lineage")]
    return [sorted(kind, key=str) for kind in kinds]


def test_a_file_that_could_not_be_read_for_a_moment_is_read_again(
    filled: tuple[Lake, dict[str, Ref]], monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, _ = filled
    with monkeypatch.context() as patched:
        patched.setattr(catalogue.pq, "read_schema", Mock(side_effect=OSError(errno.EMFILE, "Too many open files")))
        lake.commit("problems", [problems(1, "c")], PROBLEMS, provenance(9), "c")
    with pytest.raises(duckdb.InvalidInputException, match="Too many open files"):
        query(lake, "from problems")
    lake.commit("seeds", [problems(5, "s")], PROBLEMS, provenance())
    assert query(lake, "select count(*) n from problems") == [{"n": 7}]


def test_no_table_hides_another_whose_name_differs_in_case(filled: tuple[Lake, dict[str, Ref]]) -> None:
    lake, _ = filled
    for again in range(2):
        with pytest.raises(LakeError, match=r'"(?i:Seeds)" already exists'):
            lake.commit("Seeds", [problems(9, "other")], PROBLEMS, provenance(again))
        assert query(lake, "select count(*) n from seeds") == [{"n": 4}]


@pytest.mark.parametrize("name", ["runs", "RUNS", "Lineage", "modelS"])
def test_no_table_is_called_as_the_catalogues_own(filled: tuple[Lake, dict[str, Ref]], name: str) -> None:
    lake, _ = filled
    with pytest.raises(LakeError, match=f"'{name}' cannot be a table"):
        lake.commit(name, [problems(9, "other")], PROBLEMS, provenance(0))
    assert query(lake, "select count(run_id) n from runs") == [{"n": 3}]


def test_a_lost_commit_is_noticed_where_the_old_catalogue_cannot_be_copied(
    filled: tuple[Lake, dict[str, Ref]], monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, refs = filled
    (lake.home / "lake" / "problems" / "_delta_log" / f"{refs['b'].version:020d}.json").unlink()
    monkeypatch.setattr(catalogue.shutil, "copyfile", Mock(side_effect=OSError(errno.ENOSPC, "No space left")))
    with pytest.raises(LakeError, match=r"table problems: commit file .* is missing"):
        open_lake(lake.home).publish()
    assert query(lake, "select count(*) n from lineage where asset = 'problems'") == [{"n": 2}]


def test_other_code_writes_every_view_anew(filled: tuple[Lake, dict[str, Ref]], tmp_path: Path) -> None:
    """Of the lake, not of the catalogue's file alone: `declared` says which columns a view has."""
    lake, _ = filled
    old = pa.table({"problem_id": ["p"]})
    lake.commit("problems", [old], old.schema, provenance(9), "a")
    lake.commit("problems", [old], old.schema, provenance(9), "b")
    assert query(lake, "select problem from problems") == [{"problem": None}] * 2
    package = Path(catalogue.__file__).parents[1]
    shutil.copytree(package, tmp_path / "promptcot_assets", ignore=shutil.ignore_patterns("__pycache__"))
    declared = tmp_path / "promptcot_assets" / "lake" / "declared.py"
    declared.write_text(declared.read_text().replace("if have.issubset(declared) else []", "if not have else []"))
    program = "import sys; from promptcot_assets.tables import open_lake; open_lake(sys.argv[1]).publish()"
    subprocess.run([sys.executable, "-c", program, str(lake.home)], check=True, cwd=tmp_path)
    assert query(lake, "select * exclude (_part) from problems") == [{"problem_id": "p"}] * 2


def test_a_catalogue_does_not_grow_with_the_number_of_times_it_was_written(lake: Lake) -> None:
    for n in range(30):
        lake.commit("problems", [problems(1, str(n))], PROBLEMS, provenance(n))
    size = (lake.home / "catalog.duckdb").stat().st_size
    (lake.home / "catalog.duckdb").unlink()
    lake.publish()
    assert size < 2 * (lake.home / "catalog.duckdb").stat().st_size
