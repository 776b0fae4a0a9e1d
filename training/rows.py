"""From a parquet file of strings to token rows, and the order in which a trainer sees them.

Prompt and completion are tokenized apart and concatenated, as the engines do when they score: what is trained is
exactly what is sampled and scored later.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from training.child import SpecError

BATCHES_A_CHUNK = 16  # batches of like length are cut from random chunks of this many


@dataclass(frozen=True)
class Rows:
    """Token rows as columns of equal length, and why the others are not here. `read` = len(columns) + all dropped."""

    columns: dict[str, list[list[int]]]
    read: int
    dropped: dict[str, int]


def sft_rows(data: Path, tokenizer: Any, max_length: int | None) -> Rows:
    """`prompt`, `completion` -> `input_ids`, `labels` (-100 on the prompt: it is not learned)."""
    texts = _read(data, ("prompt", "completion"))
    prompts = tokenizer(texts["prompt"])["input_ids"]
    completions = _completions(texts["completion"], tokenizer)
    ids = [prompt + completion for prompt, completion in zip(prompts, completions, strict=True)]
    labels = [[-100] * len(prompt) + completion for prompt, completion in zip(prompts, completions, strict=True)]
    reasons = ["longer_than_max_length" if _longer(row, max_length) else None for row in ids]
    return _kept(data, {"input_ids": ids, "labels": labels}, reasons, max_length)


def dpo_rows(data: Path, tokenizer: Any, max_length: int | None) -> Rows:
    """`prompt`, `chosen`, `rejected` -> `prompt_ids`, `chosen_ids`, `rejected_ids`."""
    texts = _read(data, ("prompt", "chosen", "rejected"))
    prompts = tokenizer(texts["prompt"])["input_ids"]
    chosen, rejected = (_completions(texts[name], tokenizer) for name in ("chosen", "rejected"))
    reasons = [
        "chosen_equals_rejected"
        if good == bad
        else "longer_than_max_length"
        if _longer(prompt + max(good, bad, key=len), max_length)
        else None
        for prompt, good, bad in zip(prompts, chosen, rejected, strict=True)
    ]
    return _kept(data, {"prompt_ids": prompts, "chosen_ids": chosen, "rejected_ids": rejected}, reasons, max_length)


def grpo_rows(data: Path, tokenizer: Any) -> tuple[Rows, dict[str, list[str]]]:
    """`prompt`, `completion` (a label) -> `prompt_ids`, and the texts themselves, which the trainer samples from."""
    texts = _read(data, ("prompt", "completion"))
    prompts = tokenizer(texts["prompt"])["input_ids"]
    return Rows({"prompt_ids": prompts}, len(prompts), {}), texts


def _read(data: Path, columns: tuple[str, ...]) -> dict[str, list[str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not data.is_file():
        raise SpecError(f"{data}: no such data file (field 'data' of the spec)")
    try:
        schema = pq.read_schema(data)
    except pa.ArrowInvalid as error:
        raise SpecError(f"{data}: not a parquet file: {error}") from error
    for name in columns:
        if name not in schema.names:
            raise SpecError(f"{data}: has no column {name!r}; it has {', '.join(schema.names)}")
        kind = schema.field(name).type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
            raise SpecError(f"{data}: column {name!r} must hold strings; it holds {kind}")
    table = pq.read_table(data, columns=list(columns))
    texts: dict[str, list[Any]] = {name: table[name].to_pylist() for name in columns}
    for name, values in texts.items():
        if None in values:
            raise SpecError(f"{data}: row {values.index(None)} has no {name!r}: fill or remove it")
    if not texts[columns[0]]:
        raise SpecError(f"{data}: no row to train on (the file is empty)")
    return texts


def _completions(texts: list[str], tokenizer: Any) -> list[list[int]]:
    """Token ids with the end token, once."""
    if tokenizer.eos_token_id is None:
        raise SpecError("the base model's tokenizer has no end token (eos_token): set one in its tokenizer_config.json")
    encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
    end = tokenizer.eos_token_id
    return [ids if ids and ids[-1] == end else [*ids, end] for ids in encoded]


def _longer(ids: Sequence[int], max_length: int | None) -> bool:
    return max_length is not None and len(ids) > max_length


def _kept(data: Path, columns: dict[str, list[list[int]]], reasons: list[str | None], max_length: int | None) -> Rows:
    dropped = {reason: reasons.count(reason) for reason in sorted({reason for reason in reasons if reason})}
    rows = Rows(
        columns={
            name: [ids for ids, reason in zip(values, reasons, strict=True) if reason is None]
            for name, values in columns.items()
        },
        read=len(reasons),
        dropped=dropped,
    )
    if len(reasons) == sum(dropped.values()):
        why = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
        raise SpecError(f"{data}: no row to train on ({why}; max_length {max_length})")
    return rows


def length_grouped_order(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[int]:
    """A shuffle in which every `batch_size` neighbours are of like length. A short batch, if any, comes last.

    A pure function, so a resumed run repeats it; transformers' LengthGroupedSampler draws from the global generator.
    """
    generator = np.random.default_rng([seed, epoch])
    sizes = np.asarray(lengths)
    shuffled = generator.permutation(len(sizes))
    chunk = batch_size * BATCHES_A_CHUNK
    parts = [shuffled[start : start + chunk] for start in range(0, len(sizes), chunk)]
    ordered = np.concatenate([part[np.argsort(sizes[part], kind="stable")] for part in parts])
    whole = len(ordered) // batch_size * batch_size
    batches = ordered[:whole].reshape(-1, batch_size)
    return [*generator.permutation(batches).ravel().tolist(), *ordered[whole:].tolist()]


class LengthGroupedSampler:
    """`length_grouped_order` as a torch sampler; the trainer sets the epoch."""

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self._lengths, self._batch_size, self._seed, self._epoch = lengths, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        return iter(length_grouped_order(self._lengths, self._batch_size, self._seed, self._epoch))
