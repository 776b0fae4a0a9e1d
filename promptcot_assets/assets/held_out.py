"""Measuring a pair (q, p): the same measure for the cold start, every EM round and the control."""

from __future__ import annotations

import dagster as dg

from promptcot_assets.assets.resources import EngineResource, Step
from promptcot_assets.settings.profile import ExpectationMaximisation, Filters, Reward
from promptcot_assets.stages import em, em_bounds


def measure(
    step: Step, engine: EngineResource, settings: ExpectationMaximisation, q: str, p: str, series: str, round_: int
) -> dg.MaterializeResult:
    """Commit rows of `em_bounds`. q, p: the step's inputs that are measured; one of them is loaded at a time."""
    sizes, shard = settings.held_out, settings.shard_rows
    seeds = em_bounds.measured_seeds(step.rows("seed_problems"), sizes.training_seeds)
    # log q is a bound's proposal density only where q is sampled as it is, so never tempered or truncated
    plain = settings.sampling.model_copy(update={"temperature": 1.0, "top_p": 1.0})
    with engine.load(step, q) as rationale_model:
        proposed = step.map(
            "propose rationales", seeds,
            lambda rows: em.propose(rows, rationale_model, plain, sizes.proposals, Filters(), step.seed), shard,
        )  # fmt: skip
    with engine.load(step, p) as generator:
        judged = step.map(
            "score them", proposed, lambda rows: em.judge(rows, generator, Reward()), shard * sizes.proposals
        )
        alone = step.map(
            "score problems alone", seeds, lambda rows: em_bounds.without_rationale(rows, generator), shard
        )
        written = step.map(
            "write fresh problems", seeds,
            lambda rows: em_bounds.fresh_samples(rows, generator, settings.problem_sampling, sizes.samples, step.seed),
            shard,
        )  # fmt: skip
    rows = em_bounds.bound_rows(
        em_bounds.bounds(list(judged), sizes.proposals),
        [*alone, *written],
        {row["problem_id"]: row["split"] for row in seeds},
        sizes.samples,
        {
            "series": series,
            "round": round_,
            "rationale_model": step.model_id(q),
            "problem_generator": step.model_id(p),
        },
    )
    return step.commit(rows, **em_bounds.summary(rows))
