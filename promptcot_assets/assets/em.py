"""EM rounds: one partition a round, strictly in order, and the control that trains as long without an E-step.

Each output depends on its own previous round and on the cold start, and on nothing inside the round: Dagster cannot
run backfills of a self-dependent multi-asset with inner dependencies. Inside, the phases follow one another, each
resumable by itself, and each output records the exact versions it was made of, siblings included.
"""

from __future__ import annotations

from collections.abc import Callable

import dagster as dg

from promptcot_assets.assets.fingerprint import Used
from promptcot_assets.assets.gates import gate, refuse_another_model
from promptcot_assets.assets.held_out import measure
from promptcot_assets.assets.inputs import newest_rows, refs_of, split
from promptcot_assets.assets.partitions import round_key, round_number
from promptcot_assets.assets.resources import EngineResource
from promptcot_assets.assets.step import Step
from promptcot_assets.assets.table_asset import Result, Results, joint_assets, table_asset
from promptcot_assets.assets.trainer import TrainerResource
from promptcot_assets.lake import Lake, Row
from promptcot_assets.lake.ids import seed_from
from promptcot_assets.lake.ref import UNPARTITIONED
from promptcot_assets.settings import Settings
from promptcot_assets.settings.profile import ExpectationMaximisation, Training
from promptcot_assets.stages.em import bounds, gates, loop
from promptcot_assets.tables import TABLES

COLLAPSE_GATE, BOUND_GATE = "candidates_did_not_collapse", "held_out_bound_did_not_fall"
ADVICE = (
    "later rounds would learn from worse rationales. Look at em_rationales (lengths, styles, why candidates lost), "
    "then lower the learning rate or the epochs of em.e_step and em.m_step_training"
)
COLD = {
    "rationale_model": "cold_rationale_model",
    "problem_generator": "cold_problem_generator",
    "em_bounds": "cold_start_bounds",
    "control_rationale_model": "cold_rationale_model",
    "control_problem_generator": "cold_problem_generator",
}


# ---- inputs of a round
def before(asset: str, partition: str, rounds: int = 1) -> str:
    """The input that `asset` was so many rounds before this one; before the first round, that is the cold start's."""
    number = round_number(partition) - rounds
    return f"{asset}[{round_key(number)}]" if number > 0 else COLD[asset]


def _start(settings: Settings, asset: str, partition: str) -> str:
    """The input whose weights a round's training of `asset` starts from."""
    return before(asset, partition) if settings.em.restart_from == "previous" else COLD[asset]


def _replayed(settings: Settings) -> list[str]:
    """The annotated triples, where a round's models are trained on some of them: else no ancestor of theirs."""
    return ["seed_triples"] if settings.em.replay else []


def _edges(asset: str) -> Callable[[Settings], list[str]]:
    """What every output of a round depends on in Dagster's graph: the cold start, and itself a round ago."""
    starts = ["seed_problems", "seed_triples", "cold_rationale_model", "cold_problem_generator", "cold_start_bounds"]
    return lambda _: [*starts, f"{asset}[-1]"]


def _is_frozen(settings: Settings, partition: str) -> bool:
    return settings.em.selection == "frozen" and round_number(partition) > 1


# ---- the phases of a round, in their order
def _e_step_reads(settings: Settings, partition: str) -> list[str]:
    if _is_frozen(settings, partition):
        return [before("em_rationales", partition)]
    return ["seed_triples", before("rationale_model", partition), before("problem_generator", partition)]


@table_asset(
    "3",
    inputs=_edges("em_rationales"),
    reads=_e_step_reads,
    uses=lambda settings, _: [settings.em.e_step_uses()],
    pool="gpu",
    gates={COLLAPSE_GATE: "The candidates are whole, differ from one another and are not one text."},
)
def em_rationales(step: Step, engine: EngineResource) -> Result:
    """E-step: every candidate rationale with its reward terms, rank, and why it lost."""
    em, number = step.settings.em, round_number(step.partition)
    if _is_frozen(step.settings, step.partition):
        return step.commit(loop.carried(step.rows("em_rationales"), number))
    q, p = (split(before(asset, step.partition))[0] for asset in ("rationale_model", "problem_generator"))
    seed = seed_from(step.seed, "E-step", number)
    with engine.load(step, q) as rationale_model:
        proposed = step.map(
            f"E-step: {em.candidates} rationales a seed", loop.one_a_problem(step.rows("seed_triples")),
            lambda seeds: loop.propose(seeds, rationale_model, em.sampling, em.candidates, em.filters, seed),
            em.shard_rows,
        )  # fmt: skip
    with engine.load(step, p) as generator:
        judged = step.map(
            "E-step: rewards", proposed, lambda rows: loop.judge(rows, generator, em.reward),
            em.shard_rows * em.candidates,
        )  # fmt: skip
    chance = seed_from(step.seed, "selection", *((number,) if em.draws_by_weight else ()))
    selected = loop.select(list(judged), em.selection, chance, int(em.e_step.epochs))
    ranked = loop.candidate_rows(selected, number, step.model_id(q), step.model_id(p))
    step.dropped = loop.losses(ranked)
    return step.commit(ranked, **loop.e_step_summary(ranked))


@table_asset(
    "2",
    inputs=_edges("rationale_model"),
    reads=lambda settings, partition: [
        "em_rationales", *_replayed(settings), _start(settings, "rationale_model", partition),
    ],
    uses=lambda settings, _: [settings.em.e_step, settings.em.training_uses()],
    pool="gpu",
)  # fmt: skip
def rationale_model(step: Step, trainer: TrainerResource) -> Result:
    """q[r] (z | c, x): supervised on the E-step's winners."""
    em = step.settings.em
    winners = [row for row in step.rows("em_rationales") if row["selected"]]
    examples = loop.rationale_examples(_training_rows(step, winners))
    return trainer.train(
        step, "sft", _start_asset(step), examples, em.e_step.once() if em.draws_by_weight else em.e_step
    )


@table_asset(
    "3",
    inputs=_edges("em_m_step"),
    reads=lambda *_: ["em_rationales", "seed_triples", "rationale_model"],
    uses=lambda settings, _: [settings.em.m_step_uses()],
    pool="gpu",
)
def em_m_step(step: Step, engine: EngineResource) -> Result:
    """M-step: the rationale that p is trained on, for every seed."""
    em, number = step.settings.em, round_number(step.partition)
    ranked = step.rows("em_rationales")
    winners, seed = [row for row in ranked if row["selected"]], seed_from(step.seed, "M-step", number)
    if em.m_step != "selected":
        with engine.load(step, "rationale_model") as model:
            ask = {
                "greedy": lambda seeds: loop.greedy(seeds, model, em.sampling, em.filters),
                "sampled": lambda seeds: loop.sampled(seeds, model, em.sampling, em.filters, seed),
            }[em.m_step]
            seeds = loop.one_a_problem(step.rows("seed_triples"))
            written = step.map(f"M-step: {em.m_step} rationales", seeds, ask, em.shard_rows)
        chosen, step.dropped = loop.with_winners(list(written), winners)
    elif em.draws_by_weight:
        drawn = loop.drawn_anew(ranked, em.selection, seed, int(em.m_step_training.epochs))
        chosen = [loop.winner_row(row) for row in drawn]
    else:
        chosen = [loop.winner_row(row) for row in winners]
    return step.commit(loop.m_step_rows(chosen, number, step.model_id("rationale_model")))


@table_asset(
    "2",
    inputs=_edges("problem_generator"),
    reads=lambda settings, partition: [
        "em_m_step", *_replayed(settings), _start(settings, "problem_generator", partition),
    ],
    uses=lambda settings, _: [settings.em.m_step_training, settings.em.training_uses()],
    pool="gpu",
)  # fmt: skip
def problem_generator(step: Step, trainer: TrainerResource) -> Result:
    """p[r] (z, x | c): supervised on the M-step's rationales."""
    em = step.settings.em
    examples = loop.generator_examples(_training_rows(step, step.rows("em_m_step")))
    is_drawn = em.draws_by_weight and em.m_step == "selected"
    training = em.m_step_training.once() if is_drawn else em.m_step_training
    return trainer.train(step, "sft", _start_asset(step), examples, training)


def _measured_by(settings: Settings, _: str) -> list[Used]:
    return [settings.em.measured_by()]


@table_asset(
    "3",
    inputs=_edges("em_bounds"),
    reads=lambda *_: ["seed_problems", "rationale_model", "problem_generator"],
    uses=_measured_by,
    pool="gpu",
    gates={BOUND_GATE: "The held-out bound did not fall beyond noise."},
)
def em_bounds(step: Step, engine: EngineResource) -> Result:
    """How good (q[r], p[r]) are on held-out seeds and on training seeds."""
    return measure(step, engine, "rationale_model", "problem_generator", "em", round_number(step.partition))


@joint_assets(em_rationales, rationale_model, em_m_step, problem_generator, em_bounds)
def em_round(context: dg.AssetExecutionContext) -> Results:
    """One EM round (paper section 3.2): E-step, rationale model, M-step, problem generator, held-out bounds.

    After `em.patience` rounds without a significant gain a round only carries the models over.
    """
    lake, key = context.resources.lake.lake, context.partition_key
    em, number = context.resources.lake.settings.values.em, round_number(key)
    refuse_stopped(lake, em, f"round {number}", number - 1)
    history = [newest_rows(lake, before("em_bounds", key, back)) for back in range(number, 0, -1)]
    if gates.converged(history, em.patience, em.gate):
        yield from _carry_over(context)
        return
    yield from em_rationales.make(context)
    earlier = newest_rows(lake, before("em_rationales", key) if number > 1 else "seed_triples")
    rationales = [row for row in earlier if row.get("selected", True)]
    verdict = gates.collapse_gate(newest_rows(lake, f"em_rationales[{key}]"), rationales, em.gate)
    yield from gate("em_rationales", COLLAPSE_GATE, verdict, ADVICE)
    for phase in (rationale_model, em_m_step, problem_generator, em_bounds):
        yield from phase.make(context)
    long_before = history[max(0, number - em.patience)] if em.patience else None
    verdict = gates.bound_gate(newest_rows(lake, f"em_bounds[{key}]"), history[-1], em.gate, long_before)
    yield from gate("em_bounds", BOUND_GATE, verdict, ADVICE)


def _carry_over(context: dg.AssetExecutionContext) -> Results:
    """The round before once more under this round's name: converged, so nothing is trained."""
    key = context.partition_key
    number, last = round_number(key), before("em_bounds", key)
    context.log.info(
        f"round {number}: the last {context.resources.lake.settings.values.em.patience} rounds brought no significant "
        "gain of the held-out bound (em.patience), so this round carries their models over"
    )
    for asset in em_round.members:
        is_model = TABLES[asset.name].checkpoint
        inputs = [before(asset.name, key), last] if is_model else [last]
        step: Step = context.resources.lake.step(context, asset.name, inputs, [])
        if done := step.unchanged():
            yield done
        elif is_model:
            yield step.commit_copy(asset.name)
        else:
            is_bounds = asset is em_bounds
            yield step.commit(bounds.carried_over(step.rows("em_bounds"), number) if is_bounds else [])
    for asset in em_round.members:
        for check in asset.gates:
            over = {"carried over from": last}
            yield dg.AssetCheckResult(asset_key=asset.name, check_name=check, passed=True, metadata=over)


def refuse_stopped(lake: Lake, em: ExpectationMaximisation, wanted_by: str, round_: int) -> None:
    """Dagster's blocking checks hold within one run; what is launched by itself looks at the gate of what it needs.

    round_: the round it needs, 0 for the cold start.
    Raises: dagster.Failure when it was stopped by its gate, or its models are others than the gate saw.
    """
    after = round_key(round_ + 1)
    measured = before("em_bounds", after)
    (ref,) = refs_of(lake, measured, wanted_by)
    for name in ("rationale_model", "problem_generator"):
        asset, of = split(before(name, after))
        if model := lake.newest(asset, of or UNPARTITIONED):  # who needs one that is missing will say so
            refuse_another_model(lake, wanted_by, ref, model)
    rows = lake.table(ref).to_pylist()
    if round_:
        last, long_before = (newest_rows(lake, before("em_bounds", after, 1 + back)) for back in (1, em.patience))
        verdict = gates.bound_gate(rows, last, em.gate, long_before if em.patience else None)
    else:
        verdict = gates.cold_start_gate(rows, em.gate)
    if not verdict.passed:
        why = "; ".join(verdict.failures)
        raise dg.Failure(f"{wanted_by} does not start, {measured} is {gates.STOPPED}: {why}", allow_retries=False)


def _start_asset(step: Step) -> str:
    """The asset of the checkpoint that this step's training starts from."""
    return split(_start(step.settings, step.asset, step.partition))[0]


def _training_rows(step: Step, rows: list[Row]) -> list[Row]:
    em = step.settings.em
    seed = seed_from(step.seed, "examples", round_number(step.partition))
    triples = step.rows("seed_triples") if em.replay else []
    return loop.training_rows(rows, triples, em.replay, em.mixture, seed)


# ---- the control
def _control(
    step: Step, trainer: TrainerResource, examples_of: Callable[[list[Row]], list[Row]], training: Training
) -> Result:
    """As many examples as a phase of EM has; without a cold start there are none, and nothing is trained."""
    em, number = step.settings.em, round_number(step.partition)
    triples = step.rows("seed_triples")
    rows = loop.control_rows(triples, em.cold_start_share, em.replay, em.mixture, step.seed, number)
    if not rows:
        return step.commit_copy(_start_asset(step))
    return trainer.train(step, "sft", _start_asset(step), examples_of(rows), training)


def _control_reads(asset: str) -> Callable[[Settings, str], list[str]]:
    return lambda settings, partition: ["seed_triples", _start(settings, asset, partition)]


@table_asset(
    "3",
    inputs=_edges("control_rationale_model"),
    reads=_control_reads("control_rationale_model"),
    uses=lambda settings, _: [settings.em.e_step, settings.em.control_uses()],
    pool="gpu",
)
def control_rationale_model(step: Step, trainer: TrainerResource) -> Result:
    """q after as many extra steps on the original triples: no E-step."""
    return _control(step, trainer, loop.rationale_examples, step.settings.em.e_step)


@table_asset(
    "3",
    inputs=_edges("control_problem_generator"),
    reads=_control_reads("control_problem_generator"),
    uses=lambda settings, _: [settings.em.m_step_training, settings.em.control_uses()],
    pool="gpu",
)
def control_problem_generator(step: Step, trainer: TrainerResource) -> Result:
    """p after as many extra steps on the original triples: no E-step."""
    return _control(step, trainer, loop.generator_examples, step.settings.em.m_step_training)


@table_asset(
    "3",
    inputs=_edges("control_bounds"),
    reads=lambda *_: ["seed_problems", "control_rationale_model", "control_problem_generator"],
    uses=_measured_by,
    pool="gpu",
)
def control_bounds(step: Step, engine: EngineResource) -> Result:
    """How good the control is on held-out seeds and on training seeds."""
    models = ("control_rationale_model", "control_problem_generator")
    return measure(step, engine, *models, "extra_training", round_number(step.partition))


@joint_assets(control_rationale_model, control_problem_generator, control_bounds)
def extra_training(context: dg.AssetExecutionContext) -> Results:
    """The control of a round: the same optimiser steps and learning-rate restarts, always on the annotated triples."""
    for phase in extra_training.members:
        yield from phase.make(context)
