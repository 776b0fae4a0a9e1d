"""What the EM rounds are worth: every generator on one pool of proposals, and the paper's figure."""

from functools import partial

import dagster as dg

from promptcot_assets.assets.describe import plot
from promptcot_assets.assets.em import COLD
from promptcot_assets.assets.resources import EngineResource, LakeResource, SettingsResource
from promptcot_assets.automation.partitions import LAST_ROUND, ONLY_LAST_ROUND, round_number
from promptcot_assets.lake import Ref
from promptcot_assets.lake.ids import seed_from
from promptcot_assets.lake.ref import UNPARTITIONED
from promptcot_assets.reports import plots
from promptcot_assets.settings.profile import Filters
from promptcot_assets.stages import em, em_bounds
from promptcot_assets.stages import em_curves as curves

ALL_ROUNDS = dg.AllPartitionMapping()
BOUNDS = {"cold_start": "cold_start_bounds", "em": "em_bounds", "extra_training": "control_bounds"}
GENERATORS = {
    "cold_start": "cold_problem_generator",
    "em": "problem_generator",
    "extra_training": "control_problem_generator",
}
PROPOSERS = {
    "cold_rationale_model": COLD["rationale_model"],
    "rationale_model": f"rationale_model[{LAST_ROUND}]",
    "control_rationale_model": f"control_rationale_model[{LAST_ROUND}]",
}


def _every_round(assets: dict[str, str]) -> list[dg.AssetDep]:
    """The cold start's asset, and all partitions of the others."""
    return [
        dg.AssetDep(asset, partition_mapping=None if series == "cold_start" else ALL_ROUNDS)
        for series, asset in assets.items()
    ]


def _inputs(assets: dict[str, str]) -> list[str]:
    return [asset if series == "cold_start" else f"{asset}[*]" for series, asset in assets.items()]


@dg.asset(
    code_version="1",
    deps=[
        "seed_problems",
        "cold_rationale_model",
        *(dg.AssetDep(q, partition_mapping=ONLY_LAST_ROUND) for q in PROPOSERS if q != "cold_rationale_model"),
    ],
    pool="gpu",
)
def proposal_pool(
    context: dg.AssetExecutionContext, lake: LakeResource, engine: EngineResource, settings: SettingsResource
) -> dg.MaterializeResult:
    """Held-out rationales of the first q, the last and the control's, as one sample of their mixture."""
    values = settings.values
    inputs = ("seed_problems", *PROPOSERS.values())
    step = lake.step(context, "proposal_pool", *inputs, uses=[values.em.measured_by(), values.engine])
    if done := step.unchanged():
        return done
    seeds = em_bounds.measured_seeds(step.rows("seed_problems"), training_seeds=0)
    each = -(-values.em.held_out.proposals // len(PROPOSERS))
    plain = values.em.sampling.model_copy(update={"temperature": 1.0, "top_p": 1.0})
    proposed = {}
    for number, q in enumerate(PROPOSERS):
        with engine.load(step, q) as model:
            drawn = partial(
                em.propose,
                q=model,
                sampling=plain,
                candidates=each,
                filters=Filters(),
                seed=seed_from(step.seed, "pool", number),
            )
            proposed[step.model_id(q)] = list(step.map(f"{q}: propose", seeds, drawn, values.em.shard_rows))
    pool = em_bounds.pooled(proposed)
    densities = []
    for q in PROPOSERS:
        with engine.load(step, q) as model:
            density = partial(em_bounds.proposal_densities, q=model)
            densities.append(list(step.map(f"{q}: density", pool, density, values.em.shard_rows * each)))
    return step.commit(em_bounds.with_mixture_density(pool, densities))


@dg.asset(code_version="1", deps=["proposal_pool", *_every_round(GENERATORS)], pool="gpu")
def common_bounds(
    context: dg.AssetExecutionContext, lake: LakeResource, engine: EngineResource, settings: SettingsResource
) -> dg.MaterializeResult:
    """The held-out bound of every p on the one pool of proposals, so that a better q does not pass for a better p."""
    values = settings.values
    step = lake.step(context, "common_bounds", "proposal_pool", *_inputs(GENERATORS), uses=[values.engine])
    if done := step.unchanged():
        return done
    pool, rows = step.rows("proposal_pool"), []
    for series, asset in GENERATORS.items():
        for checkpoint in step.versions(asset):
            with engine.load(step, checkpoint) as generator:
                score = partial(em_bounds.score_pool, p=generator)
                phase = f"{series} {checkpoint.partition}: score the pool"
                scores = step.map(phase, pool, score, values.em.shard_rows * values.em.held_out.proposals)
            of = {"series": series, "round": _round(checkpoint), "problem_generator": step.model_id(checkpoint)}
            rows += em_bounds.common_bounds(pool, list(scores), of)
    return step.commit(rows)


@dg.asset(code_version="2", deps=["common_bounds", *_every_round(BOUNDS), *_every_round(GENERATORS)])
def em_curves(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
    """Every measure by round: EM, the control without an E-step, the cold start; paired gains with their errors."""
    step = lake.step(context, "em_curves", "common_bounds", *_inputs(BOUNDS), *_inputs(GENERATORS))
    if done := step.unchanged():
        return done
    steps = curves.steps_of(
        (series, _round(ref), row["steps"])
        for series, asset in GENERATORS.items()
        for ref in step.versions(asset)
        for row in lake.lake.table(ref).to_pylist()
    )
    bounds = [row for asset in BOUNDS.values() for row in step.rows(asset)]
    points = curves.em_curves(bounds, step.rows("common_bounds"), steps)
    return step.commit(
        points,
        figure=plot(plots.em_figure(points)),
        bounds=plot(plots.em_curves(points)),
        common_bounds=plot(plots.em_curves(points, "common_bound")),
        well_posed=plot(plots.em_curves(points, "well_posed")),
    )


def _round(checkpoint: Ref) -> int:
    return round_number(checkpoint.partition) if checkpoint.partition != UNPARTITIONED else 0
