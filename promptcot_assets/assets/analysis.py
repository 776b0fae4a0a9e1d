"""What people look at: yield and cost, difficulty, the map of problem sets, score against training size."""

from dataclasses import asdict
from typing import Any

import dagster as dg
import pyarrow as pa

from promptcot_assets.assets.describe import column_schema, plot
from promptcot_assets.assets.embedding import embedder, embedder_inputs, embedder_version
from promptcot_assets.assets.evaluation import STAGE_MODELS
from promptcot_assets.assets.resources import EngineResource, LakeResource, SettingsResource, Step
from promptcot_assets.automation.partitions import ALL_BATCHES, BATCHES, ONLY_LAST_ROUND, STUDENTS
from promptcot_assets.reports import plots
from promptcot_assets.stages import analysis, economics
from promptcot_assets.stages import difficulty as hardness
from promptcot_assets.stages.seeds import contents

FUNNEL = ("raw_problems", "dropped_problems", "problems", "math_answers", "code_tests", "teacher_traces")
STEPS = ("concept_sets", *FUNNEL)
COUNTED = {  # what the funnel and the ledger look at; the rest is long texts
    "concept_sets": ("domain",),
    "raw_problems": ("domain", "problem", "drop_reason"),
    "dropped_problems": ("domain", "reason"),
    "problems": ("domain",),
    "math_answers": ("domain", "answer", "drop_reason"),
    "code_tests": ("domain", "problem_id", "expected", "drop_reason"),
    "teacher_traces": ("domain", "problem_id", "valid", "drop_reason"),
}


@dg.asset(code_version="2", deps=list(STEPS), partitions_def=BATCHES)
def yield_report(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: SettingsResource
) -> dg.MaterializeResult:
    """The funnel of a batch: rows left after every step, and why the others fell; on this page also what it cost.

    Tokens and seconds come from the steps' commits, prices from the settings.
    """
    prices, batch = settings.values.prices, context.partition_key
    step = lake.step(context, "yield_report", *(f"{name}[{batch}]" for name in STEPS), uses=[prices])
    if done := step.unchanged():
        return done
    tables = {name: step.rows(name, COUNTED[name]) for name in STEPS}
    rows = economics.funnel(batch, *(tables[name] for name in FUNNEL))
    costs = {name: _spent(step, f"{name}[{batch}]") for name in STEPS if name != "dropped_problems"}  # by `problems`
    entries = economics.ledger(tables, costs, prices)
    ledger = [asdict(entry) for entry in entries]
    return step.commit(
        rows,
        plot=plot(plots.funnel(rows)),
        ledger=_table(ledger),
        costs=plot(plots.step_costs(ledger[:-1], prices.currency)),
        **economics.a_kept_row(entries),
    )


def _spent(step: Step, name: str) -> economics.Cost:
    """What the commit of one input says that it cost."""
    (ref,) = step.refs[name]
    made = step.lake.commit_of(ref).provenance
    return economics.Cost(made.tokens, made.seconds)


def _table(records: list[dict[str, Any]]) -> dg.TableMetadataValue:
    schema = column_schema(pa.Table.from_pylist(records).schema)
    return dg.MetadataValue.table([dg.TableRecord(one) for one in records], schema)


@dg.asset(code_version="2", deps=["rollouts", "verdicts"], partitions_def=STUDENTS)
def difficulty(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
    """Pass rate of the student on every problem it played on, with its interval and band."""
    name = context.partition_key
    step = lake.step(context, "difficulty", f"rollouts[{name}]", f"verdicts[{name}]")
    if done := step.unchanged():
        return done
    drawn = step.rows("rollouts", ("rollout_id", "problem_id", "domain", "model", "tokens"))
    rows = hardness.difficulty(drawn, step.rows("verdicts", ("rollout_id", "passed")))
    return step.commit(rows, plot=plot(plots.histogram([row["pass_rate"] for row in rows], "pass rate", "difficulty")))


@dg.asset(
    code_version="1",
    deps=[
        dg.AssetDep("difficulty", partition_mapping=dg.AllPartitionMapping()),
        dg.AssetDep("teacher_traces", partition_mapping=ALL_BATCHES),
    ],
)
def item_difficulty(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
    """Every problem on one scale for all its solvers, students and teacher: the Rasch model of who passed what."""
    step = lake.step(context, "item_difficulty", "difficulty[*]", "teacher_traces[*]")
    if done := step.unchanged():
        return done
    traces = step.rows("teacher_traces", ("problem_id", "domain", "teacher", "valid", "drop_reason"))
    rows, abilities = hardness.item_difficulty(step.rows("difficulty"), traces)
    return step.commit(
        rows,
        abilities=_table([asdict(one) for one in abilities]),
        plot=plot(
            plots.histogram([row["difficulty"] for row in rows], "difficulty (logits)", "difficulty of problems")
        ),
    )


@dg.asset(
    code_version="2",
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
    """Where the synthetic problems lie beside seeds, benchmarks and the sets of the profile's `distribution`.

    Seen by the sentence model of `synthesis.embedding` (the paper: all-MiniLM-L6-v2), else by the generator itself.
    """
    model, others = settings.values.synthesis.embedding, settings.values.distribution
    inputs = ("seed_problems", "benchmark_items", "problems[*]", *embedder_inputs(model))
    read = {"contents": contents(others.sets.values())}
    step = lake.step(
        context, "distribution", *inputs, uses=[settings.values.engine, embedder_version(model), others, read]
    )
    if done := step.unchanged():
        return done
    columns = {
        "seed_problems": ("problem", "split"),
        "problems": ("problem",),
        "benchmark_items": ("problem", "benchmark"),
    }
    sets = analysis.problem_sets(*(step.rows(name, some) for name, some in columns.items()))
    sets |= analysis.other_sets(others)
    with embedder(step, engine, model) as eyes:
        means = {name: eyes.embed(texts).mean(axis=0) for name, texts in sets.items()}
    rows = analysis.distribution(means, {name: len(texts) for name, texts in sets.items()}, analysis.SEEDS)
    return step.commit(rows, plot=plot(plots.problem_map(rows)))


@dg.asset(code_version="2", deps=["benchmark_scores", *STAGE_MODELS.values()], partitions_def=STUDENTS)
def scaling(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
    """Benchmark scores against the number of training examples behind each model, its ancestors' included."""
    name = context.partition_key
    models = [f"{asset}[{name}]" for asset in STAGE_MODELS.values()]
    step = lake.step(context, "scaling", f"benchmark_scores[{name}]", *models)
    if done := step.unchanged():
        return done
    own = [ref for asset in STAGE_MODELS.values() for ref in step.versions(asset)]
    former = [made.ref for ref in own for made in step.lake.ancestors(ref)]  # of a student that this one continues
    behind = [ref for ref in dict.fromkeys([*own, *former]) if ref.asset in STAGE_MODELS.values()]
    examples = analysis.examples_behind([row for ref in behind for row in step.lake.table(ref).to_pylist()])
    return step.commit(analysis.scaling(step.rows("benchmark_scores"), name, examples))
