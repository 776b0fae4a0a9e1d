"""What a loaded machine changes little or not at all: CPU seconds and page faults of processes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path


def cpu_seconds(*groups: int) -> float:
    """This process's CPU time plus that of every living member of `groups` and of the children they waited for."""
    ticks = sum(sum(map(int, fields[11:15])) for group in groups for fields in _members(group))
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def page_faults(group: int) -> int:
    """Of every living member of the group and of the children they waited for."""
    return sum(sum(map(int, fields[7:11])) for fields in _members(group))


def _members(group: int) -> Iterator[list[str]]:
    """The fields of /proc/*/stat from the third on, for each process of the group."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:  # it ended in between
            continue
        if int(fields[2]) == group:
            yield fields
