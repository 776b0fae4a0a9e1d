"""Who labels, annotates and distils: a teacher of the profile, a procedure, or the first student's base model."""

import contextlib
from collections.abc import Iterator

import dagster as dg

from promptcot_assets.assets.resources import EngineResource, LakeResource, SettingsResource, Step
from promptcot_assets.automation.partitions import PROFILE, TEACHERS
from promptcot_assets.inference import InferenceEngine
from promptcot_assets.settings import Settings
from promptcot_assets.settings.profile import Asked
from promptcot_assets.settings.section import Section
from promptcot_assets.stages import base_models
from promptcot_assets.stages.teacher import ModelTeacher, ProceduralTeacher, Teacher


@dg.asset(code_version="1", partitions_def=TEACHERS)
def teacher_model(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: SettingsResource
) -> dg.MaterializeResult:
    """A model that is asked and never trained: a pinned hub checkpoint; without weights where a server runs it."""
    values, name = settings.values, context.partition_key
    model, engine = values.teachers[name].model, values.engine_of(name)
    weights = not (engine.name == "server" and engine.server.urls)
    step = lake.step(context, "teacher_model", uses=[model, {"weights": weights}])
    if done := step.unchanged():
        return done
    folder = step.work_folder() / "model"
    if model.hub_id and not folder.exists():
        base_models.from_hub(model.hub_id, model.revision, folder, weights)
    return step.commit_checkpoint(folder, model.hub_id, {})


# ---- a role: None is what labels.teacher names
def role_inputs(settings: Settings, role: Asked | None) -> list[str]:
    """The checkpoint that a role's teacher is loaded from, as a step's input."""
    if role:
        return [f"teacher_model[{role.teacher}]"]
    return [f"student_base[{min(settings.students)}]"] if settings.labels.teacher == "base_model" else []


def role_deps(*roles: Asked | None) -> list[dg.AssetDep]:
    """The same as dependencies, for the profile of this process."""
    needed: dict[str, set[str]] = {}
    for role in roles:
        for name in role_inputs(PROFILE, role):
            asset, _, partition = name.rstrip("]").partition("[")
            needed.setdefault(asset, set()).add(partition)
    return [
        dg.AssetDep(asset, partition_mapping=dg.SpecificPartitionsPartitionMapping(sorted(partitions)))
        for asset, partitions in needed.items()
    ]


def role_uses(settings: Settings, role: Asked | None) -> list[Section]:
    """What a role's answers depend on, besides the role and the checkpoint: how it is put to the model, and the engine.

    Without a teacher nothing is said of the engine: so it was before there were teachers, and fingerprints stay.
    """
    if role:
        chat = settings.teachers[role.teacher].chat
        return [*([chat] if chat else []), settings.engine_of(role.teacher)]
    chat = settings.students[min(settings.students)].chat if settings.labels.teacher == "base_model" else None
    return [chat] if chat else []


@contextlib.contextmanager
def asked_model(step: Step, engine: EngineResource, settings: Settings, role: Asked) -> Iterator[InferenceEngine]:
    """The model of a role's teacher, behind its own engine and chat template."""
    teacher = settings.teachers[role.teacher]
    (ref,) = step.refs[f"teacher_model[{role.teacher}]"]
    with engine.load(step, ref, teacher.chat, settings.engine_of(role.teacher)) as model:
        yield model


@contextlib.contextmanager
def teacher(step: Step, engine: EngineResource, settings: Settings, role: Asked | None) -> Iterator[Teacher]:
    if role:
        (ref,) = step.refs[f"teacher_model[{role.teacher}]"]
        with asked_model(step, engine, settings, role) as model:
            yield ModelTeacher(model, role.sampling, step.model_id(ref))
    elif settings.labels.teacher == "procedural":
        yield ProceduralTeacher(settings.corpus)
    else:
        with engine.load(step, "student_base", settings.students[min(settings.students)].chat) as model:
            yield ModelTeacher(model, settings.labels.sampling, step.model_id("student_base"))
