"""What people look at: the funnel, difficulty, the map of problem sets, score against training size."""

import dagster as dg

from promptcot_assets.assets.describe import plot
from promptcot_assets.assets.evaluation import STAGE_MODELS
from promptcot_assets.assets.resources import EngineResource, LakeResource, SettingsResource
from promptcot_assets.automation.partitions import ALL_BATCHES, BATCHES, LAST_ROUND, ONLY_LAST_ROUND, STUDENTS
from promptcot_assets.reports import plots
from promptcot_assets.stages import analysis

FUNNEL = ("raw_problems", "dropped_problems", "problems", "math_answers", "code_tests", "teacher_traces")


@dg.asset(code_version="1", deps=list(FUNNEL), partitions_def=BATCHES)
def yield_report(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
    """The funnel of a batch: rows left after every step, and why the others fell."""
    step = lake.step(context, "yield_report", *(f"{name}[{context.partition_key}]" for name in FUNNEL))
    if done := step.unchanged():
        return done
    rows = analysis.funnel(step.partition, *(step.rows(name) for name in FUNNEL))
    return step.commit(rows, plot=plot(plots.funnel(rows)))


@dg.asset(code_version="1", deps=["rollouts", "verdicts"], partitions_def=STUDENTS)
def difficulty(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
    """Pass rate of the student on every problem it played on, with its interval."""
    name = context.partition_key
    step = lake.step(context, "difficulty", f"rollouts[{name}]", f"verdicts[{name}]")
    if done := step.unchanged():
        return done
    rows = analysis.difficulty(step.rows("rollouts"), step.rows("verdicts"))
    return step.commit(rows, plot=plot(plots.histogram([row["pass_rate"] for row in rows], "pass rate", "difficulty")))


@dg.asset(
    code_version="1",
    deps=[
        "seed_problems",
        "benchmark_items",
        dg.AssetDep("problems", partition_mapping=ALL_BATCHES),
        dg.AssetDep("problem_generator", partition_mapping=ONLY_LAST_ROUND),
    ],
    pool="gpu",
)
def distribution(
    context: dg.AssetExecutionContext, lake: LakeResource, engine: EngineResource, settings: SettingsResource
) -> dg.MaterializeResult:
    """Where the synthetic problems lie beside seeds and benchmarks (method section 8), in the generator's own eyes."""
    inputs = ("seed_problems", "benchmark_items", "problems[*]", f"problem_generator[{LAST_ROUND}]")
    step = lake.step(context, "distribution", *inputs, uses=[settings.values.engine])
    if done := step.unchanged():
        return done
    sets = analysis.problem_sets(step.rows("seed_problems"), step.rows("problems"), step.rows("benchmark_items"))
    with engine.load(step, "problem_generator") as model:
        means = {name: model.embed(texts).mean(axis=0) for name, texts in sets.items()}
    rows = analysis.distribution(means, {name: len(texts) for name, texts in sets.items()}, analysis.SEEDS)
    return step.commit(rows, plot=plot(plots.problem_map(rows)))


@dg.asset(code_version="1", deps=["benchmark_scores", *STAGE_MODELS.values()], partitions_def=STUDENTS)
def scaling(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
    """Benchmark scores against the number of training examples behind each model, its ancestors' included."""
    name = context.partition_key
    models = [f"{asset}[{name}]" for asset in STAGE_MODELS.values()]
    step = lake.step(context, "scaling", f"benchmark_scores[{name}]", *models)
    if done := step.unchanged():
        return done
    rows = [row for asset in STAGE_MODELS.values() for row in step.rows(asset)]
    examples = analysis.examples_behind(rows)
    return step.commit(analysis.scaling(step.rows("benchmark_scores"), name, examples))
