"""Seed problems, their concepts, the annotated triples (concepts, rationale, problem), and the benchmark items."""

from __future__ import annotations

from collections import Counter

import dagster as dg

from promptcot_assets.assets.annotation import annotation_inputs
from promptcot_assets.assets.fingerprint import Used
from promptcot_assets.assets.step import Step, all_unchanged
from promptcot_assets.assets.table_asset import Result, Results, joint_assets, joint_part, table_asset
from promptcot_assets.lake import Row
from promptcot_assets.settings import Settings
from promptcot_assets.stages.corpus import annotation, seed_tables
from promptcot_assets.stages.corpus.sources import contents
from promptcot_assets.stages.evaluation import benchmarks


def _seed_uses(settings: Settings, _: str) -> list[Used]:
    return [settings.corpus, {"contents": contents(settings.corpus.sources())}]


SEEDS = "Human or procedural problems with what their source knows: answer, solution, tests, concepts, rationale."
NO_SEEDS = "Rows of the seeds' files that are no seeds, with file, row and reason."
seed_problems, dropped_seed_rows = (
    joint_part(name, says, "3", annotation_inputs, _seed_uses, (), None)
    for name, says in (("seed_problems", SEEDS), ("dropped_seed_rows", NO_SEEDS))
)


@joint_assets(seed_problems, dropped_seed_rows)
def seeds(context: dg.AssetExecutionContext) -> Results:
    """Read every source of the corpus: a row is a seed, or it is listed with the reason why not."""
    kept, fallen = (asset.begin(context) for asset in (seed_problems, dropped_seed_rows))
    yield from all_unchanged(kept, fallen) or _committed(kept, fallen, *_seeds(kept))


def _seeds(step: Step) -> tuple[list[Row], list[Row]]:
    rows, dropped = seed_tables.seed_problems(step.settings.corpus, step.seed, step.context.log.warning)
    if written := _annotations(step):
        rows = annotation.annotated_seeds(rows, written)
    return rows, dropped


def _committed(kept: Step, fallen: Step, rows: list[Row], dropped: list[Row]) -> Results:
    kept.dropped = fallen.dropped = Counter(row["reason"] for row in dropped)
    yield kept.commit(rows)
    yield fallen.commit(dropped)


@table_asset(inputs=lambda _: ["seed_problems"])
def concept_corpus(step: Step) -> Result:
    """Concepts of the training seeds with their frequencies: the sampler's unigram distribution."""
    return step.commit(seed_tables.concept_corpus(step.rows("seed_problems")))


@table_asset(inputs=lambda settings: ["seed_problems", *annotation_inputs(settings)])
def seed_triples(step: Step) -> Result:
    """Concepts, rationale and problem of every annotated training seed: what the cold start learns from."""
    seeds = step.rows("seed_problems")
    if not annotation_inputs(step.settings):
        rows, step.dropped = seed_tables.seed_triples(seeds)
    else:
        whole, step.dropped = annotation.annotated_triples(seeds, _annotations(step))
        rows, _ = seed_tables.seed_triples(whole)
    return step.commit(rows)


def _annotations(step: Step) -> list[dict[str, object]]:
    """What all annotators wrote, in the order of the profile."""
    return [row for name in annotation_inputs(step.settings) for row in step.rows_of(name)]


def _item_inputs(_: Settings) -> list[str]:
    return ["seed_problems"]


def _item_uses(settings: Settings, _: str) -> list[Used]:
    sizes, read = settings.corpus.benchmark_sizes(), contents(settings.benchmarks.sources())
    return [{"sizes": sizes}, settings.benchmarks.part("files"), {"contents": read}]


ITEMS = "Every item of every benchmark in use, asked or not: what synthesis is decontaminated against."
NO_ITEMS = "Rows of the benchmarks' files that are no items, with file, row and reason."
benchmark_items, dropped_benchmark_rows = (
    joint_part(name, says, "3", _item_inputs, _item_uses, (), None)
    for name, says in (("benchmark_items", ITEMS), ("dropped_benchmark_rows", NO_ITEMS))
)


@joint_assets(benchmark_items, dropped_benchmark_rows)
def items(context: dg.AssetExecutionContext) -> Results:
    """Read every benchmark in use: a row is an item, or it is listed with the reason why not."""
    kept, fallen = (asset.begin(context) for asset in (benchmark_items, dropped_benchmark_rows))
    yield from all_unchanged(kept, fallen) or _committed(kept, fallen, *_items(kept))


def _items(step: Step) -> tuple[list[Row], list[Row]]:
    published, dropped = benchmarks.published_items(step.settings.benchmarks)
    return benchmarks.procedural_items(step.settings.corpus, step.rows("seed_problems"), step.seed) + published, dropped
