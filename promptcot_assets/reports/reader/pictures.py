"""Small pictures as SVG inside the page: no script, no style of their own, colours from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter

from markupsafe import Markup

SERIES = 6  # colours that the style sheet has


def bars(parts: Sequence[tuple[str, float]], longest: float, label: str) -> Markup:
    """One stacked bar: the magnitude of each part, of `longest` at most."""
    scale, at, drawn = 100 / (longest or 1), 0.0, Markup("")
    for number, (name, value) in enumerate(parts):
        width = abs(value) * scale
        drawn += _rect(at, 0, width, 8, f"s{number % SERIES}", f"{name} {value:.1f}")
        at += width
    return _svg(100, 8, drawn, label, "bar", stretched=True)


def share(value: float, label: str) -> Markup:
    """A bar of a share of 1."""
    return Markup('<meter value="{}" aria-label="{}"></meter>').format(f"{min(max(value, 0), 1):.3f}", label)


def interval(value: float, low: float, high: float, ends: tuple[float, float], label: str) -> Markup:
    """A point and its interval on an axis from ends[0] to ends[1], with a line at 0 where the axis crosses it."""
    span = (ends[1] - ends[0]) or 1.0

    def x(one: float) -> float:
        return 100 * (min(max(one, ends[0]), ends[1]) - ends[0]) / span

    drawn = _line(0, 6, 100, 6, "axis")
    if ends[0] < 0 < ends[1]:
        drawn += _line(x(0), 0, x(0), 12, "axis")
    drawn += _line(x(low), 6, x(high), 6, "range") + Markup(
        '<rect class="s0" x="{}" y="2" width="1.6" height="8"/>'
    ).format(_n(x(value) - 0.8))
    return _svg(100, 12, drawn, label, "bar", stretched=True)


def histogram(groups: Mapping[str, Sequence[float]], label: str, bins: int = 30) -> Markup:
    """Counts of each group in equal bins over the range of all; groups are drawn over one another."""
    every = [value for values in groups.values() for value in values if math.isfinite(value)]
    if not every:
        return Markup("")
    low, high = min(every), max(every)
    step = (high - low) / bins or 1.0
    counts = {name: [0] * bins for name in groups}
    for name, values in groups.items():
        for value in values:
            if math.isfinite(value):
                counts[name][min(bins - 1, int((value - low) / step))] += 1
    top = max(max(own) for own in counts.values())
    width, height, drawn = 440, 150, Markup("")
    for number, (name, own) in enumerate(counts.items()):
        for at, count in enumerate(own):
            if count:
                tall = count / top * height
                about = f"{name}: {count:,} from {low + at * step:.1f} to {low + (at + 1) * step:.1f}"
                drawn += _rect(
                    20 + at * width / bins + number * 2,
                    height - tall + 6,
                    width / bins - 2 - number * 4,
                    tall,
                    f"s{number}",
                    about,
                )
    drawn += _line(20, height + 6, 20 + width, height + 6, "axis")
    drawn += _text(20, height + 22, f"{low:.0f}") + _text(20 + width, height + 22, f"{high:.0f}", "end")
    drawn += _text(20 + width / 2, height + 22, "nats", "middle") + _legend(list(groups), 480)
    return _svg(600, height + 28, drawn, label, "chart")


def lines(series: Mapping[str, Sequence[tuple[float, float, float | None]]], label: str, unit: str) -> Markup:
    """(x, y, half-width of the error bar; none: a single problem) by series, over whole x such as rounds."""
    points = [point for own in series.values() for point in own]
    if not points:
        return Markup("")
    xs, ends = [x for x, _, _ in points], [(y - (e or 0), y + (e or 0)) for _, y, e in points]
    left, right, low, high = min(xs), max(xs), min(ends)[0], max(end for _, end in ends)

    def place(x: float, y: float) -> tuple[float, float]:
        return 60 + 380 * (x - left) / ((right - left) or 1), 16 + 150 * (high - y) / ((high - low) or 1)

    drawn = _line(60, 170, 440, 170, "axis") + _text(54, 20, f"{high:.1f}", "end") + _text(54, 168, f"{low:.1f}", "end")
    for x in sorted(set(xs)):
        drawn += _text(place(x, low)[0], 186, f"{x:g}", "middle")
    drawn += _text(250, 202, unit, "middle")
    for number, (name, own) in enumerate(series.items()):
        colour = f"l{number % SERIES}"
        at = [place(x, y) for x, y in sorted((x, y) for x, y, _ in own)]
        drawn += Markup('<polyline class="{}" points="{}"/>').format(
            colour, " ".join(f"{_n(x)},{_n(y)}" for x, y in at)
        )
        for x, y, error in own:
            if error is not None:
                (px, top), (_, bottom) = place(x, y + error), place(x, y - error)
                drawn += _line(px, top, px, bottom, colour)
            cx, cy = place(x, y)
            drawn += Markup('<circle class="s{}" cx="{}" cy="{}" r="3.5"><title>{}</title></circle>').format(
                number % SERIES,
                _n(cx),
                _n(cy),
                f"{name}, {x:g}: {y:.2f}{', one problem' if error is None else f' ± {error:.2f}'}",
            )
    return _svg(600, 208, drawn + _legend(list(series), 456), label, "chart")


def curves(series: Mapping[str, Sequence[tuple[float, float]]], label: str, unit: str) -> Markup:
    """(x, y) by series, over many x such as optimiser steps."""
    points = [point for own in series.values() for point in own if math.isfinite(point[1])]
    if not points:
        return Markup("")
    xs, ys = [x for x, _ in points], [y for _, y in points]
    left, right, low, high = min(xs), max(xs), min(ys), max(ys)
    drawn = _line(60, 170, 440, 170, "axis")
    drawn += _text(54, 20, f"{high:.4g}", "end") + _text(54, 168, f"{low:.4g}", "end")
    drawn += _text(60, 186, f"{left:g}", "middle") + _text(440, 186, f"{right:g}", "middle")
    drawn += _text(250, 202, unit, "middle")
    for number, own in enumerate(series.values()):
        at = " ".join(
            f"{_n(60 + 380 * (x - left) / ((right - left) or 1))},{_n(16 + 150 * (high - y) / ((high - low) or 1))}"
            for x, y in sorted(own) if math.isfinite(y)
        )  # fmt: skip
        drawn += Markup('<polyline class="l{}" points="{}"/>').format(number % SERIES, at)
    return _svg(600, 208, drawn + _legend(list(series), 456), label, "chart")


def graph(
    edges: Mapping[str, set[str]], states: Mapping[str, str], links: Mapping[str, str], across: int = 5
) -> Markup:
    """A graph from top to bottom: every node below all that it is made from, edges without shortcuts.

    edges: node -> what it is made from; states: node -> class of its box; links: node -> where a click leads; across:
    boxes beside each other.
    """
    order = list(TopologicalSorter({node: sorted(above) for node, above in sorted(edges.items())}).static_order())
    beyond: dict[str, set[str]] = {}
    depth: dict[str, int] = {}
    kept: dict[str, set[str]] = {}
    for node in order:
        above = edges.get(node, set())
        depth[node] = 1 + max((depth[one] for one in above), default=-1)
        further = set().union(*(beyond[one] for one in above)) if above else set()
        kept[node] = above - further
        beyond[node] = further | above
    levels: dict[int, list[str]] = {}
    for node in order:
        levels.setdefault(depth[node], []).append(node)
    wide, high = 208, 46
    place: dict[str, tuple[float, float]] = {}
    row = 0
    for level in sorted(levels):
        # a node stands near the middle of what it is made from, so that edges cross little
        own = sorted(
            levels[level],
            key=lambda node: (sum(place[up][0] for up in kept[node]) / len(kept[node]) if kept[node] else 0, node),
        )
        for start in range(0, len(own), across):
            some = own[start : start + across]
            offset = (across - len(some)) * wide / 2
            for at, node in enumerate(some):
                place[node] = offset + at * wide, row * high
            row += 1
    drawn = Markup("")
    for node, above in kept.items():
        for one in sorted(above):
            (x1, y1), (x2, y2) = place[one], place[node]
            half = (y2 - y1 - 26) / 2
            drawn += Markup('<path class="edge" d="M{} {}c0 {} {} {} {} {}"/>').format(
                _n(x1 + 96), _n(y1 + 28), _n(half), _n(x2 - x1), _n(half), _n(x2 - x1), _n(y2 - y1 - 26)
            )
    for node, (x, y) in place.items():
        drawn += Markup(
            '<a href="{}"><rect class="node {}" x="{}" y="{}" width="192" height="26" rx="5"/>{}<title>{}</title></a>'
        ).format(
            links[node],
            states.get(node, "fresh"),
            _n(x),
            _n(y + 2),
            _text(x + 96, y + 19, node, "middle"),
            f"{node}: {states.get(node, 'fresh')}",
        )
    return _svg(across * wide, row * high + 4, drawn, "what is made from what, from top to bottom", "graph")


def _svg(width: float, height: float, drawn: Markup, label: str, name: str, stretched: bool = False) -> Markup:
    keep = Markup(' preserveAspectRatio="none"') if stretched else Markup("")
    role = "group" if name == "graph" else "img"
    return Markup('<svg class="{}" viewBox="0 0 {} {}" role="{}" aria-label="{}"{}>{}</svg>').format(
        name, _n(width), _n(height), role, label, keep, drawn
    )


def _rect(x: float, y: float, width: float, height: float, name: str, title: str) -> Markup:
    return Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>').format(
        name, _n(x), _n(y), _n(max(width, 0)), _n(height), title
    )


def _line(x1: float, y1: float, x2: float, y2: float, name: str) -> Markup:
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(name, _n(x1), _n(y1), _n(x2), _n(y2))


def _text(x: float, y: float, text: str, anchor: str = "start") -> Markup:
    return Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>').format(_n(x), _n(y), anchor, text)


def _legend(names: Sequence[str], x: float) -> Markup:
    return Markup("").join(
        Markup('<rect class="s{}" x="{}" y="{}" width="10" height="10"/>').format(at % SERIES, _n(x), 6 + 18 * at)
        + _text(x + 16, 15 + 18 * at, name)
        for at, name in enumerate(names)
    )


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
