"""The server engine: any OpenAI-compatible completions API, at one address or at many, or a `vllm serve` of our own.

A call becomes single requests, one a completion or a scored pair. They go out side by side over all replicas; one that
fails is sent again, alone (`endpoints.py`); a result is put at the place of its request. So faults cost time, and
never a row: the call returns all of them or raises.
"""

import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import numpy as np

from promptcot_assets.inference import completions_api as api
from promptcot_assets.inference.endpoints import Endpoints, Models, Refused
from promptcot_assets.inference.engine import (
    Completion,
    EngineError,
    EngineSettings,
    SamplingParams,
    TokenScores,
    Usage,
)
from promptcot_assets.inference.event_loop import EventLoop, in_order
from promptcot_assets.inference.model_folder import read_model_folder
from promptcot_assets.inference.serving import VllmServer, serve_arguments
from promptcot_assets.inference.token_requests import TokenRequests, token_count

Result = TypeVar("Result")


class ServerEngine:
    """`InferenceEngine` over HTTP. `settings.server` says where; without urls `settings.vllm` says what is started.

    model: the checkpoint's folder, read for its tokenizer and its lengths; the servers must serve that model. Calls may
    come from several threads at once. Raises: EngineError when no server answers, or one serves something else.
    """

    def __init__(self, model: Path, settings: EngineSettings) -> None:
        self.usage = Usage()
        self.parallel_calls: int = settings.server.parallel_calls
        self._model, self._settings = model, settings
        folder = read_model_folder(model)
        self._tokenizer, self._end_tokens = folder.tokenizer, folder.end_tokens
        self._requests = TokenRequests(folder.tokenizer, folder.max_len(settings.max_model_len))
        self._tokenizing = threading.Lock()  # two threads cannot use a tokenizer at once
        self._accounting = threading.Lock()
        self._running: dict[str, tuple[int, float]] = {}  # field of Usage -> calls that run, and counted up to when
        self._found: api.Served | None = None
        self._own: VllmServer | None = None
        self._endpoints: Endpoints | None = None
        self._loop = EventLoop("promptcot-server-engine")
        try:
            self._loop.run(self._open())
        except BaseException:
            self.close()
            raise

    def generate(
        self, prompts: Sequence[str], params: SamplingParams, seeds: Sequence[int] | None = None
    ) -> list[list[Completion]]:
        """See `InferenceEngine.generate`; each completion is a request, so each is reproducible alone.

        Raises: EngineError when a request is refused, or was tried again for `patience_s`; nothing is returned then.
        """
        with self._timed("sampling_seconds"):
            with self._tokenizing:
                asked = self._requests.to_sample(prompts, params, seeds)
            rows = zip(asked.prompt_of, asked.seeds, asked.limits, strict=True)
            sampled = self._each(
                [
                    partial(self._sample, asked.prompts[index], seed, limit, params, f"prompt {index}, seed {seed}")
                    for index, seed, limit in rows
                ]
            )
            with self._tokenizing:
                completions = [
                    Completion(self._text(one, params.stop), one.tokens, one.finish_reason, one.logprob, seed)
                    for one, seed in zip(sampled, asked.seeds, strict=True)
                ]
        self._count(
            Usage(
                prompt_tokens=sum(one.prompt_tokens for one in sampled),
                shared_tokens=sum(one.cached_tokens for one in sampled),
                completion_tokens=sum(one.tokens for one in sampled),
            )
        )
        return [completions[start : start + params.n] for start in range(0, len(completions), params.n)]

    def score(self, prefixes: Sequence[str], continuations: Sequence[str], end: bool = True) -> list[TokenScores]:
        """See `InferenceEngine.score`; each pair is a request.

        Raises: EngineError as `generate`, and when the servers give no log-probabilities of a prompt.
        """
        with self._timed("scoring_seconds"):
            with self._tokenizing:
                asked = self._requests.to_score(prefixes, continuations, end)
            pairs = zip(asked.prefixes, asked.continuations, strict=True)
            scored = self._each(
                [
                    partial(self._score, prefix + continuation, len(prefix), f"pair {index} to score")
                    for index, (prefix, continuation) in enumerate(pairs)
                ]
            )
        self._count(
            Usage(
                prompt_tokens=token_count(asked.prefixes),
                shared_tokens=sum(one.cached_tokens for one in scored),
                scored_tokens=token_count(asked.continuations),
            )
        )
        return [TokenScores(one.logprobs, offsets) for one, offsets in zip(scored, asked.offsets, strict=True)]

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """See `InferenceEngine.embed`. By the embedded engine in this process: the completions API gives no states."""
        raise NotImplementedError

    def close(self) -> None:
        """End what is in flight, and the server if it is ours."""
        self._loop.close(None if self._endpoints is None else self._endpoints.close)
        if self._own is not None:
            self._own.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def _open(self) -> None:
        """Find the servers, or start one: on the loop's thread, with which it would end."""
        server = self._settings.server
        if server.urls:
            urls, key, patience_s = server.urls, os.environ.get(server.api_key_variable), server.patience_s
        else:
            self._own = VllmServer(self._model, serve_arguments(self._settings))
            urls, key, patience_s = [self._own.url], self._own.key, server.start_s
        self._endpoints = Endpoints(
            urls,
            key,
            timeout_s=server.timeout_s,
            patience_s=server.patience_s,
            concurrency=server.concurrency,
            verify=self._verify,
            ended=self._own.ended if self._own else lambda: None,
        )
        await self._endpoints.open(patience_s)

    def _verify(self, url: str, models: Models) -> None:
        """Raises: EngineError when this replica does not serve the model, for texts as long, like the others."""
        found = api.find_model(models, self._settings.server.model, self._model, url)
        if found.max_model_len is not None and found.max_model_len < self._requests.max_len:
            raise EngineError(
                f"{url} serves {found.name} with max_model_len {found.max_model_len} and {self._requests.max_len} are "
                "wanted: start it with more, or set engine.max_model_len to what it has"
            )
        if self._found is not None and found != self._found:
            raise EngineError(f"{url} serves {found} and another replica {self._found}: replicas must be alike")
        self._found = found

    def _each(self, jobs: Sequence[Callable[[], Awaitable[Result]]]) -> list[Result]:
        return self._loop.run(in_order(jobs, self._settings.server.concurrency))

    async def _sample(self, prompt: list[int], seed: int, limit: int, params: SamplingParams, what: str) -> api.Sampled:
        endpoints, served = self._opened()
        body = api.sample_body(served, prompt, seed, limit, params, sorted(self._end_tokens))
        return await endpoints.post(
            "completions", body, what, lambda reply: api.read_sample(reply, served, prompt, limit)
        )

    async def _score(self, ids: list[int], start: int, what: str) -> api.Scored:
        endpoints, served = self._opened()
        try:
            return await endpoints.post(
                "completions",
                api.score_body(served, ids),
                what,
                lambda reply: api.read_score(reply, served, ids, start),
            )
        except Refused as error:
            raise EngineError(f"{error}; {api.NO_PROMPT_LOGPROBS}") from error

    def _opened(self) -> tuple[Endpoints, api.Served]:
        assert self._endpoints is not None and self._found is not None, "open() has returned"
        return self._endpoints, self._found

    def _text(self, sampled: api.Sampled, stop: tuple[str, ...]) -> str:
        """As every engine decodes it; a server that does not tell the tokens is taken at its word."""
        if sampled.ids is None:
            return sampled.text
        ids = sampled.ids[:-1] if sampled.ids[-1] in self._end_tokens else sampled.ids
        text: str = self._tokenizer.backend_tokenizer.decode(ids, skip_special_tokens=True)
        return text[: min((at for at in map(text.find, stop) if at >= 0), default=None)]

    def _count(self, usage: Usage) -> None:
        with self._accounting:
            self.usage += usage

    @contextmanager
    def _timed(self, field: str) -> Iterator[None]:
        """Adds the seconds within to that field of `usage`; of calls side by side, each second once."""
        with self._accounting:
            running, since = self._running.get(field, (0, 0.0))
            self._running[field] = running + 1, since if running else time.perf_counter()
        try:
            yield
        finally:
            with self._accounting:
                now = time.perf_counter()
                running, since = self._running[field]
                self._running[field] = running - 1, now
                self.usage += replace(Usage(), **{field: now - since})  # type: ignore[arg-type]
