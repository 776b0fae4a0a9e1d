"""From a parquet file of strings to token rows on disk, and the order in which a trainer sees them.

Prompt and completion are tokenized apart and concatenated, as the engines do when they score: what is trained is
exactly what is sampled and scored later. Texts and tokens pass through memory a batch at a time; the rows are an Arrow
file beside the trainer's checkpoints, mapped into memory, so that millions of long traces need no more of it.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.child import SpecError
from training.folders import by_the_first

if TYPE_CHECKING:
    from datasets import Dataset

BATCHES_A_CHUNK = 16  # batches of like length are cut from random chunks of this many
TEXTS_AT_ONCE = 1024
TOKENS, COUNTS = "rows.arrow", "rows.json"  # the second is written last: then the first is whole
LONGER, EQUAL = "longer_than_max_length", "chosen_equals_rejected"
NO_ROOM = "prompt_leaves_no_room"  # for the completion that a trainer samples

Ids = list[int]
Encoded = tuple[dict[str, Ids] | None, str | None]  # a row's columns, or why it is dropped


@dataclass(frozen=True)
class Rows:
    """Token rows in a file, and why the others are not there. `read` = len(data) + all dropped."""

    data: "Dataset"
    read: int
    dropped: dict[str, int]

    def lengths(self, *columns: str) -> list[int]:
        """Tokens of every row, over these columns together; a column named twice counts twice. No token is read."""
        import pyarrow.compute as pc

        each = [pc.list_value_length(self.data.data[name]).to_numpy() for name in columns]
        lengths: list[int] = np.stack(each).sum(axis=0).tolist()
        return lengths


def sft_rows(data: Path, tokenizer: Any, max_length: int | None, folder: Path) -> Rows:
    """`prompt`, `completion` -> `input_ids`, `labels` (-100 on the prompt: it is not learned)."""

    def encode(texts: dict[str, list[str]]) -> Iterator[Encoded]:
        completions = _completions(texts["completion"], tokenizer)
        for prompt, completion in zip(tokenizer(texts["prompt"])["input_ids"], completions, strict=True):
            if _longer(max_length, prompt, completion):
                yield None, LONGER
            else:
                yield {"input_ids": prompt + completion, "labels": [-100] * len(prompt) + completion}, None

    return _rows(data, ("prompt", "completion"), ("input_ids", "labels"), encode, folder, max_length)


def dpo_rows(data: Path, tokenizer: Any, max_length: int | None, folder: Path) -> Rows:
    """`prompt`, `chosen`, `rejected` -> `prompt_ids`, `chosen_ids`, `rejected_ids`."""

    def encode(texts: dict[str, list[str]]) -> Iterator[Encoded]:
        prompts = tokenizer(texts["prompt"])["input_ids"]
        sides = (_completions(texts[name], tokenizer) for name in ("chosen", "rejected"))
        for prompt, chosen, rejected in zip(prompts, *sides, strict=True):
            if chosen == rejected:
                yield None, EQUAL
            elif _longer(max_length, prompt, max(chosen, rejected, key=len)):
                yield None, LONGER
            else:
                yield {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}, None

    columns = ("prompt_ids", "chosen_ids", "rejected_ids")
    return _rows(data, ("prompt", "chosen", "rejected"), columns, encode, folder, max_length)


def pair_positions(rows: Rows) -> list[int]:
    """What every pair of `dpo_rows` takes of a batch: its shorter side is padded to the longer one."""
    sides = zip(rows.lengths("prompt_ids", "chosen_ids"), rows.lengths("prompt_ids", "rejected_ids"), strict=True)
    return [2 * max(side) for side in sides]


def prompt_rows(data: Path, tokenizer: Any, longest_prompt: int | None = None) -> tuple[Rows, list[int]]:
    """`prompt`, `completion` -> `prompt`, `label` as texts, which the trainer samples from; tokens of every prompt.

    Raises: SpecError when no prompt has at most `longest_prompt` tokens.
    """
    from datasets import Dataset

    prompts, labels, lengths, dropped = list[str](), list[str](), list[int](), 0
    for texts in _texts(data, ("prompt", "completion")):
        tokenized = tokenizer(texts["prompt"])["input_ids"]
        for prompt, label, ids in zip(texts["prompt"], texts["completion"], tokenized, strict=True):
            if longest_prompt is not None and len(ids) > longest_prompt:
                dropped += 1
                continue
            prompts.append(prompt)
            labels.append(label)
            lengths.append(len(ids))
    if not prompts:
        raise SpecError(f"{data}: no row to train on: no prompt has {longest_prompt} tokens or fewer, which leave room "
                        "for max_completion_length more")  # fmt: skip
    why = {NO_ROOM: dropped} if dropped else {}
    return Rows(Dataset.from_dict({"prompt": prompts, "label": labels}), len(prompts) + dropped, why), lengths


def refuse_too_few(prompts: Rows, in_a_step: int) -> None:
    """Raises: SpecError where there is less than one step's worth of prompts; TRL would drop them all."""
    if len(prompts.data) < in_a_step:
        raise SpecError(
            f"data: {len(prompts.data)} prompts can be sampled from, and a step samples from {in_a_step} at once: play "
            "on more problems, or set arguments.per_device_train_batch_size and gradient_accumulation_steps to fewer"
        )


def positions(base: Path) -> int | None:
    """Tokens that the model has positions for; None where its config names no limit. A longer row may end training."""
    from transformers import AutoConfig

    found: int | None = getattr(AutoConfig.from_pretrained(base).get_text_config(), "max_position_embeddings", None)
    return found


def _rows(
    data: Path,
    texts: tuple[str, ...],
    columns: tuple[str, ...],
    encode: Callable[[dict[str, list[str]]], Iterator[Encoded]],
    folder: Path,
    max_length: int | None,
) -> Rows:
    """The rows in `folder`, written there by the first process; a resumed run finds them.

    Raises (in every process): SpecError when the data cannot be read, or no row is left.
    """
    from datasets import Dataset

    def counted() -> dict[str, Any]:
        if not (folder / COUNTS).exists():
            _write(data, texts, columns, encode, folder)
        counts: dict[str, Any] = json.loads((folder / COUNTS).read_text())
        if counts["read"] == sum(counts["dropped"].values()):
            why = ", ".join(f"{count} {reason}" for reason, count in counts["dropped"].items())
            raise SpecError(f"{data}: no row to train on ({why}; max_length {max_length})")
        return counts

    counts = by_the_first(counted)
    return Rows(Dataset.from_file(str(folder / TOKENS)), **counts)


def _write(
    data: Path,
    texts: tuple[str, ...],
    columns: tuple[str, ...],
    encode: Callable[[dict[str, list[str]]], Iterator[Encoded]],
    folder: Path,
) -> None:
    import pyarrow as pa

    folder.mkdir(parents=True, exist_ok=True)
    kind = pa.list_(pa.int32())
    schema = pa.schema([(name, kind) for name in columns])
    dropped, read = Counter[str](), 0
    with pa.OSFile(str(folder / TOKENS), "wb") as file, pa.ipc.new_stream(file, schema) as stream:
        for batch in _texts(data, texts):
            encoded = list(encode(batch))
            read += len(encoded)
            dropped.update(reason for _, reason in encoded if reason)
            kept = [row for row, _ in encoded if row is not None]
            stream.write_batch(
                pa.record_batch([pa.array([row[name] for row in kept], kind) for name in columns], schema=schema)
            )
    unfinished = folder / f".{COUNTS}"
    unfinished.write_text(json.dumps({"read": read, "dropped": dict(sorted(dropped.items()))}))
    unfinished.rename(folder / COUNTS)


def _texts(data: Path, columns: tuple[str, ...]) -> Iterator[dict[str, list[str]]]:
    """The columns of the file, a batch at a time. Raises: SpecError naming the file and the column or row."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not data.is_file():
        raise SpecError(f"{data}: no such data file (field 'data' of the spec)")
    try:
        file = pq.ParquetFile(data)
    except pa.ArrowInvalid as error:
        raise SpecError(f"{data}: not a parquet file: {error}") from error
    with file:
        schema = file.schema_arrow
        for name in columns:
            if name not in schema.names:
                raise SpecError(f"{data}: has no column {name!r}; it has {', '.join(schema.names)}")
            kind = schema.field(name).type
            if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
                raise SpecError(f"{data}: column {name!r} must hold strings; it holds {kind}")
        if not file.metadata.num_rows:
            raise SpecError(f"{data}: no row to train on (the file is empty)")
        first = 0
        for batch in file.iter_batches(TEXTS_AT_ONCE, columns=list(columns)):
            texts: dict[str, list[Any]] = {name: batch[name].to_pylist() for name in columns}
            for name, values in texts.items():
                if None in values:
                    raise SpecError(f"{data}: row {first + values.index(None)} has no {name!r}: fill or remove it")
            yield texts
            first += batch.num_rows


def _completions(texts: list[str], tokenizer: Any) -> list[list[int]]:
    """Token ids with the end token, once."""
    if tokenizer.eos_token_id is None:
        raise SpecError("the base model's tokenizer has no end token (eos_token): set one in its tokenizer_config.json")
    encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
    end = tokenizer.eos_token_id
    return [ids if ids and ids[-1] == end else [*ids, end] for ids in encoded]


def _longer(max_length: int | None, *parts: Ids) -> bool:
    return max_length is not None and sum(map(len, parts)) > max_length


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
