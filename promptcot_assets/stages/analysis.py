"""Tables that people look at: EM curves, the funnel, difficulty, distribution, scaling (method sections 3 and 8)."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from promptcot_assets.lake.ids import content_id
from promptcot_assets.stages import Row
from promptcot_assets.stages.statistics import mean_and_error

CURVES = ("iw_bound", "iw_bound_half", "elbo", "log_p_rationale", "log_p_problem", "rationale_tokens")
NORMAL_95 = 1.959964
SEEDS = "seed problems"


def em_curves(bounds: Sequence[Row]) -> list[Row]:
    """Mean of every held-out measure by series, round and domain, and the paired gains of the last EM round.

    A gain is the mean over the held-out problems of (EM's bound - the other's bound), with the standard error of that
    mean: both are measured on the same problems.
    """
    points = []
    for (series, round_, domain), rows in _grouped(bounds, "series", "round", "domain").items():
        values = {metric: [row[metric] for row in rows if row[metric] is not None] for metric in CURVES}
        values["well_posed"] = [
            row["samples_well_posed"] / row["samples"] for row in rows if row["samples_well_posed"] is not None
        ]
        points += [_point(series, round_, domain, metric, numbers) for metric, numbers in values.items() if numbers]
    return points + _gains(bounds)


def _gains(bounds: Sequence[Row]) -> list[Row]:
    by_series = _grouped(bounds, "series", "round", "domain")
    points = []
    for (series, round_, domain), rows in by_series.items():
        if series != "em":
            continue
        for other, other_round in (("cold_start", 0), ("extra_training", round_)):
            against = {row["problem_id"]: row["iw_bound"] for row in by_series.get((other, other_round, domain), [])}
            differences = [
                row["iw_bound"] - against[row["problem_id"]]
                for row in rows
                if row["iw_bound"] is not None and against.get(row["problem_id"]) is not None
            ]
            if differences:
                points.append(_point("em", round_, domain, f"gain over {other}", differences))
    return points


def _point(series: str, round_: int, domain: str, metric: str, values: Sequence[float]) -> Row:
    mean, error = mean_and_error(values)
    return {
        "point_id": content_id(series, round_, domain, metric),
        "series": series,
        "round": round_,
        "domain": domain,
        "metric": metric,
        "value": mean,
        "standard_error": error,
        "problems": len(values),
    }


def difficulty(drawn: Sequence[Row], judged: Sequence[Row]) -> list[Row]:
    """Pass rate of the student on every problem it played on, with its Wilson interval."""
    passed = {row["rollout_id"]: row["passed"] for row in judged}
    rows = []
    for (problem, domain, model), group in _grouped(drawn, "problem_id", "domain", "model").items():
        outcomes = [passed[row["rollout_id"]] for row in group if passed[row["rollout_id"]] is not None]
        if not outcomes:
            continue
        low, high = wilson_interval(sum(outcomes), len(outcomes))
        rows.append({
            "problem_id": problem,
            "domain": domain,
            "pass_rate": sum(outcomes) / len(outcomes),
            "low": low,
            "high": high,
            "rollouts": len(outcomes),
            "tokens": math.fsum(row["tokens"] for row in group) / len(group),
            "model": model,
        })  # fmt: skip
    return rows


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """95 % interval of a share from n trials."""
    share, z2 = successes / n, NORMAL_95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = NORMAL_95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


def problem_sets(seeds: Sequence[Row], problems: Sequence[Row], benchmarks: Sequence[Row]) -> dict[str, list[str]]:
    """Name -> texts of every set that has any: training seeds, synthetic problems, each benchmark."""
    sets: dict[str, list[str]] = {SEEDS: [row["problem"] for row in seeds if row["split"] == "train"]}
    sets["synthetic problems"] = [row["problem"] for row in problems]
    for row in benchmarks:
        sets.setdefault(f"benchmark {row['benchmark']}", []).append(row["problem"])
    return {name: texts for name, texts in sets.items() if texts}


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
    top = [i for i in np.argsort(values)[::-1][:2] if values[i] > 0]
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
        for row in scores
        if row["compared_with"] is None
    ]


def funnel(
    batch: str,
    raw: Sequence[Row],
    dropped: Sequence[Row],
    problems: Sequence[Row],
    answers: Sequence[Row],
    tests: Sequence[Row],
    traces: Sequence[Row],
) -> list[Row]:
    """Rows left after every step of one batch, by domain, with the reasons of those that fell."""
    rows = []
    for domain in sorted({row["domain"] for row in raw}):
        own = [
            [row for row in table if row["domain"] == domain]
            for table in (raw, dropped, problems, answers, tests, traces)
        ]
        total = len(own[0])
        for at, (step, left, reasons) in enumerate(_steps(*own)):
            rows.append({
                "step_id": content_id(batch, domain, step),
                "batch": batch,
                "domain": domain,
                "position": at,
                "step": step,
                "rows": left,
                "share_of_raw": left / total if total else 0.0,
                "dropped": json.dumps(dict(sorted(reasons.items()))),
            })  # fmt: skip
    return rows


def _steps(
    raw: list[Row], dropped: list[Row], problems: list[Row], answers: list[Row], tests: list[Row], traces: list[Row]
) -> Iterable[tuple[str, int, Counter[str]]]:
    parsed = sum(row["problem"] is not None for row in raw)
    duplicates = Counter(row["reason"] for row in dropped if row["reason"] in ("exact", "near"))
    hits = Counter(row["reason"] for row in dropped if row["reason"].startswith("contaminated"))
    defects = Counter(row["reason"] for row in dropped) - duplicates - hits
    unlabelled = Counter(row["drop_reason"] for row in answers if row["answer"] is None)
    for group in _grouped(tests, "problem_id").values():
        if all(row["expected"] is None for row in group):
            unlabelled[group[0]["drop_reason"]] += 1
    labelled = len(problems) - unlabelled.total()
    tried = _grouped(traces, "problem_id").values()
    untaught = Counter(group[0]["drop_reason"] for group in tried if not any(row["valid"] for row in group))
    yield "completions", len(raw), Counter()
    yield "parsed", parsed, Counter(row["drop_reason"] for row in raw if row["drop_reason"])
    yield "unique", parsed - duplicates.total(), duplicates
    yield "uncontaminated", parsed - duplicates.total() - hits.total(), hits
    yield "askable", len(problems), defects
    yield "labelled", labelled, unlabelled
    yield "with a valid trace", labelled - untaught.total(), untaught


def _grouped(rows: Iterable[Row], *columns: str) -> dict[tuple, list[Row]]:
    groups = defaultdict(list)
    for row in rows:
        groups[tuple(row[column] for column in columns)].append(row)
    return groups
