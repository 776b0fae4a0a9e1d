"""Measuring a pair (q, p): the same measure for the cold start, every EM round and the control."""

from __future__ import annotations

import dagster as dg

from promptcot_assets.assets.resources import EngineResource
from promptcot_assets.assets.step import Step
from promptcot_assets.lake.ids import seed_from
from promptcot_assets.settings.profile import Filters, Reward
from promptcot_assets.stages.em import bounds, loop


def measure(step: Step, engine: EngineResource, q: str, p: str, series: str, round_: int) -> dg.MaterializeResult:
    """Commit rows of `em_bounds`. q, p: the step's inputs that are measured; one of them is loaded at a time."""
    settings = step.settings.em
    sizes, shard = settings.held_out, settings.shard_rows
    every = [row for row in step.rows("seed_problems") if row["split"] in ("train", "held_out")]
    seeds = bounds.measured_seeds(every, sizes.training_seeds)
    swapped = bounds.of_another_problem(seeds, every) if sizes.others else []
    # log q is a bound's proposal density only where q is sampled as it is, so never tempered or truncated
    plain = settings.sampling.model_copy(update={"temperature": 1.0, "top_p": 1.0})
    with engine.load(step, q) as rationale_model:
        proposed = step.map(
            "propose rationales", seeds,
            lambda rows: loop.propose(rows, rationale_model, plain, sizes.proposals, Filters(), step.seed), shard,
        )  # fmt: skip
        other = step.map(
            "propose rationales for other problems", swapped,
            lambda rows: loop.propose(
                rows, rationale_model, plain, sizes.others, Filters(), seed_from(step.seed, "other")
            ),
            shard,
        )  # fmt: skip
    with engine.load(step, p) as generator:
        judged = step.map(
            "score them", proposed, lambda rows: loop.judge(rows, generator, Reward()), shard * sizes.proposals
        )
        under_other = step.map(
            "score problems under other rationales", bounds.back_to_their_own(list(other), seeds),
            lambda rows: loop.judge(rows, generator, Reward()), shard * max(1, sizes.others),
        )  # fmt: skip
        alone = step.map("score problems alone", seeds, lambda rows: bounds.without_rationale(rows, generator), shard)
        written = step.map(
            "write fresh problems", seeds,
            lambda rows: bounds.fresh_samples(rows, generator, settings.problem_sampling, sizes.samples, step.seed),
            shard,
        )  # fmt: skip
    rows = bounds.bound_rows(
        bounds.bounds(list(judged), sizes.proposals),
        [*alone, *written, *bounds.under_other_rationales(list(under_other), swapped)],
        {row["problem_id"]: row["split"] for row in seeds},
        sizes.samples,
        {
            "series": series,
            "round": round_,
            "rationale_model": step.model_id(q),
            "problem_generator": step.model_id(p),
        },
    )
    return step.commit(rows, **bounds.summary(rows))
