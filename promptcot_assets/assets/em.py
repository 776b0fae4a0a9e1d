"""EM rounds: one partition a round, strictly in order, and the control that trains as long without an E-step.

Each output depends on its own previous round and on the cold start, and on nothing inside the round: Dagster cannot
run backfills of a self-dependent multi-asset with inner dependencies. Inside, the phases follow one another, each
resumable by itself, and each output records the exact versions it was made of, siblings included.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import dagster as dg

from promptcot_assets.assets.gates import gate
from promptcot_assets.assets.held_out import measure
from promptcot_assets.assets.resources import EngineResource, LakeResource, SettingsResource, Step, TrainerResource
from promptcot_assets.automation.partitions import PREVIOUS_ROUND, ROUNDS, round_key, round_number
from promptcot_assets.lake.ids import seed_from
from promptcot_assets.settings import Settings
from promptcot_assets.settings.profile import ExpectationMaximisation, Gate
from promptcot_assets.stages import Row, em, em_bounds, em_gates

ROUND_OUTPUTS = ("em_rationales", "rationale_model", "em_m_step", "problem_generator", "em_bounds")
CONTROL_OUTPUTS = ("control_rationale_model", "control_problem_generator", "control_bounds")
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


def _of_round(asset: str, round_: int) -> str:
    """The input that `asset` was in a round; in round 0, before the first, that is the cold start's."""
    return f"{asset}[{round_key(round_)}]" if round_ > 0 else COLD[asset]


def _outputs(names: tuple[str, ...], description: dict[str, str]) -> list[dg.AssetSpec]:
    starts = ["seed_problems", "seed_triples", "cold_rationale_model", "cold_problem_generator", "cold_start_bounds"]
    return [
        dg.AssetSpec(
            name,
            code_version="2",
            description=description[name],
            deps=[*starts, dg.AssetDep(name, partition_mapping=PREVIOUS_ROUND)],
        )
        for name in names
    ]


@dataclass(frozen=True)
class Round:
    """One round in the making: what its phases share."""

    context: dg.AssetExecutionContext
    lake: LakeResource
    engine: EngineResource
    trainer: TrainerResource
    settings: Settings

    @property
    def em(self) -> ExpectationMaximisation:
        return self.settings.em

    @property
    def number(self) -> int:
        return round_number(self.context.partition_key)

    def before(self, asset: str, rounds: int = 1) -> str:
        """The input that `asset` was `rounds` rounds ago."""
        return _of_round(asset, self.number - rounds)

    def this(self, asset: str) -> str:
        return f"{asset}[{self.context.partition_key}]"

    def start_of(self, asset: str) -> str:
        """The input whose weights a round's training of `asset` starts from."""
        return self.before(asset) if self.em.restart_from == "previous" else COLD[asset]

    @property
    def replayed(self) -> tuple[str, ...]:
        """The annotated triples, where a round's models are trained on some of them: else no ancestor of theirs."""
        return ("seed_triples",) if self.em.replay else ()

    def step(self, asset: str, *inputs: str, uses: tuple[object, ...] = ()) -> Step:
        return self.lake.step(self.context, asset, *dict.fromkeys(inputs), uses=uses)  # type: ignore[arg-type]

    def rows(self, name: str) -> list[Row]:
        return self.lake.rows(name)


@dg.multi_asset(
    specs=_outputs(ROUND_OUTPUTS, {
        "em_rationales": "E-step: every candidate rationale with its reward terms, rank, and why it lost.",
        "rationale_model": "q[r] (z | c, x): supervised on the E-step's winners.",
        "em_m_step": "M-step: the rationale that p is trained on, for every seed.",
        "problem_generator": "p[r] (z, x | c): supervised on the M-step's rationales.",
        "em_bounds": "How good (q[r], p[r]) are on held-out seeds and on training seeds.",
    }),
    partitions_def=ROUNDS,
    pool="gpu",
    check_specs=[
        dg.AssetCheckSpec(COLLAPSE_GATE, asset="em_rationales", blocking=True, partitions_def=ROUNDS,
                          description="The candidates are whole, differ from one another and are not one text."),
        dg.AssetCheckSpec(BOUND_GATE, asset="em_bounds", blocking=True, partitions_def=ROUNDS,
                          description="The held-out bound did not fall beyond noise."),
    ],
)  # fmt: skip
def em_round(
    context: dg.AssetExecutionContext,
    lake: LakeResource,
    engine: EngineResource,
    trainer: TrainerResource,
    settings: SettingsResource,
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """One EM round (paper section 3.2): E-step, rationale model, M-step, problem generator, held-out bounds.

    After `em.patience` rounds without a significant gain a round only carries the models over.
    """
    now = Round(context, lake, engine, trainer, settings.values)
    refuse_stopped(lake, now.em.gate, f"round {now.number}", now.number - 1)
    history = [now.before("em_bounds", back) for back in range(now.number, 0, -1)]
    if em_gates.converged([now.rows(one) for one in history], now.em.patience, now.em.gate):
        yield from _carry_over(now)
        return
    yield _e_step(now)
    before = now.before("em_rationales") if now.number > 1 else "seed_triples"
    rationales = [row for row in now.rows(before) if row.get("selected", True)]
    verdict = em_gates.collapse_gate(now.rows(now.this("em_rationales")), rationales, now.em.gate)
    yield from gate("em_rationales", COLLAPSE_GATE, verdict, ADVICE)
    yield _rationale_model(now)
    yield _m_step(now)
    yield _problem_generator(now)
    yield _bounds(now)
    verdict = em_gates.bound_gate(now.rows(now.this("em_bounds")), now.rows(now.before("em_bounds")), now.em.gate)
    yield from gate("em_bounds", BOUND_GATE, verdict, ADVICE)


def _e_step(now: Round) -> dg.MaterializeResult:
    q, p = now.before("rationale_model"), now.before("problem_generator")
    if now.em.selection == "frozen" and now.number > 1:
        step = now.step("em_rationales", now.before("em_rationales"), uses=(now.em.e_step_uses(),))
        return step.unchanged() or step.commit(em.carried(step.rows("em_rationales"), now.number))
    step = now.step("em_rationales", "seed_triples", q, p, uses=(now.em.e_step_uses(), now.settings.engine))
    if done := step.unchanged():
        return done
    with now.engine.load(step, _asset(q)) as rationale_model:
        proposed = step.map(
            f"E-step: {now.em.candidates} rationales a seed",
            em.one_a_problem(step.rows("seed_triples")),
            lambda seeds: em.propose(
                seeds,
                rationale_model,
                now.em.sampling,
                now.em.candidates,
                now.em.filters,
                seed_from(step.seed, "E-step", now.number),
            ),
            now.em.shard_rows,
        )
    with now.engine.load(step, _asset(p)) as generator:
        judged = step.map(
            "E-step: rewards", proposed, lambda rows: em.judge(rows, generator, now.em.reward),
            now.em.shard_rows * now.em.candidates,
        )  # fmt: skip
    selected = em.select(list(judged), now.em.selection, seed_from(step.seed, "selection"))
    ranked = em.candidate_rows(selected, now.number, step.model_id(_asset(q)), step.model_id(_asset(p)))
    step.dropped = em.losses(ranked)
    return step.commit(ranked, **em.e_step_summary(ranked))


def _rationale_model(now: Round) -> dg.MaterializeResult:
    start = now.start_of("rationale_model")
    step = now.step("rationale_model", now.this("em_rationales"), *now.replayed, start,
                    uses=(now.em.e_step, now.em.training_uses()))  # fmt: skip
    if done := step.unchanged():
        return done
    winners = [row for row in step.rows("em_rationales") if row["selected"]]
    return now.trainer.train(
        step, "sft", _asset(start), em.rationale_examples(_training_rows(now, step, winners)), now.em.e_step
    )


def _m_step(now: Round) -> dg.MaterializeResult:
    inputs = (now.this("em_rationales"), "seed_triples", now.this("rationale_model"))
    step = now.step("em_m_step", *inputs, uses=(now.em.m_step_uses(), now.settings.engine))
    if done := step.unchanged():
        return done
    winners = [row for row in step.rows("em_rationales") if row["selected"]]
    chosen = [em.winner_row(row) for row in winners]
    if now.em.m_step == "greedy":
        with now.engine.load(step, "rationale_model") as rationale_model:
            greedy = step.map(
                "M-step: greedy rationales", em.one_a_problem(step.rows("seed_triples")),
                lambda seeds: em.greedy(seeds, rationale_model, now.em.sampling, now.em.filters), now.em.shard_rows,
            )  # fmt: skip
        chosen, step.dropped = em.with_winners(list(greedy), winners)
    return step.commit(em.m_step_rows(chosen, now.number, step.model_id("rationale_model")))


def _problem_generator(now: Round) -> dg.MaterializeResult:
    start = now.start_of("problem_generator")
    step = now.step("problem_generator", now.this("em_m_step"), *now.replayed, start,
                    uses=(now.em.m_step_training, now.em.training_uses()))  # fmt: skip
    if done := step.unchanged():
        return done
    examples = em.generator_examples(_training_rows(now, step, step.rows("em_m_step")))
    return now.trainer.train(step, "sft", _asset(start), examples, now.em.m_step_training)


def _bounds(now: Round) -> dg.MaterializeResult:
    q, p = now.this("rationale_model"), now.this("problem_generator")
    step = now.step("em_bounds", "seed_problems", q, p, uses=(now.em.measured_by(), now.settings.engine))
    return step.unchanged() or measure(step, now.engine, now.em, _asset(q), _asset(p), "em", now.number)


def _carry_over(now: Round) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """The round before once more under this round's name: converged, so nothing is trained."""
    last = now.before("em_bounds")
    now.context.log.info(
        f"round {now.number}: the last {now.em.patience} rounds brought no significant gain of the held-out bound "
        "(em.patience), so this round carries their models over"
    )
    for asset in ROUND_OUTPUTS:
        if asset in COLD and asset != "em_bounds":
            step = now.step(asset, now.before(asset), last)
            yield step.unchanged() or step.commit_copy(asset)
        else:
            step = now.step(asset, last)
            rows = em_bounds.carried_over(step.rows("em_bounds"), now.number) if asset == "em_bounds" else []
            yield step.unchanged() or step.commit(rows)
    for asset, check in (("em_rationales", COLLAPSE_GATE), ("em_bounds", BOUND_GATE)):
        yield dg.AssetCheckResult(asset_key=asset, check_name=check, passed=True, metadata={"carried over from": last})


def refuse_stopped(lake: LakeResource, gate: Gate, wanted_by: str, round_: int) -> None:
    """Dagster's blocking checks hold within one run; what is launched by itself looks at the gate of what it needs.

    round_: the round it needs, 0 for the cold start.
    Raises: dagster.Failure when it was stopped by its gate.
    """
    measured = _of_round("em_bounds", round_)
    if round_:
        before = lake.rows(_of_round("em_bounds", round_ - 1))
        verdict = em_gates.bound_gate(lake.rows(measured), before, gate)
    else:
        verdict = em_gates.cold_start_gate(lake.rows(measured), gate)
    if not verdict.passed:
        why = "; ".join(verdict.failures)
        raise dg.Failure(f"{wanted_by} does not start, {measured} is {em_gates.STOPPED}: {why}", allow_retries=False)


def _training_rows(now: Round, step: Step, rows: list[Row]) -> list[Row]:
    seed = seed_from(step.seed, "examples", now.number)
    triples = step.rows("seed_triples") if now.replayed else []
    return em.training_rows(rows, triples, now.em.replay, now.em.mixture, seed)


def _asset(name: str) -> str:
    return name.partition("[")[0]


@dg.multi_asset(
    specs=_outputs(CONTROL_OUTPUTS, {
        "control_rationale_model": "q after as many extra steps on the original triples: no E-step.",
        "control_problem_generator": "p after as many extra steps on the original triples: no E-step.",
        "control_bounds": "How good the control is on held-out seeds and on training seeds.",
    }),
    partitions_def=ROUNDS,
    pool="gpu",
)  # fmt: skip
def extra_training(
    context: dg.AssetExecutionContext,
    lake: LakeResource,
    engine: EngineResource,
    trainer: TrainerResource,
    settings: SettingsResource,
) -> Iterator[dg.MaterializeResult]:
    """The control of a round: the same optimiser steps and learning-rate restarts, always on the annotated triples."""
    now = Round(context, lake, engine, trainer, settings.values)
    for asset, examples_of, training in (
        ("control_rationale_model", em.rationale_examples, now.em.e_step),
        ("control_problem_generator", em.generator_examples, now.em.m_step_training),
    ):
        start = now.start_of(asset)
        step = now.step(asset, "seed_triples", start, uses=(training, now.em.training_uses()))
        if not (result := step.unchanged()):
            rows = em.training_rows(step.rows("seed_triples"), [], 0.0, now.em.mixture, step.seed)
            result = trainer.train(step, "sft", _asset(start), examples_of(rows), training)
        yield result
    q, p = CONTROL_OUTPUTS[:2]
    step = now.step("control_bounds", "seed_problems", now.this(q), now.this(p),
                    uses=(now.em.measured_by(), now.settings.engine))  # fmt: skip
    yield step.unchanged() or measure(step, engine, now.em, q, p, "extra_training", now.number)
