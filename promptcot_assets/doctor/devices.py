"""The machine that an estimate is for: this one, or one by name (`promptcot doctor --for rtx4090`).

Peaks and memory of accelerators are those of their vendor's data sheets (costs.yaml, with sources); what this machine's
cores reach is measured, in about a second.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from promptcot_assets.doctor.model_sizes import costs
from promptcot_assets.settings.machine import cores

GIB = 1 << 30
MEASURED_S = 0.25  # of matrix products in one kind of number
WIDTHS = (1024, 576, 1536)  # of the product that is measured: a batch of tokens through a small model's layer
NAMED = re.compile(r"(?:(?P<count>\d+)x)?(?P<name>.+)")


class DeviceError(ValueError):
    """A name that no device of the table has; the message lists them."""


@dataclass(frozen=True)
class Device:
    """Accelerators, or the cores of a CPU. flops: of one. memory: bytes of one; of a CPU what is free for all.

    bandwidth: bytes a second of its memory; 0 where that is not what bounds it. bf16: how much faster it multiplies in
    bfloat16 than `flops` says. present: whether it is this machine's; asked_for: whether somebody named it.
    """

    name: str
    flops: float
    memory: float
    count: int
    present: bool
    bandwidth: float = 0.0
    bf16: float = 1.0
    asked_for: bool = False

    @property
    def is_cpu(self) -> bool:
        return self.name == "cpu"


def this_machines(for_gpu: bool) -> Device:
    """What this machine has; for a profile of large models on a machine without a GPU, what is assumed of another."""
    import torch

    if torch.cuda.is_available():
        own = torch.cuda.get_device_properties(0)
        like = next((name for name in _accelerators() if name in own.name), costs()["assumed_device"])
        peak, bandwidth = _peak(like)
        return Device(own.name, peak, own.total_memory, torch.cuda.device_count(), True, bandwidth)
    return _accelerator(costs()["assumed_device"], 0) if for_gpu else cpu()


def named(text: str) -> Device:
    """The device that somebody asks about: rtx4090, a100-40, 8xh100, or cpu, which is this machine's.

    Raises: DeviceError.
    """
    match = NAMED.fullmatch(text.strip().lower())
    wanted = _plain(match["name"]) if match else ""
    if wanted == "cpu":
        return cpu()
    known = {_plain(name): name for name in _accelerators()} | {
        _plain(alias): name for alias, name in costs()["aliases"].items()
    }
    if match is None or wanted not in known or match["count"] == "0":
        listed = ", ".join(sorted(name.lower().replace(" ", "") for name in [*_accelerators(), *costs()["aliases"]]))
        raise DeviceError(f"{text!r} is no device that is known here; name one of {listed}, cpu, or several as 8xh100")
    return _accelerator(known[wanted], int(match["count"] or 1), asked_for=True)


def cpu() -> Device:
    """This machine's cores, one of them measured."""
    rate, gain = cores_rate()
    return Device("cpu", rate, free_memory()[0], cores(), True, bf16=gain)


@cache
def cores_rate() -> tuple[float, float]:
    """Operations a second of one core in float32 matrix products, and how much faster it is in bfloat16 (at least 1).

    Where several processes share the core it is what one of them gets.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rates = [_products(torch.float32), _products(torch.bfloat16)]
    finally:
        torch.set_num_threads(before)
    return rates[0], max(1.0, rates[1] / rates[0])


def _products(kind: Any) -> float:
    import torch

    rows, inner, columns = WIDTHS
    left, right = (torch.ones(shape, dtype=kind) for shape in ((rows, inner), (inner, columns)))
    left @ right  # the first one also makes ready
    began, done = time.perf_counter(), 0
    while not done or time.perf_counter() - began < MEASURED_S:
        left @ right
        done += 1
    return 2.0 * rows * inner * columns * done / (time.perf_counter() - began)


def free_memory() -> tuple[int, bool]:
    """Bytes that may still be allocated, and whether a container's limit decides."""
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(lines["MemAvailable"].split()[0]) << 10
    group = Path("/sys/fs/cgroup")
    try:
        left = int((group / "memory.max").read_text()) - int((group / "memory.current").read_text())
    except (OSError, ValueError):  # no such control group, or no limit ("max")
        return free, False
    return min(free, left), left < free


def _accelerators() -> list[str]:
    return [name for name in costs()["devices"] if name != "cpu"]


def _accelerator(name: str, count: int, asked_for: bool = False) -> Device:
    peak, bandwidth = _peak(name)
    return Device(
        name, peak, costs()["devices"][name]["memory_gib"] * GIB, count, False, bandwidth, asked_for=asked_for
    )


def _peak(name: str) -> tuple[float, float]:
    known = costs()["devices"][name]
    return known["tflops"] * 1e12, known["gb_s"] * 1e9


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
