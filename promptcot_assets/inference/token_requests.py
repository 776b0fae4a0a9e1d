"""From texts to token ids: what every engine does to a request before a model sees it, with the checks that refuse one.

Engines that share this refuse the same requests in the same words, and mean the same tokens by the same text.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from promptcot_assets.inference.engine import EngineError, SamplingParams, completion_seed, prompt_seed

Value = TypeVar("Value")


@dataclass(frozen=True)
class SampleRequests:
    """What is to be sampled, one row a completion: the `n` rows of a prompt stand together, prompts in order."""

    prompts: list[list[int]]  # token ids
    prompt_of: list[int]  # of every row
    seeds: list[int]
    limits: list[int]  # most new tokens

    @property
    def prompt_tokens(self) -> int:
        """Of every row: a prompt counts `n` times."""
        return sum(len(self.prompts[index]) for index in self.prompt_of)


@dataclass(frozen=True)
class ScoreRequests:
    """What is to be scored, one row a pair."""

    prefixes: list[list[int]]  # token ids
    continuations: list[list[int]]  # the end token included, where it was asked for
    offsets: list[list[int]]  # see TokenScores.offsets


class TokenRequests:
    """Tokenizes and checks requests. max_len: tokens of prompt and completion, or prefix and continuation, together."""

    def __init__(self, tokenizer: Any, max_len: int) -> None:
        self.max_len = max_len
        self._tokenizer = tokenizer
        self._end: int | None = tokenizer.eos_token_id

    def to_sample(self, prompts: Sequence[str], params: SamplingParams, seeds: Sequence[int] | None) -> SampleRequests:
        """Raises: EngineError naming the prompt that is empty or leaves no room for a token, and for wrong seeds."""
        if seeds is None:
            seeds = [prompt_seed(params.seed, prompt) for prompt in prompts]
        elif len(seeds) != len(prompts):
            raise EngineError(f"{len(seeds)} seeds for {len(prompts)} prompts: give one a prompt")
        elif any(not 0 <= seed < 1 << 64 for seed in seeds):
            raise EngineError("seeds must be integers from 0 to 2^64 - 1")
        ids = self._prompt_ids(prompts, "prompt")
        rooms = [self.max_len - len(row) for row in ids]
        for index, room in enumerate(rooms):
            if room < 1:
                raise self._too_long(f"prompt {index}", len(ids[index]), "leaves no room for a completion")
        rows = [(index, k) for index in range(len(ids)) for k in range(params.n)]
        return SampleRequests(
            prompts=ids,
            prompt_of=[index for index, _ in rows],
            seeds=[completion_seed(seeds[index], k) for index, k in rows],
            limits=[min(params.max_new_tokens, rooms[index]) for index, _ in rows],
        )

    def to_score(self, prefixes: Sequence[str], continuations: Sequence[str], end: bool) -> ScoreRequests:
        """Raises: EngineError naming the pair that is empty or longer than `max_len`."""
        if len(prefixes) != len(continuations):
            raise EngineError(f"{len(prefixes)} prefixes for {len(continuations)} continuations: give one each")
        if end and self._end is None:
            raise EngineError("score(end=True) needs an end token and this tokenizer has none: pass end=False")
        before = self._prompt_ids(prefixes, "prefix")
        after, offsets = self._continuation_ids(continuations, end)
        for index, (prefix, continuation) in enumerate(zip(before, after, strict=True)):
            if not continuation:
                raise EngineError(f"continuation {index} has no token to score")
            length = len(prefix) + len(continuation)
            if length > self.max_len:
                raise self._too_long(f"prefix and continuation {index}", length, "cannot be scored")
        return ScoreRequests(before, after, offsets)

    def to_embed(self, texts: Sequence[str]) -> list[list[int]]:
        """Raises: EngineError naming the text that is empty or longer than `max_len`."""
        rows = self._prompt_ids(texts, "text")
        for index, row in enumerate(rows):
            if len(row) > self.max_len:
                raise self._too_long(f"text {index}", len(row), "cannot be embedded")
        return rows

    def _prompt_ids(self, prompts: Sequence[str], what: str) -> list[list[int]]:
        texts, text_of = distinct(prompts)
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
            f"{what} has {length} tokens and {consequence} under max_model_len {self.max_len}: "
            "shorten it, or raise engine.max_model_len if the model allows"
        )


def distinct(values: Iterable[Value]) -> tuple[list[Value], list[int]]:
    """The distinct values in order of appearance, and the place among them of each value."""
    place: dict[Value, int] = {}
    places = [place.setdefault(value, len(place)) for value in values]
    return list(place), places


def token_count(rows: Iterable[list[int]]) -> int:
    return sum(map(len, rows))
