from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from promptcot_assets.lake import Lake
from promptcot_assets.lake.data_version import content_hash
from promptcot_assets.tables import TABLES
from tests.lake.lake_examples import provenance


def hash_of(table: pa.Table, folder: Path, **options: Any) -> str:
    file = folder / "rows.parquet"
    pq.write_table(table, file, **options)
    return content_hash(file)[0]


NOON = dt.datetime(2026, 11, 20, 12, 0, 0, 5)
BASE = pa.table({"id": ["a", "b"], "n": pa.array([1, 2], pa.int64()), "at": pa.array([NOON, None], pa.timestamp("us"))})


def cast(column: str, kind: pa.DataType) -> pa.Table:
    return BASE.set_column(BASE.column_names.index(column), column, BASE[column].cast(kind))


# the six ways in which the first version of this hash failed or could fail
SAME = {
    "a column added later is null in old rows": BASE.append_column("new", pa.nulls(2, pa.float64())),
    "narrow integers": cast("n", pa.int32()),
    "unsigned integers": cast("n", pa.uint16()),
    "timestamps in nanoseconds": cast("at", pa.timestamp("ns")),
    "timestamps that know they are UTC": cast("at", pa.timestamp("us", tz="UTC")),
    "another order of columns": BASE.select(["at", "n", "id"]),
    "another order of rows": BASE.take([1, 0]),
}


@pytest.mark.parametrize("table", SAME.values(), ids=SAME.keys())
def test_what_is_not_content_does_not_count(table: pa.Table, tmp_path: Path) -> None:
    assert hash_of(table, tmp_path) == hash_of(BASE, tmp_path)


OTHER = {
    "another value": BASE.set_column(1, "n", pa.array([1, 3])),
    "values of two rows exchanged": BASE.set_column(1, "n", pa.array([2, 1])),
    "null for a value": BASE.set_column(1, "n", pa.array([1, None])),
    "another name": BASE.rename_columns(["id", "m", "at"]),
    "a row twice": pa.concat_tables([BASE, BASE.slice(0, 1)]),
    "every row twice": pa.concat_tables([BASE, BASE]),
    "a row less": BASE.slice(1),
    "text for a number": BASE.set_column(1, "n", pa.array(["1", "2"])),
    "a microsecond": BASE.set_column(2, "at", pa.array([NOON + dt.timedelta(microseconds=1), None])),
    "no rows": BASE.slice(0, 0),
}


@pytest.mark.parametrize("table", OTHER.values(), ids=OTHER.keys())
def test_content_counts(table: pa.Table, tmp_path: Path) -> None:
    assert hash_of(table, tmp_path) != hash_of(BASE, tmp_path)


def test_order_counts_where_it_matters(tmp_path: Path) -> None:
    file, hashes = tmp_path / "rows.parquet", []
    for rows in (BASE, BASE.take([1, 0]), pa.concat_tables([BASE.slice(0, 1), BASE.slice(1)])):
        pq.write_table(rows, file)
        hashes.append(content_hash(file, ordered=True))
    assert hashes[0] == hashes[2] != hashes[1] and hashes[0] != content_hash(file)


def test_what_a_trainer_reads_is_ordered(lake: Lake) -> None:
    schema = pa.schema([("n", pa.int64())], {"ordered": "true"})
    one, other, again = (
        lake.commit("examples", [pa.table({"n": rows})], schema, provenance()) for rows in ([1, 2], [2, 1], [1, 2])
    )
    assert one.data_version == again.data_version != other.data_version
    assert {name for name, table in TABLES.items() if table.ordered} == {
        "seed_triples", "em_m_step", "sft_examples", "preference_pairs", "self_play_examples", "tuning_examples",
    }  # fmt: skip


def test_zero_rows_have_a_data_version(tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    pq.write_table(BASE.slice(0, 0), file)
    assert content_hash(file)[1] == 0
    assert hash_of(BASE.slice(0, 0), tmp_path) == hash_of(SAME["narrow integers"].slice(0, 0), tmp_path)


def test_the_file_does_not_count(tmp_path: Path) -> None:
    table = pa.concat_tables([BASE] * 500)
    assert hash_of(table, tmp_path, row_group_size=7, compression="none") == hash_of(table, tmp_path)


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/St_Johns"])
def test_the_machines_time_zone_does_not_count(zone: str, tmp_path: Path) -> None:
    times = pa.array([[NOON], [None]], pa.list_(pa.timestamp("us", tz="UTC")))
    pq.write_table(BASE.append_column("times", times), tmp_path / "rows.parquet")
    program = "import sys, pathlib; from promptcot_assets.lake.data_version import content_hash as h;"
    program += "print(h(pathlib.Path(sys.argv[1]))[0])"
    command = [sys.executable, "-c", program, str(tmp_path / "rows.parquet")]
    out = subprocess.run(command, env=os.environ | {"TZ": zone}, capture_output=True, text=True, check=True).stdout
    assert out.strip() == content_hash(tmp_path / "rows.parquet")[0]


def test_the_value_is_pinned(tmp_path: Path) -> None:
    """A library that spells JSON or md5 differently would make every table stale: notice it here."""
    row = {"text": 'π "q" \\ \n\0', "real": 0.1, "flag": True, "list": ["x", None], "struct": {"a": 1}, "at": NOON}
    assert hash_of(pa.Table.from_pylist([row, row | {"real": float("inf")}]), tmp_path) == PINNED


PINNED = "a7fcb1b61787f6a3ab3f044212c9aaa4"

VALUES = st.fixed_dictionaries(
    {
        "id": st.text(max_size=5),
        "n": st.none() | st.integers(-(2**31), 2**31 - 1),
        "x": st.none() | st.floats(),
        "l": st.none() | st.lists(st.none() | st.text(max_size=3), max_size=3),
    }
)
KINDS: dict[str, pa.DataType] = {"id": pa.string(), "n": pa.int32(), "x": pa.float64(), "l": pa.list_(pa.string())}
SCHEMA = pa.schema(KINDS)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(VALUES, max_size=6), random=st.randoms())
def test_order_never_counts_and_a_changed_row_always(
    rows: list[dict[str, object]], random: object, tmp_path: Path
) -> None:
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    before = hash_of(table, tmp_path)
    shuffled = rows[:]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert hash_of(pa.Table.from_pylist(shuffled, schema=SCHEMA), tmp_path) == before
    if rows:
        changed = [rows[0] | {"id": f"{rows[0]['id']}!"}, *rows[1:]]
        assert hash_of(pa.Table.from_pylist(changed, schema=SCHEMA), tmp_path) != before
