"""Benchmarks of every stage of a student: generations kept as rows, verdicts, scores with intervals, ratings."""

from __future__ import annotations

from promptcot_assets.assets.describe import plot
from promptcot_assets.assets.resources import EngineResource, SandboxResource
from promptcot_assets.assets.step import Step
from promptcot_assets.assets.table_asset import Result, table_asset
from promptcot_assets.lake import Row
from promptcot_assets.reports import plots
from promptcot_assets.settings.profile import Student
from promptcot_assets.stages.asking import refusals
from promptcot_assets.stages.corpus.sources import contents
from promptcot_assets.stages.evaluation import benchmarks, codeforces

STAGE_MODELS = {"base": "student_base", "sft": "sft_model", "self_play": "self_play_model"}


def _stages(student: Student) -> list[tuple[str, str]]:
    """(stage, model) that are worth asking: without SFT, or without self-play, that model is the one before it."""
    is_own = {"sft": student.taught or student.continues is not None, "self_play": student.plays}
    return [(stage, asset) for stage, asset in STAGE_MODELS.items() if is_own.get(stage, True)]


@table_asset(
    inputs=lambda _: ["benchmark_items", *STAGE_MODELS.values()],
    uses=lambda settings, name: [
        settings.evaluation.part("generations", "generations_of", "sampling", "prompts", "shard_rows"),
        settings.benchmarks.part("limit"), settings.students[name].part("taught", "plays"),
    ],
    asks=("solve", "published"),
    pool="gpu",
)  # fmt: skip
def benchmark_generations(step: Step, engine: EngineResource) -> Result:
    """What each stage of the student writes to each item; kept, so that re-grading needs no GPU."""
    values = step.settings
    items = benchmarks.evaluated(step.rows("benchmark_items"), values.benchmarks.limit)
    rows: list[Row] = []
    for stage, asset in _stages(values.students[step.partition]):
        with engine.load(step, asset) as student:
            ask = benchmarks.asker(student, values.evaluation, stage, step.model_id(asset), step.seed)
            rows += step.map(f"ask {stage}", items, ask, values.evaluation.shard_rows)
    step.dropped = refusals(rows)
    return step.commit(rows)


@table_asset("3", inputs=lambda _: ["benchmark_generations", "benchmark_items"])
def benchmark_verdicts(step: Step, sandbox: SandboxResource) -> Result:
    """Every generation judged in the sandbox."""
    items = {row["item_id"]: row for row in step.rows("benchmark_items")}
    with sandbox.open() as (verifier, meter):
        rows = step.map(
            "judge generations", step.rows("benchmark_generations"),
            lambda drawn: benchmarks.verdicts(drawn, items, verifier), step.settings.evaluation.shard_rows * 8,
        )  # fmt: skip
    return step.commit(rows, **meter.figures())


@table_asset(
    "2",
    inputs=lambda _: ["benchmark_verdicts"],
    uses=lambda settings, _: [settings.evaluation.part("generations", "generations_of")],
)
def benchmark_scores(step: Step) -> Result:
    """avg@k, pass@k and majority@k of every stage, intervals clustered by question, and differences between stages."""
    asked = step.settings.evaluation
    rows = benchmarks.scores(step.rows("benchmark_verdicts"), asked.generations, asked.generations_of)
    return step.commit(rows, plot=plot(plots.score_bars(benchmarks.averages(rows), f"benchmarks of {step.partition}")))


def _standings(source: str | None) -> dict[str, object]:
    return {"standings": source, "contents": contents([source] if source else [])}


@table_asset(uses=lambda settings, _: [_standings(settings.benchmarks.standings)])
def contest_standings(step: Step) -> Result:
    """Frozen standings of the contests that benchmark problems are from: what a Codeforces rating is held against."""
    return step.commit(codeforces.contest_standings(step.settings.benchmarks))


@table_asset("2", inputs=lambda _: ["benchmark_verdicts", "benchmark_items", "contest_standings"])
def codeforces_ratings(step: Step) -> Result:
    """Codeforces Elo of every stage with its interval over contests, or the reason why there is none."""
    items, judged = step.rows("benchmark_items"), step.rows("benchmark_verdicts")
    return step.commit(codeforces.codeforces_ratings(items, judged, step.rows("contest_standings")))
