import asyncio
import email.utils
import time
from typing import Any

import pytest

from promptcot_assets.inference import EngineError
from promptcot_assets.inference.endpoints import backoff_s, normal_url, retry_after_s
from promptcot_assets.inference.event_loop import EventLoop, in_order

URLS = [
    ("http://10.0.0.1:8000/v1", "http://10.0.0.1:8000/v1/"),
    ("http://10.0.0.1:8000/v1/", "http://10.0.0.1:8000/v1/"),
    ("http://10.0.0.1:8000", "http://10.0.0.1:8000/v1/"),  # as vllm serve prints it
    ("https://gateway/models/openai", "https://gateway/models/openai/"),
]


@pytest.mark.parametrize(("given", "found"), URLS)
def test_an_address_is_completed(given: str, found: str) -> None:
    assert normal_url(given) == found


NO_ADDRESSES = ["10.0.0.1:8000", "ftp://host/v1", "http:///v1", "", "http://host:99999/v1", "http://host:abc/v1",
                "http://a..b/v1", f"http://{'a' * 300}/v1", "http://\udc00/v1", "http://xn--/v1"]  # fmt: skip


@pytest.mark.parametrize("given", NO_ADDRESSES)
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(EngineError, match=r"engine\.server\.urls"):
        normal_url(given)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("3", 3.0), ("0.5", 0.5), ("-1", 0.0), (None, None), ("", None), ("soon", None), ("nan", None), ("inf", None)],
)
def test_retry_after_in_seconds(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value) == seconds


def test_retry_after_as_a_date() -> None:
    later = retry_after_s(email.utils.formatdate(time.time() + 100, usegmt=True))
    assert later is not None and 90 < later <= 100
    assert retry_after_s(email.utils.formatdate(time.time() - 100, usegmt=True)) == 0.0


def test_waits_grow_to_the_longest_and_differ() -> None:
    waits = [[backoff_s(attempt, 30.0) for _ in range(50)] for attempt in range(2000)]
    for attempt, some in enumerate(waits):
        whole = min(30.0, 0.1 * 2.0 ** min(attempt, 20))
        assert all(whole / 2 <= one <= whole for one in some)
    assert len(set(waits[3])) > 1


def test_results_stand_at_the_places_of_their_jobs_and_few_run_at_once() -> None:
    running = most = 0

    def job(number: int) -> Any:
        async def work() -> int:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.001 * (7 - number % 7))
            running -= 1
            return number

        return work

    assert asyncio.run(in_order([job(number) for number in range(40)], 5)) == list(range(40))
    assert most == 5
    assert asyncio.run(in_order([], 5)) == []


def test_the_first_job_that_fails_ends_the_others() -> None:
    ended = []

    async def waits() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("waits")
            raise

    async def fails() -> None:
        await asyncio.sleep(0)
        raise EngineError("one of them") from ValueError("why")

    with pytest.raises(EngineError, match="one of them") as caught:
        asyncio.run(in_order([waits, fails, waits], 3))
    assert ended == ["waits", "waits"] and isinstance(caught.value.__cause__, ValueError)


def test_a_closed_loop_runs_nothing_more_but_the_last() -> None:
    loop, last = EventLoop("test"), []

    async def end() -> None:
        last.append("ended")

    async def value() -> int:
        return 3

    assert loop.run(value()) == 3
    loop.close(end)
    loop.close(end)
    assert last == ["ended"]
    with pytest.raises(EngineError, match="the engine is closed"):
        loop.run(value())
