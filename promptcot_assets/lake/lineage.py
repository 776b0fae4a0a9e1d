"""Who descends from whom, from the inputs that every commit names."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from promptcot_assets.lake.ref import Commit, Ref


def upstream(refs: Iterable[Ref], commit_of: Callable[[Ref], Commit | None]) -> list[Commit]:
    """Every commit that the given refs were made from, each once, nearest first; the refs' own commits stay out.

    A ref for which `commit_of` gives None (its table is not in this lake) ends its branch.
    """
    found: dict[tuple[str, int], Commit] = {}
    level = [commit for ref in refs if (commit := commit_of(ref))]
    while level:
        parents = []
        for ref in (ref for commit in level for ref in commit.provenance.inputs):
            if (ref.asset, ref.version) not in found and (commit := commit_of(ref)):
                found[ref.asset, ref.version] = commit
                parents.append(commit)
        level = parents
    return list(found.values())
