"""The part of OpenAI's completions API that the server engine speaks, and vLLM's additions to it.

Belongs here: bodies of requests, and reading replies with every check that a reply can be held against. Does not
belong here: sending them (`endpoints.py`).

Prompts go out as token ids, so that the tokens are those of every other engine. vLLM's additions make a reply
checkable (it names the prompt's and the sampled token ids) and give prompt log-probabilities at little cost; any other
server is asked in OpenAI's own words: its text is taken as it comes, and prompts are scored by `echo`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptcot_assets.inference.endpoints import Models, Refused, WrongReply
from promptcot_assets.inference.protocol import EngineError, SamplingParams
from promptcot_assets.inference.refusals import FILTERED, Refusal, is_logprob, is_unicode

# What vllm serve would otherwise take from a checkpoint's generation_config.json, and we do not mean
PLAIN_SAMPLING = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
LOWEST_TEMPERATURE = 0.01  # vLLM raises a lower one to it, unless it is 0
NO_LOGPROBS = "the server gives no log-probabilities of sampled tokens (logprobs)"
NO_PROMPT_LOGPROBS = (
    "scoring needs log-probabilities of prompt tokens (vLLM: prompt_logprobs; other servers: echo with logprobs and "
    "max_tokens 0), which this server does not give: serve the model with vllm serve, or score with another engine.name"
)


@dataclass(frozen=True)
class Served:
    """The model that is asked for, as the servers list it."""

    name: str
    by_vllm: bool
    max_model_len: int | None  # tokens; None: the server does not say


@dataclass(frozen=True)
class Sampled:
    """One completion as the server gives it."""

    ids: list[int] | None  # sampled tokens, the end token and those of the stop string included; None: not told
    text: str  # without stop string and end token
    tokens: int
    finish_reason: str
    logprob: float  # nats, over all sampled tokens
    prompt_tokens: int
    cached_tokens: int  # of the prompt, not computed again; 0 where the server does not report them


@dataclass(frozen=True)
class Scored:
    logprobs: list[float]  # of the continuation's tokens, nats
    cached_tokens: int


def find_model(models: Models, wanted: str | None, checkpoint: Path, url: str) -> Served:
    """The entry of the model: the one named `wanted`, else the one that is served from the checkpoint's folder.

    A name says little of a pipeline's many checkpoints; so where the server tells a folder (`root`) that is one on this
    machine too, it must be the checkpoint's. Raises: EngineError naming what is wanted and what there is.
    """
    for model in models:
        root = model.get("root")
        if not (model["id"] == wanted if wanted else _is_folder(checkpoint, model["id"], root)):
            continue
        if root and Path(root).is_absolute() and Path(root).is_dir() and not _is_folder(checkpoint, root):
            raise EngineError(f"{url} serves {model['id']!r} from {root} and not from {checkpoint}: start it on that")
        return Served(model["id"], model.get("owned_by") == "vllm", model.get("max_model_len"))
    names = ", ".join(repr(model["id"]) for model in models) or "nothing"
    raise EngineError(
        f"{url} serves {names} and not {wanted or str(checkpoint)!r}: start it on that checkpoint, or set "
        "engine.server.model to the name under which it serves it"
    )


def _is_folder(folder: Path, *names: str | None) -> bool:
    return any(name and Path(name).resolve() == folder.resolve() for name in names)


def sample_body(
    served: Served, prompt: list[int], seed: int, limit: int, params: SamplingParams, end_tokens: Sequence[int]
) -> dict[str, Any]:
    """One completion of one prompt. seed: 64 bits; it goes out as the signed integer with the same bits."""
    body: dict[str, Any] = {
        "model": served.name,
        "prompt": prompt,
        "max_tokens": limit,
        "temperature": params.temperature,
        "top_p": params.top_p,
        "seed": seed - (1 << 64) if seed >> 63 else seed,
        "n": 1,
        "logprobs": 1,
    }
    if params.stop:
        body["stop"] = list(params.stop)
    if served.by_vllm:
        body |= PLAIN_SAMPLING | {"logprobs": 0, "return_token_ids": True, "stop_token_ids": list(end_tokens)}
    return body


def read_sample(reply: Any, served: Served, prompt: list[int], limit: int, stop: Sequence[str] = ()) -> Sampled:
    """Raises: WrongReply when it cannot be the answer to that request; Refused when a content filter stopped it;
    EngineError when a feature is missing."""
    choice = _choice(reply, served)
    reason = choice.get("finish_reason")
    if reason == "content_filter":
        raise Refused(Refusal(FILTERED, "the server ended it with finish_reason 'content_filter'"))
    if reason not in ("stop", "length"):
        raise WrongReply(f"finish_reason {reason!r:.200}")
    usage = field_of(reply, "usage", dict)
    prompt_tokens, cached = _prompt_usage(usage, served, len(prompt))
    ids = _token_ids(choice, prompt) if served.by_vllm else None
    values = _token_logprobs(choice)
    tokens = count_of(usage, "completion_tokens") if ids is None else len(ids)
    if not 1 <= tokens <= limit:
        raise WrongReply(f"{tokens} tokens where 1 to {limit} were asked for")
    # other servers may leave out the end token, or count it and not show it; and of a stop string any number
    fewer, more = (0, 0) if ids is not None else (tokens if stop else 1, 1)
    if not tokens - fewer <= len(values) <= tokens + more or not values:
        raise WrongReply(f"{len(values)} log-probabilities for {tokens} tokens")
    if reason == "length" and tokens < limit:
        raise EngineError(
            f"the completion is cut at {tokens} tokens where {limit} were asked for: the server has a limit of its own "
            "(max_new_tokens in generation_config.json: start it with --generation-config vllm)"
        )
    text = field_of(choice, "text", str)
    if not is_unicode(text):
        raise WrongReply("its text is not valid Unicode")
    return Sampled(
        ids=ids,
        text=text,
        tokens=tokens,
        finish_reason=reason,
        logprob=float(sum(_checked(values))),
        prompt_tokens=prompt_tokens,
        cached_tokens=cached,
    )


def score_body(served: Served, ids: list[int]) -> dict[str, Any]:
    """The log-probabilities of all tokens of a text: those of a prompt.

    vLLM samples a token after it. A text that leaves no room for one gives up its own last token, which then is the
    only one that may be sampled.
    """
    body: dict[str, Any] = {"model": served.name, "prompt": ids, "temperature": 0.0}
    if not served.by_vllm:
        return body | {"echo": True, "logprobs": 1, "max_tokens": 0}
    body |= {"prompt_logprobs": 0, "max_tokens": 1, "return_token_ids": True}
    if _fills(served, ids):
        body |= {"prompt": ids[:-1], "logprobs": 0, "allowed_token_ids": ids[-1:]}
    return body


def read_score(reply: Any, served: Served, ids: list[int], start: int) -> Scored:
    """Of the tokens from place `start` on. Raises: as `read_sample`."""
    choice = _choice(reply, served)
    usage = field_of(reply, "usage", dict)
    fills = _fills(served, ids)
    _, cached = _prompt_usage(usage, served, len(ids) - fills)
    values: list[Any]
    if served.by_vllm:
        values = _prompt_logprobs(choice, ids[:-1] if fills else ids, start)
        if fills:
            if choice["token_ids"] != ids[-1:]:
                raise WrongReply("another token than the one allowed was sampled")
            values += _token_logprobs(choice)
    else:
        every = _token_logprobs(choice, NO_PROMPT_LOGPROBS)
        if len(every) < len(ids):
            raise WrongReply(f"{len(every)} log-probabilities of {len(ids)} tokens; {NO_PROMPT_LOGPROBS}")
        if len(every) > len(ids) + 1:  # some servers sample one token though none is asked for
            raise WrongReply(f"{len(every)} log-probabilities of {len(ids)} tokens")
        values = every[start : len(ids)]
    if len(values) != len(ids) - start:
        raise WrongReply(f"{len(values)} log-probabilities of {len(ids) - start} tokens")
    return Scored([float(value) for value in _checked(values)], cached)


def _fills(served: Served, ids: list[int]) -> bool:
    return served.max_model_len is not None and len(ids) >= served.max_model_len


def _prompt_logprobs(choice: dict[str, Any], prompt: list[int], start: int) -> list[Any]:
    _token_ids(choice, prompt)
    places = choice.get("prompt_logprobs")
    if places is None:
        raise WrongReply(NO_PROMPT_LOGPROBS)
    if not isinstance(places, list) or len(places) != len(prompt):
        raise WrongReply(f"prompt_logprobs are not those of {len(prompt)} tokens: {places!r:.200}")
    try:
        return [places[at][str(prompt[at])]["logprob"] for at in range(start, len(prompt))]
    except (KeyError, TypeError) as error:
        raise WrongReply(f"prompt_logprobs without a token of the prompt: {error}") from error


def _token_logprobs(choice: dict[str, Any], missing: str = NO_LOGPROBS) -> list[Any]:
    if choice.get("logprobs") is None:
        raise WrongReply(missing)
    values: list[Any] = field_of(choice["logprobs"], "token_logprobs", list)
    return values


def _checked(values: list[Any]) -> list[Any]:
    for value in values:
        if not is_logprob(value):
            raise WrongReply(f"a log-probability of {value!r:.200}")
    return values


def _choice(reply: Any, served: Served) -> dict[str, Any]:
    choices = field_of(reply, "choices", list)
    if len(choices) != 1 or not isinstance(choices[0], dict):
        raise WrongReply(f"{len(choices)} choices where one was asked for")
    if served.by_vllm and reply.get("model") != served.name:
        raise WrongReply(f"it is of model {reply.get('model')!r:.200}")
    return choices[0]


def _token_ids(choice: dict[str, Any], prompt: list[int]) -> list[int]:
    """The sampled ids, after a look at the prompt's: is this the reply to our request?"""
    if choice.get("prompt_token_ids") != prompt:
        raise WrongReply("it is of another prompt")
    ids: list[int] = field_of(choice, "token_ids", list)
    if not all(_is_count(one) for one in ids):
        raise WrongReply(f"token_ids that are none: {ids!r:.200}")
    return ids


def _prompt_usage(usage: dict[str, Any], served: Served, length: int) -> tuple[int, int]:
    """Tokens of the prompt, and how many of them were not computed again. Another server may add a first token."""
    tokens, details = count_of(usage, "prompt_tokens"), usage.get("prompt_tokens_details") or {}
    if not length <= tokens <= length + (not served.by_vllm):
        raise WrongReply(f"it is of a prompt of {tokens} tokens and not of {length}")
    cached = details.get("cached_tokens") or 0 if isinstance(details, dict) else details
    if not _is_count(cached) or cached > tokens:
        raise WrongReply(f"{cached!r:.200} of {tokens} prompt tokens are said to come from a cache")
    return tokens, cached


def count_of(of: dict[str, Any], name: str) -> int:
    """Raises: WrongReply when a reply has no such count."""
    value: int = field_of(of, name, int)
    if not _is_count(value):
        raise WrongReply(f"{name} {value!r:.200}")
    return value


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31


def field_of(of: Any, name: str, kind: type) -> Any:
    """Raises: WrongReply when a reply has no such field of this kind."""
    value = of.get(name) if isinstance(of, dict) else None
    if not isinstance(value, kind):
        raise WrongReply(f"no {name} in it: {of!r:.200}")
    return value
