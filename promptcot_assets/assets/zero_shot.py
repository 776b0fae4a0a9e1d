"""How hard a batch is for a model that was never trained here. In the graph where a profile has `zero_shot`."""

from __future__ import annotations

from promptcot_assets.assets.fingerprint import Used
from promptcot_assets.assets.resources import EngineResource, SandboxResource
from promptcot_assets.assets.step import Step
from promptcot_assets.assets.table_asset import Result, table_asset
from promptcot_assets.assets.teaching import asked_model, role_inputs, teacher_input
from promptcot_assets.settings import Settings
from promptcot_assets.stages.analysis import zero_shot
from promptcot_assets.stages.synthesis import writing


def _inputs(settings: Settings) -> list[str]:
    asked = settings.zero_shot
    return ["problems", *(role_inputs(settings, asked.reference, asked.solver) if asked else [])]


def _uses(settings: Settings, _: str) -> list[Used]:
    return [settings.zero_shot] if settings.zero_shot else []


@table_asset("2", inputs=_inputs, uses=_uses, asks=("solve",), pool="gpu", when=lambda settings: settings.zero_shot)
def zero_shot_difficulty(step: Step, engine: EngineResource, sandbox: SandboxResource) -> Result:
    """A sample of the batch's maths problems, answered by a reference model and by a solver that is held against it."""
    asked = step.settings.zero_shot
    assert asked
    reference, solver = asked.reference, asked.solver
    problems = zero_shot.sampled(step.rows("problems"), asked.problems)
    names = {role.teacher: step.model_id(step.refs[teacher_input(role)][0]) for role in (reference, solver)}
    with asked_model(step, engine, reference) as model:
        known = step.map(
            "reference answers", problems,
            lambda some: zero_shot.references(some, model, reference.sampling, names[reference.teacher], step.seed),
            asked.shard_rows,
        )  # fmt: skip
    with asked_model(step, engine, solver) as model, sandbox.open() as (verifier, _):
        rows = step.map(
            "zero-shot answers", known,
            lambda some: zero_shot.solved(some, model, solver.sampling, verifier, names[solver.teacher], step.seed),
            asked.shard_rows,
        )  # fmt: skip
    step.dropped = writing.drop_counts(rows)
    return step.commit(rows, **zero_shot.summary(list(rows)))
