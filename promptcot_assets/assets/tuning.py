"""A generator that meets its solver: after EM, p learns from what a student solves about as often as it should.

Off by default (`tuning`). A batch is written by such a generator where `synthesis.written_by` says so.
"""

from __future__ import annotations

import dagster as dg

from promptcot_assets.assets.embedding import embedder, embedder_version, last_generator
from promptcot_assets.assets.gates import gate, refuse_another_model
from promptcot_assets.assets.inputs import named, newest_rows, refs_of
from promptcot_assets.assets.partitions import keys_of
from promptcot_assets.assets.resources import EngineResource
from promptcot_assets.assets.step import Step
from promptcot_assets.assets.table_asset import Result, Results, table_asset
from promptcot_assets.assets.trainer import TrainerResource
from promptcot_assets.lake import Row, Rows
from promptcot_assets.settings import Settings
from promptcot_assets.settings.profile import Tuning
from promptcot_assets.stages import tuning
from promptcot_assets.stages.analysis import difficulty as hardness
from promptcot_assets.stages.em import bounds, loop
from promptcot_assets.stages.em.gates import STOPPED
from promptcot_assets.stages.synthesis import writing
from promptcot_assets.tables import Unit

DIVERSITY_GATE = "problems_stayed_diverse"
ADVICE = "no batch is written by it. Raise tuning.anchors, or lower the learning rate or the epochs of tuning.training"


def _asked(settings: Settings) -> Tuning:
    assert settings.tuning, "the assets of this file are in no graph without it"
    return settings.tuning


def _m_steps(settings: Settings) -> list[str]:
    return [f"em_m_step[{key}]" for key in keys_of(Unit.ROUND, settings)]


def _statements(settings: Settings) -> list[str]:
    """Where the worked examples of statements are repaired, what the student was asked."""
    return ["code_tests"] if settings.labels.repair_examples else []


@table_asset(
    inputs=lambda settings: ["rollouts", "verdicts", "problems", *_statements(settings), *_m_steps(settings)],
    uses=lambda settings, _: [_asked(settings).part("pass_rate", "within", "anchors")],
    when=lambda settings: settings.tuning,
)
def tuning_examples(step: Step) -> Result:
    """EM's own problems that the student solves about as often as it should, and human seeds beside them."""
    rates = hardness.difficulty(step.rows("rollouts"), step.rows("verdicts"))
    rows = tuning.examples(_problems(step), rates, _last_rationales(step), _asked(step.settings), step.seed)
    return step.commit(rows, **tuning.example_figures(rows))


def _problems(step: Step) -> list[Row]:
    """The problems, with the text that the student was asked."""
    told = [row for name in _statements(step.settings) for row in step.rows(name, ["problem_id", "statement"])]
    repaired = {row["problem_id"]: row["statement"] for row in told if row["statement"] is not None}
    return [row | {"problem": repaired.get(row["problem_id"], row["problem"])} for row in step.rows("problems")]


def _last_rationales(step: Step) -> list[Row]:
    """Those of the last round that trained; a round that only carried models over has none."""
    written = (step.rows_of(name) for name in reversed(_m_steps(step.settings)))
    return next((rows for rows in written if rows), [])


@table_asset(
    inputs=lambda settings: ["tuning_examples", last_generator(settings)],
    uses=lambda settings, _: [_asked(settings).training],
    pool="gpu",
    when=lambda settings: settings.tuning,
)
def tuned_generator(step: Step, trainer: TrainerResource) -> Result:
    """EM's last p after it learned from its solver; without an example it is that p, unchanged, and says so."""
    examples = step.rows("tuning_examples")
    if not examples:
        step.context.log.warning(
            f"no problem that {step.partition} played on has a pass rate within tuning.within of tuning.pass_rate: "
            "the tuned generator is EM's last one, unchanged"
        )
        return step.commit_copy("problem_generator")
    return trainer.train(
        step, "sft", "problem_generator", loop.generator_examples(examples), _asked(step.settings).training
    )


@table_asset(
    inputs=lambda settings: ["seed_problems", last_generator(settings), "tuned_generator"],
    uses=lambda settings, _: [
        _asked(settings).part("samples", "shard_rows"), settings.em.part("problem_sampling"),
        embedder_version(settings.synthesis.embedding),
    ],
    asks=("generator",),
    pool="gpu",
    gates={DIVERSITY_GATE: "The tuned generator's problems are as different from one another as EM's."},
    when=lambda settings: settings.tuning,
)  # fmt: skip
def tuning_samples(step: Step, engine: EngineResource) -> Results:
    """What p writes on held-out seeds' concepts before and after it met its solver, and whether it stayed diverse."""
    yield step.unchanged() or _sampled(step, engine)
    rows = newest_rows(step.lake, step.title)
    yield from gate(step.asset, DIVERSITY_GATE, _verdict(rows, step.settings), ADVICE)


def _verdict(rows: list[Row], settings: Settings) -> tuning.Verdict:
    return tuning.diversity_gate(rows, _asked(settings).min_diversity, settings.em.gate.standard_errors)


def _sampled(step: Step, engine: EngineResource) -> Result:
    weights = {step.model_id(one).partition("/")[2] for one in ("problem_generator", "tuned_generator")}
    if len(weights) == 1:
        return step.commit([])  # nothing was learned
    rows = [*_written(step, engine, "problem_generator"), *_written(step, engine, "tuned_generator")]
    with embedder(step, engine, step.settings.synthesis.embedding) as model:
        rows = tuning.with_spread(rows, model)
    step.dropped = writing.drop_counts(rows)
    return step.commit(rows, diversity=dg.MetadataValue.json(tuning.measures(rows)))


def _written(step: Step, engine: EngineResource, asset: str) -> Rows:
    """What one of the two generators writes on the concepts of held-out seeds."""
    values, sampling, model = _asked(step.settings), step.settings.em.problem_sampling, step.model_id(asset)
    series = tuning.AFTER if asset == "tuned_generator" else tuning.BEFORE
    with engine.load(step, asset) as p:
        return step.map(
            f"write problems, {series}", bounds.measured_seeds(step.rows("seed_problems"), training_seeds=0),
            lambda seeds: tuning.samples(seeds, p, sampling, values.samples, step.seed, series, model),
            values.shard_rows,
        )  # fmt: skip


def refuse_narrowed(step: Step, student: str) -> None:
    """A batch that is launched by itself looks at the gate of the very generator that is to write it.

    Raises: dagster.Failure when that was stopped by its gate, or the samples are another one's; LakeError without any.
    """
    (measured,) = refs_of(step.lake, named("tuning_samples", student), step.title, step.settings)
    refuse_another_model(step.lake, step.title, measured, step.version("tuned_generator"))
    verdict = _verdict(step.lake.table(measured).to_pylist(), step.settings)
    if not verdict.passed:
        why = "; ".join(verdict.failures)
        raise dg.Failure(f"{step.title} does not start, {measured} is {STOPPED}: {why}", allow_retries=False)


def writer(settings: Settings, batch: str) -> str:
    """The input that writes a batch: EM's last p, or the tuned one of the student that the settings name.

    That one is no edge of the graph, where it would be a circle.
    """
    student = settings.synthesis.written_by.get(batch)
    return named("tuned_generator", student) if student else last_generator(settings)
