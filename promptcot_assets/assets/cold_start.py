"""Where EM starts: base models, both models by maximum likelihood on the triples, and how good they are held out."""

from collections.abc import Callable, Iterator

import dagster as dg

from promptcot_assets.assets.gates import gate
from promptcot_assets.assets.held_out import measure
from promptcot_assets.assets.resources import EngineResource, LakeResource, SettingsResource, TrainerResource
from promptcot_assets.automation.partitions import STUDENTS
from promptcot_assets.domains.layout import TOKENIZER_MARKERS
from promptcot_assets.stages import Row, base_models, distillation, em, em_gates

COLD_START_GATE = "cold_start_can_be_learned_from"


@dg.asset(code_version="1", deps=["seed_problems", "seed_triples"])
def base_model(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: SettingsResource
) -> dg.MaterializeResult:
    """What q and p start from: a pinned hub checkpoint, or a tiny untrained model whose tokenizer fits the seeds."""
    base = settings.values.base
    step = lake.step(context, "base_model", "seed_problems", "seed_triples", uses=[base])
    if done := step.unchanged():
        return done
    folder = step.work_folder() / "model"
    if base.scratch and not folder.exists():
        triples = step.rows("seed_triples")
        examples = em.generator_examples(triples) + em.rationale_examples(triples)
        examples += distillation.seed_examples(
            step.rows("seed_problems"), dict.fromkeys(settings.values.domains, 10**9)
        )
        texts = (row["prompt"] + row["completion"] for row in examples)
        base_models.from_scratch(texts, base.scratch, folder, markers=TOKENIZER_MARKERS)
    elif base.hub_id and not folder.exists():
        base_models.from_hub(base.hub_id, base.revision, folder)
    return step.commit_checkpoint(folder, base.hub_id, {})


def _supervised(
    context: dg.AssetExecutionContext,
    lake: LakeResource,
    trainer: TrainerResource,
    settings: SettingsResource,
    asset: str,
    examples_of: Callable[[list[Row]], list[Row]],
) -> dg.MaterializeResult:
    """One model by maximum likelihood on the annotated triples (method section 2); without any, the base model."""
    values = settings.values.em
    used = values.model_dump(include={"cold_start_share", "mixture"})
    step = lake.step(context, asset, "base_model", "seed_triples", uses=[values.cold_start, used])
    if done := step.unchanged():
        return done
    triples = em.sample_of(step.rows("seed_triples"), values.cold_start_share, step.seed)
    rows = em.training_rows(triples, [], 0.0, values.mixture, step.seed)
    if not rows:
        return step.commit_copy("base_model")
    return trainer.train(step, "sft", "base_model", examples_of(rows), values.cold_start)


@dg.asset(code_version="2", deps=["base_model", "seed_triples"], pool="gpu")
def cold_rationale_model(
    context: dg.AssetExecutionContext, lake: LakeResource, trainer: TrainerResource, settings: SettingsResource
) -> dg.MaterializeResult:
    """q[0] (z | c, x): supervised on the annotated triples."""
    return _supervised(context, lake, trainer, settings, "cold_rationale_model", em.rationale_examples)


@dg.asset(code_version="2", deps=["base_model", "seed_triples"], pool="gpu")
def cold_problem_generator(
    context: dg.AssetExecutionContext, lake: LakeResource, trainer: TrainerResource, settings: SettingsResource
) -> dg.MaterializeResult:
    """p[0] (z, x | c): supervised on the annotated triples."""
    return _supervised(context, lake, trainer, settings, "cold_problem_generator", em.generator_examples)


@dg.asset(
    code_version="2",
    deps=["seed_problems", "cold_rationale_model", "cold_problem_generator"],
    pool="gpu",
    check_specs=[dg.AssetCheckSpec(COLD_START_GATE, asset="cold_start_bounds", blocking=True,
                                   description="q and p write whole rationales and problems that parse.")],
)  # fmt: skip
def cold_start_bounds(
    context: dg.AssetExecutionContext, lake: LakeResource, engine: EngineResource, settings: SettingsResource
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """How good (q[0], p[0]) are: what every round is compared with, and whether EM can start from them."""
    values = settings.values
    q, p = "cold_rationale_model", "cold_problem_generator"
    step = lake.step(context, "cold_start_bounds", "seed_problems", q, p, uses=[values.em.measured_by(), values.engine])
    yield step.unchanged() or measure(step, engine, values.em, q, p, "cold_start", 0)
    verdict = em_gates.cold_start_gate(lake.rows("cold_start_bounds"), values.em.gate)
    yield from gate("cold_start_bounds", COLD_START_GATE, verdict, "EM cannot start from it")


@dg.asset(code_version="1", deps=["base_model", "seed_problems"], partitions_def=STUDENTS, pool="gpu")
def student_base(
    context: dg.AssetExecutionContext, lake: LakeResource, trainer: TrainerResource, settings: SettingsResource
) -> dg.MaterializeResult:
    """The student before any synthetic problem: a pinned hub checkpoint, or a tiny one taught the seeds' solutions."""
    student = settings.values.students[context.partition_key]
    limits = settings.values.corpus.base_examples()
    step = lake.step(context, "student_base", "base_model", "seed_problems", uses=[student, limits])
    if done := step.unchanged():
        return done
    folder = step.work_folder() / "start"
    if student.base.scratch and not folder.exists():
        base_models.from_scratch([], student.base.scratch, folder, tokenizer=step.model("base_model"))
    elif student.base.hub_id and not folder.exists():
        base_models.from_hub(student.base.hub_id, student.base.revision, folder)
    if student.base_training is None:
        return step.commit_checkpoint(folder, student.base.hub_id, {})
    examples = distillation.seed_examples(step.rows("seed_problems"), limits)
    return trainer.train(step, "sft", folder, examples, student.base_training, student.chat)
