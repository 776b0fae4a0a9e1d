"""The exact versions behind one version as a picture in Markdown, edges inside an EM round included."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable

from promptcot_assets.lake import Commit, Ref
from promptcot_assets.reports.reader.pictures import graph

MOST, ACROSS = 40, 3  # versions in a picture, the nearest; beside each other
STYLE = (
    "<style>text{font:11px sans-serif;fill:#1c1f23}.edge{fill:none;stroke:#5b6470;opacity:.6}"
    ".node{fill:#f3f3ef;stroke:#5b6470}.node.own{stroke:#0b57a4;stroke-width:2.5}</style>"
)


def lineage_picture(own: Ref, inputs: Iterable[Ref], ancestors: Iterable[Commit]) -> str:
    """ancestors: nearest first, as the lake gives them. What is beyond MOST versions is left out, and counted."""
    every = list(ancestors)
    shown = every[:MOST]
    there = {commit.ref for commit in shown}
    edges = {str(own): {str(one) for one in inputs if one in there}}
    edges |= {str(commit.ref): {str(one) for one in commit.provenance.inputs if one in there} for commit in shown}
    drawn = str(graph(edges, {str(own): "own"}, dict.fromkeys(edges, ""), ACROSS))
    head, _, rest = drawn.partition(">")
    width, height = re.findall(r'viewBox="0 0 ([0-9.]+) ([0-9.]+)"', head)[0]  # without a size an image is shown small
    svg = f'{head} xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">{STYLE}{rest}'
    more = f"\n\nand {len(every) - MOST} more behind these" if len(every) > MOST else ""
    return f"![exact lineage of {own}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}){more}"
