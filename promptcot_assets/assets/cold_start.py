"""Where EM starts: base models, both models by maximum likelihood on the triples, and how good they are held out."""

from __future__ import annotations

from collections.abc import Callable

from promptcot_assets.assets.fingerprint import Used
from promptcot_assets.assets.gates import gate
from promptcot_assets.assets.held_out import measure
from promptcot_assets.assets.inputs import newest_rows
from promptcot_assets.assets.resources import EngineResource
from promptcot_assets.assets.step import Step
from promptcot_assets.assets.table_asset import Result, Results, table_asset
from promptcot_assets.assets.trainer import TrainerResource
from promptcot_assets.domains.layout import TOKENIZER_MARKERS
from promptcot_assets.lake import Row
from promptcot_assets.settings import Settings
from promptcot_assets.stages import base_models
from promptcot_assets.stages.em import gates, loop
from promptcot_assets.stages.students import distillation

COLD_START_GATE = "cold_start_can_be_learned_from"


@table_asset(inputs=lambda _: ["seed_problems", "seed_triples"], uses=lambda settings, _: [settings.base])
def base_model(step: Step) -> Result:
    """What q and p start from: a pinned hub checkpoint, or a tiny untrained model whose tokenizer fits the seeds."""
    base, folder = step.settings.base, step.work_folder() / "model"
    if base.scratch and not folder.exists():
        triples = step.rows("seed_triples")
        examples = loop.generator_examples(triples) + loop.rationale_examples(triples)
        every_solution = dict.fromkeys(step.settings.domains, 10**9)
        examples += distillation.seed_examples(step.rows("seed_problems"), every_solution)
        texts = (row["prompt"] + row["completion"] for row in examples)
        base_models.from_scratch(texts, base.scratch, folder, markers=TOKENIZER_MARKERS)
    elif not folder.exists():
        base_models.fetched(base, folder)
    return step.commit_checkpoint(folder, base.origin, {})


def _supervised(step: Step, trainer: TrainerResource, examples_of: Callable[[list[Row]], list[Row]]) -> Result:
    """One model by maximum likelihood on the annotated triples (method section 2); without any, the base model."""
    em = step.settings.em
    triples = loop.sample_of(step.rows("seed_triples"), em.cold_start_share, step.seed)
    rows = loop.training_rows(triples, [], 0.0, em.mixture, step.seed)
    if not rows:
        return step.commit_copy("base_model")
    return trainer.train(step, "sft", "base_model", examples_of(rows), em.cold_start)


def _cold_start_inputs(_: Settings) -> list[str]:
    return ["base_model", "seed_triples"]


def _cold_start_uses(settings: Settings, _: str) -> list[dict[str, object]]:
    return [settings.em.part("cold_start", "cold_start_share", "mixture")]


@table_asset(
    "2", inputs=lambda _: ["base_model", "seed_triples"], uses=_cold_start_uses, asks=("rationale",), pool="gpu"
)
def cold_rationale_model(step: Step, trainer: TrainerResource) -> Result:
    """q[0] (z | c, x): supervised on the annotated triples."""
    return _supervised(step, trainer, loop.rationale_examples)


@table_asset(
    "2", inputs=lambda _: ["base_model", "seed_triples"], uses=_cold_start_uses, asks=("generator",), pool="gpu"
)
def cold_problem_generator(step: Step, trainer: TrainerResource) -> Result:
    """p[0] (z, x | c): supervised on the annotated triples."""
    return _supervised(step, trainer, loop.generator_examples)


@table_asset(
    "3",
    inputs=lambda _: ["seed_problems", "cold_rationale_model", "cold_problem_generator"],
    uses=lambda settings, _: [settings.em.measured_by()],
    pool="gpu",
    gates={COLD_START_GATE: "q and p write whole rationales and problems that parse."},
)
def cold_start_bounds(step: Step, engine: EngineResource) -> Results:
    """How good (q[0], p[0]) are: what every round is compared with, and whether EM can start from them."""
    q, p = "cold_rationale_model", "cold_problem_generator"
    yield step.unchanged() or measure(step, engine, q, p, "cold_start", 0)
    verdict = gates.cold_start_gate(newest_rows(step.lake, "cold_start_bounds"), step.settings.em.gate)
    yield from gate("cold_start_bounds", COLD_START_GATE, verdict, "EM cannot start from it")


def _base_inputs(settings: Settings, name: str) -> list[str]:
    """What a student's base is made of; a student that continues another has that one's."""
    former = settings.students[name].continues
    return [f"student_base[{former}]"] if former else ["base_model", "seed_problems"]


def _base_uses(settings: Settings, name: str) -> list[Used]:
    student = settings.students[name]
    if student.continues:
        return [{"continues": student.continues}]
    return [student.part("base", "base_training"), settings.corpus.base_examples()]


@table_asset(
    inputs=lambda _: ["base_model", "seed_problems"], reads=_base_inputs, uses=_base_uses, asks=("solve",), pool="gpu"
)
def student_base(step: Step, trainer: TrainerResource) -> Result:
    """The student before any synthetic problem: a pinned hub checkpoint, or a tiny one taught the seeds' solutions."""
    student, folder = step.settings.students[step.partition], step.work_folder() / "start"
    if student.continues:
        return step.commit_copy("student_base")
    if student.base.scratch and not folder.exists():
        base_models.from_scratch([], student.base.scratch, folder, tokenizer=step.model("base_model"))
    elif not folder.exists():
        base_models.fetched(student.base, folder)
    if student.base_training is None:
        return step.commit_checkpoint(folder, student.base.origin, {})
    examples = distillation.seed_examples(step.rows("seed_problems"), step.settings.corpus.base_examples())
    return trainer.train(step, "sft", folder, examples, student.base_training)
