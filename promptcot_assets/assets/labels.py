"""Labels of a batch: answers by majority vote, code tests by cross execution."""

import dagster as dg

from promptcot_assets.assets.resources import EngineResource, LakeResource, SettingsResource
from promptcot_assets.assets.teaching import TEACHER_DEPS, teacher, teacher_inputs
from promptcot_assets.automation.partitions import BATCHES
from promptcot_assets.stages import labels, synthesis
from promptcot_assets.stages.verification import Verifier


@dg.asset(code_version="1", deps=["problems", *TEACHER_DEPS], partitions_def=BATCHES, pool="gpu")
def math_answers(
    context: dg.AssetExecutionContext, lake: LakeResource, engine: EngineResource, settings: SettingsResource
) -> dg.MaterializeResult:
    """The answer most generations agree on, for every maths problem; no label where too few do."""
    values = settings.values
    inputs = [f"problems[{context.partition_key}]", *teacher_inputs(values)]
    step = lake.step(context, "math_answers", *inputs, uses=[values.labels, values.corpus])
    if done := step.unchanged():
        return done
    with teacher(step, engine, values) as voter:
        rows = step.map(
            "vote", labels.of_kind(step.rows("problems"), "maths"),
            lambda problems: labels.math_answers(problems, voter, values.labels, step.seed), values.labels.shard_rows,
        )  # fmt: skip
    step.dropped = synthesis.drop_counts(rows)
    return step.commit(rows)


@dg.asset(code_version="3", deps=["problems", *TEACHER_DEPS], partitions_def=BATCHES, pool="gpu")
def code_tests(
    context: dg.AssetExecutionContext, lake: LakeResource, engine: EngineResource, settings: SettingsResource
) -> dg.MaterializeResult:
    """Tests of every program problem, their outputs agreed on by candidate programs that were really run.

    What the tests are worth: trust (how many programs agree) and mutation score (what they catch).
    """
    values = settings.values
    inputs = [f"problems[{context.partition_key}]", *teacher_inputs(values)]
    step = lake.step(context, "code_tests", *inputs, uses=[values.labels, values.corpus, values.sandbox])
    if done := step.unchanged():
        return done
    with teacher(step, engine, values) as writer, Verifier.open(values.sandbox) as verifier:
        rows = step.map(
            "run candidate programs", labels.of_kind(step.rows("problems"), "program"),
            lambda problems: labels.code_tests(problems, writer, verifier, values.labels, step.seed),
            values.labels.shard_rows,
        )  # fmt: skip
    step.dropped = synthesis.drop_counts(rows)
    return step.commit(rows, **labels.quality(rows))
