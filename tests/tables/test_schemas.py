"""Every stage's rows are exactly what its table declares: one small arc in memory, on models whose law is known."""

import json
from collections.abc import Iterator

import pyarrow as pa
import pytest

from promptcot_assets.judging.opening import open_verifier
from promptcot_assets.lake import Row
from promptcot_assets.lake.rows import check_schema, checked
from promptcot_assets.settings.engines import Sandbox
from promptcot_assets.stages.em import loop
from promptcot_assets.tables import MODEL_ROLES, SCHEMAS
from promptcot_assets.tables.models import MODEL
from tests.tables.every_table import WORLDS, every_table


@pytest.fixture(scope="module")
def tables() -> Iterator[dict[str, list[Row]]]:
    with open_verifier(Sandbox(workers=2, cpu_s=1.0, wall_s=4.0, memory_mb=256)) as verifier:
        yield every_table(verifier)


TABLES = sorted(SCHEMAS.keys() - set(MODEL_ROLES))


@pytest.mark.parametrize("name", TABLES)
def test_a_stages_rows_are_exactly_the_declared_columns(tables: dict[str, list[Row]], name: str) -> None:
    rows, schema = tables[name], SCHEMAS[name]
    assert rows, f"the small arc makes no row of {name}: nothing is checked"
    for row in rows:
        assert set(row) == set(schema.names)
    inferred = pa.Table.from_pylist(rows)  # as the spool keeps them: types by their values, not by our wish
    checked(name, inferred.select(schema.names), schema)
    assert checked(name, pa.Table.from_pylist(rows, schema), schema).to_pylist() == [
        {column: row[column] for column in schema.names} for row in rows
    ]


@pytest.mark.parametrize("name", TABLES)
def test_the_id_of_a_table_is_unique(tables: dict[str, list[Row]], name: str) -> None:
    (unique,) = [field.name for field in SCHEMAS[name] if (field.metadata or {}).get(b"unique") == b"true"]
    values = [row[unique] for row in tables[name]]
    assert len(set(values)) == len(values)


def test_every_table_was_made(tables: dict[str, list[Row]]) -> None:
    assert sorted(tables) == TABLES


@pytest.mark.parametrize(("name", "schema"), SCHEMAS.items())
def test_a_schema_says_what_every_column_means_and_can_be_kept(name: str, schema: pa.Schema) -> None:
    check_schema(name, schema)
    assert all((field.metadata or {}).get(b"comment") for field in schema), name
    unique = [field for field in schema if (field.metadata or {}).get(b"unique")]
    assert len(unique) == 1 and unique[0] == schema[0] and not unique[0].nullable
    assert len(set(schema.names)) == len(schema)


def test_models_share_one_schema() -> None:
    assert all(SCHEMAS[role].equals(MODEL) for role in MODEL_ROLES)


ANCESTORS = [  # (table, column) -> (table, column): every id leads to a row
    ("seed_triples", "problem_id", "seed_problems", "problem_id"),
    ("em_rationales", "problem_id", "seed_triples", "problem_id"),
    ("em_rationales", "concept_set_id", "seed_triples", "concept_set_id"),
    ("em_m_step", "problem_id", "seed_triples", "problem_id"),
    ("em_m_step", "selected_rationale_id", "em_rationales", "rationale_id"),
    ("em_bounds", "problem_id", "seed_problems", "problem_id"),
    ("proposal_pool", "problem_id", "seed_problems", "problem_id"),
    ("common_bounds", "problem_id", "proposal_pool", "problem_id"),
    ("raw_problems", "concept_set_id", "concept_sets", "concept_set_id"),
    ("problems", "raw_problem_id", "raw_problems", "raw_problem_id"),
    ("dropped_problems", "raw_problem_id", "raw_problems", "raw_problem_id"),
    ("math_answers", "problem_id", "problems", "problem_id"),
    ("code_tests", "problem_id", "problems", "problem_id"),
    ("teacher_traces", "problem_id", "problems", "problem_id"),
    ("sft_examples", "trace_id", "teacher_traces", "trace_id"),
    ("rollouts", "problem_id", "problems", "problem_id"),
    ("verdicts", "rollout_id", "rollouts", "rollout_id"),
    ("preference_pairs", "chosen_rollout_id", "rollouts", "rollout_id"),
    ("preference_pairs", "rejected_rollout_id", "rollouts", "rollout_id"),
    ("benchmark_generations", "item_id", "benchmark_items", "item_id"),
    ("benchmark_verdicts", "generation_id", "benchmark_generations", "generation_id"),
    ("self_play_examples", "rollout_id", "rollouts", "rollout_id"),
    ("self_play_gate", "problem_id", "problems", "problem_id"),
    ("difficulty", "problem_id", "problems", "problem_id"),
    ("item_difficulty", "problem_id", "problems", "problem_id"),
]


@pytest.mark.parametrize(("table", "column", "parent", "key"), ANCESTORS)
def test_every_row_leads_to_its_ancestors(
    tables: dict[str, list[Row]], table: str, column: str, parent: str, key: str
) -> None:
    known = {row[key] for row in tables[parent]}
    named = {row[column] for row in tables[table]} - {None}
    assert named and named <= known


def test_the_arc_reaches_every_kind_of_row(tables: dict[str, list[Row]]) -> None:
    """Or the checks above would pass on the easy half of every table."""
    assert {row["origin"] for row in tables["em_m_step"]} == {"greedy", "selected"}
    assert {row["lost_because"] for row in tables["em_rationales"]} >= {None, loop.CUT_OFF, loop.EMPTY}
    assert {row["drop_reason"] is None for row in tables["raw_problems"]} == {True, False}
    assert {row["reason"] for row in tables["dropped_problems"]} >= {"exact", "truncated"}
    assert {row["source"] for row in tables["sft_examples"]} == {"synthetic", "seed"}
    assert {row["usable"] for row in tables["verdicts"]} == {True, False}
    assert {row["domain"] for row in tables["preference_pairs"]} == set(WORLDS)
    assert {row["metric"] for row in tables["benchmark_scores"]} == {
        "avg@2",
        "pass@2",
        "majority@2",
        "paired difference",
    }
    left = {row["domain"]: row["rows"] for row in tables["yield_report"] if row["step"] == "with a valid trace"}
    taught = [row for row in tables["teacher_traces"] if row["valid"]]
    assert left == {name: sum(row["domain"] == name for row in taught) for name in WORLDS}
    assert all(isinstance(json.loads(row["dropped"]), dict) for row in tables["yield_report"])
