"""Benchmarks of every stage of a student: items, generations kept as rows, verdicts, scores with intervals."""

import dagster as dg

from promptcot_assets.assets.describe import plot
from promptcot_assets.assets.resources import EngineResource, LakeResource, SettingsResource
from promptcot_assets.automation.partitions import STUDENTS
from promptcot_assets.reports import plots
from promptcot_assets.settings.profile import Student
from promptcot_assets.stages import Row, codeforces, evaluation
from promptcot_assets.stages.seeds import contents
from promptcot_assets.stages.verdicts import metered

STAGE_MODELS = {"base": "student_base", "sft": "sft_model", "self_play": "self_play_model"}


@dg.asset(code_version="1", deps=["seed_problems"])
def benchmark_items(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: SettingsResource
) -> dg.MaterializeResult:
    """Every item of every benchmark in use, asked or not: what synthesis is decontaminated against."""
    values = settings.values
    read = {"contents": contents(values.benchmarks.sources())}
    step = lake.step(context, "benchmark_items", "seed_problems", uses=[values.corpus, values.benchmarks, read])
    if done := step.unchanged():
        return done
    published, step.dropped = evaluation.published_items(values.benchmarks)
    return step.commit(evaluation.procedural_items(values.corpus, step.rows("seed_problems"), step.seed) + published)


def _stages(student: Student) -> list[tuple[str, str]]:
    """(stage, model) that are worth asking: without SFT, or without self-play, that model is the one before it."""
    is_own = {"sft": student.taught or student.continues is not None, "self_play": student.plays}
    return [(stage, asset) for stage, asset in STAGE_MODELS.items() if is_own.get(stage, True)]


@dg.asset(code_version="1", deps=["benchmark_items", *STAGE_MODELS.values()], partitions_def=STUDENTS, pool="gpu")
def benchmark_generations(
    context: dg.AssetExecutionContext, lake: LakeResource, engine: EngineResource, settings: SettingsResource
) -> dg.MaterializeResult:
    """What each stage of the student writes to each item; kept, so that re-grading needs no GPU."""
    values, name = settings.values, context.partition_key
    models = [f"{asset}[{name}]" for asset in STAGE_MODELS.values()]
    chat, own_engine = values.students[name].chat, values.engine_of_student(name)
    uses = (values.evaluation, own_engine, values.benchmarks, *([chat] if chat else []))
    step = lake.step(context, "benchmark_generations", "benchmark_items", *models, uses=uses)
    if done := step.unchanged():
        return done
    items = evaluation.evaluated(step.rows("benchmark_items"), values.benchmarks.limit)
    rows: list[Row] = []
    for stage, asset in _stages(values.students[name]):
        with engine.load(step, asset, chat, own_engine) as student:
            ask = evaluation.asker(student, values.evaluation, stage, step.model_id(asset), step.seed)
            rows += step.map(f"ask {stage}", items, ask, values.evaluation.shard_rows)
    return step.commit(rows)


@dg.asset(code_version="2", deps=["benchmark_generations", "benchmark_items"], partitions_def=STUDENTS)
def benchmark_verdicts(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: SettingsResource
) -> dg.MaterializeResult:
    """Every generation judged in the sandbox."""
    values = settings.values
    inputs = (f"benchmark_generations[{context.partition_key}]", "benchmark_items")
    step = lake.step(context, "benchmark_verdicts", *inputs, uses=[values.sandbox])
    if done := step.unchanged():
        return done
    items = {row["item_id"]: row for row in step.rows("benchmark_items")}
    with metered(values.sandbox) as (verifier, pool):
        rows = step.map(
            "judge generations", step.rows("benchmark_generations"),
            lambda drawn: evaluation.verdicts(drawn, items, verifier), values.evaluation.shard_rows * 8,
        )  # fmt: skip
    return step.commit(rows, **pool.figures())


@dg.asset(code_version="1", deps=["benchmark_verdicts"], partitions_def=STUDENTS)
def benchmark_scores(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: SettingsResource
) -> dg.MaterializeResult:
    """avg@k of every stage with its interval clustered by question, and paired differences between stages."""
    values = settings.values
    step = lake.step(
        context, "benchmark_scores", f"benchmark_verdicts[{context.partition_key}]", uses=[values.evaluation]
    )
    if done := step.unchanged():
        return done
    asked = values.evaluation
    rows = evaluation.scores(step.rows("benchmark_verdicts"), asked.generations, asked.generations_of)
    shown = [row for row in rows if row["compared_with"] is None]
    return step.commit(rows, plot=plot(plots.score_bars(shown, f"benchmarks of {context.partition_key}")))


@dg.asset(code_version="1")
def contest_standings(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: SettingsResource
) -> dg.MaterializeResult:
    """Frozen standings of the contests that benchmark problems are from: what a Codeforces rating is held against."""
    benchmarks = settings.values.benchmarks
    read = contents([benchmarks.standings] if benchmarks.standings else [])
    step = lake.step(context, "contest_standings", uses=[{"standings": benchmarks.standings, "contents": read}])
    return step.unchanged() or step.commit(codeforces.contest_standings(benchmarks))


@dg.asset(
    code_version="1", deps=["benchmark_verdicts", "benchmark_items", "contest_standings"], partitions_def=STUDENTS
)
def codeforces_ratings(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
    """Codeforces Elo of every stage with its interval over contests, or the reason why there is none."""
    verdicts = f"benchmark_verdicts[{context.partition_key}]"
    step = lake.step(context, "codeforces_ratings", verdicts, "benchmark_items", "contest_standings")
    if done := step.unchanged():
        return done
    items, judged = step.rows("benchmark_items"), step.rows("benchmark_verdicts")
    return step.commit(codeforces.codeforces_ratings(items, judged, step.rows("contest_standings"), step.seed))
