"""Checkpoints: one table a role, one row a version."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from promptcot_assets.tables.columns import integer, maybe_real, maybe_text, row_id, text
from promptcot_assets.tables.table import Table, Unit

CHECKPOINT = (
    row_id("model_id", "role/version; version = hash of the weights' files"),
    text("path", "folder, relative to PROMPTCOT_HOME"),
    maybe_text("base", "model_id or hub id it started from"),
    integer("examples", "training rows"),
    integer("steps", "optimiser steps"),
    integer("tokens", "training tokens"),
    maybe_real("loss", "mean training loss over the last tenth"),
)
MODEL = pa.schema([column.field for column in CHECKPOINT])  # of every table of checkpoints


def checkpoint(name: str, comment: str, **declared: Any) -> Table:
    """A table of checkpoints. prompts: which prompts the model reads (stages/prompts.py)."""
    return Table(name, comment, CHECKPOINT, checkpoint=True, gist="model_id", **declared)


TABLES = (
    checkpoint(
        "base_model",
        "what the cold start trains from",
        group="cold_start",
        leg="base model",
        prompts=("generator", "rationale", "solve"),
    ),
    checkpoint(
        "cold_rationale_model", "q after the cold start", group="cold_start", leg="cold start q", prompts=("rationale",)
    ),
    checkpoint(
        "cold_problem_generator",
        "p after the cold start",
        group="cold_start",
        leg="cold start p",
        prompts=("generator",),
    ),
    checkpoint(
        "rationale_model", "q of a round", group="em", unit=Unit.ROUND, leg="EM", prompts=("rationale",), together="em"
    ),
    checkpoint(
        "problem_generator",
        "p of a round",
        group="em",
        unit=Unit.ROUND,
        leg="EM",
        prompts=("generator",),
        together="em",
    ),
    checkpoint(
        "control_rationale_model",
        "q of the control",
        group="em",
        unit=Unit.ROUND,
        leg="control",
        prompts=("rationale",),
        together="em",
    ),
    checkpoint(
        "control_problem_generator",
        "p of the control",
        group="em",
        unit=Unit.ROUND,
        leg="control",
        prompts=("generator",),
        together="em",
    ),
    checkpoint(
        "student_base",
        "a student before training on synthetic data",
        group="cold_start",
        unit=Unit.STUDENT,
        leg="base",
        prompts=("solve",),
    ),
    checkpoint(
        "sft_model",
        "a student after fine-tuning on traces",
        group="distillation",
        unit=Unit.STUDENT,
        leg="SFT",
        prompts=("solve",),
    ),
    checkpoint(
        "self_play_model",
        "a student after learning from its own passes and fails",
        group="self_play",
        unit=Unit.STUDENT,
        leg="self-play",
        prompts=("solve",),
    ),
    checkpoint(
        "teacher_model",
        "a model that is asked and never trained",
        group="teachers",
        unit=Unit.TEACHER,
        leg="teacher",
        optional=True,
    ),
)
