"""Trainings under way, from the messages they send their step, and two versions of a model side by side.

A trainer reports a point of its curves as it goes (training/watch.py); Dagster Pipes keeps the messages in the work
folder until the model is committed. What is committed has its curve in `training.json`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from promptcot_assets.lake.checkpoints import PARTIAL
from promptcot_assets.lake.log import Entry

MESSAGES, SPEC, RESULT = "messages.jsonl", "spec.json", "training.json"
Curve = list[tuple[float, float]]  # (optimiser step, value)


@dataclass
class UnderWay:
    """One training that is not committed yet. `silent_s`: since its last message; minutes mean that it was killed."""

    title: str
    step: int
    of: int
    silent_s: float
    arguments: Mapping[str, Any]
    curves: dict[str, Curve] = field(default_factory=dict)


def under_way(home: Path) -> list[UnderWay]:
    """Trainings whose work folder has messages, the one that spoke last first."""
    found = []
    for messages in (home / "models" / PARTIAL).glob(f"**/{MESSAGES}"):
        spec = _json(messages.with_name(SPEC))
        try:
            silent = time.time() - messages.stat().st_mtime
            points = list(_points(messages))
        except OSError:  # committed meanwhile
            continue
        one = UnderWay(
            str(spec.get("title") or messages.parent.name), int(points[-1]["step"]) if points else 0,
            int(points[-1]["of"]) if points else 0, silent, dict(spec.get("arguments") or {}),
        )  # fmt: skip
        for point in points:
            for name, value in point.items():
                if name not in ("step", "of"):
                    one.curves.setdefault(name, []).append((point["step"], value))
        found.append(one)
    return sorted(found, key=lambda one: one.silent_s)


def _points(messages: Path) -> Iterator[dict[str, float]]:
    """The points in a file of Pipes messages, whose last line may be half written."""
    for line in messages.read_text(errors="replace").splitlines():
        try:
            said = json.loads(line)
            point = said["params"]["payload"]["point"] if said["method"] == "report_custom_message" else None
        except (ValueError, KeyError, TypeError):
            continue
        if point:
            yield point


def result_of(home: Path, entry: Entry) -> dict[str, Any]:
    """What the trainer said of a committed model; empty for one that was not trained here, or has gone."""
    return _json(home / entry.record.checkpoint / RESULT) if entry.record.checkpoint else {}


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Settings by their path, `arguments.learning_rate`, that the two do not share; None: not set."""
    first, second = _flat(one), _flat(other)
    return [
        (name, first.get(name), second.get(name)) for name in sorted({*first, *second})
        if first.get(name) != second.get(name)
    ]  # fmt: skip


def settings_of(entry: Entry, result: Mapping[str, Any]) -> dict[str, Any]:
    """All that decided a version: code, seed, what the trainer was given, the recorded settings."""
    made = entry.commit.provenance
    given = {name: result[name] for name in ("trainer", "arguments", "lora") if name in result}
    return {"code version": made.code_version, "seed": made.seed, **given, "settings": json.loads(made.settings)}


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    inner = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else None
    if inner is None:
        return {path: value}
    return {name: one for key, part in inner for name, one in _flat(part, f"{path}.{key}".strip(".")).items()}


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
