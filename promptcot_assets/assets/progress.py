"""Progress of long work in the run's log: how far, how fast, how long still."""

from __future__ import annotations

import time
from collections.abc import Callable

INTERVAL_S = 2.0


class Progress:
    """Logs `label: done/total, rate, ETA`, at most every two seconds and once at the end."""

    def __init__(self, label: str, total: int, unit: str, log: Callable[[str], None]) -> None:
        self._label, self._total, self._unit, self._log = label, total, unit, log
        self._done = 0
        self._began = self._logged = time.monotonic()

    def advance(self, amount: int) -> None:
        self._done += amount
        now = time.monotonic()
        if self._done < self._total and now - self._logged < INTERVAL_S:
            return
        self._logged = now
        rate = self._done / max(now - self._began, 1e-6)
        left = clock((self._total - self._done) / rate)
        self._log(f"{self._label}: {self._done:,}/{self._total:,} {self._unit}, {rate:,.0f} {self._unit}/s, ETA {left}")


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
