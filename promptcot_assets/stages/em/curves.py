"""The EM figure's points: every measure by series, round and split, with paired gains (method section 3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from promptcot_assets.lake import Row
from promptcot_assets.lake.ids import content_id
from promptcot_assets.stages.em.bounds import MEASURES
from promptcot_assets.stages.statistics import mean_and_error

OTHERS = ("cold_start", "extra_training")  # what EM's bound is compared with
SIGNIFICANT = 2.0  # standard errors


def em_curves(bounds: Sequence[Row], common: Sequence[Row], steps: Mapping[tuple[str, int], int]) -> list[Row]:
    """Rows of `em_curves`: the mean of every measure, and the paired gains of EM's bounds.

    bounds: rows of em_bounds and its like. common: rows of common_bounds. steps: (series, round) -> optimiser steps.
    A gain is the mean over the problems of (EM's bound - the other's bound), with the standard error of that mean:
    both are measured on the same problems. "gain over" compares the pairs' own bounds, "common gain over" the bounds
    of p on one pool of proposals, the small one; `pool_points` has those of every pool size.
    """
    points = []
    for key, rows in _grouped(bounds).items():
        values = {name: [row[name] for row in rows if row[name] is not None] for name in MEASURES}
        for name, column in (("well_posed", "samples_well_posed"), ("well_posed_on_concepts", "samples_on_concepts")):
            values[name] = [row[column] / row["samples"] for row in rows if row.get(column) is not None]
        values["without_usable_proposal"] = [
            float(row["proposals_used"] == 0) for row in rows if "proposals_used" in row
        ]
        points += [_point(key, name, numbers) for name, numbers in values.items() if numbers]
    points += _gains(bounds, "gain over")
    shared = [row | {"split": "held_out"} for row in common]
    sizes = sorted({row.get("proposals", 0) for row in shared})
    small = [row for row in shared if row.get("proposals", 0) == sizes[0]]
    for key, rows in _grouped(small).items():
        for name, column in (("common_bound", "iw_bound"), ("effective_proposals", "effective_proposals")):
            numbers = [row[column] for row in rows if row[column] is not None]
            points += [_point(key, name, numbers)] if numbers else []
    points += _gains(small, "common gain over")
    if len(sizes) > 1:
        points += pool_points({size: [row for row in shared if row["proposals"] == size] for size in sizes})
    return [point | {"steps": steps.get((point["series"], point["round"]), 0)} for point in points]


BOUND_AT, EFFECTIVE_AT, GAIN_AT, CARRIED_ON = "bound at pool ", "effective at pool ", "gain at pool ", "gain carried on"


def pool_points(by_size: Mapping[int, Sequence[Row]]) -> list[Row]:
    """How bounds and EM's gains move as the common pool grows, on the problems that have the largest pool.

    by_size: rows of common_bounds, with their split, by the number of proposals. A bound of few proposals is looser for
    the p with the wider posterior, so that part of a gain may vanish as the pool grows. "gain carried on" is what would
    be left if the last enlargement were made once more and took as much again: 2 g(largest) - g(the size before). It
    is pessimistic, since every enlargement takes less than the one before, and is paired by problem like any gain.
    """
    *_, before, largest = sorted(by_size)
    has = {row["problem_id"] for row in by_size[largest]}
    points = []
    for size, rows in sorted(by_size.items()):
        rows = [row for row in rows if row["problem_id"] in has]
        for key, group in _grouped(rows).items():
            for name, column in ((BOUND_AT, "iw_bound"), (EFFECTIVE_AT, "effective_proposals")):
                numbers = [row[column] for row in group if row[column] is not None]
                points += [_point(key, f"{name}{size}", numbers)] if numbers else []
        points += _gains(rows, f"{GAIN_AT}{size} over")
    smaller = {(row["series"], row["round"], row["problem_id"]): row["iw_bound"] for row in by_size[before]}
    carried_on = [
        row | {"iw_bound": None if None in (row["iw_bound"], less) else 2 * row["iw_bound"] - less}
        for row in by_size[largest]
        for less in [smaller[row["series"], row["round"], row["problem_id"]]]
    ]
    return points + _gains(carried_on, f"{CARRIED_ON} over")


def holds(gain: Row, carried_on: Row) -> str:
    """The verdict on a gain at the largest pool, given what is left of it carried on."""
    if not _told_from_0(gain):
        return "NOT significant"
    if _told_from_0(carried_on) and (carried_on["value"] > 0) == (gain["value"] > 0):
        return "significant"
    return "shrinks towards 0 as the pool grows: open"


def _told_from_0(point: Row) -> bool:
    error = point["standard_error"]
    return error is not None and abs(point["value"]) > SIGNIFICANT * error


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
        "standard_error": error if len(values) > 1 else None,
        "problems": len(values),
    }
