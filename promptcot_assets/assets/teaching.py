"""The teacher that labels and distils: procedural, or the first student's base model behind the profile's engine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import dagster as dg

from promptcot_assets.assets.resources import EngineResource, Step
from promptcot_assets.automation.partitions import PROFILE
from promptcot_assets.settings import Settings
from promptcot_assets.stages.teacher import ModelTeacher, ProceduralTeacher, Teacher


def teacher_inputs(settings: Settings) -> list[str]:
    """The checkpoint a model teacher is loaded from, as a step's input."""
    return [f"student_base[{min(settings.students)}]"] if settings.labels.teacher == "base_model" else []


TEACHER_DEPS = (
    [dg.AssetDep("student_base", partition_mapping=dg.SpecificPartitionsPartitionMapping([min(PROFILE.students)]))]
    if PROFILE.labels.teacher == "base_model"
    else []
)


@contextlib.contextmanager
def teacher(step: Step, engine: EngineResource, settings: Settings) -> Iterator[Teacher]:
    if settings.labels.teacher == "procedural":
        yield ProceduralTeacher(settings.corpus)
    else:
        with engine.load(step, "student_base") as model:
            yield ModelTeacher(model, settings.labels.sampling, step.model_id("student_base"))
