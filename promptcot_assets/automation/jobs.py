"""Jobs for each natural unit of work: what the UI's launchpad, schedules and CI name."""

from __future__ import annotations

import dagster as dg

from promptcot_assets.automation.partitions import BATCHES, ROUNDS, STUDENTS


def _job(name: str, selection: dg.AssetSelection, description: str, **options: object) -> object:
    return dg.define_asset_job(f"{name}_job", selection, description=description, **options)  # type: ignore[arg-type]


JOBS = [
    _job("corpus", dg.AssetSelection.groups("corpus") | dg.AssetSelection.assets("benchmark_items"), "Seeds, concepts, triples and benchmark items."),
    _job("cold_start", dg.AssetSelection.groups("cold_start") - dg.AssetSelection.assets("student_base"), "Base model and both models trained on the triples."),
    _job("em_round", dg.AssetSelection.assets("em_rationales", "rationale_model", "em_m_step", "problem_generator", "em_bounds"), "One EM round.", partitions_def=ROUNDS),
    _job("synthesis_batch", dg.AssetSelection.groups("synthesis") | dg.AssetSelection.groups("labels") | dg.AssetSelection.assets("teacher_traces", "yield_report"), "One batch from concept sets to verified traces.", partitions_def=BATCHES),
    _job("post_training", dg.AssetSelection.assets("sft_examples", "sft_model") | dg.AssetSelection.groups("self_play"), "SFT and self-play of one student.", partitions_def=STUDENTS),
    _job("evaluation", dg.AssetSelection.assets("benchmark_generations", "benchmark_verdicts", "benchmark_scores"), "Benchmarks of one student.", partitions_def=STUDENTS),
]  # fmt: skip
