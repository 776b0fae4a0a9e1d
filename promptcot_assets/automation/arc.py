"""The whole arc of a profile, from seeds to scores: `promptcot run`, `make demo`.

Every leg is an ordinary Dagster run of this home's instance, so it is in the UI like any other. Legs that do not wait
for each other run side by side, each lane (profile: `lanes`) a process: two Dagster runs in threads of one process
deadlock on Python's logging. A killed arc is continued by the same command: finished assets are recognised by their
fingerprint, half-finished ones by their shards and trainer checkpoints.
"""

from __future__ import annotations

import math
import multiprocessing
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import dagster as dg
from dagster._core.definitions.assets.job.asset_job import IMPLICIT_ASSET_JOB_NAME
from dagster._core.definitions.repository_definition.valid_definitions import SINGLETON_REPOSITORY_NAME
from dagster._core.remote_origin import (
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from promptcot_assets.assets.everything import ASSETS, in_use
from promptcot_assets.assets.inputs import EVERY, split
from promptcot_assets.assets.partitions import FIRST_BATCH, keys_of
from promptcot_assets.assets.progress import clock
from promptcot_assets.assets.step import RESUME_TAG
from promptcot_assets.automation.failures import error_of
from promptcot_assets.automation.home import ARC_TAG, only_arc_of, open_home, release_dead_runs
from promptcot_assets.automation.processes import own_tags
from promptcot_assets.lake.ref import UNPARTITIONED
from promptcot_assets.settings import Settings
from promptcot_assets.tables import TABLES, Unit
from training.child import die_with_parent, own_mark
from training.server import serving

LoadDefinitions = Callable[[], dg.Definitions]
LOCATION = "promptcot"  # the code location's name (workspace.yaml, pyproject.toml)
TICK_S = 15.0
CARRIED_OVER = 0.1  # a leg that took less than this share of its seconds was there already: it tells no speed
PRIOR_S, PRIOR_SPEED = 60.0, 1.5  # before there is anything to measure: weight per second of two lanes
# Every leg that a table may declare, in the order of the plan, with its seconds on the demo profile, for the ETA; a
# profile whose legs take other times says so (`leg_seconds`).
LEGS = {
    "teacher": 4, "annotations": 60, "corpus": 4, "base model": 8, "cold start q": 165, "cold start p": 165,
    "cold start bounds": 20, "EM": 140, "batch": 60, "zero shot": 60, "base": 70, "SFT": 120, "self-play": 35,
    "tuning": 60, "evaluation": 20, "control": 75, "EM curves": 30, "analysis": 8,
}  # fmt: skip
LOOK_S = 1.0  # how long a lane may be dead before anybody notices
END_WAIT_S = 10.0  # for lanes that are told to end; a busy one is killed
# The control needs the cold start alone; it waits so as to fill the lane that post-training leaves idle.
WAITS_FOR = {"control": "EM"}


class ArcError(RuntimeError):
    """A leg failed; the message names it, its first error and how to go on."""


@dataclass(frozen=True)
class Leg:
    """One Dagster run. `weight`: its seconds as they were once measured, for the ETA; `after`: legs it needs."""

    name: str
    assets: tuple[str, ...]
    partition: str | None
    after: tuple[str, ...]
    weight: float


def legs(settings: Settings) -> list[Leg]:
    """The arc of a profile: the assets that declare one leg are one run; what it needs follows from their inputs.

    Raises: ArcError naming the setting that the plan cannot follow.
    """
    for name in ("focus", "written_by"):
        if FIRST_BATCH in getattr(settings.synthesis, name):
            raise ArcError(
                f"synthesis.{name}.{FIRST_BATCH}: students play on the batch {FIRST_BATCH!r}, so it cannot follow from "
                "how one of them did; give another batch in its place"
            )
    if unknown := sorted(settings.leg_seconds.keys() - LEGS.keys()):
        raise ArcError(f"leg_seconds.{unknown[0]}: there is no such leg; there are {', '.join(LEGS)}")
    seconds = LEGS | settings.leg_seconds
    places: dict[tuple[str, str], list[str]] = {}  # (leg, partition) -> assets
    for asset in (member for step in in_use(settings) for member in step.members):
        for partition in keys_of(asset.table.unit, settings) or [UNPARTITIONED]:
            places.setdefault((asset.table.leg, partition), []).append(asset.name)
    order = sorted(places, key=lambda place: (list(LEGS).index(place[0]), place[1]))
    made_in = {(asset, partition): (leg, partition) for (leg, partition), made in places.items() for asset in made}
    return [
        Leg(
            _leg_name(*place),
            tuple(places[place]),
            None if place[1] == UNPARTITIONED else place[1],
            tuple(_leg_name(*one) for one in order if one in _needs(place, places, made_in, settings)),
            seconds[place[0]],
        )
        for place in order
    ]


Place = tuple[str, str]


def _needs(place: Place, places: dict[Place, list[str]], made_in: dict[Place, Place], settings: Settings) -> set[Place]:
    """The legs that make what the assets of this one read, and the one that it waits for."""
    made = [ASSETS[name] for name in places[place]]
    read = {
        split(name) for asset in made for name in (*asset.read(settings, place[1]), *asset.edges(settings, place[1]))
    }
    needed = {made_in[asset, of or UNPARTITIONED] for asset, of in read if of != EVERY}
    needed |= {at for (asset, _), at in made_in.items() if (asset, EVERY) in read}
    if waited_for := WAITS_FOR.get(place[0]):
        needed.add(max(one for one in places if one[0] == waited_for))
    return needed - {place}


def _leg_name(leg: str, partition: str) -> str:
    """`corpus`, `EM round_01`, `tiny: SFT`."""
    if partition == UNPARTITIONED:
        return leg
    is_student = next(table.unit for table in TABLES.values() if table.leg == leg) is Unit.STUDENT
    return f"{partition}: {leg}" if is_student else f"{leg} {partition}"


def until(plan: Sequence[Leg], name: str) -> list[Leg]:
    """The leg of this name and what it needs, in the plan's order. Raises: ArcError when there is no such leg."""
    by_name = {leg.name: leg for leg in plan}
    if name not in by_name:
        raise ArcError(f"no leg {name!r}; the legs of this profile are {', '.join(by_name)}")
    needed, ahead = set[str](), [name]
    while ahead:
        leg = ahead.pop()
        needed.add(leg)
        ahead += by_name[leg].after
    return [leg for leg in plan if leg.name in needed]


def run_arc(settings: Settings, home: Path, definitions: LoadDefinitions, last: str | None = None) -> None:
    """Run every leg of this process's profile (or up to the leg `last`), printing progress.

    definitions: gives the code location; each lane, a process of its own, calls it anew.

    Raises: ArcError as soon as a leg fails or a lane is killed; the other lanes are ended, and what is finished stays.
    """
    run_legs(until(legs(settings), last) if last else legs(settings), settings, home, definitions)


def run_legs(plan: Sequence[Leg], settings: Settings, home: Path, definitions: LoadDefinitions) -> None:
    """Run these legs, each after those of the plan that it needs. Raises: ArcError as `run_arc`."""
    with only_arc_of(home), serving(), open_home(home, settings) as instance:
        release_dead_runs(instance)
        board, spawn = Board(plan), multiprocessing.get_context("spawn")
        with (
            board.ticking(),
            ProcessPoolExecutor(
                settings.lanes, mp_context=spawn, initializer=die_with_parent, initargs=(own_mark(),)
            ) as lanes,
        ):
            waiting, running, finished = list(plan), dict[Future[str | None], Leg](), set[str]()
            while waiting or running:
                ready = [leg for leg in waiting if finished.issuperset(leg.after)]
                if not ready and not running:
                    raise ArcError(f"{', '.join(leg.name for leg in waiting)} wait for each other, and none can begin")
                for leg in ready[: settings.lanes - len(running)]:
                    with suppress(BrokenProcessPool):  # a lane was killed just now, as the next look tells
                        running[lanes.submit(_run_leg, definitions, leg)] = leg
                        waiting.remove(leg)
                        board.start(leg)
                processes = list((lanes._processes or {}).values())
                done, failure = _first_done(running, processes)
                if failure:
                    _end(processes)
                    release_dead_runs(instance, f"ended: {failure.splitlines()[0]}")
                    raise ArcError(failure)
                for leg in map(running.pop, done):
                    finished.add(leg.name)
                    board.finish(leg)


def _first_done(
    running: Mapping[Future[str | None], Leg], processes: Sequence[BaseProcess]
) -> tuple[set[Future[str | None]], str | None]:
    """The legs that end next, once there are any; and what went wrong, if anything did.

    A pool that was asked for a second lane may not watch it until something else happens: we look after them too.
    """
    done = set[Future[str | None]]()
    while not done and all(process.is_alive() for process in processes):
        done, _ = wait(running, timeout=LOOK_S, return_when=FIRST_COMPLETED)
    try:
        failures = [failure for future in done if (failure := future.result())]
    except BrokenProcessPool:
        done = set()
    if not done:
        return done, _killed([leg.name for leg in running.values()], processes)
    return done, next(iter(failures), None)


def _end(processes: Sequence[BaseProcess]) -> None:
    """End the lanes: nobody should wait hours for an arc that has failed. Their shards and checkpoints are kept."""
    for process in processes:
        process.kill()
    for process in processes:
        process.join()


def _killed(at_work: Sequence[str], processes: Sequence[BaseProcess]) -> str:
    """Tell the other lanes to end, and say which was killed in the middle of a leg."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(END_WAIT_S)
    codes = [process.exitcode for process in processes if process.exitcode not in (None, 0, -signal.SIGTERM)]
    code = min(codes, default=-signal.SIGTERM)  # a signal rather than the code of one that only lost its pool
    why = ", most likely by the kernel because memory ran out: fewer `lanes`, fewer `engine.workers` or a smaller "
    why += "`engine.batch_size` need less"
    return (
        f"a lane was killed (exit code {code}) during {' or '.join(sorted(at_work))}"
        f"{why if code == -signal.SIGKILL else ''}\n"
        "What is finished is kept; run the same command again to go on"
    )


def _run_leg(definitions: LoadDefinitions, leg: Leg) -> str | None:
    """Execute one leg in this lane's process; what went wrong, or None."""
    with dg.DagsterInstance.get() as instance:
        _on_the_timeline(instance)
        result = (
            definitions()
            .resolve_implicit_global_asset_job_def()
            .execute_in_process(
                instance=instance,
                asset_selection=[dg.AssetKey(name) for name in leg.assets],
                partition_key=leg.partition,
                run_config={"loggers": {"console": {}}},
                tags={RESUME_TAG: "true", ARC_TAG: leg.name, **own_tags()},
                raise_on_error=False,
            )
        )
    if result.success:
        return None
    return (
        f"{leg.name} failed: {_first_error(result)}\n"
        "What is finished is kept. Mend the cause and run the same command again; "
        f"the whole story is in the UI (make ui), run {result.run_id}"
    )


def _on_the_timeline(instance: dg.DagsterInstance) -> None:
    """Runs that this process makes say which code location they are of.

    Dagster's timeline leaves out a run that does not say so, and `execute_in_process` has no argument for it.
    """
    target = LoadableTargetOrigin(module_name="promptcot_assets.definitions", working_directory=".")
    location = ManagedGrpcPythonEnvCodeLocationOrigin(target, LOCATION)
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(location, SINGLETON_REPOSITORY_NAME), IMPLICIT_ASSET_JOB_NAME)
    setattr(instance, "create_run_for_job", partial(instance.create_run_for_job, remote_job_origin=origin))  # noqa: B010


def _first_error(result: dg.ExecuteInProcessResult) -> str:
    for event in result.all_events:
        if event.is_step_failure and (said := error_of(event)):
            return said
    return next((event.message or "" for event in result.all_events if event.is_failure), "no error was recorded")


class Board:
    """Overall progress: which legs run, what share of the arc is done, how long the rest may take."""

    def __init__(self, plan: Sequence[Leg]) -> None:
        self._plan, self._total = plan, sum(leg.weight for leg in plan)
        self._began = time.monotonic()
        self._running: dict[str, tuple[Leg, float]] = {}
        self._done: dict[str, float] = {}  # leg -> seconds
        self._lock = threading.Lock()

    def start(self, leg: Leg) -> None:
        with self._lock:
            self._running[leg.name] = (leg, time.monotonic())
        self._say(f"start  {leg.name}")

    def finish(self, leg: Leg) -> None:
        with self._lock:
            _, began = self._running.pop(leg.name)
            self._done[leg.name] = time.monotonic() - began
        self._say(f"done   {leg.name} in {clock(self._done[leg.name])}")

    @contextmanager
    def ticking(self) -> Iterator[None]:
        """Says where the arc stands every quarter of a minute."""
        stop = threading.Event()

        def tick() -> None:
            while not stop.wait(TICK_S):
                self._say("running " + ", ".join(self._running))

        ticker = threading.Thread(target=tick, daemon=True)
        ticker.start()
        try:
            yield
        finally:
            stop.set()
            ticker.join()

    def _say(self, what: str) -> None:
        with self._lock:
            done = self._weight_done()
            there, there_s = self._there_already()
        elapsed = time.monotonic() - self._began
        # the first legs are too short to tell
        speed = (done - there + PRIOR_S * PRIOR_SPEED) / (elapsed - there_s + PRIOR_S)
        left = clock((self._total - done) / speed)
        at = f"{len(self._done)}/{len(self._plan)}"
        line = f"[{at:>5} {done / self._total:4.0%} {clock(elapsed)} elapsed, ETA {left}] {what}"
        print(line, file=sys.stderr, flush=True)

    def _weight_done(self) -> float:
        """Weight of what is done, and of each running leg what its age suggests: at most nine tenths."""
        done = sum(leg.weight for leg in self._plan if leg.name in self._done)
        now = time.monotonic()
        there, there_s = self._there_already()
        # seconds a unit of weight
        pace = (sum(self._done.values()) - there_s + PRIOR_S) / (done - there + PRIOR_S)
        return done + sum(
            leg.weight * min(0.9, (now - began) / (leg.weight * pace)) for leg, began in self._running.values()
        )

    def _there_already(self) -> tuple[float, float]:
        """Weight of the legs that a run before this one had finished, and the seconds that it took to see so."""
        legs = [leg for leg in self._plan if self._done.get(leg.name, math.inf) < CARRIED_OVER * leg.weight]
        return sum(leg.weight for leg in legs), sum(self._done[leg.name] for leg in legs)
