"""`auto` in a profile: the lanes of an arc, and the processes and threads of a step, share this machine's cores.

Numbers stand in the place of `auto` before anything reads the settings, so that records and fingerprints hold numbers:
`threads` may change the last digits of a result and is a setting like any other; `lanes` and `workers` change nothing.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from promptcot_assets.settings.section import merged

AUTO = "auto"
LANES = 2  # an arc is seldom wider: q beside p, then the students beside the control
QUOTA = Path("/sys/fs/cgroup/cpu.max")


def cores() -> int:
    """Cores that this process may use: those it is bound to, or what its control group grants, whichever is less."""
    bound = len(os.sched_getaffinity(0))
    try:
        quota, period = QUOTA.read_text().split()
        return bound if quota == "max" else max(1, min(bound, int(quota) // int(period)))
    except (OSError, ValueError, ZeroDivisionError):  # no control group that says so
        return bound


def shared(content: dict[str, Any], cores: int) -> dict[str, Any]:
    """The content of a profile with numbers for every `auto` of `lanes`, `threads` and `workers`, at any depth.

    A lane has its part of the cores. A training uses all of them; an engine uses them by its processes, each with one
    thread where neither number is given. What an engine's overlay leaves out it has from the profile's `engine`.
    """
    lanes = min(LANES, cores) if content.get("lanes") == AUTO else content.get("lanes", 1)
    a_lane = _part(cores, lanes)
    engine = content.get("engine")
    found: dict[str, Any] = _shared(content, "", a_lane, engine if isinstance(engine, dict) else {})
    return found | ({"lanes": lanes} if "lanes" in content else {})


def _shared(value: Any, name: str, a_lane: int, engine: dict[str, Any]) -> Any:
    if isinstance(value, list):
        return [_shared(one, "", a_lane, engine) for one in value]
    if not isinstance(value, dict):
        return value
    numbers = _numbers(merged(engine, value) if name == "engine" else value, a_lane)
    return {
        key: numbers[key] if one == AUTO and key in numbers else _shared(one, key, a_lane, engine)
        for key, one in value.items()
    }


def _numbers(section: dict[str, Any], a_lane: int) -> dict[str, int]:
    """Processes and the threads of each for one section."""
    threads, workers = section.get("threads", 1), section.get("workers", 1)
    if threads == AUTO:
        threads = 1 if workers == AUTO else _part(a_lane, workers)
    return {"threads": threads, "workers": _part(a_lane, threads) if workers == AUTO else workers}


def _part(cores: int, among: Any) -> int:
    """What is no number here is refused with the other settings."""
    return max(1, cores // among) if isinstance(among, int) and among > 0 else 1
