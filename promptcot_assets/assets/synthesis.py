"""From the last round's generator to a clean problem set, one synthesis batch at a time."""

from collections.abc import Iterator

import dagster as dg
import numpy as np

from promptcot_assets.assets.resources import EngineResource, LakeResource, SettingsResource
from promptcot_assets.automation.partitions import BATCHES, LAST_ROUND, ONLY_LAST_ROUND
from promptcot_assets.stages import problem_set, synthesis


@dg.asset(
    code_version="1",
    deps=["seed_problems", "concept_corpus", dg.AssetDep("problem_generator", partition_mapping=ONLY_LAST_ROUND)],
    partitions_def=BATCHES,
    pool="gpu",
)
def concept_sets(
    context: dg.AssetExecutionContext, lake: LakeResource, engine: EngineResource, settings: SettingsResource
) -> dg.MaterializeResult:
    """Concept sets to write problems on, drawn by frequency, co-occurrence and similarity (method section 4)."""
    values = settings.values.synthesis
    drawn_by_sampler = synthesis.sampled_domains(values)
    inputs = ["seed_problems", "concept_corpus"]
    if drawn_by_sampler:  # the sampler compares concepts by the generator's own embeddings
        inputs.append(f"problem_generator[{LAST_ROUND}]")
    step = lake.step(context, "concept_sets", *inputs, uses=[values])
    if done := step.unchanged():
        return done
    embeddings: dict[str, dict[str, np.ndarray]] = {}
    if drawn_by_sampler:
        concepts = [row for row in step.rows("concept_corpus") if row["domain"] in drawn_by_sampler]
        with engine.load(step, "problem_generator") as model:
            embeddings = synthesis.concept_embeddings(concepts, model)
    return step.commit(
        synthesis.concept_sets(step.rows("seed_problems"), embeddings, values, step.partition, step.seed)
    )


@dg.asset(
    code_version="1",
    deps=["concept_sets", dg.AssetDep("problem_generator", partition_mapping=ONLY_LAST_ROUND)],
    partitions_def=BATCHES,
    pool="gpu",
)
def raw_problems(
    context: dg.AssetExecutionContext, lake: LakeResource, engine: EngineResource, settings: SettingsResource
) -> dg.MaterializeResult:
    """Problems as the generator wrote them, one row a completion, parsed or with the reason why not."""
    values = settings.values
    generator = f"problem_generator[{LAST_ROUND}]"
    step = lake.step(
        context,
        "raw_problems",
        f"concept_sets[{context.partition_key}]",
        generator,
        uses=[values.synthesis, values.engine],
    )
    if done := step.unchanged():
        return done
    model = step.model_id("problem_generator")
    with engine.load(step, "problem_generator") as writer:
        rows = step.map(
            f"write {values.synthesis.problems_per_set} problems a concept set", step.rows("concept_sets"),
            lambda sets: synthesis.synthesize(sets, writer, values.synthesis, model, step.seed),
            values.synthesis.shard_rows,
        )  # fmt: skip
    step.dropped = synthesis.drop_counts(rows)
    return step.commit(rows, **synthesis.well_posed_rates(rows))


PROBLEM_DEPS = ["raw_problems", "seed_problems", "benchmark_items"]
KEPT = "Unique, uncontaminated, askable problems of the batch."
DROPPED = "Every parsed problem that fell, with its reason and evidence."


@dg.multi_asset(
    specs=[
        dg.AssetSpec("problems", code_version="2", description=KEPT, deps=PROBLEM_DEPS),
        dg.AssetSpec("dropped_problems", code_version="2", description=DROPPED, deps=PROBLEM_DEPS),
    ],
    partitions_def=BATCHES,
    pool="deduplication",
)
def problem_sets(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: SettingsResource
) -> Iterator[dg.MaterializeResult]:
    """Deduplicate against seeds and earlier batches, decontaminate, drop what cannot be asked.

    Batches are compared in the order of their first commit; the pool lets one batch at a time through. What earlier
    batches kept is an input of exact version, not an edge of the graph.
    """
    values = settings.values
    raw = f"raw_problems[{context.partition_key}]"
    earlier = [f"problems[{batch}]" for batch in lake.earlier_batches("problems", context.partition_key)]
    inputs = [raw, "seed_problems", "benchmark_items", *earlier]
    kept_step, dropped_step = (
        lake.step(context, name, *inputs, uses=[values.deduplication]) for name in ("problems", "dropped_problems")
    )
    done = [step.unchanged() for step in (kept_step, dropped_step)]
    if done[0] and done[1]:
        yield from (result for result in done if result)
        return
    former = [row for name in ("seed_problems", *earlier) for row in kept_step.rows_of(name)]
    kept, dropped = problem_set.assemble(
        kept_step.rows_of(raw), former, kept_step.rows_of("benchmark_items"), values.deduplication
    )
    kept_step.dropped = dropped_step.dropped = synthesis.drop_counts(dropped, "reason")
    yield kept_step.commit(kept)
    yield dropped_step.commit(dropped)
