"""Teacher traces on labelled problems, SFT examples, and the student trained on them."""

from __future__ import annotations

from collections.abc import Iterable

import dagster as dg

from promptcot_assets.assets.fingerprint import Used
from promptcot_assets.assets.gates import refuse_another_model
from promptcot_assets.assets.resources import EngineResource, SandboxResource
from promptcot_assets.assets.step import Step
from promptcot_assets.assets.table_asset import Result, table_asset
from promptcot_assets.assets.teaching import role_inputs, teacher
from promptcot_assets.assets.trainer import TrainerResource
from promptcot_assets.judging.verifier import ProblemLabels
from promptcot_assets.lake import Row
from promptcot_assets.settings import Settings
from promptcot_assets.stages.students import distillation, self_play
from promptcot_assets.stages.synthesis import writing


def _trace_uses(settings: Settings, _: str) -> list[Used]:
    names = ("from_votes",) if settings.distillation.from_votes else ()
    own: Used = settings.distillation.part(
        "unlabelled", "traces_per_problem", "max_trace_characters", "shard_rows", *names
    )
    if role := settings.distillation.teacher:
        return [own, role.sampling]
    if settings.labels.teacher == "procedural":  # whoever labels writes the traces too
        return [own, {"procedural_teacher": settings.corpus.teacher_errors()}]
    return [own, settings.labels.sampling]


def _trace_inputs(settings: Settings) -> list[str]:
    paid = ["math_votes", "candidate_programs"] if settings.distillation.from_votes else []
    return ["problems", "math_answers", "code_tests", *paid, *role_inputs(settings, settings.distillation.teacher)]


@table_asset(
    inputs=_trace_inputs,
    uses=_trace_uses,
    asks=("solve",),
    pool="gpu",
)  # fmt: skip
def teacher_traces(step: Step, engine: EngineResource, sandbox: SandboxResource) -> Result:
    """Worked solutions of labelled problems; valid when the answer is the label or the program passes its tests.

    With `distillation.from_votes` the right votes and programs are traces, and the teacher writes what is missing.
    """
    values = step.settings.distillation
    if not values.traces_per_problem:
        return step.commit([])
    labels = ProblemLabels(step.stream("math_answers"), step.stream("code_tests"))

    def to_trace(all_: Iterable[Row]) -> Iterable[Row]:
        own = distillation.to_trace(all_, labels, values)
        paid = (step.stream(name) for name in ("math_votes", "candidate_programs")) if values.from_votes else None
        return distillation.with_votes(own, *paid) if paid else own

    problems = step.stream("problems").through(to_trace)
    with teacher(step, engine, values.teacher) as writer, sandbox.open() as (verifier, _):
        rows = step.map(
            "write and verify traces", problems,
            lambda some: distillation.teacher_traces(some, writer, verifier, values, step.seed), values.shard_rows,
        )  # fmt: skip
    step.dropped = writing.drop_counts(rows)
    return step.commit(rows)


def _replayed(settings: Settings, student: str) -> dict[str, int]:
    """domain -> solved seed problems that stay in the student's SFT mix."""
    return settings.corpus.base_examples() if settings.students[student].replay_seed_solutions else {}


@table_asset(
    inputs=lambda _: ["seed_problems", "teacher_traces"],
    uses=lambda settings, name: [
        {"replay": _replayed(settings, name), "pool_share": settings.self_play.pool_share}
    ],
    asks=("solve",),
)  # fmt: skip
def sft_examples(step: Step) -> Result:
    """Prompt and completion of every valid trace that self-play does not need, and the seeds' own solutions."""
    own = distillation.seed_examples(step.rows("seed_problems"), _replayed(step.settings, step.partition))
    share = step.settings.self_play.pool_share
    return step.commit(distillation.sft_examples(step.stream("teacher_traces"), own, share))


def _start(settings: Settings, name: str) -> list[str]:
    """What a student's SFT starts from and learns from.

    A student that continues another one is that one's self-play model, if that round passed its regression gate. This
    is an input and no edge of the graph, where it would be a circle (sft_model -> self_play_model).
    """
    student = settings.students[name]
    if former := student.continues:
        gate = [f"self_play_gate[{former}]"] if settings.self_play.held_out_share else []
        return [f"self_play_model[{former}]", *gate]
    return ["student_base", "sft_examples"] if student.taught else ["student_base"]


def _sft_uses(settings: Settings, name: str) -> list[Used]:
    student = settings.students[name]
    if student.continues:
        return [{"continues": student.continues}]
    return [student.sft] if student.taught else [{"taught": False}]


@table_asset(inputs=lambda _: ["student_base", "sft_examples"], reads=_start, uses=_sft_uses, pool="gpu")
def sft_model(step: Step, trainer: TrainerResource) -> Result:
    """The student after supervised fine-tuning on distilled traces (method section 7); see `_start`."""
    student = step.settings.students[step.partition]
    if student.continues:
        _refuse_regressed(step, student.continues)
        return step.commit_copy("self_play_model")
    if not student.taught:
        return step.commit_copy("student_base")
    return trainer.train(step, "sft", "student_base", step.stream("sft_examples"), student.sft)


def _refuse_regressed(step: Step, former: str) -> None:
    """Raises: dagster.Failure where the former round made the student worse, if problems were held out to tell."""
    if not step.settings.self_play.held_out_share:
        return
    refuse_another_model(step.lake, step.title, step.version("self_play_gate"), step.version("self_play_model"))
    gain = self_play.gate_difference(step.rows("self_play_gate"))
    if self_play.regressed(gain) and gain:
        raise dg.Failure(
            f"self-play of {former} made it worse on {gain.questions} held-out problems: {gain.estimate:+.3f} "
            f"[{gain.low:+.3f}, {gain.high:+.3f}]; change self_play and run {former} again before going on",
            allow_retries=False,
        )
