"""Teacher traces on labelled problems, SFT examples, and the student trained on them."""

import dagster as dg

from promptcot_assets.assets.resources import EngineResource, LakeResource, SettingsResource, TrainerResource
from promptcot_assets.assets.teaching import role_deps, role_inputs, role_uses, teacher
from promptcot_assets.automation.partitions import ALL_BATCHES, BATCHES, PROFILE, STUDENTS
from promptcot_assets.settings.profile import SelfPlay
from promptcot_assets.stages import distillation, self_play, synthesis
from promptcot_assets.stages.verification import ProblemLabels, Verifier


@dg.asset(
    code_version="1",
    deps=["problems", "math_answers", "code_tests", *role_deps(PROFILE.distillation.teacher)],
    partitions_def=BATCHES,
    pool="gpu",
)
def teacher_traces(
    context: dg.AssetExecutionContext, lake: LakeResource, engine: EngineResource, settings: SettingsResource
) -> dg.MaterializeResult:
    """Worked solutions of labelled problems; valid when the answer is the label or the program passes its tests."""
    values, batch, role = settings.values, context.partition_key, settings.values.distillation.teacher
    inputs = [f"problems[{batch}]", f"math_answers[{batch}]", f"code_tests[{batch}]", *role_inputs(values, role)]
    labelled_by = [] if role else [values.labels, values.corpus]  # whoever labels writes the traces too
    uses = [values.distillation, *labelled_by, values.sandbox, *role_uses(values, role)]
    step = lake.step(context, "teacher_traces", *inputs, uses=uses)
    if done := step.unchanged():
        return done
    if not values.distillation.traces_per_problem:
        return step.commit([])
    labels = ProblemLabels(step.stream("math_answers"), step.stream("code_tests"))
    problems = step.stream("problems").through(lambda all_: distillation.to_trace(all_, labels, values.distillation))
    with teacher(step, engine, values, role) as writer, Verifier.open(values.sandbox) as verifier:
        rows = step.map(
            "write and verify traces", problems,
            lambda some: distillation.teacher_traces(some, writer, verifier, values.distillation, step.seed),
            values.distillation.shard_rows,
        )  # fmt: skip
    step.dropped = synthesis.drop_counts(rows)
    return step.commit(rows)


@dg.asset(
    code_version="1",
    deps=["seed_problems", dg.AssetDep("teacher_traces", partition_mapping=ALL_BATCHES)],
    partitions_def=STUDENTS,
)
def sft_examples(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: SettingsResource
) -> dg.MaterializeResult:
    """Prompt and completion of every valid trace that self-play does not need, and the seeds' own solutions."""
    values = settings.values
    replay = values.corpus.base_examples() if values.students[context.partition_key].replay_seed_solutions else {}
    uses = [{"replay": replay, "pool_share": values.self_play.pool_share}]
    step = lake.step(context, "sft_examples", "seed_problems", "teacher_traces[*]", uses=uses)
    if done := step.unchanged():
        return done
    own = distillation.seed_examples(step.rows("seed_problems"), replay)
    return step.commit(distillation.sft_examples(step.stream("teacher_traces"), own, values.self_play.pool_share))


@dg.asset(code_version="1", deps=["student_base", "sft_examples"], partitions_def=STUDENTS, pool="gpu")
def sft_model(
    context: dg.AssetExecutionContext, lake: LakeResource, trainer: TrainerResource, settings: SettingsResource
) -> dg.MaterializeResult:
    """The student after supervised fine-tuning on distilled traces (method section 7).

    A student that continues another one is that one's self-play model: the next round of self-play starts there. This
    dependency is an input and no edge of the graph, where it would be a circle (sft_model -> self_play_model).
    """
    name = context.partition_key
    student = settings.values.students[name]
    if student.continues:
        return _continued(context, lake, student.continues, settings.values.self_play)
    if not student.taught:
        step = lake.step(context, "sft_model", f"student_base[{name}]", uses=[{"taught": False}])
        return step.unchanged() or step.commit_copy("student_base")
    uses = [student.sft, *([student.chat] if student.chat else [])]
    step = lake.step(context, "sft_model", f"student_base[{name}]", f"sft_examples[{name}]", uses=uses)
    if done := step.unchanged():
        return done
    return trainer.train(step, "sft", "student_base", step.stream("sft_examples"), student.sft, student.chat)


def _continued(
    context: dg.AssetExecutionContext, lake: LakeResource, former: str, play: SelfPlay
) -> dg.MaterializeResult:
    """The former round's model, if that round passed its regression gate; without held-out problems there is none."""
    gate = [f"self_play_gate[{former}]"] if play.held_out_share else []
    step = lake.step(context, "sft_model", f"self_play_model[{former}]", *gate, uses=[{"continues": former}])
    gain = self_play.gate_difference(step.rows("self_play_gate")) if gate else None
    if self_play.regressed(gain) and gain:
        raise dg.Failure(
            f"self-play of {former} made it worse on {gain.questions} held-out problems: {gain.estimate:+.3f} "
            f"[{gain.low:+.3f}, {gain.high:+.3f}]; change self_play and run {former} again before going on",
            allow_retries=False,
        )
    return step.unchanged() or step.commit_copy("self_play_model")
