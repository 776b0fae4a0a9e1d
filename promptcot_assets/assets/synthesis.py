"""From the last round's generator to a clean problem set, one synthesis batch at a time."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence

import dagster as dg
import numpy as np

from promptcot_assets.assets.em import refuse_stopped
from promptcot_assets.assets.embedding import embedder, embedder_inputs, embedder_version, last_generator
from promptcot_assets.assets.fingerprint import Used
from promptcot_assets.assets.inputs import split
from promptcot_assets.assets.partitions import last_round, round_number
from promptcot_assets.assets.resources import EngineResource
from promptcot_assets.assets.step import Step, all_unchanged
from promptcot_assets.assets.table_asset import Result, Results, joint_assets, joint_part, table_asset
from promptcot_assets.assets.tuning import refuse_narrowed, writer
from promptcot_assets.lake import Ref, RowStream
from promptcot_assets.settings import Settings
from promptcot_assets.settings.machine import cores
from promptcot_assets.settings.profile import Focus
from promptcot_assets.stages.synthesis import focus, problem_set, writing


def _focus(settings: Settings, batch: str) -> list[Focus]:
    return [settings.synthesis.focus[batch]] if batch in settings.synthesis.focus else []


def _samples_concepts(settings: Settings) -> bool:
    """Whether concepts are drawn by the sampler, which compares them by what embeds them."""
    return bool(writing.sampled_domains(settings.synthesis))


@table_asset(
    "2",
    inputs=lambda settings: ["seed_problems", "concept_corpus", last_generator(settings)],
    reads=lambda settings, batch: [
        "seed_problems", "concept_corpus", *(embedder_inputs(settings) if _samples_concepts(settings) else []),
        *(f"self_play_gate[{one.student}]" for one in _focus(settings, batch)),
    ],
    uses=lambda settings, batch: [
        settings.synthesis.concept_set_uses(),
        *_focus(settings, batch),
        *([embedder_version(settings.synthesis.embedding)] if _samples_concepts(settings) else []),
    ],
    asks=(),
    pool="gpu",
)  # fmt: skip
def concept_sets(step: Step, engine: EngineResource) -> Result:
    """Concept sets to write problems on, drawn by frequency, co-occurrence and similarity (method section 4).

    A batch with a `synthesis.focus` draws the concepts more often that its student stably fails on held-out problems.
    Their verdicts are an input and no edge of the graph, where it would be a circle.
    """
    values = step.settings.synthesis
    embeddings: dict[str, dict[str, np.ndarray]] = {}
    if drawn_by_sampler := writing.sampled_domains(values):
        concepts = [row for row in step.rows("concept_corpus") if row["domain"] in drawn_by_sampler]
        with embedder(step, engine, values.embedding) as model:
            embeddings = writing.concept_embeddings(concepts, model)
    seeds = step.rows("seed_problems")
    failed = _failures(step)
    favour = focus.weights(failed, values.focus[step.partition].strength) if failed else None
    rows = writing.concept_sets(seeds, embeddings, values, step.partition, step.seed, favour)
    step.dropped = writing.without_concepts(rows, values)
    told = (
        {"stably_failed": [f"{one.domain}: {one.concept}" for one in failed]}
        if _focus(step.settings, step.partition)
        else {}
    )
    return step.commit(rows, levels=writing.level_counts(rows), shortened_to=writing.shortened(seeds, values), **told)


def _failures(step: Step) -> list[focus.Failure]:
    """What the student of the batch's focus stably fails, by the problems that its gate was made from."""
    gates = [ref for name, refs in step.refs.items() if name.startswith("self_play_gate[") for ref in refs]
    if not gates:
        return []
    made_from = [ref for gate in gates for ref in step.lake.commit_of(gate).provenance.inputs]
    concepts = {
        row["problem_id"]: row["concepts"]
        for ref in made_from if ref.asset == "problems"
        for row in step.lake.table(ref, ["problem_id", "concepts"]).to_pylist()
    }  # fmt: skip
    return focus.stable_failures((row for gate in gates for row in step.lake.table(gate).to_pylist()), concepts)


@table_asset(
    inputs=lambda settings: ["concept_sets", last_generator(settings)],
    reads=lambda settings, batch: ["concept_sets", writer(settings, batch)],
    uses=lambda settings, _: [settings.synthesis.writing_uses()],
    pool="gpu",
)
def raw_problems(step: Step, engine: EngineResource) -> Result:
    """Problems as the generator wrote them, one row a completion, parsed or with the reason why not."""
    values = step.settings.synthesis
    refuse_stopped(step.lake, step.settings.em, step.asset, round_number(last_round(step.settings)))
    if student := values.written_by.get(step.partition):
        refuse_narrowed(step, student)
    asset, _ = split(writer(step.settings, step.partition))
    model = step.model_id(asset)
    with engine.load(step, asset) as p:
        rows = step.map(
            f"write {values.problems_per_set} problems a concept set", step.rows("concept_sets"),
            lambda sets: writing.synthesize(sets, p, values, model, step.seed), values.shard_rows,
        )  # fmt: skip
    step.dropped = writing.drop_counts(rows)
    return step.commit(rows, **writing.well_posed_rates(rows))


def _problem_set_inputs(_: Settings) -> Sequence[str]:
    return ["raw_problems", "seed_problems", "benchmark_items"]


def _problem_set_uses(settings: Settings, _: str) -> list[Used]:
    return [settings.deduplication, embedder_version(settings.deduplication.semantic)]


KEPT = "Unique, uncontaminated, askable problems of the batch."
DROPPED = "Every parsed problem that fell, with its reason and evidence."
problems, dropped_problems = (
    joint_part(name, says, "3", _problem_set_inputs, _problem_set_uses, ("engine",), "deduplication")
    for name, says in (("problems", KEPT), ("dropped_problems", DROPPED))
)


@joint_assets(problems, dropped_problems)
def problem_sets(context: dg.AssetExecutionContext) -> Results:
    """Drop what cannot be asked, decontaminate, deduplicate against seeds and earlier batches.

    Batches are compared in the order of their first commit; the pool lets one batch at a time through. What earlier
    batches kept is an input of exact version, not an edge of the graph; the index of each is kept in the lake.
    """
    batches = context.resources.lake.earlier_batches("problems", context.partition_key)
    earlier = [f"problems[{batch}]" for batch in batches]
    kept, dropped = (asset.begin(context, more=earlier) for asset in (problems, dropped_problems))
    if done := all_unchanged(kept, dropped):
        yield from done
        return
    with contextlib.ExitStack() as open_models:
        encoder = _encoder(kept, context.resources.engine, open_models)
        fates = _settle(kept, [ref for name in ("seed_problems", *earlier) for ref in kept.refs[name]], encoder)
    kept.dropped = dropped.dropped = Counter(fates.dropped["reason"].to_pylist())
    tables = problem_set.kept_rows(kept.lake.batches(kept.version("raw_problems")), fates.kept)
    yield kept.commit(row for table in tables for row in table.to_pylist())
    yield dropped.commit(RowStream.of(fates.dropped))


def _encoder(step: Step, engine: EngineResource, open_models: contextlib.ExitStack) -> problem_set.Encoder | None:
    semantic = step.settings.deduplication.semantic
    if semantic is None:
        return None
    model = open_models.enter_context(embedder(step, engine, semantic))
    return problem_set.Encoder(model.embed, str(embedder_version(semantic)))


def _settle(step: Step, former: list[Ref], encoder: problem_set.Encoder | None) -> problem_set.Fates:
    """What becomes of every parsed problem. former: versions that hold what problems may repeat."""
    values, threads = step.settings.deduplication, cores()
    return problem_set.settle(
        step.lake.batches(step.version("raw_problems"), problem_set.READ),
        problem_set.published(step.lake, former, values, threads, encoder),
        step.rows_of("benchmark_items"),
        values,
        step.lake.spool("problems", step.partition, step.provenance.fingerprint).folder,
        threads,
        encoder,
    )
