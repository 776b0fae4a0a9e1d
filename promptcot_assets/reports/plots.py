"""Plots as small PNG images in Markdown, which the asset pages of the Dagster UI show."""

from __future__ import annotations

import base64
import io
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from promptcot_assets.stages import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH, HEIGHT, DPI = 6.0, 3.4, 80


def loss_curve(points: Sequence[Sequence[float]], title: str) -> str:
    """Training loss against optimiser steps."""
    figure = _figure()
    axes = figure.add_subplot()
    axes.plot([x for x, _ in points], [y for _, y in points])
    axes.set(xlabel="optimiser step", ylabel="loss", title=title)
    return _markdown(figure, title)


def em_figure(*runs: Sequence[Row]) -> str:
    """The paper's EM figure: NLL of the held-out problem given its rationale against optimiser steps of p.

    Four curves a domain: with the E-step, without it, and the initial model with and without a rationale. Of one run
    (the rows of one `em_curves`) the bands are one standard error over problems; of several (seeds), one over runs.
    """
    points = [row for run in runs for row in run if row["split"] == "held_out"]
    domains = sorted({row["domain"] for row in points})
    figure = _figure(len(domains))
    for at, domain in enumerate(domains, 1):
        axes = figure.add_subplot(1, len(domains), at)
        own = [row for row in points if row["domain"] == domain]
        start = _nll(own, "log_p_problem", "cold_start")
        for series, label in (("em", "with E-step"), ("extra_training", "without E-step (annotated rationales)")):
            curve = start + _nll(own, "log_p_problem", series)
            steps, values = [x for x, _, _ in curve], [y for _, y, _ in curve]
            axes.plot(steps, values, marker="o", label=label)
            low, high = [y - e for _, y, e in curve], [y + e for _, y, e in curve]
            axes.fill_between(steps, low, high, alpha=0.2)
        for metric, label, style in (
            ("log_p_problem", "initial, with rationale", "--"),
            ("log_p_problem_alone", "initial, without rationale", ":"),
        ):
            for _, value, _ in _nll(own, metric, "cold_start"):
                axes.axhline(value, linestyle=style, color="gray", label=label)
        axes.set(xlabel="optimiser steps of p", ylabel="NLL of the problem (nats)", title=domain)
        axes.legend(fontsize=7)
    return _markdown(figure, "NLL of held-out problems against training steps")


def _nll(points: Sequence[Row], metric: str, series: str) -> list[tuple[float, float, float]]:
    """(steps, NLL, half-width of the band) by round, over the runs."""
    rounds: dict[int, list[Row]] = defaultdict(list)
    for row in points:
        if (row["metric"], row["series"]) == (metric, series):
            rounds[row["round"]].append(row)
    curve = []
    for _, rows in sorted(rounds.items()):
        values = [-row["value"] for row in rows]
        error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else rows[0]["standard_error"]
        curve.append((statistics.fmean(row["steps"] for row in rows), statistics.fmean(values), error))
    return curve


def em_curves(points: Sequence[Row], metric: str = "iw_bound") -> str:
    """A held-out measure against rounds, one panel a domain, one line a series, bars of one standard error."""
    own = [row for row in points if row["metric"] == metric and row["split"] == "held_out"]
    domains = sorted({row["domain"] for row in own})
    if not domains:  # such as the well-posed rate, where no domain can tell
        return f"*{metric} is not measured in any domain*"
    figure = _figure(len(domains))
    for at, domain in enumerate(domains, 1):
        axes = figure.add_subplot(1, len(domains), at)
        for series, rows in _lines(row for row in own if row["domain"] == domain).items():
            rows.sort(key=lambda row: row["round"])
            axes.errorbar(
                [row["round"] for row in rows], [row["value"] for row in rows],
                [row["standard_error"] for row in rows], marker="o", capsize=3, label=series.replace("_", " "),
            )  # fmt: skip
        axes.set(xlabel="EM round", ylabel=f"{metric} (nats a problem)", title=domain)
        axes.set_xticks(sorted({row["round"] for row in own}))
        axes.legend()
    return _markdown(figure, f"{metric} of held-out problems")


def funnel(rows: Sequence[Row]) -> str:
    """Rows left after every step, one group of bars a domain."""
    figure = _figure()
    axes = figure.add_subplot()
    steps = list(dict.fromkeys(row["step"] for row in sorted(rows, key=lambda row: row["position"])))
    groups = _lines(rows, "domain")
    height = 0.8 / max(1, len(groups))
    for at, (domain, own) in enumerate(sorted(groups.items())):
        left = {row["step"]: row["rows"] for row in own}
        places = [i + at * height for i in range(len(steps))]
        bars = axes.barh(places, [left.get(step, 0) for step in steps], height, label=domain)
        axes.bar_label(bars, fontsize=7, padding=2)
    axes.set_yticks([i + 0.4 - height / 2 for i in range(len(steps))], steps)
    axes.invert_yaxis()
    axes.set(xlabel="rows")
    axes.legend()
    return _markdown(figure, "funnel")


def step_costs(entries: Sequence[Row], currency: str) -> str:
    """The funnel of a batch beside what each step cost: rows it gave, tokens, seconds and, with prices, money."""
    panels = {"rows_out": "rows", "tokens": "tokens", "seconds": "seconds", "money": currency}
    shown = [name for name in panels if any(row[name] for row in entries)]
    figure = _figure(max(1, len(shown)))
    for at, name in enumerate(shown, 1):
        axes = figure.add_subplot(1, len(shown), at)
        bars = axes.barh([row["step"] for row in entries], [row[name] or 0 for row in entries])
        axes.bar_label(bars, fmt="{:,.4g}", fontsize=7, padding=2)
        axes.invert_yaxis()
        axes.set(xlabel=panels[name])
        if at > 1:
            axes.set_yticklabels([])
    return _markdown(figure, "rows and costs of each step")


def histogram(values: Sequence[float], label: str, title: str) -> str:
    figure = _figure()
    axes = figure.add_subplot()
    axes.hist(values, bins=20)
    axes.set(xlabel=label, ylabel="problems", title=title)
    return _markdown(figure, title)


def problem_map(rows: Sequence[Row]) -> str:
    """Problem sets as points: near means alike (MDS of 1 - cosine)."""
    figure = _figure()
    axes = figure.add_subplot()
    for row in rows:
        axes.scatter(row["x"], row["y"], s=30)
        axes.annotate(f"{row['dataset']} ({row['problems']:,})", (row["x"], row["y"]), fontsize=8)
    axes.set(title="problem sets, 1 - cosine of mean embeddings")
    return _markdown(figure, "problem sets")


def score_bars(rows: Sequence[Row], title: str) -> str:
    """Scores with their 95 % intervals, one group a benchmark."""
    figure = _figure()
    axes = figure.add_subplot()
    for stage, own in _lines(rows, "stage").items():
        errors = [
            [max(0.0, row["value"] - row["low"]) for row in own],
            [max(0.0, row["high"] - row["value"]) for row in own],
        ]
        axes.errorbar(
            [row["benchmark"] for row in own], [row["value"] for row in own], errors, fmt="o", capsize=4, label=stage
        )
    axes.set(ylabel="score", title=title)
    axes.legend()
    return _markdown(figure, title)


def _figure(panels: int = 1) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH * panels if panels < 3 else WIDTH * 2, HEIGHT), dpi=DPI, layout="constrained")


def _markdown(figure: Figure, alt: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return f"![{alt}](data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()})"


def _lines(rows: Iterable[Row], column: str = "series") -> dict[str, list[Row]]:
    lines: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        lines[row[column]].append(row)
    return lines
