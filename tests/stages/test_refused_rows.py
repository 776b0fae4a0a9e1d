"""One row's fault is a row with its reason: every stage that asks a model, over a real engine, one row too long."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from promptcot_assets.domains.layout import TOKENIZER_MARKERS
from promptcot_assets.inference import InferenceEngine
from promptcot_assets.inference.refusals import TOO_LONG
from promptcot_assets.inference.transformers_engine import TransformersEngine
from promptcot_assets.judging.opening import open_verifier
from promptcot_assets.judging.verifier import Verifier
from promptcot_assets.lake import Row
from promptcot_assets.settings.engines import Sandbox
from promptcot_assets.settings.profile import (
    Distillation,
    Evaluation,
    Filters,
    Labels,
    Reward,
    Sampling,
    SelfPlay,
    Synthesis,
)
from promptcot_assets.stages.analysis import difficulty, zero_shot
from promptcot_assets.stages.asking import refusals
from promptcot_assets.stages.base_models import from_scratch
from promptcot_assets.stages.corpus import annotation
from promptcot_assets.stages.em import bounds, gates, loop
from promptcot_assets.stages.evaluation import benchmarks
from promptcot_assets.stages.labels.teacher import ModelTeacher
from promptcot_assets.stages.students import distillation, self_play
from promptcot_assets.stages.synthesis import writing
from promptcot_assets.tables import SCHEMAS
from promptcot_assets.text.semantic_duplicates import meanings, semantic_duplicates
from tests.stages import labelled
from tests.tiny_models import TinySettings, tiny_texts

LONG = "Find the sum of 1 and 2. " * 400
SAMPLING = Sampling(temperature=1.0, max_new_tokens=4)
SIZES = TinySettings(max_position=1024)
Ask = Callable[[list[Row], InferenceEngine, Verifier], list[Row]]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InferenceEngine]:
    folder = from_scratch(tiny_texts(), SIZES, tmp_path_factory.mktemp("models") / "tiny", markers=TOKENIZER_MARKERS)
    with TransformersEngine(folder) as engine:
        yield engine


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    with open_verifier(Sandbox(workers=1)) as verifier:
        yield verifier


def seed(number: int, problem: str = "What is 1 + 2?", domain: str = "maths") -> Row:
    """A row that has what every stage reads."""
    return {
        "problem_id": f"p{number}", "item_id": f"p{number}", "concept_set_id": f"p{number}", "benchmark": "b",
        "domain": domain, "source": "s", "concepts": ["sums"], "level": "easy", "problem": problem, "split": "train",
        "rationale": None, "answer": "3" if domain == "maths" else None, "batch": "first",
        "tests": None if domain == "maths" else '[{"stdin": "1", "expected": "1"}]',
    }  # fmt: skip


def long_concepts(row: Row) -> Row:
    return row | {"concepts": [LONG]}


def proposals(rows: list[Row], engine: InferenceEngine, verifier: Verifier) -> list[Row]:
    proposed = loop.propose(rows, engine, SAMPLING, 2, Filters(), 1)
    return loop.candidate_rows(loop.select(loop.judge(proposed, engine, Reward())), 1, "q", "p")


def written_candidates(rows: list[Row]) -> list[Row]:
    """Whole candidates, so that scoring is what meets the long text."""
    return [
        {name: row[name] for name in ("problem_id", "domain", "source", "concepts", "level", "problem")}
        | {"concept_set_id": "c", "candidate": 0, "rationale": "add them", "finish_reason": "stop", "tokens": 2,
           "seed": 1, "log_q": -1.0, "copy_ratio": 0.0, "quoted_from": 0, "quoted_to": 0, "style": None,
           "lost_because": None}
        for row in rows
    ]  # fmt: skip


def scored(rows: list[Row], engine: InferenceEngine, verifier: Verifier) -> list[Row]:
    judged = loop.judge(written_candidates(rows), engine, Reward())
    assert all((row["reward"] is None) == (row["lost_because"] is not None) for row in judged)
    return loop.candidate_rows(loop.select(judged), 1, "q", "p")


def drawn(rows: list[Row], engine: InferenceEngine, verifier: Verifier) -> list[Row]:
    return self_play.rollouts(rows, engine, SelfPlay(rollouts=2, sampling=SAMPLING), "m", 1)


def played(rows: list[Row], engine: InferenceEngine, verifier: Verifier) -> list[Row]:
    return self_play.verdicts(drawn(rows, engine, verifier), {row["problem_id"]: row for row in rows}, verifier)


def generated(rows: list[Row], engine: InferenceEngine, verifier: Verifier) -> list[Row]:
    return benchmarks.generations(rows, engine, Evaluation(generations=2, sampling=SAMPLING), "sft", "m", 1)


def evaluated(rows: list[Row], engine: InferenceEngine, verifier: Verifier) -> list[Row]:
    return benchmarks.verdicts(generated(rows, engine, verifier), {row["item_id"]: row for row in rows}, verifier)


def traced(rows: list[Row], engine: InferenceEngine, verifier: Verifier) -> list[Row]:
    return distillation.teacher_traces(rows, ModelTeacher(engine, SAMPLING, "t"), verifier, Distillation(), 1)


def answered(rows: list[Row], engine: InferenceEngine, verifier: Verifier) -> list[Row]:
    settings = Labels(votes=3, min_votes=2)
    return labelled.answered(rows, ModelTeacher(engine, SAMPLING, "t"), settings, 1)


def program_tests(rows: list[Row], engine: InferenceEngine, verifier: Verifier) -> list[Row]:
    settings = Labels(test_programs=2, tests_per_problem=2)
    return labelled.cross_checked(rows, ModelTeacher(engine, SAMPLING, "t"), verifier, settings, 1)


def zero_shot_rows(rows: list[Row], engine: InferenceEngine, verifier: Verifier) -> list[Row]:
    known = zero_shot.references(rows, engine, SAMPLING, "t", 1)
    return zero_shot.solved(known, engine, SAMPLING, verifier, "m", 1)


# table: the stage, the column of the row it is about, the column of the reason, what the bad row is
STAGES: dict[str, tuple[str, Ask, str, str, Callable[[Row], Row]]] = {
    "E-step, proposing": ("em_rationales", proposals, "problem_id", "lost_because", long_concepts),
    "E-step, scoring": ("em_rationales", scored, "problem_id", "lost_because", long_concepts),
    "synthesis": (
        "raw_problems",
        lambda rows, engine, verifier: writing.synthesize(
            rows, engine, Synthesis(problems_per_set=2, sampling=SAMPLING), "p", 1),
        "concept_set_id", "drop_reason", long_concepts),
    "answers": ("math_answers", answered, "problem_id", "drop_reason", lambda row: row | {"problem": LONG}),
    "tests of programs": (
        "code_tests", program_tests, "problem_id", "drop_reason",
        lambda row: row | {"problem": LONG, "domain": "code", "answer": None}),
    "traces": ("teacher_traces", traced, "problem_id", "drop_reason", lambda row: row | {"problem": LONG}),
    "traces of a program": (
        "teacher_traces", traced, "problem_id", "drop_reason", lambda row: seed(9, LONG, "code")),
    "rollouts": ("rollouts", drawn, "problem_id", "finish_reason", lambda row: row | {"problem": LONG}),
    "verdicts": ("verdicts", played, "problem_id", "unusable_because", lambda row: row | {"problem": LONG}),
    "generations": (
        "benchmark_generations", generated, "item_id", "finish_reason", lambda row: row | {"problem": LONG}),
    "verdicts of generations": (
        "benchmark_verdicts", evaluated, "item_id", "rule", lambda row: row | {"problem": LONG}),
    "annotation": (
        "seed_annotations",
        lambda rows, engine, verifier: annotation.annotate(
            [row | {"concepts": []} for row in rows], engine, SAMPLING, 3, "a", "m", 1),
        "seed_problem_id", "drop_reason", lambda row: row | {"problem": LONG}),
    "rationales of an annotator": (
        "seed_annotations",
        lambda rows, engine, verifier: annotation.annotate(rows, engine, SAMPLING, 3, "a", "m", 1),
        "seed_problem_id", "drop_reason", lambda row: row | {"problem": LONG}),
    "zero-shot difficulty": (
        "zero_shot_difficulty", zero_shot_rows, "problem_id", "drop_reason", lambda row: row | {"problem": LONG}),
}  # fmt: skip


@pytest.mark.parametrize("stage", STAGES)
def test_an_over_long_row_is_a_row_with_its_reason(engine: InferenceEngine, verifier: Verifier, stage: str) -> None:
    table, ask, id_, column, spoilt = STAGES[stage]
    good, bad = [seed(1), seed(3, "What is 7 + 8?")], spoilt(seed(2))
    rows = ask([good[0], bad, good[1]], engine, verifier)
    own = [row for row in rows if row[id_] == bad["problem_id"]]
    assert own and all((row[column] or "").endswith(TOO_LONG) for row in own)
    others = [row for row in rows if row[id_] != bad["problem_id"]]
    assert others == ask(good, engine, verifier), "it costs no other row"
    assert not any(TOO_LONG in (row[column] or "") for row in others)
    declared = SCHEMAS[table]
    pa.Table.from_pylist(rows, declared)
    assert [
        name for name in declared.names if not declared.field(name).nullable and any(r[name] is None for r in rows)
    ] == []
    assert all(set(row) == set(declared.names) for row in rows)


def test_what_was_never_answered_has_no_verdict(engine: InferenceEngine, verifier: Verifier) -> None:
    """Neither a fail nor part of a rate, of a score or of an ability."""
    rows = [seed(1), seed(2, LONG)]
    judged = played(rows, engine, verifier)
    assert {row["passed"] for row in judged if row["problem_id"] == "p2"} == {None}
    assert {row["verdict"] for row in judged if row["problem_id"] == "p2"} == {"not_answered"}
    assert self_play.pass_rates(judged).keys() == {"p1"}
    assert refusals(drawn(rows, engine, verifier)) == {TOO_LONG: 2}
    scores = benchmarks.scores(evaluated(rows, engine, verifier), 2)
    assert {(score["questions"], score["infrastructure_failures"]) for score in scores} == {(1, 2)}
    items, _ = difficulty.item_difficulty([], traced(rows, engine, verifier))
    assert [row["problem_id"] for row in items] == ["p1"]


def test_the_m_step_takes_the_winner_of_a_seed_that_cannot_be_asked(engine: InferenceEngine) -> None:
    rows = loop.greedy([seed(1), long_concepts(seed(2))], engine, SAMPLING, Filters())
    assert rows[1]["unusable"] == TOO_LONG
    _, dropped = loop.with_winners(rows[1:], [])
    assert dropped == {f"greedy rationale {TOO_LONG}, no winner: seed left out": 1}


def test_bounds_leave_out_what_cannot_be_measured(engine: InferenceEngine) -> None:
    rows = [seed(1), long_concepts(seed(2))]
    alone = bounds.without_rationale(rows, engine)
    assert alone[0]["log_p_problem_alone"] < 0 and alone[1]["log_p_problem_alone"] is None
    fresh = bounds.fresh_samples(rows, engine, SAMPLING, 3, 1)
    assert [row["samples_parsed"] for row in fresh] == [0, None]
    measured = bounds.bounds(loop.judge(written_candidates(rows), engine, Reward()), 1)
    assert [row["proposals_used"] for row in measured] == [1, 0]
    of = {"series": "em", "round": 1, "rationale_model": "q", "problem_generator": "p"}
    joined = bounds.bound_rows(measured, [*alone, *fresh], {"p1": "held_out", "p2": "held_out"}, 3, of)
    pa.Table.from_pylist(joined, SCHEMAS["em_bounds"])
    assert gates.cold_start_gate(joined, _gate()).measured["fresh problems that parse"] == 0.0


def _gate() -> Any:
    from promptcot_assets.settings.profile import Gate

    return Gate()


def test_a_pool_drops_what_one_of_its_models_cannot_score(engine: InferenceEngine) -> None:
    pool = bounds.pooled({"q": written_candidates([seed(1), long_concepts(seed(2))])})
    densities = [bounds.proposal_densities(pool, engine)] * 2
    dense = bounds.with_mixture_density(pool, densities)
    assert [row["lost_because"] for row in dense] == [None, TOO_LONG]
    assert dense[0]["log_q"] < 0 and dense[1]["log_q"] is None
    pa.Table.from_pylist(dense, SCHEMAS["proposal_pool"])
    scores = bounds.score_pool(pool, engine)  # as of a p with fewer positions than every q
    common = bounds.common_bounds(dense, scores, {"series": "em", "round": 1, "problem_generator": "p"})
    assert [row["proposals_used"] for row in common] == [1, 0] and common[1]["iw_bound"] is None


def test_a_text_that_cannot_be_embedded_is_like_no_other(engine: InferenceEngine) -> None:
    concepts = [{"domain": "maths", "concept": text} for text in ("sums", LONG, "roots")]
    vectors = writing.concept_embeddings(concepts, engine)["maths"]
    lengths = [round(float(np.linalg.norm(vectors[row["concept"]])), 3) for row in concepts]
    assert lengths == [1.0, 0.0, 1.0]
    texts = pa.table({"id": ["a", "b", "c", "d"], "text": [LONG, LONG, "the sum", "the sum"]})
    found = meanings(texts, engine.embed)
    falls = semantic_duplicates(found, found.slice(0, 0), 0.9).to_pylist()
    assert [(fall["id"], fall["survivor_id"]) for fall in falls] == [("d", "c")]
