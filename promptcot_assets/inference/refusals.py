"""One request of a call that is not served, though the others are: a row's own fault, told from an engine's failure.

A prompt can be too long, a server's content filter can stop a text, a reply can stay unusable however often it is asked
for. The call then still returns a result at every place, and this one says why it is none; a stage turns that into a
row with its reason. Where *every* request of a call is refused in a way that need not be the requests' own, the engine
is asked for something plain: if it cannot do that either, it is at fault and the call raises (`told`).
"""

import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

LOG = logging.getLogger(__name__)

# What tables say (`drop_reason`, `lost_because`, `finish_reason`): few and fixed, so that rows can be counted by them.
TOO_LONG = "longer than engine.max_model_len"
EMPTY = "no token to ask with"
NOT_UNICODE = "not valid Unicode"
FILTERED = "stopped by the server's content filter"
REFUSED = "refused by the server"
UNUSABLE = "unusable reply of the model or its server"
REASONS = (TOO_LONG, EMPTY, NOT_UNICODE, FILTERED, REFUSED, UNUSABLE)
MAYBE_THE_ENGINES = (REFUSED, UNUSABLE)  # fault, when it happens to all of them
PLAIN = "a"  # what an engine is asked for that serves nothing of a call

HIGHEST_LOGPROB = 1e-3  # nats; 0 but for the rounding of a softmax
LOWEST_LOGPROB = -1e9


@dataclass(frozen=True)
class Refusal:
    """Why a request is not served. reason: one of REASONS; detail: this request's numbers or its server's words."""

    reason: str
    detail: str


def hopeless(refused: Iterable[Refusal], served: int) -> Refusal | None:
    """The refusal that may be the engine's fault: nothing was served, and what was refused need not be at fault."""
    return None if served else next((one for one in refused if one.reason in MAYBE_THE_ENGINES), None)


def told(
    refused: Collection[Refusal], asked: int, served: int, works: Callable[[], bool], error: type[Exception]
) -> None:
    """Say in the log what a call refuses. works: asks the engine for something plain.

    Raises: `error` where that is all of the call and the engine does not work.
    """
    if (cause := hopeless(refused, served)) and not works():
        raise error(f"no request of the call was served; the first: {cause.detail}")
    if refused:
        first = next(iter(refused))
        LOG.warning(
            "%d of %d requests are refused; the first (%s): %s", len(refused), asked, first.reason, first.detail
        )


def embedded(vectors: np.ndarray) -> np.ndarray:
    """[n] bool: which rows of `InferenceEngine.embed` are vectors; the others are those of refused texts."""
    found: np.ndarray = np.isfinite(vectors).all(axis=1)
    return found


def is_logprob(value: Any) -> bool:
    """Whether a value is the log-probability of a token: a number, not NaN, not infinite, not positive."""
    is_number = isinstance(value, float | int) and not isinstance(value, bool)
    return is_number and LOWEST_LOGPROB <= value <= HIGHEST_LOGPROB


def is_unicode(text: str) -> bool:
    """False with a lone surrogate in it: JSON can spell one, and no tokenizer and no table takes it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
