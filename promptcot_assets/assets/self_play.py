"""The student plays on labelled problems it was not taught, and learns from its own passes and fails."""

import dagster as dg

from promptcot_assets.assets.resources import EngineResource, LakeResource, SettingsResource, TrainerResource
from promptcot_assets.automation.partitions import ALL_BATCHES, STUDENTS
from promptcot_assets.stages import self_play, synthesis
from promptcot_assets.stages.distillation import played_on
from promptcot_assets.stages.verdicts import metered
from promptcot_assets.stages.verification import labelled

PROBLEMS = ("problems[*]", "math_answers[*]", "code_tests[*]")
PROBLEM_DEPS = [dg.AssetDep(one, partition_mapping=ALL_BATCHES) for one in ("problems", "math_answers", "code_tests")]


@dg.asset(code_version="1", deps=["sft_model", *PROBLEM_DEPS], partitions_def=STUDENTS, pool="gpu")
def rollouts(
    context: dg.AssetExecutionContext, lake: LakeResource, engine: EngineResource, settings: SettingsResource
) -> dg.MaterializeResult:
    """The student's attempts at every labelled problem kept out of SFT (method section 6)."""
    values = settings.values
    inputs = (f"sft_model[{context.partition_key}]", *PROBLEMS)
    step = lake.step(context, "rollouts", *inputs, uses=[values.self_play, values.engine])
    if done := step.unchanged():
        return done
    every = labelled(step.rows("problems"), step.rows("math_answers"), step.rows("code_tests"))
    pool = [row for row in every if played_on(row["problem_id"], values.self_play.pool_share)]
    model = step.model_id("sft_model")
    with engine.load(step, "sft_model") as student:
        rows = step.map(
            f"{values.self_play.rollouts} rollouts a problem", pool,
            lambda problems: self_play.rollouts(problems, student, values.self_play, model, step.seed),
            values.self_play.shard_rows,
        )  # fmt: skip
    return step.commit(rows)


@dg.asset(code_version="2", deps=["rollouts", *PROBLEM_DEPS], partitions_def=STUDENTS)
def verdicts(context: dg.AssetExecutionContext, lake: LakeResource, settings: SettingsResource) -> dg.MaterializeResult:
    """Every rollout judged in the sandbox: passed, failed, or an infrastructure failure that is neither."""
    values = settings.values
    step = lake.step(context, "verdicts", f"rollouts[{context.partition_key}]", *PROBLEMS, uses=[values.sandbox])
    if done := step.unchanged():
        return done
    every = labelled(step.rows("problems"), step.rows("math_answers"), step.rows("code_tests"))
    labels = {row["problem_id"]: row for row in every}
    with metered(values.sandbox) as (verifier, sandbox):
        rows = step.map(
            "judge rollouts", step.rows("rollouts"), lambda drawn: self_play.verdicts(drawn, labels, verifier),
            values.self_play.shard_rows * values.self_play.rollouts,
        )  # fmt: skip
    step.dropped = synthesis.drop_counts(rows, "unusable_because")
    passed = [row["passed"] for row in rows if row["passed"] is not None]
    figures = {"pass_rate": sum(passed) / max(1, len(passed)), "system_errors": len(rows) - len(passed)}
    return step.commit(rows, **figures, **sandbox.figures())


@dg.asset(code_version="1", deps=["rollouts", "verdicts"], partitions_def=STUDENTS)
def preference_pairs(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: SettingsResource
) -> dg.MaterializeResult:
    """A usable pass and a usable fail of the same problem, each completion used once."""
    name, play = context.partition_key, settings.values.self_play
    step = lake.step(context, "preference_pairs", f"rollouts[{name}]", f"verdicts[{name}]", uses=[play])
    if done := step.unchanged():
        return done
    return step.commit(self_play.preference_pairs(step.rows("rollouts"), step.rows("verdicts"), play, step.seed))


@dg.asset(code_version="1", deps=["sft_model", "preference_pairs"], partitions_def=STUDENTS, pool="gpu")
def self_play_model(
    context: dg.AssetExecutionContext, lake: LakeResource, trainer: TrainerResource, settings: SettingsResource
) -> dg.MaterializeResult:
    """The student after direct preference optimisation on its own pairs.

    Without a single pair there is nothing to learn: the model is then the SFT model itself, and says so.
    """
    name, training = context.partition_key, settings.values.self_play.training
    step = lake.step(context, "self_play_model", f"sft_model[{name}]", f"preference_pairs[{name}]", uses=[training])
    if done := step.unchanged():
        return done
    pairs = step.rows("preference_pairs")
    if not pairs:
        context.log.warning("no preference pairs: self_play_model is the SFT model, unchanged")
        return step.commit_copy("sft_model")
    return trainer.train(step, "dpo", "sft_model", pairs, training)
