"""Usage of an engine whose calls may run side by side, each from a thread of its own."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from promptcot_assets.inference.protocol import Usage


class Metered:
    """An engine's `usage`. Of seconds that several calls share, each counts once."""

    def __init__(self) -> None:
        self.usage = Usage()
        self._accelerators = 0  # held while a call runs
        self._metering = threading.Lock()
        self._running: Counter[str] = Counter()  # field of Usage -> calls that run
        self._since = 0.0

    def _count(self, usage: Usage) -> None:
        with self._metering:
            self.usage += usage

    @contextmanager
    def _timed(self, seconds: str) -> Iterator[None]:
        """The time within counts as `seconds` (a field of Usage), and as that of the accelerators."""
        self._tick(seconds, 1)
        try:
            yield
        finally:
            self._tick(seconds, -1)

    def _tick(self, seconds: str, calls: int) -> None:
        with self._metering:
            now = time.perf_counter()
            passed = now - self._since
            spent: dict[str, Any] = {name: passed for name, running in self._running.items() if running}
            if spent:
                self.usage += Usage(**spent, device_seconds=passed * self._accelerators)
            self._running[seconds] += calls
            self._since = now
