"""Which process works on a run, written on the run itself: whoever finds it later can tell whether that process lives.

Dagster knows this only of runs that a code server launched. Those of the command line (`promptcot run`, `dagster asset
materialize`) would stay "started" for ever once they are killed, and hold their place in a pool.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path

HOST_TAG, PID_TAG = "promptcot/host", "promptcot/pid"
BEGAN_TAG = "promptcot/pid_began"  # clock ticks from the machine's start: tells it from a later process of this number
STATE, BEGAN = 0, 19  # places in /proc/PID/stat, after the name


def own_tags() -> dict[str, str]:
    """This process."""
    pid = os.getpid()
    stat = _stat(pid)
    return {HOST_TAG: socket.gethostname(), PID_TAG: str(pid), BEGAN_TAG: stat[BEGAN] if stat else ""}


def is_gone(tags: Mapping[str, str]) -> bool:
    """Whether the process that a run names has ended. Not where it names none, or one of another machine.

    A zombie has ended: it holds nothing but a row of the process table until its parent reaps it.
    """
    if tags.get(HOST_TAG) != socket.gethostname() or not tags.get(PID_TAG, "").isdecimal():
        return False
    stat = _stat(int(tags[PID_TAG]))
    return stat is None or stat[STATE] in "ZX" or stat[BEGAN] != tags.get(BEGAN_TAG)


def _stat(pid: int) -> list[str] | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
