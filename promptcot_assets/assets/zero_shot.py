"""How hard a batch is for a model that was never trained here. In the graph where a profile has `zero_shot`."""

import dagster as dg

from promptcot_assets.assets.resources import EngineResource, LakeResource, SettingsResource
from promptcot_assets.assets.teaching import asked_model, role_deps, role_inputs, role_uses
from promptcot_assets.automation.partitions import BATCHES, PROFILE
from promptcot_assets.stages import synthesis, zero_shot
from promptcot_assets.stages.verification import Verifier

ROLES = (PROFILE.zero_shot.reference, PROFILE.zero_shot.solver) if PROFILE.zero_shot else ()


@dg.asset(code_version="1", deps=["problems", *role_deps(*ROLES)], partitions_def=BATCHES, pool="gpu")
def zero_shot_difficulty(
    context: dg.AssetExecutionContext, lake: LakeResource, engine: EngineResource, settings: SettingsResource
) -> dg.MaterializeResult:
    """A sample of the batch's maths problems, answered by a reference model and by a solver that is held against it."""
    values = settings.values
    assert values.zero_shot
    asked, reference, solver = values.zero_shot, values.zero_shot.reference, values.zero_shot.solver
    inputs = dict.fromkeys([*role_inputs(values, reference), *role_inputs(values, solver)])
    uses = [asked, values.sandbox, *role_uses(values, reference), *role_uses(values, solver)]
    batch = f"problems[{context.partition_key}]"
    step = lake.step(context, "zero_shot_difficulty", batch, *inputs, uses=uses)
    if done := step.unchanged():
        return done
    problems = zero_shot.sampled(step.rows("problems"), asked.problems)
    names = {
        role.teacher: step.model_id(step.refs[f"teacher_model[{role.teacher}]"][0]) for role in (reference, solver)
    }
    with asked_model(step, engine, values, reference) as model:
        known = step.map(
            "reference answers", problems,
            lambda some: zero_shot.references(some, model, reference.sampling, names[reference.teacher], step.seed),
            asked.shard_rows,
        )  # fmt: skip
    with asked_model(step, engine, values, solver) as model, Verifier.open(values.sandbox) as verifier:
        rows = step.map(
            "zero-shot answers", known,
            lambda some: zero_shot.solved(some, model, solver.sampling, verifier, names[solver.teacher], step.seed),
            asked.shard_rows,
        )  # fmt: skip
    step.dropped = synthesis.drop_counts(rows)
    return step.commit(rows, **zero_shot.summary(list(rows)))
