"""CPU seconds of this process and of process groups it started: what a loaded machine does not change."""

from __future__ import annotations

import os
import time
from pathlib import Path


def cpu_seconds(*groups: int) -> float:
    """This process's CPU time plus that of every living member of `groups` and of the children they waited for."""
    return time.process_time() + sum(_group(group) for group in groups)


def _group(group: int) -> float:
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:  # it ended in between
            continue
        if int(fields[2]) == group:
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")
