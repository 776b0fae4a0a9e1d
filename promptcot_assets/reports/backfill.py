"""The Dagster runs that make given partitions of given assets anew, in an order in which inputs come first."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from graphlib import TopologicalSorter
from pathlib import Path

from promptcot_assets.lake.ref import UNPARTITIONED
from promptcot_assets.reports.history import History

Place = tuple[str, str]  # asset and partition

# Assets that Dagster makes in one step, by the selection that names them (a test compares with the definitions).
EM = "group:em"
TOGETHER: dict[str, frozenset[str]] = {
    EM: frozenset({
        "em_rationales", "rationale_model", "em_m_step", "problem_generator", "em_bounds",
        "control_rationale_model", "control_problem_generator", "control_bounds",
    }),
    "problems,dropped_problems": frozenset({"problems", "dropped_problems"}),
}  # fmt: skip


def with_what_lies_between(history: History, places: set[Place]) -> set[Place]:
    """The places, and those through which a repair of one of them reaches another."""
    above = {place: _inputs(history, place) for place in history.newest}
    below: dict[Place, set[Place]] = {place: set() for place in above}
    for place, given in above.items():
        for one in given:
            below[one].add(place)
    return places | (_closure(places, below) & _closure(places, above))


def commands(history: History, places: set[Place]) -> list[str]:
    """One command a run, as few runs as the order allows; assets of one partition share a run, an EM round is one."""
    step = {asset: selection for selection, assets in TOGETHER.items() for asset in assets}
    units = {place: (step.get(place[0], place[0]), place[1]) for place in history.newest}
    chosen = {units[place] for place in places}
    given: dict[Place, set[Place]] = {unit: set() for unit in units.values() if unit in chosen}
    for place, unit in units.items():
        if unit in chosen:
            given[unit] |= {units[one] for one in _inputs(history, place)} & chosen - {unit}
    rank = {unit: at for at, unit in enumerate(given)}
    order, ready, runs = TopologicalSorter(given), list[Place](), list[list[Place]]()
    order.prepare()
    while order.is_active():  # EM rounds as soon as they can be: most of the rest waits for them
        ready = sorted([*ready, *order.get_ready()], key=lambda unit: (unit[0] != EM, rank[unit]))
        unit = next((one for one in ready if runs and _fits(one, runs[-1])), ready[0])
        if runs and _fits(unit, runs[-1]):
            runs[-1].append(unit)
        else:
            runs.append([unit])
        ready.remove(unit)
        order.done(unit)
    return [_command(run) for run in runs]


def environment(home: Path) -> str:
    """What the commands need in their environment; the profile is the one of the former runs."""
    return f"export PROMPTCOT_HOME={shlex.quote(str(home))} DAGSTER_HOME={shlex.quote(str(home / 'dagster'))}"


def _fits(unit: Place, run: list[Place]) -> bool:
    return EM not in (unit[0], run[0][0]) and unit[1] == run[0][1]


def _command(run: list[Place]) -> str:
    partition = run[0][1]
    at = "" if partition == UNPARTITIONED else f" --partition {shlex.quote(partition)}"
    selection = ",".join(name for name, _ in run)
    return f"dagster asset materialize -m promptcot_assets.definitions --select {selection}{at}"


def _inputs(history: History, place: Place) -> set[Place]:
    refs = history.newest[place].commit.provenance.inputs
    return {(ref.asset, ref.partition) for ref in refs if (ref.asset, ref.partition) in history.newest}


def _closure(places: Iterable[Place], edges: dict[Place, set[Place]]) -> set[Place]:
    found, waiting = set[Place](), list(places)
    while waiting:
        for one in edges[waiting.pop()] - found:
            found.add(one)
            waiting.append(one)
    return found
