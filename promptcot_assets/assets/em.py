"""EM rounds: one partition a round, strictly in order, and the control that trains as long without an E-step.

Each output depends on its own previous round and on the cold start, and on nothing inside the round: Dagster cannot
run backfills of a self-dependent multi-asset with inner dependencies. Inside, the phases follow one another, each
resumable by itself, and each output records the exact versions it was made of, siblings included.
"""

from collections.abc import Iterator

import dagster as dg

from promptcot_assets.assets.held_out import measure
from promptcot_assets.assets.resources import EngineResource, LakeResource, SettingsResource, TrainerResource
from promptcot_assets.automation.partitions import PREVIOUS_ROUND, ROUNDS, round_key, round_number
from promptcot_assets.lake.ids import seed_from
from promptcot_assets.stages import em

ROUND_OUTPUTS = ("em_rationales", "rationale_model", "em_m_step", "problem_generator", "em_bounds")
CONTROL_OUTPUTS = ("control_rationale_model", "control_problem_generator", "control_bounds")
GATE = "held_out_bound_did_not_fall"
GATE_STANDARD_ERRORS = 2.0


def _outputs(names: tuple[str, ...], description: dict[str, str]) -> list[dg.AssetSpec]:
    starts = ["seed_problems", "seed_triples", "cold_rationale_model", "cold_problem_generator", "cold_start_bounds"]
    return [
        dg.AssetSpec(
            name,
            code_version="1",
            description=description[name],
            deps=[*starts, dg.AssetDep(name, partition_mapping=PREVIOUS_ROUND)],
        )
        for name in names
    ]


def _before(asset: str, cold: str, number: int) -> tuple[str, str]:
    """(input, asset) of a model or table one round earlier; before round 1 that is the cold start's."""
    return (f"{asset}[{round_key(number - 1)}]", asset) if number > 1 else (cold, cold)


@dg.multi_asset(
    specs=_outputs(ROUND_OUTPUTS, {
        "em_rationales": "E-step: every candidate rationale with its reward terms, rank, and why it lost.",
        "rationale_model": "q[r] (z | c, x): supervised on the E-step's winners.",
        "em_m_step": "M-step: the rationale that p is trained on, for every seed.",
        "problem_generator": "p[r] (z, x | c): supervised on the M-step's rationales.",
        "em_bounds": "How good (q[r], p[r]) are on held-out seeds.",
    }),
    partitions_def=ROUNDS,
    pool="gpu",
    check_specs=[dg.AssetCheckSpec(GATE, asset="em_bounds", blocking=True, partitions_def=ROUNDS)],
)  # fmt: skip
def em_round(
    context: dg.AssetExecutionContext,
    lake: LakeResource,
    engine: EngineResource,
    trainer: TrainerResource,
    settings: SettingsResource,
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """One EM round (paper section 3.2): E-step, rationale model, M-step, problem generator, held-out bounds."""
    values, number = settings.values, round_number(context.partition_key)
    this = context.partition_key
    q_input, q = _before("rationale_model", "cold_rationale_model", number)
    p_input, p = _before("problem_generator", "cold_problem_generator", number)

    step = lake.step(
        context, "em_rationales", "seed_triples", q_input, p_input, uses=[values.em.e_step_uses(), values.engine]
    )
    if not (result := step.unchanged()):
        with engine.load(step, q) as rationale_model:
            proposed = step.map(
                f"E-step: {values.em.candidates} rationales a seed",
                step.rows("seed_triples"),
                lambda seeds: em.propose(
                    seeds,
                    rationale_model,
                    values.em.sampling,
                    values.em.candidates,
                    seed_from(step.seed, "E-step", number),
                ),
                values.em.shard_rows,
            )
        with engine.load(step, p) as generator:
            judged = step.map(
                "E-step: rewards", proposed, lambda rows: em.judge(rows, generator),
                values.em.shard_rows * values.em.candidates,
            )  # fmt: skip
        ranked = em.candidate_rows(em.select(judged), number, step.model_id(q), step.model_id(p))
        step.dropped = em.losses(ranked)
        result = step.commit(ranked, **em.e_step_summary(ranked))
    yield result

    step = lake.step(context, "rationale_model", f"em_rationales[{this}]", q_input, uses=[values.em.e_step])
    if not (result := step.unchanged()):
        winners = [row for row in step.rows("em_rationales") if row["selected"]]
        result = trainer.train(step, "sft", q, em.rationale_examples(winners), values.em.e_step)
    yield result

    step = lake.step(
        context, "em_m_step", f"em_rationales[{this}]", "seed_triples", f"rationale_model[{this}]",
        uses=[values.em.m_step_uses(), values.engine],
    )  # fmt: skip
    if not (result := step.unchanged()):
        winners = [row for row in step.rows("em_rationales") if row["selected"]]
        chosen = [em.winner_row(row) for row in winners]
        if values.em.m_step == "greedy":
            with engine.load(step, "rationale_model") as rationale_model:
                greedy = step.map(
                    "M-step: greedy rationales", step.rows("seed_triples"),
                    lambda seeds: em.greedy(seeds, rationale_model, values.em.sampling), values.em.shard_rows,
                )  # fmt: skip
            chosen, step.dropped = em.with_winners(greedy, winners)
        result = step.commit(em.m_step_rows(chosen, number, step.model_id("rationale_model")))
    yield result

    step = lake.step(context, "problem_generator", f"em_m_step[{this}]", p_input, uses=[values.em.m_step_training])
    if not (result := step.unchanged()):
        examples = em.generator_examples(step.rows("em_m_step"))
        result = trainer.train(step, "sft", p, examples, values.em.m_step_training)
    yield result

    step = lake.step(
        context, "em_bounds", "seed_problems", f"rationale_model[{this}]", f"problem_generator[{this}]",
        uses=[*values.em.measured_by(), values.engine],
    )  # fmt: skip
    if not (result := step.unchanged()):
        result = step.commit(measure(step, engine, values.em, "rationale_model", "problem_generator", "em", number))
    yield result

    gate = lake.step(context, "em_bounds", f"em_bounds[{this}]", _before("em_bounds", "cold_start_bounds", number)[0])
    before = _before("em_bounds", "cold_start_bounds", number)[0]
    change, error, problems = em.bound_change(gate.rows_of(f"em_bounds[{this}]"), gate.rows_of(before))
    passed = change >= -GATE_STANDARD_ERRORS * error
    yield dg.AssetCheckResult(
        asset_key="em_bounds", check_name=GATE, passed=passed,
        metadata={"change in nats": change, "standard error": error, "problems": problems, "compared with": before},
    )  # fmt: skip
    if not passed:
        raise dg.Failure(
            f"round {number}: the held-out bound fell by {-change:.3f} ± {error:.3f} nats a problem against {before}; "
            "later rounds would train on worse rationales. Look at em_rationales (lengths, styles), then lower the "
            "learning rate or the epochs of em.e_step and em.m_step_training",
            allow_retries=False,
        )


@dg.multi_asset(
    specs=_outputs(CONTROL_OUTPUTS, {
        "control_rationale_model": "q after as many extra steps on the original triples: no E-step.",
        "control_problem_generator": "p after as many extra steps on the original triples: no E-step.",
        "control_bounds": "How good the control is on held-out seeds.",
    }),
    partitions_def=ROUNDS,
    pool="gpu",
)  # fmt: skip
def extra_training(
    context: dg.AssetExecutionContext,
    lake: LakeResource,
    engine: EngineResource,
    trainer: TrainerResource,
    settings: SettingsResource,
) -> Iterator[dg.MaterializeResult]:
    """The control of a round: the same optimiser steps and learning-rate restarts, always on the annotated triples."""
    values, number = settings.values, round_number(context.partition_key)
    for asset, cold, examples_of, training in (
        ("control_rationale_model", "cold_rationale_model", em.rationale_examples, values.em.e_step),
        ("control_problem_generator", "cold_problem_generator", em.generator_examples, values.em.m_step_training),
    ):
        before_input, before = _before(asset, cold, number)
        step = lake.step(context, asset, "seed_triples", before_input, uses=[training])
        if not (result := step.unchanged()):
            result = trainer.train(step, "sft", before, examples_of(step.rows("seed_triples")), training)
        yield result
    q, p = CONTROL_OUTPUTS[:2]
    step = lake.step(
        context, "control_bounds", "seed_problems", f"{q}[{context.partition_key}]", f"{p}[{context.partition_key}]",
        uses=[*values.em.measured_by(), values.engine],
    )  # fmt: skip
    if not (result := step.unchanged()):
        result = step.commit(measure(step, engine, values.em, q, p, "extra_training", number))
    yield result
