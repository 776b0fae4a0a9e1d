"""Which process works on a run, written on the run itself: whoever finds it later can tell whether that process lives.

Dagster knows this only of runs that a code server launched. Those of the command line (`promptcot run`, `dagster asset
materialize`) would stay "started" for ever once they are killed, and hold their place in a pool.
"""

from __future__ import annotations

from collections.abc import Mapping

from training import child
from training.child import own_mark

HOST_TAG, PID_TAG = "promptcot/host", "promptcot/pid"
BEGAN_TAG = "promptcot/pid_began"  # clock ticks from the machine's start: tells it from a later process of this number


def own_tags() -> dict[str, str]:
    """This process."""
    return dict(zip((HOST_TAG, PID_TAG, BEGAN_TAG), own_mark().split(" "), strict=True))


def is_gone(tags: Mapping[str, str]) -> bool:
    """Whether the process that a run names has ended. Not where it names none, or one of another machine."""
    if not tags.get(PID_TAG, "").isdecimal():
        return False
    return child.is_gone(f"{tags.get(HOST_TAG)} {tags[PID_TAG]} {tags.get(BEGAN_TAG)}")
