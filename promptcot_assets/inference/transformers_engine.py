"""The embedded engine: any Hugging Face causal LM, on the CPU or a CUDA device, in this process or in several.

Requests become batches of like length, batches go to a model or a pool of them (`workers.py`), results come back in the
order of the requests. Batches depend on the requests and the settings only, never on `workers`; so neither do results.
"""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np

from promptcot_assets.inference.engine import (
    Completion,
    EngineError,
    SamplingParams,
    TokenScores,
    Usage,
    completion_seed,
    prompt_seed,
)
from promptcot_assets.inference.language_model import Batch, EmbedBatch, SampleBatch, ScoreBatch, TailBatch
from promptcot_assets.inference.workers import LocalModel, ModelSpec, WorkerPool

Value = TypeVar("Value")
FORWARDS = 8  # forward passes a scoring batch: sorting so many rows by length leaves little padding


class TransformersEngine:
    """`InferenceEngine` over `transformers`.

    model: a folder with config, weights and tokenizer. workers: processes (1 runs in this one). threads: per worker.
    batch_size: rows sampled together; score_batch_size: rows scored or embedded together (few fit the cache).
    max_model_len: tokens of prompt and completion together, by default what the model was made for. dtype: "auto" is
    the checkpoint's own.
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
    ) -> None:
        counts = {"workers": workers, "threads": threads, "batch_size": batch_size}
        for name, value in {**counts, "score_batch_size": score_batch_size}.items():
            if value < 1:
                raise EngineError(f"engine.{name} must be at least 1; got {value}")
        self.usage = Usage()
        self._batch_size = batch_size
        self._score_batch_size = score_batch_size
        config, self._tokenizer = _config_and_tokenizer(model)
        text_config = config.get_text_config()
        self._max_len: int = max_model_len or getattr(text_config, "max_position_embeddings", None) or 1 << 30
        self._end = self._tokenizer.eos_token_id
        spec = ModelSpec(model, config.model_type, threads, dtype, _devices())
        self._models: LocalModel | WorkerPool = LocalModel(spec) if workers == 1 else WorkerPool(spec, workers)

    def generate(
        self, prompts: Sequence[str], params: SamplingParams, seeds: Sequence[int] | None = None
    ) -> list[list[Completion]]:
        """See `InferenceEngine.generate`. A completion is cut at `max_model_len` (finish reason "length").

        Raises: EngineError naming the prompt when it is empty or leaves no room for a token under `max_model_len`.
        """
        if seeds is None:
            seeds = [prompt_seed(params.seed, prompt) for prompt in prompts]
        elif len(seeds) != len(prompts):
            raise EngineError(f"{len(seeds)} seeds for {len(prompts)} prompts: give one a prompt")
        elif any(not 0 <= seed < 1 << 64 for seed in seeds):
            raise EngineError("seeds must be integers from 0 to 2^64 - 1")
        began = time.perf_counter()
        ids = self._prompt_ids(prompts)
        rooms = [self._max_len - len(row) for row in ids]
        for index, room in enumerate(rooms):
            if room < 1:
                raise self._too_long(f"prompt {index}", len(ids[index]), "leaves no room for a completion")
        rows = [(index, k) for index in range(len(ids)) for k in range(params.n)]
        row_seeds = [completion_seed(seeds[index], k) for index, k in rows]
        order = sorted(range(len(rows)), key=lambda row: (len(ids[rows[row][0]]), rows[row]))
        chunks = _chunks(order, self._batch_size)
        batches = []
        for chunk in chunks:
            used, place = _distinct(rows[row][0] for row in chunk)
            batches.append(
                SampleBatch(
                    prompts=[ids[index] for index in used],
                    prompt_of=place,
                    seeds=[row_seeds[row] for row in chunk],
                    limits=[min(params.max_new_tokens, rooms[rows[row][0]]) for row in chunk],
                    params=params,
                )
            )
        sampled = _in_order(chunks, self._models.run(batches, "sampling"))
        tokens, positions = _read(batches)
        prompt_tokens, completion_tokens = params.n * _tokens(ids), sum(one.tokens for one in sampled)
        self.usage += Usage(
            prompt_tokens=prompt_tokens,
            shared_tokens=prompt_tokens - tokens,
            completion_tokens=completion_tokens,
            positions=positions + completion_tokens - len(sampled),  # a row's last token is sampled, not read
            padded_positions=positions - tokens,
            sampling_seconds=time.perf_counter() - began,
        )
        completions = [
            Completion(one.text, one.tokens, one.finish_reason, one.logprob, seed)
            for one, seed in zip(sampled, row_seeds, strict=True)
        ]
        return [completions[start : start + params.n] for start in range(0, len(completions), params.n)]

    def score(self, prefixes: Sequence[str], continuations: Sequence[str], end: bool = True) -> list[TokenScores]:
        """See `InferenceEngine.score`. Raises: EngineError naming the pair that is empty or over `max_model_len`."""
        if len(prefixes) != len(continuations):
            raise EngineError(f"{len(prefixes)} prefixes for {len(continuations)} continuations: give one each")
        if end and self._end is None:
            raise EngineError("score(end=True) needs an end token and this tokenizer has none: pass end=False")
        began = time.perf_counter()
        before = self._prompt_ids(prefixes, what="prefix")
        after, offsets = self._continuation_ids(continuations, end)
        for index, (prefix, continuation) in enumerate(zip(before, after, strict=True)):
            if not continuation:
                raise EngineError(f"continuation {index} has no token to score")
            length = len(prefix) + len(continuation)
            if length > self._max_len:
                raise self._too_long(f"prefix and continuation {index}", length, "cannot be scored")
        chunks, batches = _score_batches(before, after, self._score_batch_size)
        logprobs = _in_order(chunks, self._models.run(batches, "scoring"))
        tokens, positions = _read(batches)
        prompt_tokens, scored_tokens = _tokens(before), _tokens(after)
        self.usage += Usage(
            prompt_tokens=prompt_tokens,
            shared_tokens=prompt_tokens + scored_tokens - len(after) - tokens,  # a row's last token is not read
            scored_tokens=scored_tokens,
            positions=positions,
            padded_positions=positions - tokens,
            scoring_seconds=time.perf_counter() - began,
        )
        return [TokenScores(*pair) for pair in zip(logprobs, offsets, strict=True)]

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """See `InferenceEngine.embed`. Raises: EngineError naming the text that is empty or over `max_model_len`."""
        began = time.perf_counter()
        rows = self._prompt_ids(texts, what="text")
        for index, row in enumerate(rows):
            if len(row) > self._max_len:
                raise self._too_long(f"text {index}", len(row), "cannot be embedded")
        chunks = _chunks(sorted(range(len(rows)), key=lambda i: (len(rows[i]), i)), self._score_batch_size)
        batches = [EmbedBatch([rows[i] for i in chunk]) for chunk in chunks]
        vectors = _in_order(chunks, self._models.run(batches, "embedding"))
        tokens, positions = _read(batches)
        self.usage += Usage(
            prompt_tokens=tokens,
            positions=positions,
            padded_positions=positions - tokens,
            embedding_seconds=time.perf_counter() - began,
        )
        return np.stack(vectors) if vectors else np.zeros((0, 0), dtype=np.float32)

    def close(self) -> None:
        self._models.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _prompt_ids(self, prompts: Sequence[str], what: str = "prompt") -> list[list[int]]:
        texts, text_of = _distinct(prompts)
        ids = self._tokenizer(texts)["input_ids"] if texts else []
        rows = [ids[text] for text in text_of]
        for index, row in enumerate(rows):
            if not row:
                raise EngineError(f"{what} {index} is empty: the model needs at least one token to continue from")
        return rows

    def _continuation_ids(self, texts: Sequence[str], end: bool) -> tuple[list[list[int]], list[list[int]]]:
        if not texts:
            return [], []
        encoded = self._tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True)
        starts = [[start for start, _ in spans] for spans in encoded["offset_mapping"]]
        if not end:
            return encoded["input_ids"], starts
        return (
            [[*ids, self._end] for ids in encoded["input_ids"]],
            [[*offsets, len(text)] for offsets, text in zip(starts, texts, strict=True)],
        )

    def _too_long(self, what: str, length: int, consequence: str) -> EngineError:
        return EngineError(
            f"{what} has {length} tokens and {consequence} under max_model_len {self._max_len}: "
            "shorten it, or raise engine.max_model_len if the model allows"
        )


def _chunks(order: list[int], size: int) -> list[list[int]]:
    return [order[start : start + size] for start in range(0, len(order), size)]


def _distinct(values: Iterable[Value]) -> tuple[list[Value], list[int]]:
    """The distinct values in order of appearance, and the place among them of each value."""
    place: dict[Value, int] = {}
    places = [place.setdefault(value, len(place)) for value in values]
    return list(place), places


def _tokens(rows: Iterable[list[int]]) -> int:
    return sum(map(len, rows))


def _read(batches: Sequence[Batch]) -> tuple[int, int]:
    """Tokens that the batches' passes read, and the positions that they take, padded."""
    passes = [rows for batch in batches for rows in batch.read]
    return sum(map(_tokens, passes)), sum(len(rows) * max(map(len, rows)) for rows in passes)


def _score_batches(
    prefixes: list[list[int]], continuations: list[list[int]], rows_at_once: int
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
    chunks = [sorted(chunk, key=lambda row: len(tails[row])) for chunk in _chunks(order, FORWARDS * rows_at_once)]
    batches = []
    for chunk in chunks:
        used, head_of = _distinct(heads[row] for row in chunk)
        passes = [
            TailBatch(
                head_of=part,
                tails=[tails[row] for row in rows],
                starts=[len(prefixes[row]) - len(heads[row]) for row in rows],
            )
            for rows, part in zip(_chunks(chunk, rows_at_once), _chunks(head_of, rows_at_once), strict=True)
        ]
        batches.append(ScoreBatch([list(head) for head in used], passes))
    return chunks, batches


def _in_order(chunks: list[list[int]], results: list[Any]) -> list[Any]:
    """Row results of all chunks, back in the order of the rows."""
    flat: dict[int, Any] = {}
    for chunk, values in zip(chunks, results, strict=True):
        flat.update(zip(chunk, values, strict=True))
    return [flat[row] for row in range(len(flat))]


def _config_and_tokenizer(model: Path) -> tuple[Any, Any]:
    """Config and tokenizer of a model folder; EngineError when it is not one."""
    from transformers import AutoConfig, AutoTokenizer

    if not (Path(model) / "config.json").is_file():
        raise EngineError(f"{model} is not a model folder: it has no config.json")
    try:
        config, tokenizer = AutoConfig.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise EngineError(f"cannot read {model}: {error}") from error
    if not tokenizer.is_fast:
        raise EngineError(f"{model}: the engine needs a fast tokenizer (tokenizer.json), for offsets")
    return config, tokenizer


def _devices() -> tuple[str, ...]:
    import torch

    return tuple(f"cuda:{index}" for index in range(torch.cuda.device_count())) or ("cpu",)
