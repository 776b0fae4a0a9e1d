"""Seed problems, their concepts, and the annotated triples (concepts, rationale, problem)."""

import dagster as dg

from promptcot_assets.assets.annotation import annotation_inputs
from promptcot_assets.assets.resources import LakeResource, SettingsResource
from promptcot_assets.automation.partitions import PROFILE
from promptcot_assets.stages import annotation, corpus
from promptcot_assets.stages.seeds import contents

ANNOTATIONS = ["seed_annotations"] if PROFILE.annotation else []  # all of them


@dg.asset(code_version="1", deps=ANNOTATIONS)
def seed_problems(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: SettingsResource
) -> dg.MaterializeResult:
    """Human or procedural problems with what their source knows: answer, solution, tests, concepts, rationale."""
    values = settings.values.corpus
    read = contents(values.sources())
    inputs = annotation_inputs(settings.values)
    step = lake.step(context, "seed_problems", *inputs, uses=[values, {"contents": read}])
    if done := step.unchanged():
        return done
    rows, step.dropped = corpus.seed_problems(values, step.seed)
    if inputs:
        rows = annotation.annotated_seeds(rows, [row for name in inputs for row in step.rows_of(name)])
    return step.commit(rows)


@dg.asset(code_version="1", deps=["seed_problems"])
def concept_corpus(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
    """Concepts of the training seeds with their frequencies: the sampler's unigram distribution."""
    step = lake.step(context, "concept_corpus", "seed_problems")
    if done := step.unchanged():
        return done
    return step.commit(corpus.concept_corpus(step.rows("seed_problems")))


@dg.asset(code_version="1", deps=["seed_problems", *ANNOTATIONS])
def seed_triples(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: SettingsResource
) -> dg.MaterializeResult:
    """Concepts, rationale and problem of every annotated training seed: what the cold start learns from."""
    inputs = annotation_inputs(settings.values)
    step = lake.step(context, "seed_triples", "seed_problems", *inputs)
    if done := step.unchanged():
        return done
    seeds = step.rows("seed_problems")
    if not inputs:
        rows, step.dropped = corpus.seed_triples(seeds)
    else:
        whole, step.dropped = annotation.annotated_triples(
            seeds, [row for name in inputs for row in step.rows_of(name)]
        )
        rows, _ = corpus.seed_triples(whole)
    return step.commit(rows)
