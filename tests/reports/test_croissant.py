"""Croissant metadata as its own library reads it, and the provenance of rows against the lake's references."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from promptcot_assets.cli import main
from promptcot_assets.lake import LakeError
from promptcot_assets.reports.export import Format, export_table
from tests.small_home import Home, whole_arc


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return whole_arc(tmp_path_factory.mktemp("croissant") / "home")


def described(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "croissant.json").read_text())
    return found


def test_files_columns_and_versions_are_those_of_the_export(home: Home, tmp_path: Path) -> None:
    refs = export_table(home.path, "problems", None, tmp_path / "out", licence="cc-by-4.0", croissant=True)
    found = described(tmp_path / "out")
    for one in found["distribution"]:
        content = (tmp_path / "out" / one["contentUrl"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == one["sha256"]
    own = next(one for one in found["recordSet"] if one["@id"] == "problems/first")
    assert [one["name"] for one in own["field"]] == pq.read_schema(tmp_path / "out" / "data" / "first.parquet").names
    assert {one["name"]: one["dataType"] for one in own["field"]}["well_posed"] == "sc:Boolean"
    assert next(one for one in own["field"] if one["name"] == "concepts")["repeated"] is True
    assert own["key"] == {"@id": "problems/first/problem_id"} and found["license"] == "cc-by-4.0"
    versions = {one.split()[0] for one in found["isBasedOn"]}
    assert {str(refs[0]), str(home.refs["raw_problems"]), str(home.refs["seed_problems"])} <= versions


def test_every_row_says_which_rows_of_which_versions_it_is_from(home: Home, tmp_path: Path) -> None:
    export_table(home.path, "problems", "first", tmp_path / "problems", croissant=True)
    rows = pq.read_table(tmp_path / "problems" / "provenance.parquet").to_pylist()
    data = pq.read_table(tmp_path / "problems" / "data" / "first.parquet").to_pylist()
    named = {(row["column"], row["row"], row["from_table"], row["from_version"], row["from_id"]) for row in rows}
    assert named == {
        (column, at, table, str(home.refs[table]), data[at][column])
        for at in range(len(data))
        for column, table in (("raw_problem_id", "raw_problems"), ("concept_set_id", "concept_sets"))
    }
    assert all(data[row["row"]]["problem_id"] == row["row_id"] for row in rows)


def test_rows_that_are_exported_without_their_ids_are_followed_by_their_place(home: Home, tmp_path: Path) -> None:
    export_table(home.path, "sft_examples", "tiny", tmp_path / "out", croissant=True)
    rows = pq.read_table(tmp_path / "out" / "provenance.parquet").to_pylist()
    data = pq.read_table(tmp_path / "out" / "data" / "tiny.parquet").to_pylist()
    traced = {data[row["row"]]["prompt"]: row["from_id"] for row in rows if row["from_table"] == "teacher_traces"}
    assert traced == {"new 1?": "trace_1"}


@pytest.mark.parametrize("format_", ["parquet", "jsonl"])
def test_the_library_of_ml_commons_reads_it(format_: Format, home: Home, tmp_path: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    export_table(home.path, "problems", "first", tmp_path / "out", format_, croissant=True)
    dataset = mlcroissant.Dataset(jsonld=str(tmp_path / "out" / "croissant.json"))
    assert not dataset.metadata.ctx.issues.errors
    records = list(dataset.records(record_set="problems/first"))
    assert {one["problems/first/problem"].decode() for one in records} == {"new 1?", "new 2?"}
    provenance = list(dataset.records(record_set="provenance"))
    assert {one["provenance/from_version"].decode() for one in provenance} >= {str(home.refs["raw_problems"])}


def test_what_it_cannot_describe_says_so(home: Home, tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="leave out --messages"):
        export_table(home.path, "sft_examples", "tiny", tmp_path / "out", chats=True, croissant=True)
    assert not (tmp_path / "out").exists()
    arguments = ["export", "sft_model", "tiny", "--croissant", "--out", str(tmp_path / "model")]
    done = CliRunner().invoke(main, arguments, env={"PROMPTCOT_HOME": str(home.path)})
    assert done.exit_code == 2 and "--croissant describes an exported table" in done.output
