"""What every table and model was made from, commit by commit, and which of them are out of date.

It is all in the tables' own logs, so it survives the loss of Dagster's database and of the catalogue.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from promptcot_assets.lake import LakeError, Ref
from promptcot_assets.lake.lineage import reached
from promptcot_assets.lake.log import Entry
from promptcot_assets.lineage.history import History, model_id
from promptcot_assets.tables import TABLES
from promptcot_assets.text.printing import Branch, tree

EXACT = re.compile(r"(?P<asset>\w+)(?:\[(?P<partition>[^\]]+)\])?(?:@(?P<version>\d+))?")


def commits_named(history: History, asset: str, partition: str | None) -> list[Entry]:
    """The newest commit of every (or one) partition; `asset` may also be an exact ref, `asset[partition]@version`.

    Raises: LakeError naming what there is instead.
    """
    match = EXACT.fullmatch(asset)
    name, within = (match["asset"], match["partition"] or partition) if match else (asset, partition)
    if partition and within != partition:
        raise LakeError(f"{asset} is not of partition {partition}: name one of the two")
    own = history.of_asset(name)
    if not own:
        raise LakeError(f"no table or model {name!r} in {history.home}; there are {', '.join(history.assets)}")
    if match and match["version"]:
        found = [one for one in own if one.ref.version == int(match["version"]) and within in (None, one.ref.partition)]
    else:
        found = [one for (table, at), one in history.newest.items() if table == name and within in (None, at)]
    if not found:
        known = ", ".join(str(one.ref) for one in own[-5:])
        raise LakeError(
            f"no commit {asset}{f' of partition {partition}' if partition else ''}; the last ones are {known}"
        )
    return found


def with_ancestors(history: History, entries: Iterable[Entry]) -> list[Entry]:
    """The given commits and all they were made from, each once, nearest first."""
    return reached(entries, history.inputs)


@dataclass(frozen=True)
class Cost:
    """What commits spent in all: tokens generated, scored or trained on, and seconds of computing."""

    commits: int
    tokens: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.commits:,} commits, {self.tokens:,} tokens, {self.seconds:,.0f} s of computing"


def cost(entries: Iterable[Entry]) -> Cost:
    """The sum over the given commits; of a model and `with_ancestors` of it: what the model cost."""
    made = [entry.commit.provenance for entry in entries]
    return Cost(len(made), sum(one.tokens for one in made), sum(one.seconds for one in made))


def as_json(entry: Entry) -> dict[str, Any]:
    """One commit with all that is recorded beside its rows."""
    made = entry.commit.provenance
    return {
        "asset": entry.ref.asset,
        "partition": entry.ref.partition,
        "version": entry.ref.version,
        "data_version": entry.ref.data_version,
        "rows": entry.ref.rows,
        "model_id": model_id(entry) or None,
        "code_version": made.code_version,
        "settings_hash": entry.commit.provenance.settings_hash,
        "settings": made.settings,
        "seed": made.seed,
        "tokens": made.tokens,
        "seconds": made.seconds,
        "run_id": made.run_id,
        "committed_at": entry.commit.timestamp,
        "inputs": list(made.inputs),
    }


def as_text(history: History, entry: Entry, printed: set[Ref] | None = None) -> str:
    """The tree of commits that `entry` was made from; what is already `printed` is not unfolded again."""
    return tree(_branch(history, entry, set() if printed is None else printed))


def stale(history: History) -> dict[Ref, list[str]]:
    """Newest commits that were not made of the newest data -> why; settings and code are not looked at.

    An input has newer data, or is stale itself, or a table that is read whole has a partition that was not there yet.
    """
    reasons: dict[Ref, list[str]] = {}
    for entry in history.live:
        if not history.is_newest(entry.ref):
            continue
        own = []
        for given in entry.commit.provenance.inputs:
            now = history.newest.get((given.asset, given.partition))
            if now is None:
                own.append(f"{given} is not in this lake")
            elif now.ref.data_version != given.data_version:
                own.append(f"{given} is {now.ref} now")
            elif now.ref in reasons:
                own.append(f"{now.ref} is stale")
        own += [f"{one.ref} has come since" for one in _partitions_since(history, entry)]
        if own:
            reasons[entry.ref] = own
    return reasons


def _partitions_since(history: History, entry: Entry) -> list[Entry]:
    """Newest commits of partitions that `entry` would read now and has not read.

    A table of which it has read no partition at all is none of its inputs: settings may leave one out.
    """
    read = {(ref.asset, ref.partition) for ref in entry.commit.provenance.inputs}
    wanted = {asset for asset, _ in read}.intersection(
        TABLES[entry.ref.asset].reads_every if entry.ref.asset in TABLES else ()
    )
    return [now for place, now in history.newest.items() if place[0] in wanted and place not in read]


def _branch(history: History, entry: Entry, printed: set[Ref]) -> Branch:
    made, inputs = entry.commit.provenance, history.inputs(entry)
    if entry.ref in printed:
        return Branch(f"{entry.ref} (above)" if inputs else str(entry.ref))
    printed.add(entry.ref)
    facts = [
        f"data {entry.ref.data_version[:12]}",
        model_id(entry) or f"{entry.ref.rows:,} rows",
        f"code {made.code_version}",
        f"settings {entry.commit.provenance.settings_hash}",
        f"seed {made.seed}",
        *([f"{made.tokens:,} tokens"] if made.tokens else []),
        f"{made.seconds:.1f} s",
        f"{entry.commit.timestamp:%Y-%m-%d %H:%M:%S}",
    ]
    lost = [ref for ref in made.inputs if (ref.asset, ref.version) not in history.entries]
    children = [_branch(history, one, printed) for one in inputs] + [
        Branch(f"{ref} (not in this lake)") for ref in lost
    ]
    return Branch(f"{entry.ref}  {', '.join(facts)}", children)
