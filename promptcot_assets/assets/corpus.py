"""Seed problems, their concepts, and the annotated triples (concepts, rationale, problem)."""

import dagster as dg

from promptcot_assets.assets.resources import LakeResource, SettingsResource
from promptcot_assets.stages import corpus
from promptcot_assets.stages.seeds import contents


@dg.asset(code_version="1")
def seed_problems(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: SettingsResource
) -> dg.MaterializeResult:
    """Human or procedural problems with what their source knows: answer, solution, tests, concepts, rationale."""
    values = settings.values.corpus
    read = contents(source for sources in values.files.values() for source in sources)
    step = lake.step(context, "seed_problems", uses=[values, {"contents": read}])
    if done := step.unchanged():
        return done
    rows, step.dropped = corpus.seed_problems(values, step.seed)
    return step.commit(rows)


@dg.asset(code_version="1", deps=["seed_problems"])
def concept_corpus(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
    """Concepts of the training seeds with their frequencies: the sampler's unigram distribution."""
    step = lake.step(context, "concept_corpus", "seed_problems")
    if done := step.unchanged():
        return done
    return step.commit(corpus.concept_corpus(step.rows("seed_problems")))


@dg.asset(code_version="1", deps=["seed_problems"])
def seed_triples(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
    """Concepts, rationale and problem of every annotated training seed: what the cold start learns from."""
    step = lake.step(context, "seed_triples", "seed_problems")
    if done := step.unchanged():
        return done
    rows, step.dropped = corpus.seed_triples(step.rows("seed_problems"))
    return step.commit(rows)
