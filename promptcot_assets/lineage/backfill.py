"""The Dagster runs that make given partitions of given assets anew, in an order in which inputs come first."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

from promptcot_assets.lake.lineage import reached
from promptcot_assets.lake.ref import UNPARTITIONED
from promptcot_assets.lineage.history import History
from promptcot_assets.tables import TABLES, made_with

Place = tuple[str, str]  # asset and partition

EM = "group:em"  # a round and its control are selected together: Dagster makes them one after the other


def _together() -> dict[str, frozenset[str]]:
    """Assets that Dagster makes in one step, by the selection that names them."""
    steps = {made_with(name) for name in TABLES if TABLES[name].together}
    return {EM if TABLES[step[0]].group == "em" else ",".join(step): frozenset(step) for step in steps}


TOGETHER = _together()


@dataclass(frozen=True)
class Run:
    """One Dagster run: what is made in it, as Dagster's selections, of one partition."""

    selection: tuple[str, ...]
    partition: str

    @property
    def assets(self) -> list[str]:
        return [asset for one in self.selection for asset in sorted(TOGETHER.get(one, {one}))]

    @property
    def partition_key(self) -> str | None:
        """As Dagster has it: None for what has no partitions."""
        return None if self.partition == UNPARTITIONED else self.partition

    @property
    def command(self) -> str:
        at = f" --partition {shlex.quote(self.partition)}" if self.partition_key else ""
        selection = ",".join(self.selection)
        return f"dagster asset materialize -m promptcot_assets.definitions --select {selection}{at}"


def with_what_lies_between(history: History, places: set[Place]) -> set[Place]:
    """The places, and those through which a repair of one of them reaches another."""
    above = {place: _inputs(history, place) for place in history.newest}
    below: dict[Place, set[Place]] = {place: set() for place in above}
    for place, given in above.items():
        for one in given:
            below[one].add(place)
    downwards, upwards = reached(places, below.__getitem__), reached(places, above.__getitem__)
    return {*downwards} & {*upwards}


def runs(history: History, places: set[Place]) -> list[Run]:
    """As few runs as the order allows; assets of one partition share a run, an EM round is one."""
    step = {asset: selection for selection, assets in TOGETHER.items() for asset in assets}
    units = {place: (step.get(place[0], place[0]), place[1]) for place in history.newest}
    chosen = {units[place] for place in places}
    given: dict[Place, set[Place]] = {unit: set() for unit in units.values() if unit in chosen}
    for place, unit in units.items():
        if unit in chosen:
            given[unit] |= {units[one] for one in _inputs(history, place)} & chosen - {unit}
    rank = {unit: at for at, unit in enumerate(given)}
    order, ready, found = TopologicalSorter(given), list[Place](), list[list[Place]]()
    order.prepare()
    while order.is_active():  # EM rounds as soon as they can be, most waits for them; what looks at everything last
        ready = sorted(
            [*ready, *order.get_ready()], key=lambda unit: (unit[0] != EM, unit[1] == UNPARTITIONED, rank[unit])
        )
        unit = next((one for one in ready if found and _fits(one, found[-1])), ready[0])
        if found and _fits(unit, found[-1]):
            found[-1].append(unit)
        else:
            found.append([unit])
        ready.remove(unit)
        order.done(unit)
    return [Run(tuple(name for name, _ in units_of_run), units_of_run[0][1]) for units_of_run in found]


def environment(home: Path, seed: int) -> str:
    """What the commands need in their environment; the profile is the one of the former runs, `seed` was theirs."""
    folders = f"PROMPTCOT_HOME={shlex.quote(str(home))} DAGSTER_HOME={shlex.quote(str(home / 'dagster'))}"
    return f"export {folders} PROMPTCOT_SEED={seed}"


def _fits(unit: Place, run: list[Place]) -> bool:
    return EM not in (unit[0], run[0][0]) and unit[1] == run[0][1]


def _inputs(history: History, place: Place) -> set[Place]:
    refs = history.newest[place].commit.provenance.inputs
    return {(ref.asset, ref.partition) for ref in refs if (ref.asset, ref.partition) in history.newest}
