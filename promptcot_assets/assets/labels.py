"""Labels of a batch: answers by majority vote, code tests by cross execution."""

import dagster as dg

from promptcot_assets.assets.resources import EngineResource, LakeResource, SettingsResource
from promptcot_assets.assets.teaching import role_deps, role_inputs, role_uses, teacher
from promptcot_assets.automation.partitions import BATCHES, PROFILE
from promptcot_assets.stages import labels, synthesis
from promptcot_assets.stages.verification import Verifier


@dg.asset(code_version="2", deps=["problems", *role_deps(PROFILE.labels.voter)], partitions_def=BATCHES, pool="gpu")
def math_answers(
    context: dg.AssetExecutionContext, lake: LakeResource, engine: EngineResource, settings: SettingsResource
) -> dg.MaterializeResult:
    """The answer most generations agree on, for every maths problem; no label where too few do."""
    values, role = settings.values, settings.values.labels.voter
    inputs = [f"problems[{context.partition_key}]", *role_inputs(values, role)]
    uses = [values.labels.model_copy(update={"test_writer": None}), values.corpus, *role_uses(values, role)]
    step = lake.step(context, "math_answers", *inputs, uses=uses)
    if done := step.unchanged():
        return done
    problems = step.stream("problems").through(lambda all_: labels.to_label(all_, "maths", values.labels.share))
    if not problems:
        return step.commit([])
    with teacher(step, engine, values, role) as voter:
        rows = step.map(
            "vote", problems,
            lambda some: labels.math_answers(some, voter, values.labels, step.seed), values.labels.shard_rows,
        )  # fmt: skip
    step.dropped = synthesis.drop_counts(rows)
    return step.commit(rows)


@dg.asset(
    code_version="4", deps=["problems", *role_deps(PROFILE.labels.test_writer)], partitions_def=BATCHES, pool="gpu"
)
def code_tests(
    context: dg.AssetExecutionContext, lake: LakeResource, engine: EngineResource, settings: SettingsResource
) -> dg.MaterializeResult:
    """Tests of every program problem, their outputs agreed on by candidate programs that were really run.

    What the tests are worth: trust (how many programs agree) and mutation score (what they catch).
    """
    values, role = settings.values, settings.values.labels.test_writer
    inputs = [f"problems[{context.partition_key}]", *role_inputs(values, role)]
    used = [values.labels.model_copy(update={"voter": None}), values.corpus, values.sandbox]
    step = lake.step(context, "code_tests", *inputs, uses=[*used, *role_uses(values, role)])
    if done := step.unchanged():
        return done
    problems = step.stream("problems").through(lambda all_: labels.to_label(all_, "program", values.labels.share))
    if not problems:
        return step.commit([])
    with teacher(step, engine, values, role) as writer, Verifier.open(values.sandbox) as verifier:
        rows = step.map(
            "run candidate programs", problems,
            lambda some: labels.code_tests(some, writer, verifier, values.labels, step.seed),
            values.labels.shard_rows,
        )  # fmt: skip
    step.dropped = synthesis.drop_counts(rows)
    return step.commit(rows, **labels.quality(rows))
