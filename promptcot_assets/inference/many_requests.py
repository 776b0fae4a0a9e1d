"""The requests of one call side by side: each has its result, or the refusal that says why it has none."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from promptcot_assets.inference.endpoints import Refused
from promptcot_assets.inference.event_loop import EventLoop, in_order
from promptcot_assets.inference.protocol import EngineError
from promptcot_assets.inference.refusals import Refusal, hopeless

Result = TypeVar("Result")
HOPELESS = 16  # refused requests of a call that has served none, after which the others are not waited for


def each(
    loop: EventLoop,
    jobs: Sequence[Callable[[], Awaitable[Result]]],
    plain: Callable[[], Awaitable[Result]],
    at_once: int,
) -> list[Result | Refusal]:
    """The jobs' results, or why there is none. plain: a job that is done where nothing else is.

    Raises: EngineError where it is refused too, as soon as that can be told.
    """
    refused: list[Refusal] = []
    served = 0

    async def one(job: Callable[[], Awaitable[Result]]) -> Result | Refusal:
        nonlocal served
        try:
            result = await job()
        except Refused as error:
            refused.append(error.refusal)
            cause = hopeless(refused, served)
            if cause and len(refused) in (HOPELESS, len(jobs)):
                try:
                    await plain()
                except Refused:
                    raise EngineError(f"no request of the call was served; the first: {cause.detail}") from error
                served += 1
            return error.refusal
        served += 1
        return result

    return loop.run(in_order([partial(one, job) for job in jobs], at_once))
