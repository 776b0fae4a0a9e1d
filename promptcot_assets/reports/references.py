"""Which columns of which table name rows of another: the joins that `trace` and `recall` walk along.

Declared once, by column; what a table refers to follows from its schema. A reference is always read within exact
versions: a row refers to the versions of the other table that its own commit was made from, the nearest ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import pyarrow as pa

from promptcot_assets.lake.data_version import identifier
from promptcot_assets.lake.schemas import MODEL_ROLES, SCHEMAS

# A column that holds the id of a row (`_ids`: a JSON list of them) -> the tables that row may be in. A table listed
# here whose own id the column is, owns it; in every other table it refers.
ROWS: dict[str, tuple[str, ...]] = {
    "problem_id": ("seed_problems", "problems"),
    "seed_problem_ids": ("seed_problems",),
    "seed_problem_id": (),  # of an annotation, which the seed's row is made of
    "concept_set_id": ("concept_sets",),
    "raw_problem_id": ("raw_problems",),
    "survivor_id": ("raw_problems", "problems", "seed_problems", "benchmark_items"),
    "selected_rationale_id": ("em_rationales",),
    "trace_id": ("teacher_traces",),
    "rollout_id": ("rollouts",),
    "chosen_rollout_id": ("rollouts", "verdicts"),
    "rejected_rollout_id": ("rollouts", "verdicts"),
    "item_id": ("benchmark_items",),
    "generation_id": ("benchmark_generations",),
}

# Columns that hold the id ("role/version") of the model a row was written, judged or scored by, or a procedure's name.
MODELS = ("rationale_model", "problem_generator", "model", "teacher", "voter", "writer")

# Rows made from all rows of another table that share some values: {own column: column there}, {} for all of them.
SHARED: dict[str, tuple[tuple[str, Mapping[str, str]], ...]] = {
    # where models annotate: concepts of a seed, concepts and rationale of a triple
    "seed_problems": (("seed_annotations", {"problem_id": "seed_problem_id"}),),
    "seed_triples": (("seed_annotations", {"problem_id": "seed_problem_id", "annotator": "annotator"}),),
    "concept_sets": (("concept_corpus", {"domain": "domain", "concepts": "concept"}),),
    "teacher_traces": (("math_answers", {"problem_id": "problem_id"}), ("code_tests", {"problem_id": "problem_id"})),
    "verdicts": (("math_answers", {"problem_id": "problem_id"}), ("code_tests", {"problem_id": "problem_id"})),
    "self_play_examples": (("verdicts", {"rollout_id": "rollout_id"}),),
    "self_play_gate": (("math_answers", {"problem_id": "problem_id"}), ("code_tests", {"problem_id": "problem_id"})),
    "benchmark_scores": (
        ("benchmark_verdicts", {"benchmark": "benchmark", "stage": "stage"}),
        ("benchmark_verdicts", {"benchmark": "benchmark", "compared_with": "stage"}),
    ),
    "codeforces_ratings": (
        ("benchmark_verdicts", {"benchmark": "benchmark", "stage": "stage"}),
        ("contest_standings", {}),
    ),
    "difficulty": (("verdicts", {"problem_id": "problem_id"}),),
    "item_difficulty": (("difficulty", {"problem_id": "problem_id"}), ("teacher_traces", {"problem_id": "problem_id"})),
    "scaling": (("benchmark_scores", {"benchmark": "benchmark", "stage": "stage", "model": "model"}),),
    # gains compare rounds and series of one domain
    "em_curves": tuple(
        (bounds, {"domain": "domain"})
        for bounds in ("em_bounds", "cold_start_bounds", "control_bounds", "common_bounds")
    ),
    "common_bounds": (("proposal_pool", {"problem_id": "problem_id"}),),
    # each point's place depends on all points
    "distribution": (("seed_problems", {}), ("problems", {}), ("benchmark_items", {})),
    "yield_report": tuple(
        (one, {"domain": "domain"})
        for one in ("raw_problems", "dropped_problems", "problems", "math_answers", "code_tests", "teacher_traces")
    ),
}

# A concept is counted from the seeds that carry it: what `trace` shows above it. A bad seed does not make a concept
# bad, so it is not followed downwards; a bad concept is as bad as its seeds, so `recall` of a concept starts from both.
COUNTED_FROM = ("concept_corpus", "seed_problems", {"domain": "domain", "concept": "concepts"})

# Tables made of all partitions that another has, `asset[*]` as assets write it (a test compares with the definitions):
# a commit names the partitions it read, not those that have come since. self_play_model: online training only.
_EVERY_ROUND = ("problem_generator", "control_problem_generator")
_EVERY_BATCH = ("problems", "math_answers", "code_tests")
EVERY_PARTITION: dict[str, tuple[str, ...]] = {
    "common_bounds": _EVERY_ROUND,
    "em_curves": (*_EVERY_ROUND, "em_bounds", "control_bounds"),
    "sft_examples": ("teacher_traces",),
    "rollouts": _EVERY_BATCH,
    "verdicts": _EVERY_BATCH,
    "self_play_model": _EVERY_BATCH,
    "self_play_gate": _EVERY_BATCH,
    "item_difficulty": ("difficulty", "teacher_traces"),
    "distribution": ("problems",),
}

# SQL conditions: which rows of a model's input table it was trained on, where that is not all of them.
TRAINED_ON = {"em_rationales": "selected", "seed_problems": "split = 'train'"}

# The column that shows best what a row is, by the table's id column.
GIST = {
    "concept_id": "concept", "problem_id": "problem", "rationale_id": "rationale", "concept_set_id": "concepts",
    "raw_problem_id": "completion", "label_id": "answer", "test_id": "stdin", "trace_id": "trace",
    "example_id": "prompt", "rollout_id": "completion", "pair_id": "prompt", "item_id": "problem",
    "generation_id": "completion", "score_id": "benchmark", "bound_id": "iw_bound", "point_id": "value",
    "proposal_id": "rationale", "annotation_id": "rationale", "standing_id": "contest", "step_id": "step",
    "dataset": "dataset",
}  # fmt: skip
GIST_INSTEAD = ("verdict", "pass_rate", "problem", "reference")  # tables about the rows of another one


@dataclass(frozen=True)
class Reference:
    """Rows of `table` refer to the rows of `to` with equal values: `columns` pairs an own column with one there."""

    table: str
    to: str
    columns: tuple[tuple[str, str], ...]
    shared: bool  # whether it names a group of rows by what they share, rather than one row by its id

    @property
    def name(self) -> str:
        return ", ".join(own for own, _ in self.columns) or "all rows"


def id_column(table: str) -> str:
    """The column that names a row of this table. Raises: KeyError for an unknown table."""
    return next(field.name for field in SCHEMAS[table] if (field.metadata or {}).get(b"unique") == b"true")


def owns_its_id(table: str) -> bool:
    """Whether the table's id is its own, not that of the row it is about (a verdict has its rollout's id)."""
    column = id_column(table)
    return column not in ROWS or table in ROWS[column]


def gist_column(table: str) -> str:
    """The column to show of a row."""
    names = SCHEMAS[table].names
    return next(name for name in (GIST.get(id_column(table), ""), *GIST_INSTEAD) if name in names)


@cache
def references(table: str) -> tuple[Reference, ...]:
    """What the rows of `table` refer to, besides models."""
    if table in MODEL_ROLES or table not in SCHEMAS:
        return ()
    own = id_column(table)
    named = [
        Reference(table, to, ((column, id_column(to)),), shared=False)
        for column in SCHEMAS[table].names
        for to in ROWS.get(column, ())
        if to != table and not (column == own and owns_its_id(table))
    ]
    shared = [Reference(table, to, tuple(columns.items()), shared=True) for to, columns in SHARED.get(table, ())]
    return (*named, *shared)


def counted_from(table: str) -> tuple[Reference, ...]:
    own, to, columns = COUNTED_FROM
    return (Reference(own, to, tuple(columns.items()), shared=True),) if table == own else ()


def model_columns(table: str) -> list[str]:
    """The columns of `table` that name models."""
    return [name for name in SCHEMAS[table].names if name in MODELS] if table in SCHEMAS else []


def values(table: str, column: str) -> str:
    """SQL of the values that a column holds: its one value, or those of its list."""
    name = identifier(column)
    if pa.types.is_list(SCHEMAS[table].field(column).type):
        return f"unnest({name})"
    return f"""unnest(from_json({name}, '["VARCHAR"]'))""" if column.endswith("_ids") else name
