"""Kills at random moments of a whole arc, self-play and evaluation included: does it always end as if undisturbed?

    python -m benchmarks.kills [KILLS] [FOLDER] [SEED]     (default: 100 kills, in a folder of its own)

One home of the profile that PROMPTCOT_PROFILE names is made undisturbed. Then `promptcot run` works in fresh homes
and is killed by SIGKILL, again and again until it ends: a random time after it has ended none, one or two legs that it
had not ended before, so that the kills fall all over the arc however busy the machine is. Every second kill takes the
whole tree of processes, every other one process of it, drawn at random (the arc, a lane, a step, a worker, a trainer),
whereupon the rest must end or finish by itself. A home that has ended must hold the data versions of the undisturbed
one, whole, each partition once; nothing may be left of it: no process after a kill, no slot, no unfinished file or
folder. Then the next home, until KILLS are spent; the last one is let through. Ends with exit code 1 and a list when
anything was wrong.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.bit_rot import data_versions
from benchmarks.soak import left

LEGS = (0, 1, 2)  # that must end between two kills,
LIFE = (0.0, 0.08)  # and what passes after the last of them, as a share of the time of the undisturbed arc
POLL_S = 0.05
PARTING_S = 30.0  # for the processes of an arc that was killed to end
NAMES = {  # of processes, by what stands in their command lines
    "promptcot_assets.cli": "the arc, or a lane of it",
    "training": "a trainer",
    "resource_tracker": "a tracker of shared memory",
    "spawn_main": "a step or a worker",
    "dagster": "a run",
}
BOARD = re.compile(r"\] (start|done) +(.+?)(?: +in .*)?$", re.MULTILINE)
RUN = [sys.executable, "-m", "promptcot_assets.cli", "run"]


@dataclass
class Outcome:
    kills: Counter[str] = field(default_factory=Counter)  # by what was killed
    moments: Counter[str] = field(default_factory=Counter)  # by what the arc had printed last
    homes: int = 0
    faults: list[str] = field(default_factory=list)


def environment(home: Path) -> dict[str, str]:
    return os.environ | {"PROMPTCOT_HOME": str(home), "DAGSTER_HOME": str(home / "dagster")}


def processes_of(home: Path) -> dict[int, str]:
    """Living processes that were started for a home, with their command lines; this process is none of them."""
    found = dict[int, str]()
    mark = f"PROMPTCOT_HOME={home}\0".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended
            if mark in (folder / "environ").read_bytes():
                found[int(folder.name)] = (
                    (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
    return {pid: command for pid, command in found.items() if pid != os.getpid()}


def work(home: Path, count: int, whole_s: float, draw: random.Random, outcome: Outcome) -> None:
    """Run the arc in a home until it has ended well, killing while there are kills left.

    whole_s: seconds that the undisturbed arc took.
    """
    printed = home.parent / f"{home.name}.txt"
    while True:
        with printed.open("ab") as file:
            arc = subprocess.Popen(RUN, env=environment(home), stdout=file, stderr=file, start_new_session=True)
        hurt = False
        while arc.poll() is None:
            try:
                if outcome.kills.total() >= count:
                    arc.wait()
                else:
                    _wait_for(draw.choice(LEGS), printed, arc)
                    arc.wait(whole_s * draw.uniform(*LIFE))
            except subprocess.TimeoutExpired:
                hurt = True
                outcome.moments[_last_line(printed)] += 1
                kill(home, arc.pid, outcome.kills.total() % 2 == 0, draw, outcome)
        deadline = time.monotonic() + PARTING_S
        while (living := processes_of(home)) and time.monotonic() < deadline:
            time.sleep(0.2)
        outcome.faults += [f"{home.name}: left of an arc that has ended: {command}" for command in living.values()]
        if arc.returncode == 0:
            return
        if not hurt:
            outcome.faults.append(f"{home.name}: ended with code {arc.returncode} though nothing was killed: {printed}")
            return


def _wait_for(legs: int, printed: Path, arc: subprocess.Popen[bytes]) -> None:
    """Until the arc has ended so many legs that it had not ended before, or itself."""
    before = _ended(printed)
    while len(_ended(printed) - before) < legs and arc.poll() is None:
        time.sleep(POLL_S)


def _ended(printed: Path) -> set[str]:
    return {leg for word, leg in BOARD.findall(printed.read_text(errors="replace")) if word == "done"}


def kill(home: Path, arc: int, whole: bool, draw: random.Random, outcome: Outcome) -> None:
    living = processes_of(home)
    one = draw.choice(sorted(living)) if living else arc
    outcome.kills["the whole tree" if whole else _name_of(living.get(one, ""))] += 1
    for pid in {arc, *living} if whole else {one}:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    print(f"{outcome.kills.total()} kills, home {outcome.homes}", file=sys.stderr)


def _name_of(command: str) -> str:
    return next((name for part, name in NAMES.items() if part in command), "another process")


def _last_line(printed: Path) -> str:
    """The leg that the arc has begun or ended last, as its board says it."""
    said = BOARD.findall(printed.read_text(errors="replace"))
    return " ".join(said[-1]) if said else "loading"


def kills(count: int, folder: Path, seed: int) -> Outcome:
    undisturbed, outcome, draw = folder / "undisturbed", Outcome(), random.Random(seed)
    began = time.monotonic()
    subprocess.run(RUN, env=environment(undisturbed), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    whole_s, expected = time.monotonic() - began, data_versions(undisturbed)
    while outcome.kills.total() < count:
        outcome.homes += 1
        home = folder / f"home_{outcome.homes}"
        work(home, count, whole_s, draw, outcome)
        after = data_versions(home)
        for name in sorted(expected.keys() | after.keys()):
            if expected.get(name) != after.get(name):
                outcome.faults.append(f"{home.name}: {name} is {after.get(name)}, undisturbed {expected.get(name)}")
        os.environ["DAGSTER_HOME"] = str(home / "dagster")
        outcome.faults += [f"{home.name}: {fault}" for fault in left(home)]
    return outcome


def main() -> int:
    given = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        outcome = kills(
            int(given[0]) if given else 100,
            Path(given[1] if len(given) > 1 else folder),
            int(given[2]) if len(given) > 2 else 1,
        )
    print(f"{outcome.kills.total()} kills over {outcome.homes} homes that ended; killed: ")
    print(*(f"  {number:>4}  {what}" for what, number in outcome.kills.most_common()), sep="\n")
    print("while the arc had printed last:")
    print(*(f"  {number:>4}  {what}" for what, number in outcome.moments.most_common()), sep="\n")
    print("\n".join(outcome.faults) or "nothing lost, nothing twice, equal data versions, nothing left")
    return bool(outcome.faults)


if __name__ == "__main__":
    sys.exit(main())
