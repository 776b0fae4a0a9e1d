"""What people look at: yield and cost, difficulty, the map of problem sets, score against training size."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import dagster as dg
import pyarrow as pa

from promptcot_assets.assets.describe import column_schema, plot
from promptcot_assets.assets.embedding import embedder, embedder_inputs, embedder_version, last_generator
from promptcot_assets.assets.evaluation import STAGE_MODELS
from promptcot_assets.assets.inputs import named
from promptcot_assets.assets.resources import EngineResource
from promptcot_assets.assets.step import Step
from promptcot_assets.assets.table_asset import Result, table_asset
from promptcot_assets.inference.refusals import embedded
from promptcot_assets.reports import plots
from promptcot_assets.settings import Settings
from promptcot_assets.stages.analysis import difficulty as hardness
from promptcot_assets.stages.analysis import economics, overview
from promptcot_assets.stages.corpus.sources import contents
from promptcot_assets.tables import TABLES

COUNTED = {name: table.counted for name, table in TABLES.items() if table.counted}  # the rest is long texts


def _counted(settings: Settings) -> list[str]:
    return [name for name in COUNTED if settings.labels.judges or not TABLES[name].optional]


FUNNEL = ("raw_problems", "dropped_problems", "problems", "math_answers", "code_tests", "teacher_traces")


@table_asset("2", inputs=_counted, uses=lambda settings, _: [settings.prices])
def yield_report(step: Step) -> Result:
    """The funnel of a batch: rows left after every step, and why the others fell; on this page also what it cost.

    Tokens and seconds come from the steps' commits, prices from the settings.
    """
    prices, batch = step.settings.prices, step.partition
    counted = _counted(step.settings)
    tables = {name: step.rows(name, COUNTED[name]) for name in counted}
    rows = economics.funnel(batch, *(tables[name] for name in FUNNEL))
    costs = {name: _spent(step, named(name, batch)) for name in counted if name != "dropped_problems"}  # by `problems`
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


@table_asset(
    "2",
    inputs=lambda settings: ["rollouts_online"] if settings.self_play.learning.online else ["rollouts", "verdicts"],
)
def difficulty(step: Step) -> Result:
    """Pass rate of the student on every problem it played on, with its interval and band.

    Of a student that learns while it plays: over its whole training.
    """
    online = step.settings.self_play.learning.online
    drawn_in, judged_in = ("rollouts_online", "rollouts_online") if online else ("rollouts", "verdicts")
    drawn = step.rows(drawn_in, ("rollout_id", "problem_id", "domain", "model", "tokens"))
    rows = hardness.difficulty(drawn, step.rows(judged_in, ("rollout_id", "passed")))
    return step.commit(rows, plot=plot(plots.histogram([row["pass_rate"] for row in rows], "pass rate", "difficulty")))


@table_asset("2", inputs=lambda _: ["difficulty", "teacher_traces"])
def item_difficulty(step: Step) -> Result:
    """Every problem on one scale for all its solvers, students and teacher: the Rasch model of who passed what."""
    traces = step.rows("teacher_traces", ("problem_id", "domain", "teacher", "valid", "drop_reason"))
    rows, abilities = hardness.item_difficulty(step.rows("difficulty"), traces)
    shown = plots.histogram([row["difficulty"] for row in rows], "difficulty (logits)", "difficulty of problems")
    return step.commit(rows, abilities=_table([asdict(one) for one in abilities]), plot=plot(shown))


MAPPED = {  # what stands on the map, and the columns that are read of it
    "seed_problems": ("problem", "split"),
    "problems": ("problem",),
    "benchmark_items": ("problem", "benchmark"),
}


@table_asset(
    "2",
    inputs=lambda settings: [*MAPPED, last_generator(settings)],
    reads=lambda settings, _: [*MAPPED, *embedder_inputs(settings)],
    uses=lambda settings, _: [
        embedder_version(settings.synthesis.embedding),
        settings.distribution,
        {"contents": contents(settings.distribution.sets.values())},
    ],
    asks=(),
    pool="gpu",
)
def distribution(step: Step, engine: EngineResource) -> Result:
    """Where the synthetic problems lie beside seeds, benchmarks and the sets of the profile's `distribution`.

    Seen by the sentence model of `synthesis.embedding` (the paper: all-MiniLM-L6-v2), else by the generator itself.
    """
    sets = overview.problem_sets(*(step.rows(name, columns) for name, columns in MAPPED.items()))
    sets |= overview.other_sets(step.settings.distribution)
    with embedder(step, engine, step.settings.synthesis.embedding) as eyes:
        seen = {name: (vectors := eyes.embed(texts))[embedded(vectors)] for name, texts in sets.items()}
    if unseen := sum(map(len, sets.values())) - sum(map(len, seen.values())):
        step.dropped["cannot be embedded: empty or too long"] = unseen
    means = {name: vectors.mean(axis=0) for name, vectors in seen.items() if len(vectors)}
    rows = overview.distribution(means, {name: len(seen[name]) for name in means}, overview.SEEDS)
    return step.commit(rows, plot=plot(plots.problem_map(rows)))


@table_asset("2", inputs=lambda _: ["benchmark_scores", *STAGE_MODELS.values()])
def scaling(step: Step) -> Result:
    """Benchmark scores against the number of training examples behind each model, its ancestors' included."""
    own = [ref for asset in STAGE_MODELS.values() for ref in step.versions(asset)]
    former = [made.ref for ref in own for made in step.lake.ancestors(ref)]  # of a student that this one continues
    behind = [ref for ref in dict.fromkeys([*own, *former]) if ref.asset in STAGE_MODELS.values()]
    examples = overview.examples_behind([row for ref in behind for row in step.lake.table(ref).to_pylist()])
    return step.commit(overview.scaling(step.rows("benchmark_scores"), step.partition, examples))
