"""Every stage's rows are exactly what its table declares: one small arc in memory, on models whose law is known."""

import json
import string
from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
import pytest

from promptcot_assets.domains.layout import BEGIN_RATIONALE, END_RATIONALE, MARKERS
from promptcot_assets.lake.rows import check_schema, checked
from promptcot_assets.lake.schemas import MODEL, MODEL_ROLES, SCHEMAS
from promptcot_assets.settings.engines import Sandbox
from promptcot_assets.settings.profile import (
    Benchmarks,
    Corpus,
    Deduplication,
    Distillation,
    Evaluation,
    Filters,
    Labels,
    ProcedureSizes,
    Reward,
    Sampling,
    SelfPlay,
    Synthesis,
)
from promptcot_assets.stages import (
    Row,
    analysis,
    annotation,
    codeforces,
    corpus,
    difficulty,
    distillation,
    economics,
    em,
    em_bounds,
    em_curves,
    evaluation,
    labels,
    self_play,
    synthesis,
    zero_shot,
)
from promptcot_assets.stages.teacher import ProceduralTeacher
from promptcot_assets.stages.verification import ProblemLabels, Verifier
from tests.exact_models import END, ExactModel, one_of, problem_writer, solver
from tests.stages.assembled import assemble

WORLDS = ("mini_maths", "mini_code")
CORPUS = Corpus(procedural={name: ProcedureSizes(seeds=12, held_out=3, benchmark=3) for name in WORLDS})
FREE = Sampling(max_new_tokens=4)
LETTERS = {token: 1 / (len(string.printable) + 5) for token in (*string.printable, *MARKERS, END)}
ANY_TEXT = ExactModel(lambda _: LETTERS)  # p: every character is as likely as every other
ANNOTATOR = one_of(lambda _: ['```python\n["sums", "shares"]\n```'], ".\n")


def rationales(text: str) -> Mapping[str, float]:
    texts = {"Design: so": 0.4, "Idea: so": 0.3, "": 0.0, "Idea: on and": 0.2, " ": 0.1}
    if text.endswith(BEGIN_RATIONALE):
        return {token: chance for token, chance in texts.items() if chance}
    return {" on": 1.0} if text.endswith(("and", "on")) else {END_RATIONALE: 1.0}


def on_each_domain(rows: list[Row], step) -> list[Row]:  # type: ignore[no-untyped-def]
    return [row for name in WORLDS for row in step(name, [one for one in rows if one["domain"] == name])]


@pytest.fixture(scope="module")
def tables() -> Iterator[dict[str, list[Row]]]:
    with Verifier.open(Sandbox(workers=2, cpu_s=1.0, wall_s=4.0, memory_mb=256)) as verifier:
        yield arc(verifier)


def arc(verifier: Verifier) -> dict[str, list[Row]]:
    made: dict[str, list[Row]] = {}
    seeds, _ = corpus.seed_problems(CORPUS, 0)
    triples, _ = corpus.seed_triples(seeds)
    bare = [row | {"concepts": [], "rationale": None} for row in seeds]
    made["seed_annotations"] = annotation.annotate(bare, ANNOTATOR, FREE, 2, "one", "teacher/1", 0)
    made |= {"seed_problems": seeds, "seed_triples": triples, "concept_corpus": corpus.concept_corpus(seeds)}

    q = ExactModel(rationales)
    ranked = em.select(em.judge(em.propose(triples, q, FREE, 4, Filters(), seed=0), ANY_TEXT, Reward()))
    made["em_rationales"] = em.candidate_rows(ranked, 1, "q/1", "p/1")
    won = [row for row in made["em_rationales"] if row["selected"]]
    chosen, _ = em.with_winners(em.greedy(triples, q, FREE, Filters()), won)
    winners = [em.winner_row(row) for row in won]
    made["em_m_step"] = em.m_step_rows(chosen, 1, "q/2") + em.m_step_rows(winners, 2, "q/2")
    held_out = [row for row in seeds if row["split"] == "held_out"]
    proposed = em.propose(held_out, q, FREE, 4, Filters(), seed=1)
    measured = em_bounds.bounds(em.judge(proposed, ANY_TEXT, Reward()), 4)
    more = em_bounds.without_rationale(held_out, ANY_TEXT) + on_each_domain(
        held_out, lambda name, rows: em_bounds.fresh_samples(rows, problem_writer(name), FREE, 2, seed=0)
    )
    splits = {row["problem_id"]: row["split"] for row in held_out}
    series = (("cold_start", 0), ("em", 1), ("extra_training", 1))
    for (name, round_), table in zip(series, ("cold_start_bounds", "em_bounds", "control_bounds"), strict=True):
        of = {"series": name, "round": round_, "rationale_model": "q/2", "problem_generator": "p/2"}
        made[table] = em_bounds.bound_rows(measured, more, splits, 2, of)
    pool = em_bounds.pooled({"q/2": proposed})
    made["proposal_pool"] = em_bounds.with_mixture_density(pool, [em_bounds.proposal_densities(pool, ANY_TEXT)])
    of = {"series": "em", "round": 1, "problem_generator": "p/2"}
    made["common_bounds"] = em_bounds.common_bounds(
        made["proposal_pool"], em_bounds.score_pool(made["proposal_pool"], ANY_TEXT), of
    )
    bounds = made["cold_start_bounds"] + made["em_bounds"] + made["control_bounds"]
    made["em_curves"] = em_curves.em_curves(bounds, made["common_bounds"], {("em", 1): 10})

    settings = Synthesis(concept_sets={"mini_maths": 8, "mini_code": 6}, problems_per_set=6, sampling=FREE)
    made["concept_sets"] = synthesis.concept_sets(seeds, {}, settings, "b1", 0)
    made["raw_problems"] = on_each_domain(
        made["concept_sets"], lambda name, sets: synthesis.synthesize(sets, problem_writer(name), settings, "p/2", 0)
    )
    made["benchmark_items"] = evaluation.benchmark_items(CORPUS, Benchmarks(), seeds, 0)
    made["problems"], made["dropped_problems"] = assemble(
        made["raw_problems"], seeds, made["benchmark_items"], Deduplication(decontamination_ngram=30)
    )

    teacher, asked = ProceduralTeacher(CORPUS), Labels(votes=5, min_votes=3)
    made["math_answers"] = labels.math_answers(made["problems"], teacher, asked, 0)
    made["code_tests"] = labels.code_tests(made["problems"], teacher, verifier, asked, 0)
    known_by = ProblemLabels(made["math_answers"], made["code_tests"])
    known = [row for row in map(known_by.on, made["problems"]) if row]
    made["teacher_traces"] = distillation.teacher_traces(known, teacher, verifier, Distillation(), 0)
    own = distillation.seed_examples(seeds, {"mini_maths": 5})
    made["sft_examples"] = list(distillation.sft_examples(made["teacher_traces"], own, 0.2))
    made["yield_report"] = economics.funnel("b1", *(made[name] for name in (
        "raw_problems", "dropped_problems", "problems", "math_answers", "code_tests", "teacher_traces",
    )))  # fmt: skip

    play = SelfPlay(rollouts=4, max_pass_rate=1.0, sampling=FREE)
    made["rollouts"] = on_each_domain(
        known, lambda name, rows: self_play.rollouts(rows, solver(name, 0.5), play, "sft/1", 0)
    )
    made["verdicts"] = self_play.verdicts(made["rollouts"], {row["problem_id"]: row for row in known}, verifier)
    made["preference_pairs"] = list(self_play.preference_pairs(made["rollouts"], made["verdicts"], play, 0))
    made["self_play_examples"] = list(self_play.rejection_sampled(made["rollouts"], made["verdicts"], play, 0))
    made["self_play_gate"] = self_play.gate_rows(made["verdicts"], made["verdicts"], "self_play/1")
    made["difficulty"] = difficulty.difficulty(made["rollouts"], made["verdicts"])
    made["item_difficulty"], _ = difficulty.item_difficulty(made["difficulty"], made["teacher_traces"])

    items = evaluation.evaluated(made["benchmark_items"], None)
    settings_of_evaluation = Evaluation(generations=2, sampling=FREE)
    made["benchmark_generations"] = [
        row
        for stage, error in (("base", 0.9), ("sft", 0.1))
        for row in on_each_domain(items, lambda name, rows, s=stage, e=error: evaluation.generations(
            rows, solver(name, e), settings_of_evaluation, s, f"{s}/1", 0))
    ]  # fmt: skip
    by_id = {row["item_id"]: row for row in items}
    made["benchmark_verdicts"] = evaluation.verdicts(made["benchmark_generations"], by_id, verifier)
    made["benchmark_scores"] = evaluation.scores(made["benchmark_verdicts"], 2)
    in_contests = [row | {"contest": "1", "points": 500.0, "sample_tests": False} for row in items]
    made["contest_standings"] = [
        {"standing_id": "s", "contest": "1", "style": "codeforces", "rating": 1500.0, "points": 1.0, "penalty": 0.0,
         "source": "standings.jsonl"}
    ]  # fmt: skip
    made["codeforces_ratings"] = codeforces.codeforces_ratings(
        in_contests, made["benchmark_verdicts"], made["contest_standings"], 0
    )
    known_maths = [row for row in known if row["domain"] == "mini_maths"]
    answered = zero_shot.references(known_maths, solver("mini_maths", 0.0), FREE, "reference/1", 0)
    made["zero_shot_difficulty"] = zero_shot.solved(answered, solver("mini_maths", 0.5), FREE, verifier, "solver/1", 0)
    made["scaling"] = analysis.scaling(made["benchmark_scores"], "tiny", {"base/1": 5, "sft/1": 50})
    sets = analysis.problem_sets(seeds, made["problems"], items)
    means = {name: np.array([len(texts), 1.0, 2.0]) for name, texts in sets.items()}
    made["distribution"] = analysis.distribution(
        means, {name: len(texts) for name, texts in sets.items()}, analysis.SEEDS
    )
    return made


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
    assert {row["lost_because"] for row in tables["em_rationales"]} >= {None, em.CUT_OFF, em.EMPTY}
    assert {row["drop_reason"] is None for row in tables["raw_problems"]} == {True, False}
    assert {row["reason"] for row in tables["dropped_problems"]} >= {"exact", "truncated"}
    assert {row["source"] for row in tables["sft_examples"]} == {"synthetic", "seed"}
    assert {row["usable"] for row in tables["verdicts"]} == {True, False}
    assert {row["domain"] for row in tables["preference_pairs"]} == set(WORLDS)
    assert {row["metric"] for row in tables["benchmark_scores"]} == {"avg@2", "paired difference"}
    left = {row["domain"]: row["rows"] for row in tables["yield_report"] if row["step"] == "with a valid trace"}
    taught = [row for row in tables["teacher_traces"] if row["valid"]]
    assert left == {name: sum(row["domain"] == name for row in taught) for name in WORLDS}
    assert all(isinstance(json.loads(row["dropped"]), dict) for row in tables["yield_report"])
