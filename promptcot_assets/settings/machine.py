"""What `auto` in a profile stands for on this machine: how its cores are shared, and whether bfloat16 is worth it.

Values stand in the place of `auto` before anything reads the settings, and so in every record and fingerprint:
`threads`, `bf16` and `dtype` may change a result and are settings like any other; `lanes` and `workers` change nothing.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from promptcot_assets.settings.section import merged

AUTO, FASTEST = "auto", "fastest"  # `dtype: auto` is the checkpoint's own, as everywhere
LANES = 2  # an arc is seldom wider: q beside p, then the students beside the control
QUOTA, CPU_INFO = Path("/sys/fs/cgroup/cpu.max"), Path("/proc/cpuinfo")
MULTIPLY_BF16 = {"avx512_bf16", "amx_bf16", "bf16", "svebf16"}  # flags of x86 and ARM; others take it apart, slowly
ACCELERATORS = (Path("/dev/nvidiactl"), Path("/dev/kfd"))


class Machine(NamedTuple):
    """cores: that this process may use. bf16: whether it multiplies in bfloat16 faster than in float32."""

    cores: int
    bf16: bool


def this_machine() -> Machine:
    """What the system says of this machine. Nothing is measured: torch would have to be imported for that."""
    flags = set[str]()
    try:
        for line in CPU_INFO.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("flags", "Features"):
                flags = set(value.split())
                break
    except OSError:
        pass  # not Linux: nothing is known, and float32 runs everywhere
    return Machine(cores(), bool(flags & MULTIPLY_BF16) or any(one.exists() for one in ACCELERATORS))


def cores() -> int:
    """Cores that this process may use: those it is bound to, or what its control group grants, whichever is less."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1  # macOS has none
    try:
        quota, period = QUOTA.read_text().split()
        return bound if quota == "max" else max(1, min(bound, int(quota) // int(period)))
    except (OSError, ValueError, ZeroDivisionError):  # no control group that says so
        return bound


def fitted(content: dict[str, Any], machine: Machine) -> dict[str, Any]:
    """The content of a profile with values for every `auto` of `lanes`, `threads`, `workers` and `bf16`, at any depth,
    and for `dtype: fastest`.

    A lane has its part of the cores. A training uses all of them; an engine uses them by its processes, each with one
    thread where neither number is given. What an engine's overlay leaves out it has from the profile's `engine`.
    """
    lanes = min(LANES, machine.cores) if content.get("lanes") == AUTO else content.get("lanes", 1)
    of_a_lane = Machine(_part(machine.cores, lanes), machine.bf16)
    engine = content.get("engine")
    found: dict[str, Any] = _fitted(content, "", of_a_lane, engine if isinstance(engine, dict) else {})
    return found | ({"lanes": lanes} if "lanes" in content else {})


def _fitted(value: Any, name: str, lane: Machine, engine: dict[str, Any]) -> Any:
    if isinstance(value, list):
        return [_fitted(one, "", lane, engine) for one in value]
    if not isinstance(value, dict):
        return value
    known = _known(merged(engine, value) if name == "engine" else value, lane)
    return {
        key: known[key, one] if isinstance(one, str) and (key, one) in known else _fitted(one, key, lane, engine)
        for key, one in value.items()
    }


def _known(section: dict[str, Any], lane: Machine) -> dict[tuple[str, str], Any]:
    """By setting and word what it stands for in one section."""
    threads, workers = section.get("threads", 1), section.get("workers", 1)
    if threads == AUTO:
        threads = 1 if workers == AUTO else _part(lane.cores, workers)
    if workers == AUTO:
        workers = _part(lane.cores, threads)
    return {
        ("threads", AUTO): threads,
        ("workers", AUTO): workers,
        ("bf16", AUTO): lane.bf16,
        ("dtype", FASTEST): "bfloat16" if lane.bf16 else "float32",
    }


def _part(cores: int, among: Any) -> int:
    """What is no number here is refused with the other settings."""
    return max(1, cores // among) if isinstance(among, int) and among > 0 else 1
