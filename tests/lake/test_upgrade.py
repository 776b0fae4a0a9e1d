"""A column that the code declares since: old homes read on, views have it, the next commit fills it."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from promptcot_assets.lake import Declared, Lake, LakeError, Ref
from promptcot_assets.lake.catalogue import _sql_type
from promptcot_assets.lake.rows import storage_type
from promptcot_assets.tables import SCHEMAS
from tests.lake.lake_examples import provenance
from tests.small_home import row

TABLE, NEW = "teacher_traces", "seed"
DECLARED = Declared(SCHEMAS)
NOW = SCHEMAS[TABLE]
BEFORE = NOW.remove(NOW.get_field_index(NEW))


def commit(lake: Lake, schema: pa.Schema, partition: str, **given: object) -> Ref:
    full = row(TABLE, trace_id=partition, **given)
    content = pa.Table.from_pylist([{name: full[name] for name in schema.names}], schema)
    return lake.commit(TABLE, [content], schema, provenance(), partition)


def ask(home: Path, sql: str) -> list[tuple[object, ...]]:
    with duckdb.connect(str(home / "catalog.duckdb"), read_only=True) as con:
        return con.execute(sql).fetchall()


def test_an_old_version_reads_with_the_new_column_empty(lake: Lake) -> None:
    old = commit(lake, BEFORE, "old")
    (read,) = lake.table(old).to_pylist()
    assert read.keys() == set(NOW.names) and read[NEW] is None
    assert lake.table(old, [NEW, "trace_id"]).to_pylist() == [{NEW: None, "trace_id": "old"}]
    assert lake.table(old, [NEW]).to_pylist() == [{NEW: None}]
    (batch,) = lake.batches(old, ["trace_id", NEW])
    assert batch.schema.field(NEW).type == NOW.field(NEW).type
    assert lake.verify(old)  # its data version is that of the stored rows
    with pytest.raises(LakeError, match="has no column 'nothing'"):
        lake.table(old, ["nothing"])


def test_a_view_of_old_versions_has_the_new_column(lake: Lake) -> None:
    commit(lake, BEFORE, "old")
    assert ask(lake.home, f"select trace_id, {NEW} from {TABLE}") == [("old", None)]
    (type_, comment) = ask(
        lake.home,
        f"select data_type, comment from duckdb_columns() where table_name = '{TABLE}' and column_name = '{NEW}'",
    )[0]
    assert (type_, comment) == ("BIGINT", "seed of this one sample")


def test_the_next_commit_has_it_and_the_view_unites_both_by_name(lake: Lake) -> None:
    commit(lake, BEFORE, "old")
    commit(lake, NOW, "new", **{NEW: 7})
    assert ask(lake.home, f"select _part, {NEW} from {TABLE} order by 1") == [("new", 7), ("old", None)]
    commit(lake, NOW, "old", **{NEW: 8})
    assert ask(lake.home, f"select _part, {NEW} from {TABLE} order by 1") == [("new", 7), ("old", 8)]


def test_a_column_that_changed_its_type_is_refused_while_others_hold_the_old_one(lake: Lake) -> None:
    commit(lake, NOW, "old", **{NEW: 7})
    changed = NOW.set(NOW.get_field_index(NEW), pa.field(NEW, pa.string()))
    with pytest.raises(LakeError, match=f"column '{NEW}' has type string, but other partitions hold it as int64"):
        commit(lake, changed, "new", **{NEW: "7"})


def test_every_declared_type_has_a_name_in_sql() -> None:
    with duckdb.connect() as con:
        for type_ in {field.type for schema in SCHEMAS.values() for field in schema}:
            (answer,) = con.sql(f"select cast(null as {_sql_type(type_)}) as x").to_arrow_table().schema
            assert storage_type(answer.type) == storage_type(type_)


def test_a_table_of_another_making_is_left_alone() -> None:
    assert DECLARED.since(TABLE, ["trace_id"]) == [name for name in NOW.names if name != "trace_id"]
    assert DECLARED.since(TABLE, ["trace_id", "mine"]) == []
    assert DECLARED.since("mine", ["trace_id"]) == []
