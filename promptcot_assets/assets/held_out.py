"""Measuring a pair (q, p) on held-out seeds: the same measure for the cold start, every EM round and the control."""

from __future__ import annotations

from promptcot_assets.assets.resources import EngineResource, Step
from promptcot_assets.settings.profile import ExpectationMaximisation
from promptcot_assets.stages import Row, em


def measure(
    step: Step, engine: EngineResource, settings: ExpectationMaximisation, q: str, p: str, series: str, round_: int
) -> list[Row]:
    """Rows of `em_bounds`. q, p: the step's inputs that are measured; one of them is loaded at a time."""
    held_out = [row for row in step.rows("seed_problems") if row["split"] == "held_out" and row["concepts"]]
    sizes, shard = settings.held_out, settings.shard_rows
    # log q is a bound's proposal density only where q is sampled as it is, so never tempered or truncated
    plain = settings.sampling.model_copy(update={"temperature": 1.0, "top_p": 1.0})
    with engine.load(step, q) as rationale_model:
        proposed = step.map(
            "propose rationales for held-out problems", held_out,
            lambda rows: em.propose(rows, rationale_model, plain, sizes.proposals, step.seed), shard,
        )  # fmt: skip
    with engine.load(step, p) as generator:
        judged = step.map("score them", proposed, lambda rows: em.judge(rows, generator), shard * sizes.proposals)
        written = step.map(
            "write fresh problems", held_out,
            lambda rows: em.fresh_samples(rows, generator, settings.problem_sampling, sizes.samples, step.seed), shard,
        )  # fmt: skip
    measured = em.bounds(judged, sizes.proposals)
    return em.bound_rows(measured, written, sizes.samples, series, round_, step.model_id(q), step.model_id(p))
