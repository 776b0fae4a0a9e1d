"""The student plays on labelled problems it was not taught, and learns from its own passes and fails."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from promptcot_assets.assets.fingerprint import Used, judged_by, votes_grouped_by
from promptcot_assets.assets.resources import EngineResource, SandboxResource
from promptcot_assets.assets.step import Step
from promptcot_assets.assets.table_asset import Result, table_asset
from promptcot_assets.assets.trainer import TrainerResource, commit_trained
from promptcot_assets.lake import Row, Rows, RowStream
from promptcot_assets.settings.profile import SelfPlay, Settings
from promptcot_assets.stages.analysis import difficulty as hardness
from promptcot_assets.stages.asking import refusals, solve_prompt
from promptcot_assets.stages.students import relabelling, reward_service, self_play
from promptcot_assets.stages.synthesis import writing
from training.rollouts import read as rollouts_of_training

# which problems are played on, how, and what becomes of the rollouts
CHOSEN = (
    "pool_share",
    "held_out_share",
    "real_problems",
    "synthetic_problems",
    "bands",
)
PLAYED = ("rollouts", "sampling", "shard_rows")
PAIRED = ("max_pass_rate", "max_pairs_per_problem")
FIGURES = "figures.json"  # what a training cost, beside its weights until they are committed


def _plays(settings: Settings, student: str) -> list[Used]:
    """What is recorded of a student that does not play; nothing of the others."""
    return [] if settings.students[student].plays else [{"plays": False}]


def _problems(settings: Settings) -> list[str]:
    """The inputs that problems and their labels come from.

    Seeds are among them only where they are played on; otherwise new seeds would make every rollout stale. With them
    come the benchmark items, which they must share no words with.
    """
    seeds = ["seed_problems", "benchmark_items"] if settings.self_play.real_problems else []
    return ["problems", "math_answers", "code_tests", *seeds]


def _chosen_by(settings: Settings) -> list[Used]:
    """The settings that say which problems are played on, besides how."""
    words = [settings.deduplication.part("decontamination_ngram")] if settings.self_play.real_problems else []
    return [settings.self_play.part(*CHOSEN), *words]


def _mixed_by(settings: Settings) -> list[Used]:
    """The shares of bands that are played on, where they are asked for; the gate asks problems of every band."""
    return [settings.self_play.part("band_mix")] if settings.self_play.band_mix else []


def _is_player(step: Step) -> bool:
    return step.settings.students[step.partition].plays


def _labels(step: Step) -> list[Row]:
    values, seeds = step.settings, list[Row]()
    if values.self_play.real_problems:
        real = [row for row in step.rows("seed_problems") if row["split"] in ("train", "play")]
        ngram = values.deduplication.decontamination_ngram
        seeds, step.dropped = self_play.uncontaminated(real, step.rows("benchmark_items"), ngram)
    known = self_play.labels(step.rows("problems"), step.rows("math_answers"), step.rows("code_tests"), seeds)
    for name in _new_labels(values, step.partition):
        known = relabelling.with_new_labels(known, step.rows_of(name))
    return known


def _new_labels(settings: Settings, student: str) -> list[str]:
    """What the round before made of the labels, where a student continues it; an input and no edge of the graph."""
    former = settings.students[student].continues
    return [f"relabelled[{former}]"] if settings.self_play.relabel and former else []


def _play(step: Step, engine: EngineResource, model: str, pool: list[Row]) -> Rows:
    """Attempts of an input model at every problem of `pool`."""
    play, name = step.settings.self_play, step.model_id(model)
    if not pool:
        return []
    with engine.load(step, model) as student:
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


def _rounds_so_far(settings: Settings, student: str) -> list[str]:
    """The rounds before, and this one: what it solved before it learned decides what it learns from."""
    return [*_rounds_before(settings, student), student] if settings.self_play.chooses_bands else []


def _gate_before(settings: Settings, student: str) -> list[str]:
    """The gate of the round before, where one without a gain has the bands measured anew; no edge of the graph."""
    former = settings.students[student].continues
    return [f"self_play_gate[{former}]"] if settings.self_play.reprofile and former else []


def _saw_plateau(step: Step) -> bool:
    gates = _gate_before(step.settings, step.partition)
    return any(self_play.plateaued(self_play.gate_difference(step.rows_of(gate))) for gate in gates)


def _measured(step: Step, rounds: Sequence[str]) -> dict[str, hardness.Measured]:
    """The bands of the problems, as these rounds measured them."""
    played = ((step.rows_of(f"rollouts[{name}]"), step.rows_of(f"verdicts[{name}]")) for name in rounds)
    return hardness.measured_bands(hardness.difficulty(drawn, judged) for drawn, judged in played)


@table_asset(
    inputs=lambda settings: ["sft_model", *_problems(settings)],
    reads=lambda settings, name: [
        "sft_model", *_problems(settings), *_new_labels(settings, name),
        *(f"{asset}[{former}]" for former in _rounds_before(settings, name) for asset in ("rollouts", "verdicts")),
        *_gate_before(settings, name),
    ],
    uses=lambda settings, name: [
        *_chosen_by(settings), *_mixed_by(settings), settings.self_play.part(*PLAYED), *_plays(settings, name),
    ],
    pool="gpu",
)  # fmt: skip
def rollouts(step: Step, engine: EngineResource) -> Result:
    """The student's attempts at every labelled problem kept out of SFT (method section 6)."""
    known, play = _labels(step), step.settings.self_play
    plateau = _saw_plateau(step)
    measured = _measured(step, [] if plateau else _rounds_before(step.settings, step.partition))
    pool = self_play.play_pool(known, play, measured) if _is_player(step) else []
    rows = _play(step, engine, "sft_model", pool)
    step.dropped = refusals(rows)
    return step.commit(rows, **_shown(known, pool, play, measured), **({"plateau": True} if plateau else {}))


def _shown(
    known: Sequence[Row], pool: Sequence[Row], play: SelfPlay, measured: Mapping[str, hardness.Measured]
) -> dict[str, Any]:
    """What the page says of the problems that are played on."""
    bands = {"bands": dg.MetadataValue.json(self_play.bands_of(pool, measured))} if measured else {}
    out_of_band = len(self_play.play_pool(known, play)) - len(pool)
    return {"mix": dg.MetadataValue.json(self_play.mix(pool)), "out_of_band": out_of_band} | bands


def _usable_by(settings: Settings) -> list[Used]:
    """What a rollout must have to be learned from, where that is not the paper's rule."""
    return [] if settings.self_play.think_block else [settings.self_play.part("think_block")]


@table_asset(
    "3",
    inputs=lambda settings: ["rollouts", *_problems(settings)],
    reads=lambda settings, name: ["rollouts", *_problems(settings), *_new_labels(settings, name)],
    uses=lambda settings, _: _usable_by(settings),
)
def verdicts(step: Step, sandbox: SandboxResource) -> Result:
    """Every rollout judged in the sandbox: passed, failed, or an infrastructure failure that is neither."""
    play, labels = step.settings.self_play, {row["problem_id"]: row for row in _labels(step)}
    with sandbox.open() as (verifier, meter):
        rows = step.map(
            "judge rollouts", step.stream("rollouts"),
            lambda drawn: self_play.verdicts(drawn, labels, verifier, play.think_block),
            play.shard_rows * play.rollouts,
        )  # fmt: skip
    step.dropped = writing.drop_counts(rows, "unusable_because")
    passed = [row["passed"] for row in rows if row["passed"] is not None]
    figures = {"pass_rate": sum(passed) / max(1, len(passed)), "system_errors": len(rows) - len(passed)}
    return step.commit(rows, **figures, **meter.figures())


@table_asset(inputs=lambda _: ["rollouts", "verdicts"], uses=lambda settings, _: [settings.self_play.part(*PAIRED)])
def preference_pairs(step: Step) -> Result:
    """A usable pass and a usable fail of the same problem, each completion used once."""
    drawn, judged = step.stream("rollouts"), step.stream("verdicts")
    return step.commit(self_play.preference_pairs(drawn, judged, step.settings.self_play, step.seed))


@table_asset(inputs=lambda _: ["rollouts", "verdicts"], uses=lambda settings, _: [settings.self_play.part(*PAIRED)])
def self_play_examples(step: Step) -> Result:
    """The student's own usable passes: what it learns from where the optimiser is sft (rejection sampling)."""
    drawn, judged = step.stream("rollouts"), step.stream("verdicts")
    return step.commit(self_play.rejection_sampled(drawn, judged, step.settings.self_play, step.seed))


def _teacher(settings: Settings, student: str | None = None) -> list[str]:
    """The model that an optimiser with a teacher learns from. A student's is no edge of the graph, but an input."""
    play = settings.self_play
    if not play.learning.teacher or (student and not settings.students[student].plays):
        return []
    return [f"teacher_model[{play.teacher}]" if play.teacher in settings.teachers else f"sft_model[{play.teacher}]"]


def _online_uses(settings: Settings, student: str) -> list[Used]:
    """Training, the problems that are played on, and who judges."""
    play = settings.self_play
    replaces: list[Used] = [play.part("resample_groups")] if play.resample_groups else []
    chosen = [*_chosen_by(settings), *_mixed_by(settings)]
    return [play.training, *chosen, judged_by(settings), *_usable_by(settings), *replaces, *_plays(settings, student)]


@table_asset(
    inputs=lambda settings: [
        "sft_model", *_problems(settings), *(("rollouts", "verdicts") if settings.self_play.chooses_bands else ()),
        *(name for name in _teacher(settings) if name.startswith("teacher_model")),
    ],
    reads=lambda settings, name: [
        "sft_model", *_problems(settings), *_new_labels(settings, name), *_teacher(settings, name),
        *(f"{asset}[{one}]" for one in _rounds_so_far(settings, name) for asset in ("rollouts", "verdicts")),
    ],
    uses=_online_uses,
    pool="gpu",
    when=lambda settings: settings.self_play.learning.online,
)  # fmt: skip
def rollouts_online(step: Step, trainer: TrainerResource) -> Result:
    """The student plays on the problems and learns at once (grpo, distill); every rollout of the training, judged.

    The weights wait in this step's work folder for `self_play_model`, which is made of the very same training.
    """
    play = step.settings.self_play
    known = _labels(step)
    measured = _measured(step, _rounds_so_far(step.settings, step.partition))
    pool = self_play.play_pool(known, play, measured) if _is_player(step) else []
    shown = _shown(known, pool, play, measured)
    if not pool:
        return step.commit([], **shown)
    examples = [
        {"prompt": solve_prompt(row), "completion": reward_service.label(row, play.think_block)} for row in pool
    ]
    more: dict[str, Any] = {"resample_groups": play.resample_groups}
    for teacher in _teacher(step.settings, step.partition):
        more["teacher"] = str(step.model(step.refs[teacher][0]))
    figures = trainer.fit(step, play.optimiser, "sft_model", examples, play.training, more)
    work = step.work_folder()
    if figures:
        (work / FIGURES).write_text(json.dumps(figures))
    name = step.model_id("sft_model")
    rows = RowStream.of_rows(lambda: self_play.online_rows(rollouts_of_training(work / "rollouts"), name))
    rewards = [row["reward"] for row in rows if row["reward"] is not None]
    return step.commit(rows, mean_reward=sum(rewards) / max(1, len(rewards)), **shown)


def _learned_from(settings: Settings) -> list[str]:
    """What a student's self-play model starts and learns from."""
    return ["sft_model", settings.self_play.learning.learns_from]


@table_asset(
    inputs=_learned_from,
    uses=lambda settings, _: [] if settings.self_play.learning.online else [settings.self_play.training],
    pool="gpu",
)
def self_play_model(step: Step, trainer: TrainerResource) -> Result:
    """The student after learning from its own play: on pairs (dpo), on its own passes (sft), or online.

    Without a single example there is nothing to learn: the model is then the SFT model itself, and says so.
    """
    play = step.settings.self_play
    examples = step.stream(play.learning.learns_from)
    if not examples:
        step.context.log.warning("self-play left nothing to learn from: self_play_model is the SFT model, unchanged")
        return step.commit_copy("sft_model")
    if play.learning.online:
        return _trained_online(step)
    return trainer.train(step, play.optimiser, "sft_model", examples, play.training)


def _trained_online(step: Step) -> Result:
    """The weights of the training that wrote `rollouts_online`. Raises: dagster.Failure where they are gone."""
    work, played = step.work_folder(), step.version("rollouts_online")
    if not (work / "model").exists():
        fingerprint = step.lake.commit_of(played).provenance.fingerprint
        if not step.lake.hand_over("rollouts_online", fingerprint, ("model", FIGURES), work):
            if made := step.made_already():
                return step.keep(made)
            raise dg.Failure(
                f"{step.title}: the weights that {played} was sampled with are no longer in their work folder; "
                f"materialize rollouts_online of {step.partition} once more, which trains them anew",
                allow_retries=False,
            )
    figures = json.loads((work / FIGURES).read_text()) if (work / FIGURES).exists() else {}
    return commit_trained(step, "sft_model", figures)


def _played(settings: Settings) -> str:
    """The table of a student's judged rollouts."""
    return "rollouts_online" if settings.self_play.learning.online else "verdicts"


def _all_rounds(settings: Settings, student: str) -> list[str]:
    rounds = [student]
    while former := settings.students[rounds[0]].continues:
        rounds.insert(0, former)
    return rounds


@table_asset(
    inputs=lambda settings: ["math_answers", _played(settings)],
    reads=lambda settings, name: [
        "math_answers", *(f"{_played(settings)}[{one}]" for one in _all_rounds(settings, name)),
    ],
    uses=lambda settings, _: [settings.self_play.part("relabel_withdraw"), votes_grouped_by()],
    when=lambda settings: settings.self_play.relabel,
)  # fmt: skip
def relabelled(step: Step) -> Result:
    """Labels after the rounds so far, votes and the students' verified rollouts counted together; the change shown.

    The next round, a student that continues this one, is judged by them.
    """
    rounds, judged_in = _all_rounds(step.settings, step.partition), _played(step.settings)
    rolled = [row for one in rounds for row in step.rows_of(f"{judged_in}[{one}]")]
    rows = relabelling.relabelled(step.rows("math_answers"), rolled, step.settings.self_play.relabel_withdraw)
    changed = [row for row in rows if row["changed"]]
    withdrawn = sum(row["after"] is None for row in changed)
    return step.commit(rows, labels_changed=len(changed) - withdrawn, labels_withdrawn=withdrawn)


@table_asset(
    inputs=lambda settings: ["sft_model", "self_play_model", *_problems(settings)],
    reads=lambda settings, name: [
        "sft_model", "self_play_model", *_problems(settings), *_new_labels(settings, name),
    ],
    uses=lambda settings, name: [
        *_chosen_by(settings), settings.self_play.part(*PLAYED), *_usable_by(settings), *_plays(settings, name),
    ],
    pool="gpu",
)  # fmt: skip
def self_play_gate(step: Step, engine: EngineResource, sandbox: SandboxResource) -> Result:
    """Problems neither taught nor played on, asked before and after the round: whether the student got worse.

    A student that `continues` this one starts from its model only if it did not.
    """
    play, models = step.settings.self_play, ("sft_model", "self_play_model")
    pool = self_play.gate_pool(_labels(step), play) if _is_player(step) else []
    if not pool:
        return step.commit([], regressed=False)  # nothing is held out: no round is stopped
    labels = {row["problem_id"]: row for row in pool}
    drawn = {model: _play(step, engine, model, pool) for model in models}
    with sandbox.open() as (verifier, meter):
        before, after = (
            step.map(
                f"judge rollouts of {model}", drawn[model],
                lambda some: self_play.verdicts(some, labels, verifier, play.think_block),
                play.shard_rows * play.rollouts,
            )
            for model in models
        )  # fmt: skip
    rows = self_play.gate_rows(before, after, step.model_id("self_play_model"))
    gain = self_play.gate_difference(rows)
    figures = {"gain": gain.estimate, "gain_low": gain.low, "gain_high": gain.high} if gain else {}
    return step.commit(rows, regressed=self_play.regressed(gain), **figures, **meter.figures())
