"""Rows of every table, made by the stages from exact models and fixed seeds: the same on every machine."""

import string
from collections.abc import Mapping, Sequence

import numpy as np

from promptcot_assets.domains.layout import BEGIN_RATIONALE, END_RATIONALE, MARKERS
from promptcot_assets.judging.verifier import ProblemLabels, Verifier
from promptcot_assets.lake import Row
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
    Tuning,
)
from promptcot_assets.stages import tuning
from promptcot_assets.stages.analysis import difficulty, economics, overview, zero_shot
from promptcot_assets.stages.corpus import annotation, seed_tables
from promptcot_assets.stages.em import bounds, curves, loop
from promptcot_assets.stages.evaluation import benchmarks, codeforces
from promptcot_assets.stages.labels import agreement, votes
from promptcot_assets.stages.labels.teacher import ProceduralTeacher
from promptcot_assets.stages.students import distillation, relabelling, reward_service, self_play
from promptcot_assets.stages.synthesis import writing
from tests.exact_models import END, ExactModel, one_of, problem_writer, solver
from tests.stages.assembled import assemble
from tests.stages.labelled import decided, judged, run

WORLDS = ("mini_maths", "mini_code")
CORPUS = Corpus(procedural={name: ProcedureSizes(seeds=12, held_out=3, benchmark=3) for name in WORLDS})
JUDGING = Labels(votes=5, min_votes=3, validators=2, checkers=1)
FREE = Sampling(max_new_tokens=4)
LETTERS = {token: 1 / (len(string.printable) + 5) for token in (*string.printable, *MARKERS, END)}
ANY_TEXT = ExactModel(lambda _: LETTERS)  # p: every character is as likely as every other
ANNOTATOR = one_of(lambda _: ['```python\n["sums", "shares"]\n```'], ".\n")


class OneHot:
    """Embeds every text as a direction of its own."""

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        return np.eye(len(texts), dtype=np.float32)


def rationales(text: str) -> Mapping[str, float]:
    texts = {"Design: so": 0.4, "Idea: so": 0.3, "": 0.0, "Idea: on and": 0.2, " ": 0.1}
    if text.endswith(BEGIN_RATIONALE):
        return {token: chance for token, chance in texts.items() if chance}
    return {" on": 1.0} if text.endswith(("and", "on")) else {END_RATIONALE: 1.0}


def on_each_domain(rows: list[Row], step) -> list[Row]:  # type: ignore[no-untyped-def]
    return [row for name in WORLDS for row in step(name, [one for one in rows if one["domain"] == name])]


def every_table(verifier: Verifier) -> dict[str, list[Row]]:
    made: dict[str, list[Row]] = {}
    seeds, _ = seed_tables.seed_problems(CORPUS, 0)
    fallen = {"source": "a.jsonl", "row": 3, "reason": "empty problem", "problem": "''"}
    made["dropped_seed_rows"] = [seed_tables.dropped_row(fallen, domain="maths")]
    made["dropped_benchmark_rows"] = [seed_tables.dropped_row(fallen, benchmark="aime24")]
    triples, _ = seed_tables.seed_triples(seeds)
    bare = [row | {"concepts": [], "rationale": None} for row in seeds]
    made["seed_annotations"] = annotation.annotate(bare, ANNOTATOR, FREE, 2, "one", "teacher/1", 0)
    made |= {"seed_problems": seeds, "seed_triples": triples, "concept_corpus": seed_tables.concept_corpus(seeds)}

    q = ExactModel(rationales)
    ranked = loop.select(loop.judge(loop.propose(triples, q, FREE, 4, Filters(), seed=0), ANY_TEXT, Reward()))
    made["em_rationales"] = loop.candidate_rows(ranked, 1, "q/1", "p/1")
    won = [row for row in made["em_rationales"] if row["selected"]]
    chosen, _ = loop.with_winners(loop.greedy(triples, q, FREE, Filters()), won)
    winners = [loop.winner_row(row) for row in won]
    made["em_m_step"] = loop.m_step_rows(chosen, 1, "q/2") + loop.m_step_rows(winners, 2, "q/2")
    held_out = [row for row in seeds if row["split"] == "held_out"]
    proposed = loop.propose(held_out, q, FREE, 4, Filters(), seed=1)
    measured = bounds.bounds(loop.judge(proposed, ANY_TEXT, Reward()), 4)
    more = bounds.without_rationale(held_out, ANY_TEXT) + on_each_domain(
        held_out, lambda name, rows: bounds.fresh_samples(rows, problem_writer(name), FREE, 2, seed=0)
    )
    splits = {row["problem_id"]: row["split"] for row in held_out}
    series = (("cold_start", 0), ("em", 1), ("extra_training", 1))
    for (name, round_), table in zip(series, ("cold_start_bounds", "em_bounds", "control_bounds"), strict=True):
        of = {"series": name, "round": round_, "rationale_model": "q/2", "problem_generator": "p/2"}
        made[table] = bounds.bound_rows(measured, more, splits, 2, of)
    pool = bounds.pooled({"q/2": proposed})
    made["proposal_pool"] = bounds.with_mixture_density(pool, [bounds.proposal_densities(pool, ANY_TEXT)])
    of = {"series": "em", "round": 1, "problem_generator": "p/2"}
    made["common_bounds"] = bounds.common_bounds(
        made["proposal_pool"], bounds.score_pool(made["proposal_pool"], ANY_TEXT), of
    )
    every_bound = made["cold_start_bounds"] + made["em_bounds"] + made["control_bounds"]
    made["em_curves"] = curves.em_curves(every_bound, made["common_bounds"], {("em", 1): 10})

    settings = Synthesis(concept_sets={"mini_maths": 8, "mini_code": 6}, problems_per_set=6, sampling=FREE)
    made["concept_sets"] = writing.concept_sets(seeds, {}, settings, "b1", 0)
    made["raw_problems"] = on_each_domain(
        made["concept_sets"], lambda name, sets: writing.synthesize(sets, problem_writer(name), settings, "p/2", 0)
    )
    made["benchmark_items"] = benchmarks.benchmark_items(CORPUS, Benchmarks(), seeds, 0)
    made["problems"], made["dropped_problems"] = assemble(
        made["raw_problems"], seeds, made["benchmark_items"], Deduplication(decontamination_ngram=30)
    )

    teacher, asked = ProceduralTeacher(CORPUS), Labels(votes=5, min_votes=3)
    made["math_votes"] = votes.math_votes(made["problems"], teacher, asked, 0)
    made["math_answers"] = votes.math_answers(made["math_votes"], asked)
    stated = agreement.stated_answers(made["problems"])
    made["label_agreement"] = agreement.label_agreement(made["math_answers"], made["math_votes"], stated)
    made["proposed_tests"], made["candidate_programs"] = run(made["problems"], teacher, verifier, asked, 0)
    made["code_tests"] = decided(made["proposed_tests"], made["candidate_programs"], verifier, asked, 0)
    made["written_judges"], made["tested_judges"] = judged(
        made["problems"], made["proposed_tests"], made["candidate_programs"], teacher, verifier, JUDGING, 0
    )
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
    on = [next(row for row in known if row["problem_id"] == one["problem_id"]) for one in made["rollouts"]]
    said = reward_service.judged(
        [reward_service.label(row) for row in on], [row["completion"] for row in made["rollouts"]], verifier
    )
    sampled = [
        {"step": at // 8, "part": 0, "place": at % 8, "reward": one["reward"], "judged": one, "learned": True}
        | {name: row[name] for name in ("attempt", "prompt", "completion", "finish_reason", "tokens")}
        for at, (row, one) in enumerate(zip(made["rollouts"], said, strict=True))
    ]
    made["rollouts_online"] = list(self_play.online_rows(sampled, "sft/1"))
    made["relabelled"] = relabelling.relabelled(made["math_answers"], made["verdicts"], 0.0)
    made["self_play_gate"] = self_play.gate_rows(made["verdicts"], made["verdicts"], "self_play/1")
    made["difficulty"] = difficulty.difficulty(made["rollouts"], made["verdicts"])
    made["item_difficulty"], _ = difficulty.item_difficulty(made["difficulty"], made["teacher_traces"])

    by_em = [row | {"problem_generator": "problem_generator/2"} for row in made["problems"]]
    made["tuning_examples"] = tuning.examples(by_em, made["difficulty"], made["em_m_step"], Tuning(within=1.0), 0)
    written = [
        row
        for series in (tuning.BEFORE, tuning.AFTER)
        for row in on_each_domain(
            held_out, lambda name, rows, s=series: tuning.samples(rows, problem_writer(name), FREE, 2, 0, s, f"p/{s}")
        )
    ]
    made["tuning_samples"] = tuning.with_spread(written, OneHot())

    items = benchmarks.evaluated(made["benchmark_items"], None)
    settings_of_evaluation = Evaluation(generations=2, sampling=FREE)
    made["benchmark_generations"] = [
        row
        for stage, error in (("base", 0.9), ("sft", 0.1))
        for row in on_each_domain(items, lambda name, rows, s=stage, e=error: benchmarks.generations(
            rows, solver(name, e), settings_of_evaluation, s, f"{s}/1", 0))
    ]  # fmt: skip
    by_id = {row["item_id"]: row for row in items}
    made["benchmark_verdicts"] = benchmarks.verdicts(made["benchmark_generations"], by_id, verifier)
    made["benchmark_scores"] = benchmarks.scores(made["benchmark_verdicts"], 2)
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
    made["scaling"] = overview.scaling(made["benchmark_scores"], "tiny", {"base/1": 5, "sft/1": 50})
    sets = overview.problem_sets(seeds, made["problems"], items)
    means = {name: np.array([len(texts), 1.0, 2.0]) for name, texts in sets.items()}
    made["distribution"] = overview.distribution(
        means, {name: len(texts) for name, texts in sets.items()}, overview.SEEDS
    )
    return made
