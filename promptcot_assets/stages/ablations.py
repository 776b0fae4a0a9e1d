"""EM against each of its ablations: paired differences on the same held-out problems, seed by seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from promptcot_assets.stages import Row
from promptcot_assets.stages.em_curves import paired_differences
from promptcot_assets.stages.statistics import mean_and_error

SIGNIFICANT = 2.0  # standard errors
# rows of em_bounds; rows of common_bounds of EM's p and of the arm's p on the pool of these two; why the arm stopped
Measured = tuple[Sequence[Row], Sequence[Row], Sequence[Row], str | None]


def outcomes(seed: int, em: str, measured: Mapping[str, Measured]) -> list[Row]:
    """One row an arm: its measures, and what EM's bounds have over its own (positive: EM is better).

    measured: by arm, `em` among them. Differences are means over held-out problems in nats, with their standard errors.
    """
    reference = measured[em][0]
    rows = []
    for name, (bounds, em_common, common, stopped) in measured.items():
        held_out = [row for row in bounds if row["split"] == "held_out"]
        own, own_error = mean_and_error(paired_differences(_held_out(reference), held_out) or [math.nan])
        pool, pool_error = mean_and_error(paired_differences(em_common, common) or [math.nan])
        told = [row for row in held_out if row["samples_well_posed"] is not None]
        rows.append({
            "seed": seed,
            "arm": name,
            "stopped": stopped,
            "rounds": max(row["round"] for row in bounds),
            "problems": len(held_out),
            "iw_bound": _mean(held_out, "iw_bound"),
            "nll": -_mean(held_out, "log_p_problem"),
            "well_posed": sum(r["samples_well_posed"] for r in told) / (sum(r["samples"] for r in told) or math.nan),
            "em_minus_own": own,
            "em_minus_own_error": own_error,
            "em_minus_common": pool,
            "em_minus_common_error": pool_error,
        })  # fmt: skip
    return rows


def table(rows: Sequence[Row], em: str) -> str:
    """Markdown: an arm a line, EM minus the arm for every seed, wins and losses alike."""
    seeds = sorted({row["seed"] for row in rows})
    head = ["arm", *(f"seed {seed}" for seed in seeds), "mean", "under its own q", "NLL of x", "well-posed", "EM is"]
    lines = [
        "EM minus the arm: importance-weighted bound of p on held-out problems, nats a problem, ± one standard error "
        "over problems. Both are measured on one pool, half of it proposed by EM's q and half by the arm's; `under its "
        "own q` is the same difference with each pair's own proposals.",
        "",
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
    ]
    for arm in dict.fromkeys(row["arm"] for row in rows):
        own = [row for seed in seeds for row in rows if (row["arm"], row["seed"]) == (arm, seed)]
        cells = [_cell(row["em_minus_common"], row["em_minus_common_error"], row["stopped"]) for row in own]
        lines.append("| " + " | ".join([
            arm, *cells,
            _pooled(own, "em_minus_common"), _pooled(own, "em_minus_own"),
            f"{_mean(own, 'nll'):.2f}", f"{_mean(own, 'well_posed'):.3f}", "" if arm == em else _verdict(own),
        ]) + " |")  # fmt: skip
    reasons = dict.fromkeys((row["arm"], row["seed"], row["stopped"]) for row in rows if row["stopped"])
    stopped = [f"- {arm}, seed {seed}: {reason.partition('; ')[0]}" for arm, seed, reason in reasons]
    return "\n".join(
        [*lines, *(["", "\\* stopped before the last round was through:", "", *stopped] if stopped else [])]
    )


def _cell(value: float, error: float, stopped: str | None) -> str:
    return f"{value:+.2f} ± {error:.2f}{'*' if stopped else ''}"


def _pooled(rows: Sequence[Row], name: str) -> str:
    """Mean over seeds, with the standard error that the seeds' own errors give it."""
    mean = math.fsum(row[name] for row in rows) / len(rows)
    error = math.sqrt(math.fsum(row[f"{name}_error"] ** 2 for row in rows)) / len(rows)
    return f"{mean:+.2f} ± {error:.2f}"


def _verdict(rows: Sequence[Row]) -> str:
    ratios = [row["em_minus_common"] / (row["em_minus_common_error"] or math.inf) for row in rows]
    better, worse = sum(z > SIGNIFICANT for z in ratios), sum(z < -SIGNIFICANT for z in ratios)
    words = [f"better in {better}" if better else "", f"worse in {worse}" if worse else ""]
    said = ", ".join(filter(None, words))
    return f"{said} of {len(rows)}" if said else "not told apart"


def _held_out(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["split"] == "held_out"]


def _mean(rows: Sequence[Row], name: str) -> float:
    values = [row[name] for row in rows if row[name] is not None]
    return math.fsum(values) / len(values) if values else math.nan
