"""The server engine: any OpenAI-compatible completions API, at one address or at many, or a `vllm serve` of our own.

A call becomes single requests, one a completion or a scored pair. They go out side by side over all replicas; one that
fails is sent again, alone (`endpoints.py`); a result is put at the place of its request. So faults cost time, and
never a row; a request that is itself at fault has a result that says so (`refusals.py`).
"""

import os
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from promptcot_assets.inference import completions_api as api
from promptcot_assets.inference.closing import Closing
from promptcot_assets.inference.embedding import embed_with_transformers
from promptcot_assets.inference.endpoints import Endpoints, Models, Refused
from promptcot_assets.inference.event_loop import EventLoop
from promptcot_assets.inference.many_requests import each
from promptcot_assets.inference.metering import Metered
from promptcot_assets.inference.model_folder import read_model_folder
from promptcot_assets.inference.protocol import (
    Completion,
    EngineError,
    EngineLost,
    EngineSettings,
    SamplingParams,
    TokenScores,
    Usage,
)
from promptcot_assets.inference.refusals import REFUSED, Refusal
from promptcot_assets.inference.serving import VllmServer, serve_arguments
from promptcot_assets.inference.token_requests import TokenRequests, token_count

Result = TypeVar("Result")


class ServerEngine(Closing, Metered):
    """`InferenceEngine` over HTTP. `settings.server` says where; without urls `settings.vllm` says what is started.

    model: the checkpoint's folder, read for its tokenizer and its lengths; the servers must serve that model. Calls may
    come from several threads at once. A server of ours starts with the first call that samples or scores, so an engine
    that only embeds never waits for it. Raises: EngineError when no server answers, or one serves something else.
    """

    def __init__(self, model: Path, settings: EngineSettings) -> None:
        super().__init__()
        self.parallel_calls: int = settings.server.parallel_calls
        self._model, self._settings = model, settings
        self._folder = read_model_folder(model)
        max_len = self._folder.max_len(settings.max_model_len, stretch=settings.vllm.yarn_factor or 1.0)
        self._requests = TokenRequests(self._folder.tokenizer, max_len)
        self._tokenizing = threading.Lock()  # two threads cannot use a tokenizer at once
        self._state = threading.Condition()
        self._calls = 0  # that sample or score, right now
        self._found: api.Served | None = None
        self._own: VllmServer | None = None
        self._endpoints: Endpoints | None = None
        self._loop = EventLoop("promptcot-server-engine")
        if settings.server.urls:
            try:
                self._loop.run(self._open())
            except BaseException:
                self.close()
                raise

    def generate(
        self, prompts: Sequence[str], params: SamplingParams, seeds: Sequence[int] | None = None
    ) -> list[list[Completion]]:
        """See `InferenceEngine.generate`; each completion is a request, so each is reproducible alone.

        Raises: EngineError when a request was tried again for `patience_s`, and when the servers refuse every request
        or answer each with what cannot be used; nothing is returned then.
        """
        with self._tokenizing:
            asked = self._requests.to_sample(prompts, params, seeds)
        with self._connected(), self._timed("sampling_seconds"):
            if self._served.by_vllm and 0 < params.temperature < api.LOWEST_TEMPERATURE:
                raise EngineError(f"vLLM samples at temperature 0 or from 0.01 to 2; got {params.temperature:g}")
            rows = zip(asked.prompt_of, asked.seeds, asked.limits, strict=True)
            sampled = self._each(
                [
                    partial(
                        self._sample,
                        asked.prompts[index],
                        seed,
                        limit,
                        params,
                        f"prompt {asked.places[index]}, seed {seed}",
                    )
                    for index, seed, limit in rows
                ],
                partial(self._sample, self._requests.plain(), 0, 1, params, "a plain prompt"),
            )
        served = [one for one in sampled if not isinstance(one, Refusal)]
        self._count(
            Usage(
                prompt_tokens=sum(one.prompt_tokens for one in served),
                shared_tokens=sum(one.cached_tokens for one in served),
                completion_tokens=sum(one.tokens for one in served),
            )
        )
        with self._tokenizing:
            return asked.answers(
                [
                    Completion.refused(one, seed)
                    if isinstance(one, Refusal)
                    else Completion(self._text(one, params), one.tokens, one.finish_reason, one.logprob, seed)
                    for one, seed in zip(sampled, asked.seeds, strict=True)
                ],
                lambda: True,  # else `_each` has raised
            )

    def score(self, prefixes: Sequence[str], continuations: Sequence[str], end: bool = True) -> list[TokenScores]:
        """See `InferenceEngine.score`; each pair is a request.

        Raises: EngineError as `generate`, and when the servers give no log-probabilities of a prompt.
        """
        with self._tokenizing:
            asked = self._requests.to_score(prefixes, continuations, end)
        with self._connected(), self._timed("scoring_seconds"):
            pairs = zip(asked.prefixes, asked.continuations, strict=True)
            scored = self._each(
                [
                    partial(self._score, prefix + continuation, len(prefix), f"pair {place} to score")
                    for place, (prefix, continuation) in zip(asked.places, pairs, strict=True)
                ],
                partial(self._score, self._requests.plain() * 2, len(self._requests.plain()), "a plain pair to score"),
            )
        self._count(
            Usage(
                prompt_tokens=token_count(asked.prefixes),
                shared_tokens=sum(one.cached_tokens for one in scored if not isinstance(one, Refusal)),
                scored_tokens=token_count(asked.continuations),
            )
        )
        return asked.answers([one if isinstance(one, Refusal) else one.logprobs for one in scored], lambda: True)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """See `InferenceEngine.embed`: the embedded engine computes it in this process; the API gives no states.

        A server of ours holds the devices that this needs, so there it is ended first; the next call starts another.
        """
        with self._state:
            if self._accelerators:
                self._state.wait_for(lambda: not self._calls)
                self._disconnect()
            vectors, usage = embed_with_transformers(self._model, self._settings, texts)
        self._count(usage)
        return vectors

    def close(self) -> None:
        """End what is in flight, and the server if it is ours."""
        self._loop.close(None if self._endpoints is None else self._endpoints.close)
        if self._own is not None:
            self._own.close()

    @contextmanager
    def _connected(self) -> Iterator[None]:
        """A call that needs the servers; one of ours is started first where it does not run."""
        with self._state:
            if self._endpoints is None:
                self._loop.run(self._open())
            self._calls += 1
        try:
            yield
        finally:
            with self._state:
                self._calls -= 1
                self._state.notify_all()

    def _disconnect(self) -> None:
        """End the server of ours."""
        if self._endpoints is not None:
            self._loop.run(self._endpoints.close())
            self._endpoints = None
        if self._own is not None:
            self._own.close()
            self._own = None

    async def _open(self) -> None:
        """Find the servers, or start one: on the loop's thread, with which it would end."""
        server = self._settings.server
        if server.urls:
            urls, key, patience_s = server.urls, os.environ.get(server.api_key_variable), server.patience_s
        else:
            arguments = serve_arguments(self._folder, self._settings, self._requests.max_len)
            self._own = VllmServer(arguments, self._settings.threads)
            self._accelerators = self._own.accelerators
            urls, key, patience_s = [self._own.url], self._own.key, server.start_s
        endpoints = Endpoints(
            urls,
            key,
            timeout_s=server.timeout_s,
            patience_s=server.patience_s,
            concurrency=server.concurrency,
            verify=self._verify,
            ended=self._ended,
        )
        try:
            await endpoints.open(patience_s)
        except BaseException:
            await endpoints.close()
            if self._own is not None:
                self._own.close()
                self._own = None
            raise
        self._endpoints = endpoints

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

    def _ended(self) -> EngineError | None:
        """Why no waiting for a server of ours can help, if so. One that never was ready will not be better for it."""
        reason = self._own.ended() if self._own else None
        if reason is None:
            return None
        return EngineError(reason) if self._found is None else EngineLost(reason)

    def _each(
        self, jobs: Sequence[Callable[[], Awaitable[Result]]], plain: Callable[[], Awaitable[Result]]
    ) -> list[Result | Refusal]:
        """The jobs' results, or why there is none. plain: a job that is done where nothing else is.

        Raises: EngineError where it is refused too, as soon as that can be told.
        """
        return each(self._loop, jobs, plain, self._settings.server.concurrency)

    async def _sample(self, prompt: list[int], seed: int, limit: int, params: SamplingParams, what: str) -> api.Sampled:
        served = self._served
        body = api.sample_body(served, prompt, seed, limit, params, sorted(self._folder.end_tokens))
        return await self._replicas.post(
            "completions", body, what, lambda reply: api.read_sample(reply, served, prompt, limit, params.stop)
        )

    async def _score(self, ids: list[int], start: int, what: str) -> api.Scored:
        served = self._served
        try:
            return await self._replicas.post(
                "completions",
                api.score_body(served, ids),
                what,
                lambda reply: api.read_score(reply, served, ids, start),
            )
        except Refused as error:
            if error.refusal.reason != REFUSED:
                raise
            raise Refused(Refusal(REFUSED, f"{error}; {api.NO_PROMPT_LOGPROBS}")) from error

    @property
    def _served(self) -> api.Served:
        assert self._found is not None, "it was found when the engine was opened"
        return self._found

    @property
    def _replicas(self) -> Endpoints:
        assert self._endpoints is not None, "it was made when the engine was opened"
        return self._endpoints

    def _text(self, sampled: api.Sampled, params: SamplingParams) -> str:
        """As every engine decodes it; a server that does not tell the tokens is taken at its word."""
        return sampled.text if sampled.ids is None else self._folder.text_of(sampled.ids, params.stop)
