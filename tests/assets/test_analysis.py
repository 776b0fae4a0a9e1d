"""The analysis assets on a real Dagster instance and a lake of a few rows."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from pytest import MonkeyPatch

from promptcot_assets.assets.analysis import difficulty, item_difficulty, scaling, yield_report
from promptcot_assets.assets.partitions import BATCHES
from promptcot_assets.assets.table_asset import TableAsset
from promptcot_assets.lake import Lake, Ref
from promptcot_assets.tables import SCHEMAS, open_lake
from tests.assets.materialized import built, resources_of
from tests.small_home import BATCH, STUDENT, Home, vote, whole_arc


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = whole_arc(tmp_path_factory.mktemp("small") / "home")
    vote(home)
    return home


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as instance:
        instance.add_dynamic_partitions(str(BATCHES.name), [BATCH])
        yield instance


def made(
    asset: TableAsset, home: Path, instance: dg.DagsterInstance, partition: str | None, profile: str = "demo"
) -> dict[str, object]:
    """Materialize one asset; the plain values of its metadata."""
    resources = resources_of(profile, home)
    result = dg.materialize(built(profile, asset), partition_key=partition, instance=instance, resources=resources)
    (event,) = result.asset_materializations_for_node(asset.name)
    return {name: value.value for name, value in event.metadata.items()}


def test_costs_are_on_the_page_of_the_yield_report_and_not_in_its_data_version(
    home: Home, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    priced = tmp_path / "priced.yaml"
    priced.write_text("extends: demo\nprices: {machine_hour: 3600, million_tokens: {raw_problems: 1000000}}\n")
    plain = made(yield_report, home.path, instance, BATCH)
    first = home.lake.newest("yield_report", BATCH)
    money = made(yield_report, home.path, instance, BATCH, str(priced))
    second = home.lake.newest("yield_report", BATCH)
    assert first and second and second.version > first.version and second.data_version == first.data_version

    assert "money_a_kept_row" not in plain and str(plain["costs"]).startswith("![rows and costs of each step]")
    entries = {record.data["step"]: record.data for record in money["ledger"].records}  # type: ignore[attr-defined]
    # every commit of the small home took 1.5 s; writing raw problems 40 tokens besides
    assert entries["raw_problems"]["money"] == pytest.approx(1.5 + 40) and entries["problems"]["money"] == 1.5
    assert (entries["the batch"]["tokens"], entries["the batch"]["seconds"]) == (40, 9 * 1.5)
    assert (entries["the batch"]["rows_in"], entries["the batch"]["rows_out"]) == (2, 2)
    assert money["money_a_kept_row"] == pytest.approx((9 * 1.5 + 40) / 2) and plain["seconds_a_kept_row"] == 6.75


def test_difficulty_joins_students_and_teacher(home: Home, instance: dg.DagsterInstance) -> None:
    made(difficulty, home.path, instance, STUDENT)
    metadata = made(item_difficulty, home.path, instance, None)
    (ref,) = [open_lake(home.path).newest("item_difficulty")]
    assert ref
    rows = {row["problem_id"]: row for row in home.lake.table(ref).to_pylist()}
    assert {key: (row["solvers"], row["attempts"]) for key, row in rows.items()} == {
        "problem_1": (1, 1), "problem_2": (2, 3),
    }  # fmt: skip
    solvers = {record.data["solver"]: record.data["attempts"] for record in metadata["abilities"].records}  # type: ignore[attr-defined]
    assert solvers == {"procedural": 2, home.models["sft_model"]: 2}
    assert {str(one) for one in home.lake.commit_of(ref).provenance.inputs} >= {
        str(home.lake.newest("difficulty", STUDENT)), str(home.lake.newest("teacher_traces", BATCH)),
    }  # fmt: skip


LONG = {"completion", "rationale", "trace", "prompt", "stdin", "proposed"}


def test_long_texts_are_not_read_and_the_rows_are_the_same(
    home: Home, instance: dg.DagsterInstance, monkeypatch: MonkeyPatch
) -> None:
    assets = ((yield_report, BATCH), (difficulty, STUDENT), (item_difficulty, None))
    read: dict[str, set[str]] = {}
    read_table = Lake.table

    def noting(lake: Lake, ref: Ref, columns: list[str] | None = None) -> object:
        read.setdefault(ref.asset, set()).update(SCHEMAS[ref.asset].names if columns is None else columns)
        return read_table(lake, ref, columns)

    def versions() -> list[tuple[str, tuple[Ref, ...]]]:
        """Content and lineage of what was made."""
        found = []
        for asset, partition in assets:
            made(asset, home.path, instance, partition)
            ref = home.lake.newest(asset.name, partition or "all")
            assert ref
            found.append((ref.data_version, home.lake.commit_of(ref).provenance.inputs))
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Lake, "table", noting)
        few = versions()
    assert {"raw_problems", "problems", "code_tests", "teacher_traces", "rollouts", "verdicts"} <= read.keys()
    assert not any(LONG & columns for columns in read.values())
    assert "problem" not in read["teacher_traces"] | read["problems"] | read["dropped_problems"]

    with monkeypatch.context() as patch:
        patch.setattr(Lake, "table", lambda lake, ref, columns=None: read_table(lake, ref))
        whole = versions()
    # the difficulties were made anew, so only their versions' numbers differ
    assert [content for content, _ in few] == [content for content, _ in whole]
    assert [[(ref.asset, ref.partition, ref.data_version) for ref in inputs] for _, inputs in few] == [
        [(ref.asset, ref.partition, ref.data_version) for ref in inputs] for _, inputs in whole
    ]


def test_scaling_counts_the_examples_of_the_student_that_is_continued(
    home: Home, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    """The student's SFT model is here a copy of the self-play model of `first`, a student of the round before."""
    own = Home(tmp_path / "home")
    at = {"partition": "first"}
    own.train("student_base", weights="first", **at)
    own.train("sft_model", "student_base", base="student_base", **at)
    own.train("self_play_model", "sft_model", base="sft_model", **at)
    at = {"partition": STUDENT}
    continued = own.train("sft_model", "self_play_model", base="self_play_model", examples=0, weights="copy", **at)
    played = own.train("self_play_model", "sft_model", base="sft_model", weights="second", **at)
    own.train("student_base", weights="tiny", **at)
    score = {"benchmark": "aime", "metric": "avg@1", "value": 0.5}
    own.commit(
        "benchmark_scores",
        [score | {"score_id": stage, "stage": stage, "model": model}
         for stage, model in (("sft", continued), ("self_play", played))],
        **at,
    )  # fmt: skip
    made(scaling, own.path, instance, STUDENT)
    rows = own.lake.table(own.lake.newest("scaling", STUDENT)).to_pylist()
    assert {row["stage"]: row["examples"] for row in rows} == {"sft": 3 * 2, "self_play": 4 * 2}
