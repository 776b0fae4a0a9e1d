"""The embedded engine: any Hugging Face causal LM, on the CPU or a CUDA device, in this process or in several.

Requests become batches of like length, batches go to a model or a pool of them (`workers.py`), results come back in the
order of the requests. Batches depend on the requests and the settings only, never on `workers`; so neither do results.
"""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from promptcot_assets.inference.closing import Closing
from promptcot_assets.inference.language_model import Batch, EmbedBatch, SampleBatch, ScoreBatch, TailBatch
from promptcot_assets.inference.model_folder import read_model_folder
from promptcot_assets.inference.protocol import (
    Completion,
    EngineError,
    EngineSettings,
    SamplingParams,
    TokenScores,
    Usage,
)
from promptcot_assets.inference.refusals import is_logprob
from promptcot_assets.inference.token_requests import TokenRequests, distinct, token_count
from promptcot_assets.inference.workers import LocalModel, ModelSpec, WorkerPool

FORWARDS = 8  # forward passes a scoring batch at most: sorting so many rows by length leaves little padding
SHARES = 4  # scoring batches of a call with two passes for each, so that workers share it
FEW = 32  # rows that are worth a sampling batch of their own on a CPU


class TransformersEngine(Closing):
    """`InferenceEngine` over `transformers`.

    model: a folder with config, weights and tokenizer, or a peft adapter over one. workers: processes (1 runs in this
    one). threads: per worker. batch_size: rows sampled together; score_batch_size: rows scored or embedded together
    (few fit the cache); batch_tokens: positions of a batch of any kind at most, padding counted, so that fewer long
    texts go together; a single row may be longer. max_model_len: tokens of prompt and completion together, by default
    what the model was made for. dtype: "auto" is the checkpoint's own.
    """

    parallel_calls = 1

    def __init__(
        self,
        model: Path,
        workers: int = 1,
        threads: int = 1,
        batch_size: int = 128,
        score_batch_size: int = 32,
        max_model_len: int | None = None,
        dtype: str = "auto",
        batch_tokens: int | None = None,
    ) -> None:
        counts = {"workers": workers, "threads": threads, "batch_size": batch_size}
        for name, value in {**counts, "score_batch_size": score_batch_size, "batch_tokens": batch_tokens}.items():
            if value is not None and value < 1:
                raise EngineError(f"engine.{name} must be at least 1; got {value}")
        self.usage = Usage()
        self._batch_size = batch_size
        self._score_batch_size = score_batch_size
        self._batch_tokens = batch_tokens
        folder = read_model_folder(model)
        self._requests = TokenRequests(folder.tokenizer, folder.max_len(max_model_len))
        self._hidden: int = folder.config.get_text_config().hidden_size
        devices = _devices()
        self._accelerators = 0 if devices == ("cpu",) else min(workers, len(devices))
        spec = ModelSpec(model, folder.config.model_type, threads, dtype, devices)
        self._models: LocalModel | WorkerPool = LocalModel(spec) if workers == 1 else WorkerPool(spec, workers)

    @classmethod
    def from_settings(cls, model: Path, settings: EngineSettings) -> "TransformersEngine":
        """The engine that needs no server and no second process, whatever `settings.name` says."""
        return cls(
            model,
            workers=settings.workers,
            threads=settings.threads,
            batch_size=settings.batch_size,
            score_batch_size=settings.score_batch_size,
            max_model_len=settings.max_model_len,
            dtype=settings.dtype,
            batch_tokens=settings.batch_tokens,
        )

    def generate(
        self, prompts: Sequence[str], params: SamplingParams, seeds: Sequence[int] | None = None
    ) -> list[list[Completion]]:
        """See `InferenceEngine.generate`. A completion is cut at `max_model_len` (finish reason "length").

        Raises: EngineError naming the prompt when it is empty or leaves no room for a token under `max_model_len`.
        """
        began = time.perf_counter()
        asked = self._requests.to_sample(prompts, params, seeds)
        order = sorted(range(len(asked.seeds)), key=lambda row: (len(asked.prompts[asked.prompt_of[row]]), row))

        def length(row: int) -> int:
            return len(asked.prompts[asked.prompt_of[row]]) + asked.limits[row]

        bounds = (self._batch_size, length, self._batch_tokens)
        chunks = _chunks(order, *bounds) if self._accelerators else _alike(order, min(2, len(order) // FEW), *bounds)
        batches = []
        for chunk in chunks:
            used, place = distinct(asked.prompt_of[row] for row in chunk)
            batches.append(
                SampleBatch(
                    prompts=[asked.prompts[index] for index in used],
                    prompt_of=place,
                    seeds=[asked.seeds[row] for row in chunk],
                    limits=[asked.limits[row] for row in chunk],
                    params=params,
                )
            )
        sampled = _in_order(chunks, self._models.run(batches, "sampling"))
        tokens, positions = _read(batches)
        prompt_tokens, completion_tokens = asked.prompt_tokens, sum(one.tokens for one in sampled)
        self.usage += Usage(
            prompt_tokens=prompt_tokens,
            shared_tokens=prompt_tokens - tokens,
            completion_tokens=completion_tokens,
            positions=positions + completion_tokens - len(sampled),  # a row's last token is sampled, not read
            padded_positions=positions - tokens,
            sampling_seconds=(seconds := time.perf_counter() - began),
            device_seconds=seconds * self._accelerators,
        )
        return asked.answers(
            [
                Completion(one.text, one.tokens, one.finish_reason, one.logprob, seed)
                for one, seed in zip(sampled, asked.seeds, strict=True)
            ],
            self._works,
        )

    def score(self, prefixes: Sequence[str], continuations: Sequence[str], end: bool = True) -> list[TokenScores]:
        """See `InferenceEngine.score`."""
        began = time.perf_counter()
        asked = self._requests.to_score(prefixes, continuations, end)
        chunks, batches = _score_batches(
            asked.prefixes, asked.continuations, self._score_batch_size, self._batch_tokens
        )
        logprobs = _in_order(chunks, self._models.run(batches, "scoring"))
        tokens, positions = _read(batches)
        prompt_tokens, scored_tokens = token_count(asked.prefixes), token_count(asked.continuations)
        self.usage += Usage(
            prompt_tokens=prompt_tokens,
            shared_tokens=prompt_tokens
            + scored_tokens
            - len(asked.prefixes)
            - tokens,  # a row's last token is not read
            scored_tokens=scored_tokens,
            positions=positions,
            padded_positions=positions - tokens,
            scoring_seconds=(seconds := time.perf_counter() - began),
            device_seconds=seconds * self._accelerators,
        )
        return asked.answers(logprobs, self._works)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """See `InferenceEngine.embed`."""
        began = time.perf_counter()
        asked = self._requests.to_embed(texts)
        rows = asked.texts
        order = sorted(range(len(rows)), key=lambda i: (len(rows[i]), i))
        chunks = _chunks(order, self._score_batch_size, lambda i: len(rows[i]), self._batch_tokens)
        batches = [EmbedBatch([rows[i] for i in chunk]) for chunk in chunks]
        vectors = _in_order(chunks, self._models.run(batches, "embedding"))
        tokens, positions = _read(batches)
        self.usage += Usage(
            prompt_tokens=tokens,
            positions=positions,
            padded_positions=positions - tokens,
            embedding_seconds=(seconds := time.perf_counter() - began),
            device_seconds=seconds * self._accelerators,
        )
        return asked.answers(vectors, self._hidden, self._works)

    def _works(self) -> bool:
        plain = SampleBatch([self._requests.plain()], [0], [0], [1], SamplingParams(max_new_tokens=1))
        return is_logprob(self._models.run([plain], "sampling")[0][0].logprob)

    def close(self) -> None:
        self._models.close()


def _alike(
    order: list[int], count: int, size: int, length: Callable[[int], int], budget: int | None
) -> list[list[int]]:
    """Chunks as `_chunks` makes them, about as many positions in each: the fullest has as few as `count` chunks allow.

    count: how many are wanted; more are made where `size` asks for it, and of several an even number, because two
    workers share a call and one of them would wait while the other has the third chunk.
    """
    if not order:
        return []
    count = max(-(-len(order) // size), count, 1)
    count += count % 2 if count > 1 else 0
    rows = -(-len(order) // count)
    widest = max(map(length, order))

    def fits(positions: int) -> bool:
        return len(_chunks(order, size, length, positions)) <= count

    least = bisect_left(range(rows * widest), True, lo=widest, key=fits)
    return _chunks(order, size, length, min(least, budget or least))


def _chunks(order: list[int], size: int, length: Callable[[int], int], budget: int | None) -> list[list[int]]:
    """Rows in their order, at most `size` together; with a budget, no more than that many positions either.

    length: of a row. A row that is longer than the budget is alone.
    """
    if budget is None:
        return [order[start : start + size] for start in range(0, len(order), size)]
    chunks: list[list[int]] = []
    longest = 0
    for row in order:
        longest = max(longest, length(row))
        if not chunks or len(chunks[-1]) == size or (len(chunks[-1]) + 1) * longest > budget:
            chunks.append([])
            longest = length(row)
        chunks[-1].append(row)
    return chunks


def _read(batches: Sequence[Batch]) -> tuple[int, int]:
    """Tokens that the batches' passes read, and the positions that they take, padded."""
    passes = [rows for batch in batches for rows in batch.read]
    return sum(map(token_count, passes)), sum(len(rows) * max(map(len, rows)) for rows in passes)


def _score_batches(
    prefixes: list[list[int]], continuations: list[list[int]], rows_at_once: int, budget: int | None = None
) -> tuple[list[list[int]], list[ScoreBatch]]:
    """Chunks of rows and their batches. Rows of one prefix stand together; within a batch they are sorted by length.

    What is shared is the prefix without its last token, whose output predicts the first scored one. A row alone with
    its prefix has an empty head: batches of such rows need no cache.
    """
    times = Counter(map(tuple, prefixes))
    heads = [tuple(prefix[:-1]) if times[tuple(prefix)] > 1 else () for prefix in prefixes]
    tails = [prefix[len(head) :] + more for prefix, head, more in zip(prefixes, heads, continuations, strict=True)]
    longest: dict[tuple[int, ...], int] = {}
    for head, tail in zip(heads, tails, strict=True):
        longest[head] = max(longest.get(head, 0), len(head) + len(tail))
    order = sorted(range(len(tails)), key=lambda row: (longest[heads[row]], heads[row], len(tails[row]), row))

    def length(row: int) -> int:
        return len(heads[row]) + len(tails[row])

    count = min(SHARES, len(order) // (2 * rows_at_once))
    whole = _alike(order, count, FORWARDS * rows_at_once, length, budget and FORWARDS * budget)
    chunks = [sorted(chunk, key=lambda row: len(tails[row])) for chunk in whole]
    batches = []
    for chunk in chunks:
        used, head_of = distinct(heads[row] for row in chunk)
        place = dict(zip(chunk, head_of, strict=True))
        passes = [
            TailBatch(
                head_of=[place[row] for row in rows],
                tails=[tails[row] for row in rows],
                starts=[len(prefixes[row]) - len(heads[row]) for row in rows],
            )
            for rows in _chunks(chunk, rows_at_once, length, budget)
        ]
        batches.append(ScoreBatch([list(head) for head in used], passes))
    return chunks, batches


def _in_order(chunks: list[list[int]], results: list[Any]) -> list[Any]:
    """Row results of all chunks, back in the order of the rows."""
    flat: dict[int, Any] = {}
    for chunk, values in zip(chunks, results, strict=True):
        flat.update(zip(chunk, values, strict=True))
    return [flat[row] for row in range(len(flat))]


def _devices() -> tuple[str, ...]:
    import torch

    return tuple(f"cuda:{index}" for index in range(torch.cuda.device_count())) or ("cpu",)
