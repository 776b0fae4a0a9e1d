"""What the EM rounds are worth: every generator on one pool of proposals, and the paper's figure."""

from __future__ import annotations

from functools import partial

from promptcot_assets.assets.describe import plot
from promptcot_assets.assets.partitions import last_round, round_number
from promptcot_assets.assets.resources import EngineResource
from promptcot_assets.assets.step import Step
from promptcot_assets.assets.table_asset import Result, table_asset
from promptcot_assets.lake import Ref
from promptcot_assets.lake.ids import seed_from
from promptcot_assets.lake.ref import UNPARTITIONED
from promptcot_assets.reports import plots
from promptcot_assets.settings import Settings
from promptcot_assets.settings.profile import Filters, HeldOut
from promptcot_assets.stages.em import bounds, curves, loop

BOUNDS = {"cold_start": "cold_start_bounds", "em": "em_bounds", "extra_training": "control_bounds"}
GENERATORS = {
    "cold_start": "cold_problem_generator",
    "em": "problem_generator",
    "extra_training": "control_problem_generator",
}
PROPOSERS = ("cold_rationale_model", "rationale_model", "control_rationale_model")


def _proposers(settings: Settings) -> list[str]:
    cold, *of_rounds = PROPOSERS
    return [cold, *(f"{q}[{last_round(settings)}]" for q in of_rounds)]


def _pool_sizes(held_out: HeldOut) -> list[int]:
    """The sizes of the common pool, the small one first; every q writes as many of each."""
    sizes = bounds.pool_sizes(held_out.proposals, held_out.large_pool)
    return [len(PROPOSERS) * -(-size // len(PROPOSERS)) for size in sizes]


@table_asset(
    "2",
    inputs=lambda settings: ["seed_problems", *_proposers(settings)],
    uses=lambda settings, _: [settings.em.pooled_by()],
    pool="gpu",
)
def proposal_pool(step: Step, engine: EngineResource) -> Result:
    """Held-out rationales of the first q, the last and the control's, as one sample of their mixture.

    All held-out seeds have the small pool; some of every domain have the large one, which begins with it.
    """
    em = step.settings.em
    seeds = bounds.measured_seeds(step.rows("seed_problems"), training_seeds=0)
    sizes = _pool_sizes(em.held_out)
    each, most = sizes[0] // len(PROPOSERS), sizes[-1] // len(PROPOSERS)
    grown = bounds.large_pool_seeds(seeds, em.held_out.large_pool_problems) if most > each else []
    if grown:
        texts = len(grown) * sizes[-1]
        step.context.log.info(
            f"the larger pool has {texts:,} rationales of {len(grown)} problems; {len(PROPOSERS)} q and as many p score"
            f" each of them, {2 * len(PROPOSERS) * texts:,} texts in all (em.held_out.large_pool)"
        )
    plain = em.sampling.model_copy(update={"temperature": 1.0, "top_p": 1.0})
    proposed = {}
    for number, q in enumerate(PROPOSERS):
        with engine.load(step, q) as model:
            drawn = partial(
                loop.propose,
                q=model,
                sampling=plain,
                filters=Filters(),
                seed=seed_from(step.seed, "pool", number),
            )
            small = step.map(f"{q}: propose", seeds, partial(drawn, candidates=each), em.shard_rows)
            large = step.map(f"{q}: propose more", grown, partial(drawn, candidates=most), em.shard_rows)
            more = (row for row in large if row["candidate"] >= each)
            proposed[step.model_id(q)] = [*small, *more]
    pool = bounds.pooled(proposed, each)
    densities = []
    for q in PROPOSERS:
        with engine.load(step, q) as model:
            density = partial(bounds.proposal_densities, q=model)
            parts = bounds.first_and_rest(pool, sizes[0])
            phases = (f"{q}: density", f"{q}: density of the larger pool")
            densities.append([
                row for phase, part in zip(phases, parts, strict=True)
                for row in step.map(phase, part, density, em.shard_rows * each)
            ])  # fmt: skip
    return step.commit(bounds.with_mixture_density(pool, densities))


@table_asset(
    "2",
    inputs=lambda _: ["proposal_pool", *GENERATORS.values()],
    uses=lambda settings, _: [settings.em.held_out.part("proposals", "large_pool")],  # the sizes that are told
    pool="gpu",
)
def common_bounds(step: Step, engine: EngineResource) -> Result:
    """The held-out bound of every p on the one pool of proposals, so that a better q does not pass for a better p.

    The small pool measures every p, the larger ones the first and the last.
    """
    em, pool = step.settings.em, step.rows("proposal_pool")
    sizes = _pool_sizes(em.held_out)
    first, rest = bounds.first_and_rest(pool, sizes[0])
    shard, rows = em.shard_rows * em.held_out.proposals, []
    for series, asset in GENERATORS.items():
        for checkpoint in step.versions(asset):
            is_large = checkpoint.partition in (UNPARTITIONED, last_round(step.settings))
            phase = f"{series} {checkpoint.partition}: score"
            with engine.load(step, checkpoint) as generator:
                score = partial(bounds.score_pool, p=generator)
                scores = list(step.map(f"{phase} the pool", first, score, shard))
                scores += step.map(f"{phase} the larger pool", rest if is_large else [], score, shard)
                lost = bounds.without_usable(pool, sizes[0])
                floors = bounds.without_rationale(lost, generator) if lost else []
            of = {"series": series, "round": _round(checkpoint), "problem_generator": step.model_id(checkpoint)}
            rows += bounds.common_bounds(pool if is_large else first, scores, of, sizes, floors)
    return step.commit(rows)


@table_asset("3", inputs=lambda _: ["common_bounds", *BOUNDS.values(), *GENERATORS.values()])
def em_curves(step: Step) -> Result:
    """Every measure by round: EM, the control without an E-step, the cold start; paired gains with their errors."""
    steps = curves.steps_of(
        (series, _round(ref), row["steps"])
        for series, asset in GENERATORS.items()
        for ref in step.versions(asset)
        for row in step.lake.table(ref).to_pylist()
    )
    measured = [row for asset in BOUNDS.values() for row in step.rows(asset)]
    points = curves.em_curves(measured, step.rows("common_bounds"), steps)
    return step.commit(
        points,
        figure=plot(plots.em_figure(points)),
        bounds=plot(plots.em_curves(points)),
        common_bounds=plot(plots.em_curves(points, "common_bound")),
        bounds_by_pool=plot(plots.pool_curve(points)),
        information=plot(plots.em_curves(points, "information")),
        well_posed=plot(plots.em_curves(points, "well_posed")),
    )


def _round(checkpoint: Ref) -> int:
    return round_number(checkpoint.partition) if checkpoint.partition != UNPARTITIONED else 0
