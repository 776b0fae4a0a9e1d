"""The chat_api engine: a model that others serve, asked over an OpenAI-compatible chat API. It only writes.

A teacher needs no more: no tokenizer, no log-probability, nothing fetched. What a checkpoint is needed for (scoring,
embedding, training) is refused with one sentence; such a model belongs behind engine `server`.
"""

import math
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np

from promptcot_assets.inference import chat_api as api
from promptcot_assets.inference.closing import Closing
from promptcot_assets.inference.endpoints import Endpoints, Models
from promptcot_assets.inference.event_loop import EventLoop
from promptcot_assets.inference.many_requests import each
from promptcot_assets.inference.metering import Metered
from promptcot_assets.inference.protocol import (
    Completion,
    EngineError,
    EngineSettings,
    SamplingParams,
    TokenScores,
    Usage,
    completion_seed,
    prompt_seed,
)
from promptcot_assets.inference.refusals import EMPTY, NOT_UNICODE, PLAIN, Refusal, is_unicode, told


class ChatApiEngine(Closing, Metered):
    """`InferenceEngine` that only generates. `settings.chat_api` says where and how.

    model: a folder of `write_served`. A completion's log-probability is NaN: the API need not tell it. Equal seeds give
    equal texts as far as the server keeps to them. Raises: EngineError when no server answers, or none has the model.
    """

    def __init__(self, model: Path, settings: EngineSettings) -> None:
        super().__init__()
        name = api.served_by_others(model)
        if name is None:
            raise EngineError(
                f"{model} is a checkpoint, and engine chat_api asks models that others serve: set engine.name to "
                "server, or the teacher's model to {served: NAME}"
            )
        self._settings = settings.chat_api
        self._name: str = self._settings.model or name
        self.parallel_calls: int = self._settings.parallel_calls
        self._endpoints: Endpoints | None = None
        self._loop = EventLoop("promptcot-chat-api-engine")
        try:
            self._endpoints = self._loop.run(self._open())
        except BaseException:
            self.close()
            raise

    def generate(
        self, prompts: Sequence[str], params: SamplingParams, seeds: Sequence[int] | None = None
    ) -> list[list[Completion]]:
        """See `InferenceEngine.generate`; each completion is a request.

        Raises: EngineError when a request was tried again for `patience_s`, and when the servers refuse every request.
        """
        seeds = [prompt_seed(params.seed, prompt) for prompt in prompts] if seeds is None else seeds
        if len(seeds) != len(prompts):
            raise EngineError(f"{len(seeds)} seeds for {len(prompts)} prompts; give one a prompt")
        asked = [(prompt, completion_seed(seed, k)) for prompt, seed in zip(prompts, seeds, strict=True)
                 for k in range(params.n)]  # fmt: skip
        refused = {at: refusal for at, (prompt, _) in enumerate(asked) if (refusal := _refusal(prompt))}
        jobs = [
            partial(self._write, prompt, seed, params, f"prompt {at // params.n}, seed {seed}")
            for at, (prompt, seed) in enumerate(asked)
            if at not in refused
        ]
        with self._timed("sampling_seconds"):
            plain = partial(self._write, PLAIN, 0, params, "a plain prompt")
            written = iter(each(self._loop, jobs, plain, self._settings.concurrency))
        results = [refused.get(at) or next(written) for at in range(len(asked))]
        served = [one for one in results if isinstance(one, api.Written)]
        refusals = [one for one in results if isinstance(one, Refusal)]
        told(refusals, len(results), len(served), lambda: True, EngineError)  # else `each` has raised
        self._count(
            Usage(
                prompt_tokens=sum(one.prompt_tokens for one in served),
                completion_tokens=sum(one.tokens for one in served),
            )
        )
        completions = [
            Completion.refused(one, seed)
            if isinstance(one, Refusal)
            else Completion(one.text, one.tokens, one.finish_reason, math.nan, seed)
            for one, (_, seed) in zip(results, asked, strict=True)
        ]
        return [completions[at : at + params.n] for at in range(0, len(completions), params.n)]

    def score(self, prefixes: Sequence[str], continuations: Sequence[str], end: bool = True) -> list[TokenScores]:
        self._only_writes("scores no text")

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        self._only_writes("embeds no text")

    def close(self) -> None:
        self._loop.close(None if self._endpoints is None else self._endpoints.close)

    def _only_writes(self, what: str) -> NoReturn:
        raise EngineError(
            f"{self._name} is asked over a chat API, which {what}: give a checkpoint (model.hub_id) and engine server, "
            "vllm or transformers"
        )

    async def _open(self) -> Endpoints:
        settings = self._settings
        if not settings.urls:
            raise EngineError("engine.chat_api.urls is empty; give the address of an OpenAI-compatible API")
        endpoints = Endpoints(
            settings.urls,
            os.environ.get(settings.api_key_variable),
            timeout_s=settings.timeout_s,
            patience_s=settings.patience_s,
            concurrency=settings.concurrency,
            verify=self._verify,
        )
        try:
            await endpoints.open(settings.patience_s)
        except BaseException:
            await endpoints.close()
            raise
        return endpoints

    def _verify(self, url: str, models: Models) -> None:
        api.check_served(models, self._name, url)

    async def _write(self, prompt: str, seed: int, params: SamplingParams, what: str) -> api.Written:
        assert self._endpoints is not None, "it was made when the engine was opened"
        body = api.chat_body(self._name, prompt, seed, params, self._settings)
        return await self._endpoints.post("chat/completions", body, what, api.read_chat)


def _refusal(prompt: str) -> Refusal | None:
    if not prompt:
        return Refusal(EMPTY, "the prompt is empty")
    return None if is_unicode(prompt) else Refusal(NOT_UNICODE, "the prompt holds a lone surrogate")
