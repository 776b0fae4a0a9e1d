"""Examples as a trainer is given them: with a student's chat template, what its model reads and what it writes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from promptcot_assets.inference.chat import ChatTemplate
from promptcot_assets.lake import Row
from promptcot_assets.settings.profile import OPTIMISERS


def with_template(method: str, rows: Iterable[Row], template: ChatTemplate) -> Iterator[Row]:
    """`rows` (prompt, completion; dpo: prompt, chosen, rejected) as turns of `template`.

    An online trainer's completion is the label that completions are judged by: it is told what they must be read after.
    """
    online = method in OPTIMISERS and OPTIMISERS[method].online
    for row in rows:
        turn = template.turn(row["prompt"])
        if online:
            yield {"prompt": turn.prompt, "completion": _told(row["completion"], turn.opened)}
        else:
            written = {
                name: template.written(turn, row[name]) for name in ("completion", "chosen", "rejected") if name in row
            }
            yield {"prompt": turn.prompt} | written


def _told(label: str, opened: str) -> str:
    return json.dumps(json.loads(label) | {"opened": opened}) if opened else label
