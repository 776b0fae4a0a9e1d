"""Plots as small PNG images in Markdown, which the asset pages of the Dagster UI show."""

from __future__ import annotations

import base64
import io
import itertools
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from promptcot_assets.lake import Row
from promptcot_assets.stages.em.curves import BOUND_AT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT, DPI = 6.0, 3.4, 80
MARKERS = "os^DvPX<>*"
LEAST_SPAN = 0.01
"""Of the map of problem sets, in cosine distance: a smaller frame would show rounding noise as distance."""

UNITS = {"well_posed": "share of samples", "well_posed_on_concepts": "share of samples"}
"""Of the measures by round; all others are nats a problem."""


def loss_curve(points: Sequence[Sequence[float]], title: str) -> str:
    """Training loss against optimiser steps."""
    figure = _figure()
    axes = figure.add_subplot()
    axes.plot([x for x, _ in points], [y for _, y in points])
    axes.set(xlabel="optimiser step", ylabel="loss", title=title)
    return _markdown(figure, title)


def em_figure(*runs: Sequence[Row], frozen: Sequence[Sequence[Row]] = ()) -> str:
    """The paper's EM figure: NLL of the held-out problem given its rationale against optimiser steps of p.

    Of every domain: with the E-step, without it, and the initial model with and without a rationale. The paper's curve
    without an E-step is that of rationales which are sampled once and frozen (`frozen`: runs of em.selection: frozen);
    our control, which trains on the annotated rationales for as long, is a curve of its own. Of one run (the rows of
    one `em_curves`) the bands are one standard error over problems; of several (seeds), one over runs.
    """
    of_frozen = [row | {"series": "frozen"} for run in frozen for row in run if row["series"] == "em"]
    points = [row for run in (*runs, of_frozen) for row in run if row["split"] == "held_out"]
    domains = sorted({row["domain"] for row in points})
    figure = _figure(len(domains))
    for at, domain in enumerate(domains, 1):
        axes = figure.add_subplot(1, len(domains), at)
        own = [row for row in points if row["domain"] == domain]
        start = _nll(own, "log_p_problem", "cold_start")
        for series, label in (
            ("em", "with E-step"),
            ("frozen", "without E-step (rationales frozen)"),
            ("extra_training", "without E-step (annotated rationales)"),
        ):
            later = _nll(own, "log_p_problem", series)
            if series == "frozen" and not later:
                continue
            curve = start + later
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
    _legend_below(figure)
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
        error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else rows[0]["standard_error"] or 0.0
        curve.append((statistics.fmean(row["steps"] for row in rows), statistics.fmean(values), error))
    return curve


def em_curves(points: Sequence[Row], metric: str = "iw_bound") -> str:
    """A held-out measure against rounds, one panel a domain, one line a series, bars of one standard error."""
    own = [row for row in points if row["metric"] == metric and row["split"] == "held_out"]
    domains = sorted({row["domain"] for row in own})
    if not domains:  # such as the well-posed rate, where no domain can tell
        return f"*{metric} is not measured in any domain*"
    figure, lines = _figure(len(domains)), _lines(own)
    for at, domain in enumerate(domains, 1):
        axes = figure.add_subplot(1, len(domains), at)
        for aside, (series, every) in zip(_dodge(len(lines), 0.15), lines.items(), strict=True):
            rows = sorted((row for row in every if row["domain"] == domain), key=lambda row: row["round"])
            axes.errorbar(
                [row["round"] + aside for row in rows], [row["value"] for row in rows],
                [row["standard_error"] or 0.0 for row in rows], marker="o", capsize=3, label=series.replace("_", " "),
            )  # fmt: skip
        axes.set(xlabel="EM round", ylabel=f"{metric} ({UNITS.get(metric, 'nats a problem')})", title=domain)
        axes.set_xticks(sorted({row["round"] for row in own}))
    _legend_below(figure)
    return _markdown(figure, f"{metric} of held-out problems")


def pool_curve(points: Sequence[Row]) -> str:
    """The held-out bound of p against the size of the common pool, one panel a domain, one line a series and round.

    Bars are one standard error over problems. A line that still rises at the end is a bound that is still loose.
    """
    own = [row for row in points if row["metric"].startswith(BOUND_AT)]
    sizes = {row["point_id"]: int(row["metric"].removeprefix(BOUND_AT)) for row in own}
    largest = max(sizes.values(), default=0)
    measured = {(row["series"], row["round"]) for row in own if sizes[row["point_id"]] == largest}
    domains = sorted({row["domain"] for row in own})
    if not domains:
        return "*no larger pool is drawn (em.held_out.large_pool)*"
    figure = _figure(len(domains))
    for at, domain in enumerate(domains, 1):
        axes = figure.add_subplot(1, len(domains), at)
        for series, round_ in sorted(measured):
            line = [row for row in own if (row["domain"], row["series"], row["round"]) == (domain, series, round_)]
            line.sort(key=lambda row: sizes[row["point_id"]])
            axes.errorbar(
                [sizes[row["point_id"]] for row in line], [row["value"] for row in line],
                [row["standard_error"] or 0.0 for row in line], marker="o", capsize=3,
                label=f"{series} {round_}".replace("_", " "),
            )  # fmt: skip
        axes.set_xscale("log")
        ticks = sorted(set(sizes.values()))
        axes.set_xticks(ticks, [str(size) for size in ticks])
        axes.minorticks_off()
        axes.set(xlabel="proposals in the common pool", ylabel="bound (nats a problem)", title=domain)
    _legend_below(figure)
    return _markdown(figure, "bound of held-out problems against the size of the common pool")


def funnel(rows: Sequence[Row]) -> str:
    """Rows left after every step, one group of bars a domain."""
    figure = _figure()
    axes = figure.add_subplot()
    steps = list(dict.fromkeys(row["step"] for row in sorted(rows, key=lambda row: row["position"])))
    groups = _lines(rows, "domain")
    for aside, (domain, own) in zip(_dodge(len(groups), 0.8), sorted(groups.items()), strict=True):
        left = {row["step"]: row["rows"] for row in own}
        places = [i + aside for i in range(len(steps))]
        _bars(axes, places, [left.get(step, 0) for step in steps], 0.8 / len(groups), domain)
    axes.set_yticks(range(len(steps)), steps)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set(xlabel="rows")
    _legend_below(figure)
    return _markdown(figure, "funnel")


def step_costs(entries: Sequence[Row], currency: str) -> str:
    """The funnel of a batch beside what each step cost: rows it gave, tokens, seconds and, with prices, money."""
    panels = {"rows_out": "rows", "tokens": "tokens", "seconds": "seconds", "money": currency}
    shown = [name for name in panels if any(row[name] for row in entries)]
    figure = _figure(max(1, len(shown)))
    for at, name in enumerate(shown, 1):
        axes = figure.add_subplot(1, len(shown), at)
        _bars(axes, range(len(entries)), [row[name] or 0 for row in entries])
        axes.set_yticks(range(len(entries)), [row["step"] for row in entries] if at == 1 else [])
        axes.invert_yaxis()
        axes.margins(x=0.3)
        axes.locator_params(axis="x", nbins=4)
        axes.set(xlabel=panels[name])
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
    for row, marker in zip(rows, itertools.cycle(MARKERS)):
        label = f"{row['dataset']} ({row['problems']:,})"
        axes.scatter(row["x"], row["y"], s=40, marker=marker, alpha=0.8, label=label)
    _one_scale(axes, [row["x"] for row in rows], [row["y"] for row in rows])
    axes.set(title="problem sets, 1 - cosine of mean embeddings")
    _legend_below(figure)
    return _markdown(figure, "problem sets")


def _one_scale(axes: Axes, xs: Sequence[float], ys: Sequence[float]) -> None:
    """The same distance is as long across as up, so that an axis on which the points hardly differ shows that."""
    for values, limit in ((xs, axes.set_xlim), (ys, axes.set_ylim)):
        middle, span = (max(values) + min(values)) / 2, max(max(values) - min(values), LEAST_SPAN)
        limit(middle - 0.6 * span, middle + 0.6 * span, auto=None)  # not fixed: the scale may widen it
    axes.set_aspect("equal", adjustable="datalim")


def score_bars(rows: Sequence[Row], title: str) -> str:
    """Scores with their 95 % intervals, one group a benchmark, the stages of a group one below the other."""
    figure = _figure()
    axes = figure.add_subplot()
    benchmarks = list(dict.fromkeys(row["benchmark"] for row in rows))
    stages = _lines(rows, "stage")
    for aside, (stage, own) in zip(_dodge(len(stages), 0.6), stages.items(), strict=True):
        errors = [
            [max(0.0, row["value"] - row["low"]) for row in own],
            [max(0.0, row["high"] - row["value"]) for row in own],
        ]
        places = [benchmarks.index(row["benchmark"]) + aside for row in own]
        axes.errorbar([row["value"] for row in own], places, xerr=errors, fmt="o", ms=5, capsize=3, label=stage)
    axes.set_yticks(range(len(benchmarks)), benchmarks)
    axes.invert_yaxis()
    axes.margins(y=0.1)
    axes.set(xlabel="score", title=title)
    _legend_below(figure)
    return _markdown(figure, title)


def _bars(
    axes: Axes, places: Sequence[float], values: Sequence[float], height: float = 0.8, label: str | None = None
) -> None:
    """Horizontal bars with their numbers, and no frame where the numbers end."""
    bars = axes.barh(places, values, height, label=label)
    axes.bar_label(bars, fmt=lambda x: f"{x:,.0f}" if x >= 1000 else f"{x:.4g}", fontsize=7, padding=2)
    axes.spines[["top", "right"]].set_visible(False)


def _dodge(count: int, width: float) -> list[float]:
    """How far aside of their common place each of `count` neighbours stands, `width` in all."""
    return [width * ((at + 0.5) / count - 0.5) for at in range(count)]


def _legend_below(figure: Figure) -> None:
    """One legend for all panels, under them, in as many columns as fit; the figure grows by its height."""
    handles: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    for columns in range(len(handles), 0, -1):
        legend = figure.legend(
            list(handles.values()), list(handles), loc="outside lower center", ncols=columns, fontsize=8
        )
        box = legend.get_window_extent()
        if box.width <= figure.bbox.width or columns == 1:
            figure.set_figheight(HEIGHT + box.height / DPI)
            return
        legend.remove()


def _figure(panels: int = 1) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH * max(panels, 1) if panels < 3 else WIDTH * 2, HEIGHT), dpi=DPI, layout="constrained")


def _markdown(figure: Figure, alt: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return f"![{alt}](data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()})"


def _lines(rows: Iterable[Row], column: str = "series") -> dict[str, list[Row]]:
    lines: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        lines[row[column]].append(row)
    return lines
