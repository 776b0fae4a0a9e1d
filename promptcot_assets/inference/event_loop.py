"""An event loop in a thread of its own, for an engine whose callers are plain threads."""

import asyncio
import concurrent.futures
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from promptcot_assets.inference.protocol import EngineError

Result = TypeVar("Result")


class EventLoop:
    """Runs coroutines for any thread. Its own thread ends with `close`, or with the process."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()
        self._closing = threading.Lock()  # held while a coroutine is handed over: none comes after the last was ended
        self._closed = False

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """The coroutine's result. When the calling thread is interrupted, the coroutine is cancelled.

        Raises: EngineError when the loop is closed, before or meanwhile.
        """
        with self._closing:
            if self._closed:
                coroutine.close()
                raise EngineError("the engine is closed; open it again to use it")
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise EngineError("the engine was closed while it was in use") from None
        except BaseException:
            future.cancel()
            raise

    def close(self, last: Callable[[], Coroutine[Any, Any, None]] | None = None) -> None:
        """Cancel what still runs, then run `last`, then end the thread. A second call does nothing."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        asyncio.run_coroutine_threadsafe(_end(last), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def in_order(jobs: Sequence[Callable[[], Awaitable[Result]]], at_once: int) -> list[Result]:
    """The jobs' results, each at its job's place. The first job that fails ends the others and raises its error."""
    results: list[Any] = [None] * len(jobs)
    places = iter(range(len(jobs)))

    async def work() -> None:
        for place in places:
            results[place] = await jobs[place]()

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(at_once, len(jobs))):
                group.create_task(work())
    except BaseExceptionGroup as errors:
        first = errors.exceptions[0]
        raise first from first.__cause__
    return results


async def _end(last: Callable[[], Coroutine[Any, Any, None]] | None) -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    if last is not None:
        await last()
