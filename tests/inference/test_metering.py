"""Seconds that several calls share count once."""

import threading
import time

import pytest

from promptcot_assets.inference import Usage
from promptcot_assets.inference.metering import Metered


class Busy(Metered):
    """Calls that last until they are told."""

    def __init__(self, accelerators: int) -> None:
        super().__init__()
        self._accelerators = accelerators

    def call(self, seconds: str, end: threading.Event) -> None:
        with self._timed(seconds):
            end.wait()


def test_shared_seconds_count_once_and_every_accelerator_counts() -> None:
    engine, ends = Busy(accelerators=4), [threading.Event() for _ in range(3)]
    kinds = ("sampling_seconds", "sampling_seconds", "scoring_seconds")
    began = time.perf_counter()
    threads = [threading.Thread(target=engine.call, args=pair) for pair in zip(kinds, ends, strict=True)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    for end, thread in zip(ends, threads, strict=True):
        end.set()
        thread.join()
        time.sleep(0.02)
    passed = time.perf_counter() - began
    usage = engine.usage
    assert 0.05 <= usage.sampling_seconds <= usage.scoring_seconds <= passed
    assert usage.device_seconds == pytest.approx(4 * usage.scoring_seconds, rel=0.5)
    assert usage.device_seconds <= 4 * passed
    time.sleep(0.02)
    with engine._timed("embedding_seconds"):
        pass
    assert engine.usage.sampling_seconds == usage.sampling_seconds  # idle time counts for nothing


def test_counts_add_up_over_threads() -> None:
    engine = Metered()
    threads = [
        threading.Thread(target=lambda: [engine._count(Usage(prompt_tokens=1)) for _ in range(2000)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert engine.usage.prompt_tokens == 8000
