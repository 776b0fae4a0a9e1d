"""The EM figure's points: every measure by series, round and split, with paired gains (method section 3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from promptcot_assets.lake.ids import content_id
from promptcot_assets.stages import Row
from promptcot_assets.stages.em_bounds import MEASURES
from promptcot_assets.stages.statistics import mean_and_error

OTHERS = ("cold_start", "extra_training")  # what EM's bound is compared with


def em_curves(bounds: Sequence[Row], common: Sequence[Row], steps: Mapping[tuple[str, int], int]) -> list[Row]:
    """Rows of `em_curves`: the mean of every measure, and the paired gains of EM's bounds.

    bounds: rows of em_bounds and its like. common: rows of common_bounds. steps: (series, round) -> optimiser steps.
    A gain is the mean over the problems of (EM's bound - the other's bound), with the standard error of that mean:
    both are measured on the same problems. "gain over" compares the pairs' own bounds, "common gain over" the bounds
    of p on one pool of proposals.
    """
    points = []
    for key, rows in _grouped(bounds).items():
        values = {name: [row[name] for row in rows if row[name] is not None] for name in MEASURES}
        told = [row for row in rows if row["samples_well_posed"] is not None]
        values["well_posed"] = [row["samples_well_posed"] / row["samples"] for row in told]
        points += [_point(key, name, numbers) for name, numbers in values.items() if numbers]
    points += _gains(bounds, "gain over")
    shared = [row | {"split": "held_out"} for row in common]
    for key, rows in _grouped(shared).items():
        for name, column in (("common_bound", "iw_bound"), ("effective_proposals", "effective_proposals")):
            numbers = [row[column] for row in rows if row[column] is not None]
            points += [_point(key, name, numbers)] if numbers else []
    points += _gains(shared, "common gain over")
    return [point | {"steps": steps.get((point["series"], point["round"]), 0)} for point in points]


def steps_of(models: Iterable[tuple[str, int, int]]) -> dict[tuple[str, int], int]:
    """(series, round) -> optimiser steps of p until then, from (series, round, own steps) of every checkpoint."""
    own = {(series, round_): steps for series, round_, steps in models}
    cold = own.get(("cold_start", 0), 0)
    return {
        (series, round_): cold + sum(n for (s, r), n in own.items() if s == series and 0 < r <= round_)
        for series, round_ in own
    }


Key = tuple[str, int, str, str]  # series, round, domain, split


def _grouped(rows: Iterable[Row]) -> dict[Key, list[Row]]:
    groups: dict[Key, list[Row]] = {}
    for row in rows:
        groups.setdefault((row["series"], row["round"], row["domain"], row["split"]), []).append(row)
    return groups


def _gains(bounds: Sequence[Row], name: str) -> list[Row]:
    groups = _grouped(bounds)
    points = []
    for (series, round_, domain, split), rows in groups.items():
        for other in OTHERS if series == "em" else ():
            against = groups.get((other, 0 if other == "cold_start" else round_, domain, split), [])
            if differences := paired_differences(rows, against):
                points.append(_point((series, round_, domain, split), f"{name} {other}", differences))
    return points


def paired_differences(rows: Sequence[Row], against: Sequence[Row]) -> list[float]:
    """Differences of the importance-weighted bounds over the problems measured in both."""
    other = {row["problem_id"]: row["iw_bound"] for row in against}
    return [
        row["iw_bound"] - other[row["problem_id"]]
        for row in rows
        if row["iw_bound"] is not None and other.get(row["problem_id"]) is not None
    ]


def _point(key: Key, metric: str, values: Sequence[float]) -> Row:
    mean, error = mean_and_error(values)
    series, round_, domain, split = key
    return {
        "point_id": content_id(series, round_, domain, split, metric),
        "series": series,
        "round": round_,
        "domain": domain,
        "split": split,
        "metric": metric,
        "value": mean,
        "standard_error": error,
        "problems": len(values),
    }
