"""EM against each of its ablations: paired differences on the same held-out problems, seed by seed and over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from promptcot_assets.lake import Row
from promptcot_assets.stages.em.curves import SIGNIFICANT, holds, paired_differences
from promptcot_assets.stages.statistics import mean_and_error, student

CHANCE = 0.0455  # that a difference of nothing is beyond two standard errors
LEVEL = 0.95  # of the verdict over seeds
# rows of em_bounds; rows of common_bounds of EM's p and of the arm's p on the pools of these two; why the arm stopped
Measured = tuple[Sequence[Row], Sequence[Row], Sequence[Row], str | None]


def outcomes(seed: int, em: str, measured: Mapping[str, Measured]) -> list[Row]:
    """One row an arm: its measures, and what EM's bounds have over its own (positive: EM is better).

    measured: by arm, `em` among them. Differences are means over held-out problems in nats, with their standard errors.
    `em_minus_common` is on the smallest pool that was measured, `em_minus_large` on the largest, where there are two or
    more, with `verdict` on it (curves.holds); else both are null.
    """
    reference = measured[em][0]
    rows = []
    for name, (bounds, em_common, common, stopped) in measured.items():
        held_out = _held_out(bounds)
        own, own_error = mean_and_error(paired_differences(_held_out(reference), held_out) or [math.nan])
        sizes = sorted({row.get("proposals", 0) for row in common})
        pools = {size: _differences(em_common, common, size) for size in sizes}
        pool, pool_error = mean_and_error(list(pools[sizes[0]].values()) or [math.nan])
        told = [row for row in held_out if row["samples_well_posed"] is not None]
        information = [row["information"] for row in held_out if row.get("information") is not None]
        rows.append({
            "seed": seed,
            "arm": name,
            "stopped": stopped,
            "rounds": max(row["round"] for row in bounds),
            "problems": len(held_out),
            "iw_bound": _mean(held_out, "iw_bound"),
            "nll": -_mean(held_out, "log_p_problem"),
            "information": math.fsum(information) / len(information) if information else None,
            "well_posed": sum(r["samples_well_posed"] for r in told) / (sum(r["samples"] for r in told) or math.nan),
            "em_minus_own": own,
            "em_minus_own_error": own_error,
            "em_minus_common": pool,
            "em_minus_common_error": pool_error,
        } | _on_the_large_pool(pools))  # fmt: skip
    return rows


def _differences(em_common: Sequence[Row], common: Sequence[Row], size: int) -> dict[str, float]:
    """EM's bound less the arm's on pools of one size, by problem."""
    em, arm = (
        {
            row["problem_id"]: row["iw_bound"]
            for row in rows
            if row.get("proposals", 0) == size and row["iw_bound"] is not None
        }
        for rows in (em_common, common)
    )
    return {problem: em[problem] - arm[problem] for problem in em if problem in arm}


def _on_the_large_pool(pools: Mapping[int, Mapping[str, float]]) -> Row:
    if len(pools) < 2:
        return {"large_pool": None, "em_minus_large": None, "em_minus_large_error": None, "verdict": None}
    *_, before, largest = sorted(pools)
    gains = pools[largest]
    carried_on = [2 * gain - pools[before][problem] for problem, gain in gains.items() if problem in pools[before]]
    points = [
        {"value": mean, "standard_error": error if len(values) > 1 else None}
        for values in (list(gains.values()), carried_on)
        for mean, error in [mean_and_error(values or [math.nan])]
    ]
    return {
        "large_pool": largest,
        "em_minus_large": points[0]["value"],
        "em_minus_large_error": points[0]["standard_error"],
        "verdict": holds(*points),
    }


def table(rows: Sequence[Row], em: str) -> str:
    """Markdown: an arm a line, EM minus the arm for every seed, wins and losses alike."""
    seeds = sorted({row["seed"] for row in rows})
    large = max((row["large_pool"] or 0 for row in rows), default=0)
    head = ["arm", *(f"seed {seed}" for seed in seeds), "mean", "small pool", "under its own q", "NLL of x",
            "well-posed", "over seeds", "EM is"]  # fmt: skip
    pool = f"one pool of {large} proposals" if large else "one pool"
    lines = [
        "EM minus the arm: importance-weighted bound of p on held-out problems, nats a problem. In each seed ± one "
        f"standard error over problems, in the means over seeds ± that of the seeds' spread. Both are measured on "
        f"{pool}, half of it proposed by EM's q and half by the arm's; `small pool` is the mean on few proposals, "
        "which flatters the narrower posterior; `under its own q` is the same difference with each pair's own "
        "proposals.",
        "",
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
    ]
    for arm in dict.fromkeys(row["arm"] for row in rows):
        own = [row for seed in seeds for row in rows if (row["arm"], row["seed"]) == (arm, seed)]
        cells = [_cell(*_difference(row), row["stopped"]) for row in own]
        is_em = arm == em
        lines.append("| " + " | ".join([
            arm, *cells,
            _over_seeds([_difference(row)[0] for row in own]), _over_seeds([r["em_minus_common"] for r in own]),
            _over_seeds([row["em_minus_own"] for row in own]),
            f"{_mean(own, 'nll'):.2f}", f"{_mean(own, 'well_posed'):.3f}",
            "" if is_em else _verdict_over_seeds([_difference(row)[0] for row in own]), "" if is_em else _verdict(own),
        ]) + " |")  # fmt: skip
    others = len({row["arm"] for row in rows} - {em})
    lines += ["", _by_chance(others, len(seeds))]
    reasons = dict.fromkeys((row["arm"], row["seed"], row["stopped"]) for row in rows if row["stopped"])
    stopped = [f"- {arm}, seed {seed}: {reason.partition('; ')[0]}" for arm, seed, reason in reasons]
    return "\n".join(
        [*lines, *(["", "\\* stopped before the last round was through:", "", *stopped] if stopped else [])]
    )


def _by_chance(arms: int, seeds: int) -> str:
    """How many of the verdicts would come if no arm differed from EM."""
    cells = arms * seeds
    said = f"If no arm differed from EM, chance would give {cells * CHANCE:.1f} of the {cells} verdicts in one seed"
    over = f" and {arms * (1 - LEVEL):.1f} of the {arms} over seeds (Student's t, {seeds - 1} degrees of freedom)"
    return f"{said}{over if seeds > 1 else ''}."


def _difference(row: Row) -> tuple[float, float | None]:
    """On the largest pool that was measured."""
    pool = "common" if row["em_minus_large"] is None else "large"
    return row[f"em_minus_{pool}"], row[f"em_minus_{pool}_error"]


def _cell(value: float, error: float | None, stopped: str | None) -> str:
    return f"{value:+.2f}{'' if error is None else f' ± {error:.2f}'}{'*' if stopped else ''}"


def _over_seeds(values: Sequence[float]) -> str:
    """Mean over seeds with the standard error of their own spread, training included; of a single seed, none."""
    mean, error = mean_and_error(values)
    return f"{mean:+.2f} ± {error:.2f}" if len(values) > 1 else f"{mean:+.2f}"


def _verdict_over_seeds(values: Sequence[float]) -> str:
    if len(values) < 2:
        return "one seed tells nothing of others"
    mean, error = mean_and_error(values)
    if abs(mean) <= student(LEVEL, len(values) - 1) * error or not mean:
        return "not told apart"
    return "better" if mean > 0 else "worse"


def _verdict(rows: Sequence[Row]) -> str:
    """In how many seeds EM is better or worse: on the large pool and beyond what a larger one might take away."""

    def told(row: Row) -> int:
        value, error = _difference(row)
        beyond = abs(value) > SIGNIFICANT * (error or math.inf)
        return int(math.copysign(1, value)) if beyond and row["verdict"] in (None, "significant") else 0

    better, worse = (sum(told(row) == sign for row in rows) for sign in (1, -1))
    words = [f"better in {better}" if better else "", f"worse in {worse}" if worse else ""]
    said = ", ".join(filter(None, words))
    return f"{said} of {len(rows)}" if said else "not told apart"


def _held_out(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["split"] == "held_out"]


def _mean(rows: Sequence[Row], name: str) -> float:
    values = [row[name] for row in rows if row[name] is not None]
    return math.fsum(values) / len(values) if values else math.nan
