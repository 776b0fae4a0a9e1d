"""EM beside its ablations: one home a seed and arm, each an ordinary run of the arc up to its last EM round.

All arms of a seed start from copies of one home that has the corpus and the cold start and is kept as it is, so they
differ in nothing but their settings. A killed command is continued by the same command, arm by arm and shard by shard.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import yaml

from promptcot_assets.assets.partitions import round_key
from promptcot_assets.assets.progress import clock
from promptcot_assets.automation.arc import ArcError
from promptcot_assets.inference import open_engine
from promptcot_assets.lake import Lake, Row
from promptcot_assets.lake.disk import complete
from promptcot_assets.lake.ids import content_id, seed_from
from promptcot_assets.lake.ref import UNPARTITIONED
from promptcot_assets.settings import Settings, profile_name
from promptcot_assets.settings.profile import Filters
from promptcot_assets.stages.em import ablations, bounds, gates, loop
from promptcot_assets.tables import open_lake
from training.child import CHILD_ENVIRONMENT, die_with_parent, own_mark
from training.server import serving

COLD_START = "cold start bounds"
EM = "EM"  # the arm without overrides: the profile as it is, with its control

# q, p and their bounds
OF_COLD_START = ("cold_rationale_model", "cold_problem_generator", "cold_start_bounds")
OF_ROUND = ("rationale_model", "problem_generator", "em_bounds")
OF_CONTROL = ("control_rationale_model", "control_problem_generator", "control_bounds")


@dataclass(frozen=True)
class Arm:
    """One run: `overrides` are laid over the profile's `em`."""

    seed: int
    name: str
    overrides: dict[str, object]
    folder: Path

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def stopped(self) -> Path:
        """Why the arm ended before its last round: a gate, or a step without anything to train on."""
        return self.folder / "stopped.txt"


def arms(settings: Settings, home: Path) -> list[Arm]:
    """Every arm of every seed; EM itself is the first of its seed."""
    named = {EM: {}, **settings.ablations.arms}
    return [
        Arm(seed, name, overrides, home / f"seed_{seed}" / re.sub(r"\W+", "_", name).strip("_").lower())
        for seed in settings.ablations.seeds
        for name, overrides in named.items()
    ]


def run_ablations(settings: Settings, home: Path) -> None:
    """Run what is not finished yet, `settings.lanes` runs side by side.

    Raises: ArcError when EM itself fails. An arm that a gate stops is a result: its reason is kept (`Arm.stopped`).
    """
    every = arms(settings, home)
    print(cost(settings), file=sys.stderr, flush=True)
    references = [arm for arm in every if arm.name == EM]
    others = [arm for arm in every if arm.name != EM]
    last = round_key(settings.em.rounds)
    _together(settings, "cold start", references, COLD_START)
    starts = {arm.seed: _kept_start(arm) for arm in references}
    for arm in others:
        _copy_once(starts[arm.seed], arm.home)
    _together(settings, "EM and control", references, f"control {last}")
    _together(settings, "ablations", others, f"EM {last}")


def cost(settings: Settings) -> str:
    """What the command is about to do, in runs and pools of proposals: printed before it starts."""
    held_out, seeds, named = settings.em.held_out, len(settings.ablations.seeds), len(settings.ablations.arms)
    small, *larger = bounds.pool_sizes(2 * held_out.proposals, held_out.large_pool)
    grown = f", on {larger[-1]} for {held_out.large_pool_problems} problems of a domain" if larger else ""
    return (
        f"{seeds * (named + 1)} runs of {settings.em.rounds} rounds ({seeds} seeds, EM and {named} arms); then "
        f"{named + 3} pairs of models a seed are measured, the cold start and the control among them, on {small} "
        f"proposals a held-out problem{grown}. What is finished is kept"
    )


def _kept_start(reference: Arm) -> Path:
    """A copy of EM's home as its cold start left it: an arm that is added later must find none of EM's rounds.

    Raises: ArcError when EM went on before there was one.
    """
    start = reference.folder.parent / "_cold_start"  # no arm's folder begins like this
    if not start.exists() and open_lake(reference.home).partitions("em_bounds"):
        raise ArcError(
            f"{reference.home} went on to its rounds before its cold start was kept apart: "
            f"delete {reference.folder.parent} and run the same command again"
        )
    _copy_once(reference.home, start)
    return start


def _copy_once(home: Path, to: Path) -> None:
    """A copy that was killed half-way is begun anew."""
    if not to.exists():
        with complete(to) as draft:
            shutil.copytree(home, draft)


def _together(settings: Settings, phase: str, runs: Sequence[Arm], last: str) -> None:
    began, done = time.monotonic(), 0
    with serving(), ThreadPoolExecutor(settings.lanes) as pool:
        futures = {pool.submit(_run, arm, last): arm for arm in runs}
        for future in as_completed(futures):
            arm, failure, done = futures[future], future.result(), done + 1
            if failure and arm.name == EM:
                pool.shutdown(cancel_futures=True)
                raise ArcError(f"seed {arm.seed}: {failure}")
            elapsed = time.monotonic() - began
            left = clock(elapsed / done * (len(runs) - done))
            end = f"stopped: {failure}" if failure else "done"
            at = f"{phase} {done}/{len(runs)}, {clock(elapsed)} elapsed, ETA {left}"
            print(f"[{at}] seed {arm.seed} · {arm.name} {end}", file=sys.stderr, flush=True)


def _run(arm: Arm, last: str) -> str | None:
    """Run the arc of one arm up to the leg `last`; why it stopped before, or None."""
    arm.folder.mkdir(parents=True, exist_ok=True)
    profile = arm.folder / "profile.yaml"
    profile.write_text(yaml.safe_dump({"extends": profile_name(), "lanes": 1, "ablations": None, "em": arm.overrides}))
    environment = {
        **os.environ,
        **CHILD_ENVIRONMENT,
        "PROMPTCOT_HOME": str(arm.home),
        "DAGSTER_HOME": str(arm.home / "dagster"),
        "PROMPTCOT_PROFILE": str(profile),
        "PROMPTCOT_SEED": str(arm.seed),
    }
    command = [sys.executable, "-m", "promptcot_assets.cli", "run", "--until", last]
    log = arm.folder / "log.txt"  # of this run; Dagster keeps the story of all of them
    with log.open("w") as sink:
        code = subprocess.run(
            command,
            env=environment,
            stdout=sink,
            stderr=sink,
            check=False,
            preexec_fn=partial(die_with_parent, own_mark()),
        ).returncode
    arm.stopped.unlink(missing_ok=True)
    if code == 0:
        return None
    reason = log.read_text(errors="replace").rpartition("Error: ")[2].partition("\n")[0]
    if gates.STOPPED not in reason:
        raise ArcError(f"seed {arm.seed}, {arm.name}: {reason or f'exit code {code}'}; see {log}, mend the cause and "
                       "run the same command again")  # fmt: skip
    arm.stopped.write_text(reason)
    return reason


@dataclass(frozen=True)
class Pair:
    """The last models of an arm and their own measures."""

    q: Path
    p: Path
    bounds: list[Row]  # rows of em_bounds, of that round
    stopped: str | None = None


def measure(settings: Settings, home: Path) -> list[Row]:
    """Rows of `ablations.outcomes`: every arm's last models on the seed's held-out problems, beside EM's.

    For every arm p and EM's p are scored on one pool: as many proposals of the arm's q as of EM's, as a sample of their
    mixture. So neither is measured where only the other's q looks. What was measured of the same models and sizes
    before is read from the arm's folder.
    """
    outcomes = []
    for seed in settings.ablations.seeds:
        own = [arm for arm in arms(settings, home) if arm.seed == seed]
        em_lake, last = open_lake(own[0].home), round_key(settings.em.rounds)
        pairs = {
            "cold start": _pair(em_lake, OF_COLD_START),
            "extra training (control)": _pair(em_lake, OF_CONTROL, last),
        } | {arm.name: _last_pair(arm) for arm in own}
        (problems,) = (em_lake.table(ref).to_pylist() for ref in [em_lake.newest("seed_problems")] if ref)
        seeds = bounds.measured_seeds(problems, training_seeds=0)
        measured = {}
        for name, pair in pairs.items():
            print(f"seed {seed} · {name}: EM and the arm on one pool", file=sys.stderr, flush=True)
            kept = own[0].folder.parent / "_pools"
            measured[name] = (pair.bounds, *_measured_once(kept, settings, seeds, pairs[EM], pair), pair.stopped)
        outcomes += ablations.outcomes(seed, EM, measured)
    return outcomes


def _pair(lake: Lake, names: tuple[str, str, str], partition: str = UNPARTITIONED) -> Pair:
    refs = [lake.newest(asset, partition) for asset in names]
    if None in refs:
        raise ArcError(f"{lake.home} has no {' or '.join(names)} of {partition}; run the same command again")
    q_ref, p_ref, bounds_ref = (ref for ref in refs if ref)
    return Pair(lake.checkpoint(q_ref), lake.checkpoint(p_ref), lake.table(bounds_ref).to_pylist())


def _last_pair(arm: Arm) -> Pair:
    """Of the last round that was measured; of the cold start when no round was."""
    lake = open_lake(arm.home)
    measured = sorted(lake.partitions("em_bounds"))
    pair = _pair(lake, OF_ROUND, measured[-1]) if measured else _pair(lake, OF_COLD_START)
    return replace(pair, stopped=arm.stopped.read_text() if arm.stopped.exists() else None)


def _measured_once(
    folder: Path, settings: Settings, seeds: list[Row], em_pair: Pair, arm: Pair
) -> tuple[list[Row], list[Row]]:
    """`_on_one_pool`, kept in a file of these models, problems and sizes."""
    models = [pair_part.name for pair in (em_pair, arm) for pair_part in (pair.q, pair.p)]
    sizes = settings.em.held_out.part("proposals", "large_pool", "large_pool_problems")
    file = folder / f"{content_id(models, sizes, [row['problem_id'] for row in seeds])}.json"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with complete(file) as draft:
            draft.write_text(json.dumps(_on_one_pool(settings, seeds, em_pair, arm)))
    em_common, common = json.loads(file.read_text())
    return em_common, common


def _on_one_pool(settings: Settings, seeds: list[Row], em_pair: Pair, arm: Pair) -> tuple[list[Row], list[Row]]:
    """Common bounds of EM's p and of the arm's p, on a small pool and on larger ones that begin with it."""
    held_out = settings.em.held_out
    plain = settings.em.sampling.model_copy(update={"temperature": 1.0, "top_p": 1.0})
    sizes = bounds.pool_sizes(2 * held_out.proposals, held_out.large_pool)  # half of each q's
    most = -(-sizes[-1] // 2)
    grown = bounds.large_pool_seeds(seeds, held_out.large_pool_problems) if len(sizes) > 1 else []
    proposed, densities, measured = {}, [], []
    for number, pair in enumerate((em_pair, arm)):
        with open_engine(settings.engine, pair.q) as q:
            seed = seed_from("ablations", number)
            small = loop.propose(seeds, q, plain, held_out.proposals, Filters(), seed)
            large = loop.propose(grown, q, plain, most, Filters(), seed) if grown else []
            proposed[str(number)] = [*small, *(row for row in large if row["candidate"] >= held_out.proposals)]
    pool = bounds.pooled(proposed, held_out.proposals)
    lost = bounds.without_usable(pool, sizes[0])
    for pair in (em_pair, arm):
        with open_engine(settings.engine, pair.q) as q:
            densities.append(bounds.proposal_densities(pool, q))
    pool = bounds.with_mixture_density(pool, densities)
    for number, pair in enumerate((em_pair, arm)):
        with open_engine(settings.engine, pair.p) as p:
            of = {"series": str(number), "round": 0, "problem_generator": str(pair.p)}
            floors = bounds.without_rationale(lost, p) if lost else []
            measured.append(bounds.common_bounds(pool, bounds.score_pool(pool, p), of, sizes, floors))
    return measured[0], measured[1]
