"""Concepts and rationales that teachers write on seed problems. In the graph where a profile names annotators."""

from __future__ import annotations

from collections.abc import Iterable

from promptcot_assets.assets.fingerprint import Used
from promptcot_assets.assets.resources import EngineResource
from promptcot_assets.assets.step import Step
from promptcot_assets.assets.table_asset import Result, table_asset
from promptcot_assets.assets.teaching import asked_model
from promptcot_assets.settings import Settings
from promptcot_assets.settings.profile import Asked, Corpus
from promptcot_assets.stages.corpus import annotation, seed_tables
from promptcot_assets.stages.corpus.sources import contents
from promptcot_assets.stages.synthesis import writing


def annotation_inputs(settings: Settings) -> list[str]:
    """Every annotator's rows, as inputs."""
    return [f"seed_annotations[{role.teacher}]" for role in settings.annotators]


def _role(settings: Settings, annotator: str) -> Asked:
    (role,) = (one for one in settings.annotators if one.teacher == annotator)
    return role


def _seeds_only(corpus: Corpus) -> Corpus:
    return corpus.model_copy(update={"play_files": {}})


def _uses(settings: Settings, annotator: str) -> Iterable[Used]:
    assert settings.annotation
    seeds = _seeds_only(settings.corpus)
    own = settings.annotation.part("concepts", "shard_rows")
    return [seeds, {"contents": contents(seeds.sources())}, own, _role(settings, annotator).sampling]


@table_asset(
    inputs=lambda _: ["teacher_model[=]"],
    code_version="2",
    uses=_uses,
    asks=("annotation",),
    pool="gpu",
    when=lambda settings: settings.annotation,
)
def seed_annotations(step: Step, engine: EngineResource) -> Result:
    """What one annotator makes of every seed that lacks concepts or a rationale (method section 2).

    The seeds are read from their sources: `seed_problems` has these concepts already.
    """
    asked, name = step.settings.annotation, step.partition
    assert asked
    role, model_id = _role(step.settings, name), step.model_id("teacher_model")
    every, _ = seed_tables.seed_problems(_seeds_only(step.settings.corpus), step.seed)
    with asked_model(step, engine, role) as model:
        rows = step.map(
            "concepts and rationales", [row for row in every if annotation.lacks(row)],
            lambda some: annotation.annotate(some, model, role.sampling, asked.concepts, name, model_id, step.seed),
            asked.shard_rows,
        )  # fmt: skip
    step.dropped = writing.drop_counts(rows)
    return step.commit(rows)
