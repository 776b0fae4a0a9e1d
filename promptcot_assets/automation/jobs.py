"""Jobs for each natural unit of work: what the UI's launchpad, schedules and CI name."""

from __future__ import annotations

import dagster as dg

from promptcot_assets.automation.partitions import BATCHES, ROUNDS, STUDENTS

ROUND = ("em_rationales", "rationale_model", "em_m_step", "problem_generator", "em_bounds")
EVALUATION = ("benchmark_generations", "benchmark_verdicts", "benchmark_scores")
GROUPS, ASSETS = dg.AssetSelection.groups, dg.AssetSelection.assets

JOBS = [
    dg.define_asset_job("corpus_job", GROUPS("corpus"), description="Seeds, concepts, triples and benchmark items."),
    dg.define_asset_job(
        "cold_start_job",
        GROUPS("cold_start") - ASSETS("student_base"),
        description="The base model, both models trained on the triples, their held-out bounds.",
    ),
    dg.define_asset_job("em_round_job", ASSETS(*ROUND), partitions_def=ROUNDS, description="One EM round."),
    dg.define_asset_job(
        "synthesis_batch_job",
        GROUPS("synthesis", "labels") | ASSETS("teacher_traces", "yield_report"),
        partitions_def=BATCHES,
        description="One batch, from concept sets to verified traces.",
    ),
    dg.define_asset_job(
        "post_training_job",
        ASSETS("sft_examples", "sft_model") | GROUPS("self_play"),
        partitions_def=STUDENTS,
        description="SFT and self-play of one student.",
    ),
    dg.define_asset_job(
        "evaluation_job", ASSETS(*EVALUATION), partitions_def=STUDENTS, description="Benchmarks of one student."
    ),
]
