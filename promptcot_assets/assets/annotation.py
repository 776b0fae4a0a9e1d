"""Concepts and rationales that teachers write on seed problems. In the graph where a profile names annotators."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from promptcot_assets.assets.resources import EngineResource, LakeResource, SettingsResource
from promptcot_assets.assets.teaching import asked_model, role_inputs, role_uses
from promptcot_assets.automation.partitions import ANNOTATORS
from promptcot_assets.settings import Settings
from promptcot_assets.settings.section import Section
from promptcot_assets.stages import annotation, corpus, synthesis
from promptcot_assets.stages.seeds import contents


def annotation_inputs(settings: Settings) -> list[str]:
    """Every annotator's rows, as a step's inputs."""
    return [f"seed_annotations[{role.teacher}]" for role in settings.annotators]


@dg.asset(
    code_version="1",
    deps=[dg.AssetDep("teacher_model", partition_mapping=dg.IdentityPartitionMapping())],
    partitions_def=ANNOTATORS,
    pool="gpu",
)
def seed_annotations(
    context: dg.AssetExecutionContext, lake: LakeResource, engine: EngineResource, settings: SettingsResource
) -> dg.MaterializeResult:
    """What one annotator makes of every seed that lacks concepts or a rationale (method section 2).

    The seeds are read from their sources: `seed_problems` has these concepts already.
    """
    values, name = settings.values, context.partition_key
    (role,) = (one for one in values.annotators if one.teacher == name)
    assert values.annotation
    seeds_only = values.corpus.model_copy(update={"play_files": {}})
    read = contents(seeds_only.sources())
    own = {"sampling": role.sampling.model_dump(), **values.annotation.model_dump(include={"concepts", "shard_rows"})}
    uses: list[Section | Mapping[str, Any]] = [seeds_only, {"contents": read}, own, *role_uses(values, role)]
    step = lake.step(context, "seed_annotations", *role_inputs(values, role), uses=uses)
    if done := step.unchanged():
        return done
    seeds = [row for row in corpus.seed_problems(seeds_only, step.seed)[0] if annotation.lacks(row)]
    count, model_id = values.annotation.concepts, step.model_id("teacher_model")
    with asked_model(step, engine, values, role) as model:
        rows = step.map(
            "concepts and rationales", seeds,
            lambda some: annotation.annotate(some, model, role.sampling, count, name, model_id, step.seed),
            values.annotation.shard_rows,
        )  # fmt: skip
    step.dropped = synthesis.drop_counts(rows)
    return step.commit(rows)
