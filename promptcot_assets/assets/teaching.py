"""Who labels, annotates and distils: a teacher of the profile, a procedure, or the first student's base model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from promptcot_assets.assets.resources import EngineResource
from promptcot_assets.assets.step import Step
from promptcot_assets.assets.table_asset import Result, table_asset
from promptcot_assets.inference import InferenceEngine
from promptcot_assets.inference.chat_api import write_served
from promptcot_assets.settings import Settings
from promptcot_assets.settings.profile import Asked
from promptcot_assets.stages import base_models
from promptcot_assets.stages.labels.teacher import ModelTeacher, ProceduralTeacher, Teacher


@table_asset(
    uses=lambda settings, name: [settings.teachers[name].model, {"weights": settings.has_weights(name)}],
    when=lambda settings: settings.teachers,
)
def teacher_model(step: Step) -> Result:
    """A model that is asked and never trained: a pinned hub checkpoint; without weights where a server runs it, and a
    name where others serve it (`model.served`)."""
    model, folder = step.settings.teachers[step.partition].model, step.work_folder() / "model"
    if model.served and not folder.exists():
        write_served(folder, model.served)
    elif not folder.exists():
        base_models.fetched(model, folder, step.settings.has_weights(step.partition))
    return step.commit_checkpoint(folder, model.origin, {})


# ---- a role: None is what labels.teacher names
def role_inputs(settings: Settings, *roles: Asked | None) -> list[str]:
    """The checkpoints that the roles' teachers are loaded from, as inputs."""
    return list(dict.fromkeys(name for role in roles for name in _role_input(settings, role)))


def _role_input(settings: Settings, role: Asked | None) -> list[str]:
    if role:
        return [teacher_input(role)]
    return [f"student_base[{min(settings.students)}]"] if settings.labels.teacher == "base_model" else []


def teacher_input(role: Asked) -> str:
    return f"teacher_model[{role.teacher}]"


@contextlib.contextmanager
def asked_model(step: Step, engine: EngineResource, role: Asked) -> Iterator[InferenceEngine]:
    """The model of a role's teacher, behind its own engine and chat template."""
    (ref,) = step.refs[teacher_input(role)]
    with engine.load(step, ref) as model:
        yield model


@contextlib.contextmanager
def teacher(step: Step, engine: EngineResource, role: Asked | None) -> Iterator[Teacher]:
    """Whoever answers for the role."""
    labels = step.settings.labels
    if role:
        (ref,) = step.refs[teacher_input(role)]
        with asked_model(step, engine, role) as model:
            yield ModelTeacher(model, role.sampling, step.model_id(ref))
    elif labels.teacher == "procedural":
        yield ProceduralTeacher(step.settings.corpus)
    else:
        with engine.load(step, "student_base") as model:
            yield ModelTeacher(model, labels.sampling, step.model_id("student_base"))
