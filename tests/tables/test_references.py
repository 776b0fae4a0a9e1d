"""The declared joins against the schemas: nothing forgotten, nothing that is not there."""

from __future__ import annotations

import re

import dagster as dg
import pyarrow as pa
import pytest

from promptcot_assets.tables import MODEL_ROLES, SCHEMAS
from promptcot_assets.tables import TABLES as DECLARED
from promptcot_assets.tables.references import (
    COUNTED_FROM,
    id_column,
    model_columns,
    owns_its_id,
    references,
)

TABLES = sorted(set(SCHEMAS) - set(MODEL_ROLES))
# Ids of rows that are no rows of a table yet, and hashes that are no keys.
NO_KEYS: dict[str, set[str]] = {
    "seed_annotations": {"seed_problem_id"},
    **{name: {"concept_set_id"} for name in ("seed_triples", "em_rationales", "em_m_step", "em_bounds",
       "cold_start_bounds", "control_bounds", "proposal_pool")},
}  # fmt: skip
# What an asset reads without its rows being made of that table's rows, or by way of another table.
READ_ONLY: dict[str, set[str]] = {
    "benchmark_items": {"seed_problems"},  # procedural items are other problems than the seeds
    "dropped_benchmark_rows": {"seed_problems"},  # made in one step with benchmark_items
    "problems": {"seed_problems", "benchmark_items"},  # they keep rows out: dropped_problems says which
    "rollouts": {"math_answers", "code_tests"},  # which problems can be judged
    "difficulty": {"rollouts"},  # verdicts have the rollout's id
    "codeforces_ratings": {"benchmark_items"},  # benchmark_verdicts are of an item
    "yield_report": {"concept_sets", "math_votes", "proposed_tests", "candidate_programs"},  # other rows are of these
    "concept_corpus": {"seed_problems"},  # COUNTED_FROM
    # a gate; and a triple has its seed's problem_id
    **{name: {"cold_start_bounds", "seed_triples"}
       for name in ("em_rationales", "em_m_step", "em_bounds", "control_bounds")},
}  # fmt: skip
ROOTS = {"seed_annotations", "benchmark_items", "contest_standings", "concept_corpus",  # concept_corpus: COUNTED_FROM
         "dropped_seed_rows", "dropped_benchmark_rows"}  # fmt: skip


@pytest.mark.parametrize("table", TABLES)
def test_every_column_that_looks_like_an_id_is_the_rows_own_or_declared(table: str) -> None:
    ids = [name for name in SCHEMAS[table].names if re.search(r"_ids?$", name)]
    told = {column.name for column in DECLARED[table].columns if column.rows_of or column.unique}
    assert set(ids) - told == NO_KEYS.get(table, set())


@pytest.mark.parametrize("table", TABLES)
def test_every_column_that_tells_of_a_model_is_declared(table: str) -> None:
    telling = re.compile(r"^[qp] that |model that|student that|^the new q|model or procedure|model_id")
    told = [
        field.name for field in SCHEMAS[table] if telling.search((field.metadata or {}).get(b"comment", b"").decode())
    ]
    assert set(told) <= set(model_columns(table))


@pytest.mark.parametrize("table", TABLES)
def test_declared_references_lead_to_ids(table: str) -> None:
    for to in (to for column in DECLARED[table].columns for to in column.rows_of):
        assert pa.types.is_string(SCHEMAS[to].field(id_column(to)).type)


@pytest.mark.parametrize("table", TABLES)
def test_references_join_columns_of_one_type(table: str) -> None:
    def kind(of: str, column: str) -> pa.DataType:
        found = SCHEMAS[of].field(column).type
        return found.value_type if pa.types.is_list(found) else found

    for one in references(table):
        assert one.table == table != one.to
        for own, there in one.columns:
            assert kind(table, own) == kind(one.to, there), one


def test_every_table_that_an_asset_reads_is_referred_to_or_known_not_to_be() -> None:
    from promptcot_assets.definitions import defs

    graph, unnamed = defs.resolve_asset_graph(), dict[str, set[str]]()
    for table in TABLES:
        if graph.has(dg.AssetKey(table)):
            read = {key.to_user_string() for key in graph.get(dg.AssetKey(table)).parent_keys} & set(TABLES)
            unnamed[table] = read - {one.to for one in references(table)} - {table}
    assert {table: read for table, read in unnamed.items() if read} == READ_ONLY


@pytest.mark.parametrize("table", TABLES)
def test_every_table_but_the_roots_refers_to_another(table: str) -> None:
    assert bool(references(table)) == (table not in ROOTS)


def test_a_verdict_has_its_rollouts_id_and_refers_to_it() -> None:
    assert not owns_its_id("verdicts")
    assert ("rollouts", (("rollout_id", "rollout_id"),)) in [(one.to, one.columns) for one in references("verdicts")]
    assert owns_its_id("problems") and owns_its_id("seed_problems")
    assert all(one.columns[0][0] != "problem_id" for one in references("problems"))


def test_following_references_ends() -> None:
    for table in TABLES:
        level = {table}
        for _ in TABLES:
            level = {one.to for name in level for one in references(name)}
        assert not level, f"{table} refers to itself in a circle"


def test_the_other_declarations_name_what_exists() -> None:
    assert {one.to for table in TABLES for one in DECLARED[table].made_of} <= set(TABLES)
    own, to, columns = COUNTED_FROM
    assert set(columns) <= set(SCHEMAS[own].names) and set(columns.values()) <= set(SCHEMAS[to].names)
    for table, declared in DECLARED.items():
        assert {declared.gist, *declared.counted} <= set(SCHEMAS[table].names)
        assert set(declared.reads_every) <= set(DECLARED)
