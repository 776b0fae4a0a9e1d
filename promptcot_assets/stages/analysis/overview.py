"""Tables that people look at: where problem sets lie, and score against training size (method section 8)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from promptcot_assets.lake import Row
from promptcot_assets.lake.ids import content_id
from promptcot_assets.settings.profile import Distribution
from promptcot_assets.stages.corpus.reading import read_seeds
from promptcot_assets.stages.evaluation.benchmarks import averages

SEEDS = "seed problems"
ROUNDING = 1e-12  # of the largest eigenvalue: less is noise and no direction


def problem_sets(seeds: Sequence[Row], problems: Sequence[Row], benchmarks: Sequence[Row]) -> dict[str, list[str]]:
    """Name -> texts of every set that has any: training seeds, synthetic problems, each benchmark."""
    sets: dict[str, list[str]] = {SEEDS: [row["problem"] for row in seeds if row["split"] == "train"]}
    sets["synthetic problems"] = [row["problem"] for row in problems]
    for row in benchmarks:
        sets.setdefault(f"benchmark {row['benchmark']}", []).append(row["problem"])
    return {name: texts for name, texts in sets.items() if texts}


def other_sets(settings: Distribution) -> dict[str, list[str]]:
    """Name -> texts of the sets that the profile names. Raises: SeedError naming a source that cannot be read."""
    return {
        name: [row["problem"] for row in read_seeds(source, settings.problems)[0]]
        for name, source in settings.sets.items()
    }


def examples_behind(models: Sequence[Row]) -> dict[str, int]:
    """model_id -> training examples of the model and of the models it was trained from, as far as they are given."""
    own = {row["model_id"]: row for row in models}

    def total(model: str) -> int:
        row = own.get(model)
        return row["examples"] + total(row["base"]) if row else 0

    return {model: total(model) for model in own}


def distribution(means: dict[str, np.ndarray], counts: dict[str, int], reference: str) -> list[Row]:
    """Problem sets on a map: classical MDS of 1 - cosine between their mean embeddings (method section 8)."""
    names = sorted(means)
    unit = np.stack([means[name] / np.linalg.norm(means[name]) for name in names]).astype(np.float64)
    distance = np.clip(1 - unit @ unit.T, 0, None)
    coordinates = _classical_mds(distance)
    at = names.index(reference)
    return [
        {
            "dataset": name,
            "problems": counts[name],
            "x": float(coordinates[i, 0]),
            "y": float(coordinates[i, 1]),
            "distance_to_seeds": float(distance[i, at]),
        }
        for i, name in enumerate(names)
    ]


def _classical_mds(distance: np.ndarray) -> np.ndarray:
    """[n, 2] coordinates whose distances fit best; the sign of an axis is fixed by its largest entry."""
    n = len(distance)
    centre = np.eye(n) - 1 / n
    values, vectors = np.linalg.eigh(-0.5 * centre @ distance**2 @ centre)
    top = [i for i in np.argsort(values)[::-1][:2] if values[i] > ROUNDING * values.max()]
    axes = np.zeros((n, 2))
    for axis, i in enumerate(top):
        vector = vectors[:, i] * math.sqrt(values[i])
        axes[:, axis] = vector * np.sign(vector[np.argmax(np.abs(vector))])
    return axes


def scaling(scores: Sequence[Row], student: str, examples: dict[str, int]) -> list[Row]:
    """Score against training examples; `examples`: model id -> examples behind it, ancestors included."""
    return [
        {
            "point_id": content_id(row["benchmark"], row["model"], row["stage"]),
            "benchmark": row["benchmark"],
            "student": student,
            "stage": row["stage"],
            "model": row["model"],
            "examples": examples[row["model"]],
            "value": row["value"],
            "low": row["low"],
            "high": row["high"],
        }
        for row in averages(scores)
    ]
