"""Who descends from whom, from the inputs that every commit names."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import TypeVar

from promptcot_assets.lake.ref import Commit, Ref

T = TypeVar("T", bound=Hashable)


def levels(starts: Iterable[T], next_to: Callable[[T], Iterable[T]]) -> Iterator[list[T]]:
    """Breadth first: the starts, then step by step what is next to them. Each is met once, at its nearest."""
    level, seen = list(dict.fromkeys(starts)), set[T]()
    while level:
        yield level
        seen.update(level)
        level = [one for one in dict.fromkeys(one for node in level for one in next_to(node)) if one not in seen]


def reached(starts: Iterable[T], next_to: Callable[[T], Iterable[T]]) -> list[T]:
    """The starts and everything that can be reached from them, nearest first."""
    return [one for level in levels(starts, next_to) for one in level]


def upstream(refs: Iterable[Ref], commit_of: Callable[[Ref], Commit | None]) -> list[Commit]:
    """Every commit that the given refs were made from, each once, nearest first; the refs' own commits stay out.

    A ref for which `commit_of` gives None (its table is not in this lake) ends its branch.
    """
    commits: dict[Ref, Commit] = {}

    def inputs(ref: Ref) -> Iterable[Ref]:
        if commit := commit_of(ref):
            commits[ref] = commit
        return commit.provenance.inputs if commit else ()

    above = list(levels(refs, inputs))[1:]
    return [commits[ref] for level in above for ref in level if ref in commits]
