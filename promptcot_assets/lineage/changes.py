"""What differs between the computations behind two versions of a table: code, seed, settings, inputs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any

from promptcot_assets.lake import Provenance, Ref
from promptcot_assets.text.printing import short

NAMED = 3  # changes that a sentence names; it counts the others
SHOWN, BEFORE = 40, 10  # characters of a value in a sentence, and of what is alike before the first that differs
NAME = 80  # characters of the name of a setting or an input

Change = tuple[str, str | None, str | None]  # what, its value before and after; None: not there


def changes(before: Provenance, after: Provenance) -> list[Change]:
    """Of code, seed and settings; what the inputs differ in is told by `input_pairs`."""
    code: Change = ("code", before.code_version, after.code_version)
    seed: Change = ("seed", str(before.seed), str(after.seed))
    settings = [(f"setting {path}", old, new) for path, old, new in setting_changes(before.settings, after.settings)]
    return [one for one in (code, seed, *settings) if one[1] != one[2]]


def in_words(before: Provenance, after: Provenance, partition: str) -> str:
    """All that differs between two computations of one partition, for a line of a log."""
    told = [_in_words(*change) for change in changes(before, after)]
    for name, old, new in input_pairs(before.inputs, after.inputs, partition, partition):
        if old is None or new is None:
            told.append(f"input {short(name, NAME)} is {'new' if new else 'gone'}")
        elif old.data_version != new.data_version:
            told.append(f"input {short(name, NAME)} has other content")
    more = f"; and {len(told) - NAMED} more" if len(told) > NAMED else ""
    return "; ".join(told[:NAMED]) + more or "its inputs or settings come in another order"


def _in_words(what: str, old: str | None, new: str | None) -> str:
    name = short(what, NAME)
    start = 0
    if old is not None and new is not None and short(old, SHOWN) == short(new, SHOWN):
        alike = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False))))
        start = max(0, alike - BEFORE)
    return f"{name}: {_from(old, start)} before, {_from(new, start)} now"


def _from(value: str | None, start: int) -> str:
    return "nothing" if value is None else "…" * (start > 0) + short(value[start:], SHOWN)


def input_pairs(
    before: Sequence[Ref], after: Sequence[Ref], own: str, other: str
) -> Iterator[tuple[str, Ref | None, Ref | None]]:
    """Inputs of two commits that stand for each other: the same partition, or each the commit's own."""
    first = {(ref.asset, "" if ref.partition == own else ref.partition): ref for ref in before}
    second = {(ref.asset, "" if ref.partition == other else ref.partition): ref for ref in after}
    for key in dict.fromkeys((*first, *second)):
        old, new = first.get(key), second.get(key)
        asset, partition = key
        yield f"{asset}[{partition}]" if partition not in ("", "all") else asset, old, new


def setting_changes(before: str, after: str) -> list[tuple[str, str | None, str | None]]:
    """(path, value before, value after) of two commits' settings, values as JSON, None: not there."""
    first, second = (dict(_flat(_loaded(text))) for text in (before, after))
    return [
        (path, first.get(path), second.get(path))
        for path in dict.fromkeys((*first, *second))
        if first.get(path) != second.get(path)
    ]


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Leaves by their paths; the list of sections that a commit records adds nothing to a path.

    A list that holds mappings is unfolded, another one is a leaf.
    """
    if isinstance(value, Mapping) and value:
        for key, one in value.items():
            yield from _flat(one, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and path == "":
        for at, one in enumerate(value):
            yield from _flat(one, "") if isinstance(one, Mapping) else _flat(one, f"[{at}]")
    elif isinstance(value, list) and any(isinstance(one, Mapping) for one in value):
        for at, one in enumerate(value):
            yield from _flat(one, f"{path}[{at}]")
    else:
        yield path or "all", json.dumps(value, ensure_ascii=False)
