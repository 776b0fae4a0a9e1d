"""One Hugging Face causal LM in this process, working on batches of token ids. torch only inside functions.

A batch's result is a function of the batch alone (same machine, same threads): who runs it, and what ran before,
changes nothing. Making the batches is `transformers_engine.py`'s work.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from promptcot_assets.inference.kv_cache import growing_cache, keeps_everything, rows_of
from promptcot_assets.inference.model_folder import base_of, end_tokens, read_model_folder
from promptcot_assets.inference.packed_weights import pack
from promptcot_assets.inference.protocol import SamplingParams
from promptcot_assets.inference.sampling import choose, uniforms

if TYPE_CHECKING:
    import torch
    from transformers import DynamicCache

# scoring's largest block of logits: 64 MB in float32; of packed weights, which are not read anew for every block, what
# stays in the cache
LOGITS_AT_ONCE, LOGITS_IN_CACHE = 1 << 24, 1 << 22


@dataclass(frozen=True)
class SampleBatch:
    """Rows to sample. Completions of one prompt share its prefill: row r continues `prompts[prompt_of[r]]`."""

    prompts: list[list[int]]
    prompt_of: list[int]
    seeds: list[int]
    limits: list[int]  # most new tokens, per row
    params: SamplingParams

    @property
    def read(self) -> list[list[list[int]]]:
        """What goes through the model padded to one length, pass by pass (here: before the first sampled token)."""
        return [self.prompts]


@dataclass(frozen=True)
class Sampled:
    text: str
    tokens: int
    finish_reason: str
    logprob: float


@dataclass(frozen=True)
class TailBatch:
    """Rows of one forward pass: row r is `tails[r]` after head `head_of[r]`, scored from `tails[r][starts[r]]` on."""

    head_of: list[int]
    tails: list[list[int]]
    starts: list[int]  # at least 1: a token is predicted by the one before it

    @property
    def read(self) -> list[list[int]]:
        return [tail[:-1] for tail in self.tails]  # the last token is only predicted


@dataclass(frozen=True)
class ScoreBatch:
    """Rows to score. A head is the beginning that several rows share: computed once, then read by every pass."""

    heads: list[list[int]]  # may be empty
    passes: list[TailBatch]

    @property
    def read(self) -> list[list[list[int]]]:
        return [self.heads, *(tails.read for tails in self.passes)]


@dataclass(frozen=True)
class EmbedBatch:
    ids: list[list[int]]

    @property
    def read(self) -> list[list[list[int]]]:
        return [self.ids]


Batch = SampleBatch | ScoreBatch | EmbedBatch


class LanguageModel:
    """Weights and tokenizer of one folder, on `device`, computing with `threads` threads."""

    def __init__(self, folder: Path, threads: int, dtype: str, device: str) -> None:
        from transformers.utils import logging

        logging.disable_progress_bar()
        self.threads = threads
        self.device = device
        self.tokenizer = read_model_folder(folder).tokenizer
        self.model = _load(folder, dtype).eval().to(device)
        self._logits_at_once = LOGITS_IN_CACHE if pack(self.model) else LOGITS_AT_ONCE
        self.end_tokens = end_tokens(self.model.generation_config.eos_token_id, self.tokenizer.eos_token_id)
        self._head_is_plain: bool | None = None
        self._cache = cache_argument(self.model)

    def run(self, batch: Batch) -> Any:
        """The rows' results: list[Sampled], list[list[float]] (log-probabilities) or a float32 array [rows, hidden]."""
        import torch

        with torch.inference_mode(), _threads(self.threads):
            if isinstance(batch, SampleBatch):
                return self._sample(batch)
            if isinstance(batch, ScoreBatch):
                return self._score(batch)
            return self._embed(batch)

    def _sample(self, batch: SampleBatch) -> list[Sampled]:
        import torch

        params = batch.params
        ids, mask = self._left_padded(batch.prompts)
        cache = growing_cache(self.model.config)
        logits = self._next_logits(ids, mask, (mask.cumsum(-1) - 1).clamp(min=0), cache)

        row_of = torch.tensor(batch.prompt_of, device=self.device)
        if len(batch.prompt_of) != len(batch.prompts):
            logits, mask = logits[row_of], mask[row_of]
            cache.batch_select_indices(row_of)
        rows = np.arange(len(row_of))  # the batch row of every row still in the cache
        seeds, limits = np.array(batch.seeds, dtype=np.uint64), np.array(batch.limits)
        position = mask.sum(-1)
        sampled: list[list[int]] = [[] for _ in rows]
        logprob = np.zeros(len(rows))

        for step in range(limits.max()):
            noise = torch.from_numpy(uniforms(seeds[rows], step)).to(self.device)
            token, token_logprob = choose(logits, noise, params.temperature, params.top_p)
            logprob[rows] += token_logprob.double().cpu().numpy()
            for row, one in zip(rows.tolist(), token.tolist(), strict=True):
                sampled[row].append(one)
            kept = _remaining(~self._finished([sampled[row] for row in rows], limits[rows], params.stop))
            if not len(kept):
                break
            if len(kept) < len(rows):
                index = torch.from_numpy(kept).to(self.device)
                rows, token, mask, position = rows[kept], token[index], mask[index], position[index]
                cache.batch_select_indices(index)
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], -1)
            logits = self._next_logits(token[:, None], mask, position[:, None], cache)
            position = position + 1
        return self._texts(sampled, logprob.tolist(), params.stop)

    def _left_padded(self, prompts: list[list[int]]) -> tuple["torch.Tensor", "torch.Tensor"]:
        """ids and attention mask, both int64 [prompts, longest], every prompt at the right edge."""
        import torch

        longest = max(map(len, prompts))
        ids = np.zeros((len(prompts), longest), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, longest - len(prompt) :] = prompt
            mask[row, longest - len(prompt) :] = 1
        return torch.from_numpy(ids).to(self.device), torch.from_numpy(mask).to(self.device)

    def _next_logits(
        self, ids: "torch.Tensor", mask: "torch.Tensor", position: "torch.Tensor", cache: Any
    ) -> "torch.Tensor":
        """Logits after the last column of `ids`, float32 [rows, vocabulary]; `cache` grows by the columns of `ids`."""
        output = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=position,
            use_cache=True,
            logits_to_keep=1,
            **{self._cache: cache},
        )
        return output.logits[:, -1].float()

    def _finished(self, sampled: list[list[int]], limits: np.ndarray, stop: tuple[str, ...]) -> np.ndarray:
        """Per row: its last token ends it, its limit is reached or a stop string is complete."""
        finished = np.array([ids[-1] in self.end_tokens for ids in sampled]) | (limits <= len(sampled[0]))
        if stop:  # in the last tokens: a token is at least a byte, a character at most four
            window = max(len(text.encode()) for text in stop) + 4
            tails = self.tokenizer.backend_tokenizer.decode_batch([ids[-window:] for ids in sampled])
            finished |= np.array([any(text in tail for text in stop) for tail in tails])
        return finished

    def _texts(self, sampled: list[list[int]], logprobs: list[float], stop: tuple[str, ...]) -> list[Sampled]:
        ended = [ids[-1] in self.end_tokens for ids in sampled]
        texts = self.tokenizer.backend_tokenizer.decode_batch(
            [ids[:-1] if end else ids for ids, end in zip(sampled, ended, strict=True)], skip_special_tokens=True
        )
        results = []
        for ids, end, text, logprob in zip(sampled, ended, texts, logprobs, strict=True):
            cut = min((at for at in map(text.find, stop) if at >= 0), default=None)
            reason = "stop" if end or cut is not None else "length"
            results.append(Sampled(text[:cut], len(ids), reason, logprob))
        return results

    def _score(self, batch: ScoreBatch) -> list[list[float]]:
        heads = self._read_heads(batch.heads) if any(batch.heads) else None
        return [scores for rows in batch.passes for scores in self._score_tails(rows, heads)]

    def _read_heads(self, heads: list[list[int]]) -> tuple["DynamicCache", "torch.Tensor"]:
        """Keys and values of every head, and the mask of their places, int64 [heads, longest]."""
        from transformers import DynamicCache

        ids, mask = self._left_padded(heads)
        cache = DynamicCache(config=self.model.config)
        position = (mask.cumsum(-1) - 1).clamp(min=0)
        self._hidden(ids, attention_mask=mask, position_ids=position, **{self._cache: cache})
        return cache, mask

    def _score_tails(self, rows: TailBatch, heads: tuple["DynamicCache", "torch.Tensor"] | None) -> list[list[float]]:
        import torch

        ids = self._right_padded(rows.read)
        context = {}
        if heads is not None:
            context = _context(*heads, torch.tensor(rows.head_of, device=self.device), ids.shape[1], self._cache)
        spans = [(start, len(tail)) for start, tail in zip(rows.starts, rows.tails, strict=True)]
        counts = [end - start for start, end in spans]
        row = torch.cat([torch.full((count,), i) for i, count in enumerate(counts)]).to(self.device)
        column = torch.cat([torch.arange(start - 1, end - 1) for start, end in spans]).to(self.device)
        scored = [token for start, tail in zip(rows.starts, rows.tails, strict=True) for token in tail[start:]]
        target = torch.tensor(scored, device=self.device)
        if self._plain_head():
            hidden, head = self._hidden(ids, **context), self.model.get_output_embeddings()
            flat = self._target_logprobs(lambda part: head(hidden[row[part], column[part]]), target)
        else:
            logits = self.model(input_ids=ids, use_cache=bool(context), **context).logits
            flat = self._target_logprobs(lambda part: logits[row[part], column[part]], target)
        return [part.tolist() for part in flat.split(counts)]

    def _target_logprobs(self, logits_of: Any, target: "torch.Tensor") -> "torch.Tensor":
        import torch

        at_once = max(1, self._logits_at_once // self.model.get_output_embeddings().weight.shape[0])
        parts = [slice(start, start + at_once) for start in range(0, len(target), at_once)]
        return torch.cat(
            [logits_of(part).float().log_softmax(-1).gather(-1, target[part, None])[:, 0] for part in parts]
        )

    def _right_padded(self, rows: list[list[int]]) -> "torch.Tensor":
        """[rows, longest] int64. Under causal attention what is right of a row cannot change it: no mask is needed."""
        import torch

        ids = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = row
        return torch.from_numpy(ids).to(self.device)

    def _hidden(self, ids: "torch.Tensor", **context: Any) -> "torch.Tensor":
        """The last hidden state, [rows, longest, hidden]. context: nothing, or mask, positions and cache."""
        return self.model.get_decoder()(input_ids=ids, use_cache=bool(context), **context).last_hidden_state

    def _plain_head(self) -> bool:
        """Whether logits are just head(hidden state), found by trial: some families scale or cap them in `forward`."""
        import torch

        if self._head_is_plain is None:
            probe = torch.arange(4, device=self.device)[None]
            whole = self.model(input_ids=probe, use_cache=False).logits
            plain = self.model.get_output_embeddings()(self._hidden(probe))
            self._head_is_plain = torch.allclose(plain, whole, rtol=1e-3, atol=1e-3)
        return self._head_is_plain

    def _embed(self, batch: EmbedBatch) -> np.ndarray:
        import torch

        hidden = self._hidden(self._right_padded(batch.ids))
        length = torch.tensor([len(row) for row in batch.ids], device=self.device)
        inside = torch.arange(hidden.shape[1], device=self.device)[None] < length[:, None]
        mean = (hidden.float() * inside[..., None]).sum(1) / length[:, None]
        return torch.nn.functional.normalize(mean, dim=-1).cpu().numpy()


def _load(folder: Path, dtype: str) -> Any:
    """The causal LM of a folder; an adapter is added to its base's weights, so the rest sees a plain model."""
    from transformers import AutoModelForCausalLM

    base = base_of(folder)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
    if base == folder:
        return model
    from peft import PeftModel

    return PeftModel.from_pretrained(model, folder).merge_and_unload()


def cache_argument(model: Any) -> str:
    """What this model's forward calls its cache: transformers is renaming it, family by family."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


def _context(
    heads: "DynamicCache", head_mask: "torch.Tensor", head_of: "torch.Tensor", width: int, argument: str
) -> dict[str, Any]:
    """Arguments of a forward pass over `width` columns, each row after its own head. argument: the cache's name."""
    import torch

    cache, mask = rows_of(heads, head_of), head_mask[head_of]
    position = mask.sum(-1, keepdim=True) + torch.arange(width, device=mask.device)
    mask = torch.cat([mask, mask.new_ones(len(mask), width)], -1)
    if keeps_everything(cache):
        mask = _additive(mask, width, cache.layers[0].keys.dtype)
    return {"attention_mask": mask, "position_ids": position, argument: cache}


def _additive(mask: "torch.Tensor", width: int, dtype: "torch.dtype") -> "torch.Tensor":
    """The causal mask of the last `width` columns as numbers, 0 or -inf, [rows, 1, width, columns].

    transformers would hand every layer a mask of booleans, and each layer would turn it into these.
    """
    import torch

    columns = mask.shape[1]
    later = torch.full((width, columns), -torch.inf, dtype=dtype, device=mask.device).triu(columns - width + 1)
    padding = torch.zeros_like(mask, dtype=dtype).masked_fill(mask == 0, -torch.inf)
    return later + padding[:, None, None]


def _remaining(alive: np.ndarray) -> np.ndarray:
    """Indices of the rows that go on, in an order that moves few: the last ones take the places of the finished."""
    count = int(alive.sum())
    places = np.arange(count)
    places[~alive[:count]] = np.flatnonzero(alive[count:]) + count
    return places


@contextmanager
def _threads(count: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
