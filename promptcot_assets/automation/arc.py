"""The whole arc of a profile, from seeds to scores: `promptcot run`, `make demo`.

Every leg is an ordinary Dagster run of this home's instance, so it is in the UI like any other. Legs that do not wait
for each other run side by side, each lane (profile: `lanes`) a process: two Dagster runs in threads of one process
deadlock on Python's logging. A killed arc is continued by the same command: finished assets are recognised by their
fingerprint, half-finished ones by their shards and trainer checkpoints.
"""

from __future__ import annotations

import multiprocessing
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from promptcot_assets.assets.em import CONTROL_OUTPUTS, ROUND_OUTPUTS
from promptcot_assets.assets.progress import clock
from promptcot_assets.assets.resources import RESUME_TAG
from promptcot_assets.automation.home import ARC_TAG, only_arc_of, open_home, release_dead_runs
from promptcot_assets.automation.partitions import FIRST_BATCH, round_key
from promptcot_assets.settings import Settings
from training.child import die_with_parent

TICK_S = 15.0
PRIOR_S, PRIOR_SPEED = 60.0, 1.5  # before there is anything to measure: weight per second of two lanes
CORPUS = ("seed_problems", "concept_corpus", "seed_triples", "benchmark_items", "contest_standings")
BATCH = ("concept_sets", "raw_problems", "problems", "dropped_problems", "math_answers", "code_tests", "teacher_traces",
         "yield_report")  # fmt: skip
SFT = ("sft_examples", "sft_model")
SELF_PLAY = ("rollouts", "verdicts", "preference_pairs", "self_play_examples", "self_play_model", "self_play_gate",
             "difficulty")  # fmt: skip
EVALUATION = ("benchmark_generations", "benchmark_verdicts", "benchmark_scores", "codeforces_ratings", "scaling")


class ArcError(RuntimeError):
    """A leg failed; the message names it, its first error and how to go on."""


@dataclass(frozen=True)
class Leg:
    """One Dagster run. `weight`: its seconds on the demo profile, for the ETA; `after`: legs it needs."""

    name: str
    assets: tuple[str, ...]
    partition: str | None
    after: tuple[str, ...]
    weight: float


def legs(settings: Settings) -> list[Leg]:
    """The arc of a profile."""
    rounds = [round_key(number) for number in range(1, settings.em.rounds + 1)]
    annotators = [role.teacher for role in settings.annotators]
    plan = [
        *(Leg(f"teacher {name}", ("teacher_model",), name, (), 4) for name in sorted(settings.teachers)),
        *(Leg(f"annotations {name}", ("seed_annotations",), name, (f"teacher {name}",), 60) for name in annotators),
        Leg("corpus", CORPUS, None, tuple(f"annotations {name}" for name in annotators), 4),
        Leg("base model", ("base_model",), None, ("corpus",), 8),
        Leg("cold start q", ("cold_rationale_model",), None, ("base model",), 165),
        Leg("cold start p", ("cold_problem_generator",), None, ("base model",), 165),
        Leg("cold start bounds", ("cold_start_bounds",), None, ("cold start q", "cold start p"), 20),
    ]
    before = "cold start bounds"
    for key in rounds:
        plan.append(Leg(f"EM {key}", ROUND_OUTPUTS, key, (before,), 140))
        before = f"EM {key}"
    teachers = tuple(f"teacher {name}" for name in sorted(settings.teachers))
    plan.append(Leg(f"batch {FIRST_BATCH}", BATCH, FIRST_BATCH, (before, *teachers), 60))
    if settings.zero_shot:
        plan.append(Leg("zero shot", ("zero_shot_difficulty",), FIRST_BATCH, (f"batch {FIRST_BATCH}",), 60))
    for student, setup in sorted(settings.students.items()):
        former = (f"{setup.continues}: self-play",) if setup.continues else ()
        plan += [
            Leg(f"{student}: base", ("student_base",), student, ("base model",), 70),
            Leg(f"{student}: SFT", SFT, student, (f"{student}: base", f"batch {FIRST_BATCH}", *former), 120),
            Leg(f"{student}: self-play", SELF_PLAY, student, (f"{student}: SFT",), 35),
            Leg(f"{student}: evaluation", EVALUATION, student, (f"{student}: self-play",), 20),
        ]
    # the control needs the cold start alone; it waits so as to fill the lane that post-training leaves idle
    for key in rounds:
        plan.append(Leg(f"control {key}", CONTROL_OUTPUTS, key, (before,), 75))
        before = f"control {key}"
    plan.append(Leg("EM curves", ("proposal_pool", "common_bounds", "em_curves"), None, (before,), 30))
    played = tuple(f"{student}: self-play" for student in sorted(settings.students))
    plan.append(Leg("analysis", ("distribution", "item_difficulty"), None, (f"batch {FIRST_BATCH}", *played), 8))
    return plan


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


def run_arc(settings: Settings, home: Path, last: str | None = None) -> None:
    """Run every leg of this process's profile (or up to the leg `last`), printing progress.

    Raises: ArcError when a leg fails; what is finished stays.
    """
    plan = until(legs(settings), last) if last else legs(settings)
    with only_arc_of(home), open_home(home, settings) as instance:
        release_dead_runs(instance)
        board, spawn = Board(plan), multiprocessing.get_context("spawn")
        with (
            board.ticking(),
            ProcessPoolExecutor(settings.lanes, mp_context=spawn, initializer=die_with_parent) as lanes,
        ):
            waiting, running, finished = list(plan), dict[Future[str | None], Leg](), set[str]()
            while waiting or running:
                ready = [leg for leg in waiting if finished.issuperset(leg.after)]
                for leg in ready[: settings.lanes - len(running)]:
                    waiting.remove(leg)
                    board.start(leg)
                    running[lanes.submit(_run_leg, leg)] = leg
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    leg = running.pop(future)
                    if failure := future.result():
                        lanes.shutdown(wait=False, cancel_futures=True)
                        raise ArcError(failure)
                    finished.add(leg.name)
                    board.finish(leg)


def _run_leg(leg: Leg) -> str | None:
    """Execute one leg in this lane's process; what went wrong, or None."""
    from promptcot_assets.definitions import defs

    with dg.DagsterInstance.get() as instance:
        result = defs.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=instance,
            asset_selection=[dg.AssetKey(name) for name in leg.assets],
            partition_key=leg.partition,
            run_config={"loggers": {"console": {}}},
            tags={RESUME_TAG: "true", ARC_TAG: leg.name},
            raise_on_error=False,
        )
    if result.success:
        return None
    return (
        f"{leg.name} failed: {_first_error(result)}\n"
        "What is finished is kept. Mend the cause and run the same command again; "
        f"the whole story is in the UI (make ui), run {result.run_id}"
    )


def _first_error(result: dg.ExecuteInProcessResult) -> str:
    for event in result.all_events:
        data = event.event_specific_data
        error = getattr(data, "error", None)
        if event.is_step_failure and error:
            while error.cause and (error.cls_name or "").startswith("Dagster"):
                error = error.cause
            return str(error.message).strip().removeprefix("dagster._core.definitions.events.Failure: ")
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
        elapsed = time.monotonic() - self._began
        speed = (done + PRIOR_S * PRIOR_SPEED) / (elapsed + PRIOR_S)  # the first legs are too short to tell
        left = clock((self._total - done) / speed)
        at = f"{len(self._done)}/{len(self._plan)}"
        line = f"[{at:>5} {done / self._total:4.0%} {clock(elapsed)} elapsed, ETA {left}] {what}"
        print(line, file=sys.stderr, flush=True)

    def _weight_done(self) -> float:
        """Weight of what is done, and of each running leg what its age suggests: at most nine tenths."""
        done = sum(leg.weight for leg in self._plan if leg.name in self._done)
        now = time.monotonic()
        pace = (sum(self._done.values()) + PRIOR_S) / (done + PRIOR_S)  # seconds a unit of weight
        return done + sum(
            leg.weight * min(0.9, (now - began) / (leg.weight * pace)) for leg, began in self._running.values()
        )
