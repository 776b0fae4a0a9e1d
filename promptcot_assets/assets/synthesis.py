"""From the last round's generator to a clean problem set, one synthesis batch at a time."""

import contextlib
import os
from collections import Counter
from collections.abc import Iterator

import dagster as dg
import numpy as np

from promptcot_assets.assets.em import refuse_stopped
from promptcot_assets.assets.embedding import embedder, embedder_inputs, embedder_version
from promptcot_assets.assets.resources import EngineResource, LakeResource, SettingsResource
from promptcot_assets.automation.partitions import BATCHES, LAST_ROUND, ONLY_LAST_ROUND, round_number
from promptcot_assets.lake import RowStream
from promptcot_assets.stages import problem_set, synthesis


@dg.asset(
    code_version="2",
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
    inputs, uses = ["seed_problems", "concept_corpus"], [values.concept_set_uses()]
    if drawn_by_sampler:  # concepts are compared by what embeds them
        inputs += embedder_inputs(values.embedding)
        uses.append(embedder_version(values.embedding))
    step = lake.step(context, "concept_sets", *inputs, uses=uses)
    if done := step.unchanged():
        return done
    embeddings: dict[str, dict[str, np.ndarray]] = {}
    if drawn_by_sampler:
        concepts = [row for row in step.rows("concept_corpus") if row["domain"] in drawn_by_sampler]
        with embedder(step, engine, values.embedding) as model:
            embeddings = synthesis.concept_embeddings(concepts, model)
    rows = synthesis.concept_sets(step.rows("seed_problems"), embeddings, values, step.partition, step.seed)
    return step.commit(rows, levels=synthesis.level_counts(rows))


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
        uses=[values.synthesis.writing_uses(), values.engine],
    )
    if done := step.unchanged():
        return done
    refuse_stopped(lake, values.em.gate, step.asset, round_number(LAST_ROUND))
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
        dg.AssetSpec("problems", code_version="3", description=KEPT, deps=PROBLEM_DEPS),
        dg.AssetSpec("dropped_problems", code_version="3", description=DROPPED, deps=PROBLEM_DEPS),
    ],
    partitions_def=BATCHES,
    pool="deduplication",
)
def problem_sets(
    context: dg.AssetExecutionContext, lake: LakeResource, engine: EngineResource, settings: SettingsResource
) -> Iterator[dg.MaterializeResult]:
    """Drop what cannot be asked, decontaminate, deduplicate against seeds and earlier batches.

    Batches are compared in the order of their first commit; the pool lets one batch at a time through. What earlier
    batches kept is an input of exact version, not an edge of the graph; the index of each is kept in the lake.
    """
    values = settings.values.deduplication
    raw = f"raw_problems[{context.partition_key}]"
    earlier = [f"problems[{batch}]" for batch in lake.earlier_batches("problems", context.partition_key)]
    inputs = [raw, "seed_problems", "benchmark_items", *earlier]
    kept_step, dropped_step = (
        lake.step(context, name, *inputs, uses=[values, embedder_version(values.semantic)])
        for name in ("problems", "dropped_problems")
    )
    done = [step.unchanged() for step in (kept_step, dropped_step)]
    if done[0] and done[1]:
        yield from (result for result in done if result)
        return
    (read,) = kept_step.refs[raw]
    former = [ref for name in ("seed_problems", *earlier) for ref in kept_step.refs[name]]
    threads = os.cpu_count() or 1
    with contextlib.ExitStack() as open_models:
        encoder = None
        if values.semantic:
            model = open_models.enter_context(embedder(kept_step, engine, values.semantic))
            encoder = problem_set.Encoder(model.embed, str(embedder_version(values.semantic)))
        fates = problem_set.settle(
            kept_step.lake.batches(read, problem_set.READ),
            problem_set.published(kept_step.lake, former, values, threads, encoder),
            kept_step.rows_of("benchmark_items"),
            values,
            kept_step.lake.spool("problems", kept_step.partition, kept_step.provenance.fingerprint).folder,
            threads,
            encoder,
        )
    kept = problem_set.kept_rows(kept_step.lake.batches(read), fates.kept)
    kept_step.dropped = dropped_step.dropped = Counter(fates.dropped["reason"].to_pylist())
    yield kept_step.commit(row for table in kept for row in table.to_pylist())
    yield dropped_step.commit(RowStream.of(fates.dropped))
