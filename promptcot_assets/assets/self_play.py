"""The student plays on labelled problems it was not taught, and learns from its own passes and fails."""

from typing import Any

import dagster as dg

from promptcot_assets.assets.resources import EngineResource, LakeResource, SettingsResource, Step, TrainerResource
from promptcot_assets.automation.partitions import ALL_BATCHES, PROFILE, STUDENTS
from promptcot_assets.lake import Rows
from promptcot_assets.settings.profile import Band, SelfPlay, Settings, Training
from promptcot_assets.settings.section import Section
from promptcot_assets.stages import Row, reward_service, self_play, synthesis
from promptcot_assets.stages import difficulty as hardness
from promptcot_assets.stages.asking import solve_prompt
from promptcot_assets.stages.verdicts import metered

PROBLEMS = ("problems[*]", "math_answers[*]", "code_tests[*]")
PROBLEM_DEPS: list[dg.AssetDep | str] = [
    dg.AssetDep(one, partition_mapping=ALL_BATCHES) for one in ("problems", "math_answers", "code_tests")
]
OPTIMISER = PROFILE.self_play.optimiser
if PROFILE.self_play.real_problems:  # only then: a new seed makes no rollout stale that is not of a seed
    PROBLEM_DEPS.append("seed_problems")


def _problems(play: SelfPlay) -> tuple[str, ...]:
    """The inputs that problems and their labels come from."""
    return (*PROBLEMS, "seed_problems") if play.real_problems else PROBLEMS


def _labels(step: Step, play: SelfPlay) -> list[Row]:
    seeds = step.rows("seed_problems") if play.real_problems else []
    return self_play.labels(step.rows("problems"), step.rows("math_answers"), step.rows("code_tests"), seeds)


def _asked_with(settings: Settings, student: str) -> list[Section]:
    """What a student's answers depend on, besides the checkpoint and the sampling."""
    chat = settings.students[student].chat
    return [settings.engine_of_student(student), *([chat] if chat else [])]


def _play(step: Step, engine: EngineResource, model: str, pool: list[Row], settings: Settings) -> Rows:
    """Attempts of an input model, of the step's student, at every problem of `pool`."""
    play, name = settings.self_play, step.model_id(model)
    chat, own_engine = settings.students[step.partition].chat, settings.engine_of_student(step.partition)
    if not pool:
        return []
    with engine.load(step, model, chat, own_engine) as student:
        return step.map(
            f"{play.rollouts} rollouts a problem of {model}", pool,
            lambda problems: self_play.rollouts(problems, student, play, name, step.seed),
            play.shard_rows,
        )  # fmt: skip


def _rounds_before(settings: Settings, student: str) -> list[str]:
    """The students that this one continues, the first round first, where what they solved decides what is played on.

    Their rollouts and verdicts are inputs and no edges of the graph, where they would be a circle.
    """
    rounds: list[str] = []
    while settings.self_play.chooses_bands and (former := settings.students[student].continues):
        rounds.insert(0, former)
        student = former
    return rounds


def _bands(step: Step, rounds: list[str]) -> dict[str, frozenset[Band]]:
    """The bands that problems may be of, as former rounds measured them."""
    played = ((step.rows_of(f"rollouts[{name}]"), step.rows_of(f"verdicts[{name}]")) for name in rounds)
    return hardness.measured_bands(hardness.difficulty(drawn, judged) for drawn, judged in played)


@dg.asset(code_version="1", deps=["sft_model", *PROBLEM_DEPS], partitions_def=STUDENTS, pool="gpu")
def rollouts(
    context: dg.AssetExecutionContext, lake: LakeResource, engine: EngineResource, settings: SettingsResource
) -> dg.MaterializeResult:
    """The student's attempts at every labelled problem kept out of SFT (method section 6)."""
    values, play = settings.values, settings.values.self_play
    rounds = _rounds_before(values, context.partition_key)
    former = [f"{asset}[{name}]" for name in rounds for asset in ("rollouts", "verdicts")]
    inputs = (f"sft_model[{context.partition_key}]", *_problems(play), *former)
    step = lake.step(context, "rollouts", *inputs, uses=[play, *_asked_with(values, context.partition_key)])
    if done := step.unchanged():
        return done
    known = _labels(step, play)
    pool = self_play.play_pool(known, play, _bands(step, rounds))
    rows = _play(step, engine, "sft_model", pool, values)
    out_of_band = len(self_play.play_pool(known, play)) - len(pool)
    return step.commit(rows, mix=dg.MetadataValue.json(self_play.mix(pool)), out_of_band=out_of_band)


@dg.asset(code_version="2", deps=["rollouts", *PROBLEM_DEPS], partitions_def=STUDENTS)
def verdicts(context: dg.AssetExecutionContext, lake: LakeResource, settings: SettingsResource) -> dg.MaterializeResult:
    """Every rollout judged in the sandbox: passed, failed, or an infrastructure failure that is neither."""
    values, play = settings.values, settings.values.self_play
    inputs = (f"rollouts[{context.partition_key}]", *_problems(play))
    step = lake.step(context, "verdicts", *inputs, uses=[values.sandbox])
    if done := step.unchanged():
        return done
    labels = {row["problem_id"]: row for row in _labels(step, play)}
    with metered(values.sandbox) as (verifier, sandbox):
        rows = step.map(
            "judge rollouts", step.stream("rollouts"), lambda drawn: self_play.verdicts(drawn, labels, verifier),
            play.shard_rows * play.rollouts,
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
    return step.commit(self_play.preference_pairs(step.stream("rollouts"), step.stream("verdicts"), play, step.seed))


@dg.asset(code_version="1", deps=["rollouts", "verdicts"], partitions_def=STUDENTS)
def self_play_examples(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: SettingsResource
) -> dg.MaterializeResult:
    """The student's own usable passes: what it learns from where the optimiser is sft (rejection sampling)."""
    name, play = context.partition_key, settings.values.self_play
    step = lake.step(context, "self_play_examples", f"rollouts[{name}]", f"verdicts[{name}]", uses=[play])
    if done := step.unchanged():
        return done
    return step.commit(self_play.rejection_sampled(step.stream("rollouts"), step.stream("verdicts"), play, step.seed))


LEARNED_FROM = {"dpo": "preference_pairs", "sft": "self_play_examples"}  # by optimiser, a module of training/


def _learned_from(play: SelfPlay, student: str) -> tuple[str, ...]:
    """The inputs that a student's self-play model learns from; online, the problems themselves."""
    return _problems(play) if play.optimiser == "grpo" else (f"{LEARNED_FROM[play.optimiser]}[{student}]",)


def _examples(step: Step, play: SelfPlay) -> Rows:
    if play.optimiser != "grpo":
        return step.stream(LEARNED_FROM[play.optimiser])
    pool = self_play.play_pool(_labels(step, play), play)
    return [{"prompt": solve_prompt(row), "completion": reward_service.label(row)} for row in pool]


def _uses(play: SelfPlay) -> list[Training | dict[str, Any]]:
    """Training, and where the trainer plays on the problems itself the settings that choose them."""
    chosen = {"pool_share", "held_out_share", "real_problems"}
    return [play.training, play.model_dump(include=chosen)] if play.optimiser == "grpo" else [play.training]


@dg.asset(
    code_version="1",
    deps=["sft_model", *(PROBLEM_DEPS if OPTIMISER == "grpo" else [LEARNED_FROM[OPTIMISER]])],
    partitions_def=STUDENTS,
    pool="gpu",
)
def self_play_model(
    context: dg.AssetExecutionContext, lake: LakeResource, trainer: TrainerResource, settings: SettingsResource
) -> dg.MaterializeResult:
    """The student after learning from its own play: on pairs (dpo), on its own passes (sft), or online (grpo).

    Without a single example there is nothing to learn: the model is then the SFT model itself, and says so.
    """
    name, play = context.partition_key, settings.values.self_play
    chat = settings.values.students[name].chat
    inputs = (f"sft_model[{name}]", *_learned_from(play, name))
    step = lake.step(context, "self_play_model", *inputs, uses=[*_uses(play), *([chat] if chat else [])])
    if done := step.unchanged():
        return done
    examples = _examples(step, play)
    if not examples:
        context.log.warning("self-play left nothing to learn from: self_play_model is the SFT model, unchanged")
        return step.commit_copy("sft_model")
    return trainer.train(step, play.optimiser, "sft_model", examples, play.training, chat)


@dg.asset(code_version="1", deps=["sft_model", "self_play_model", *PROBLEM_DEPS], partitions_def=STUDENTS, pool="gpu")
def self_play_gate(
    context: dg.AssetExecutionContext, lake: LakeResource, engine: EngineResource, settings: SettingsResource
) -> dg.MaterializeResult:
    """Problems neither taught nor played on, asked before and after the round: whether the student got worse.

    A student that `continues` this one starts from its model only if it did not.
    """
    values, play, name = settings.values, settings.values.self_play, context.partition_key
    models = ("sft_model", "self_play_model")
    inputs = (*(f"{model}[{name}]" for model in models), *_problems(play))
    used = [play, *_asked_with(values, name)]
    used.insert(2, values.sandbox)
    step = lake.step(context, "self_play_gate", *inputs, uses=used)
    if done := step.unchanged():
        return done
    pool = self_play.gate_pool(_labels(step, play), play)
    if not pool:
        return step.commit([], regressed=False)  # nothing is held out: no round is stopped
    labels = {row["problem_id"]: row for row in pool}
    drawn = {model: _play(step, engine, model, pool, values) for model in models}
    with metered(values.sandbox) as (verifier, sandbox):
        before, after = (
            step.map(
                f"judge rollouts of {model}", drawn[model],
                lambda some: self_play.verdicts(some, labels, verifier), play.shard_rows * play.rollouts,
            )
            for model in models
        )  # fmt: skip
    rows = self_play.gate_rows(before, after, step.model_id("self_play_model"))
    gain = self_play.gate_difference(rows)
    figures = {"gain": gain.estimate, "gain_low": gain.low, "gain_high": gain.high} if gain else {}
    return step.commit(rows, regressed=self_play.regressed(gain), **figures, **sandbox.figures())
