"""From texts to token ids: what every engine does to a request before a model sees it, with the checks that refuse one.

Engines that share this refuse the same requests in the same words, and mean the same tokens by the same text. A refused
request leaves the call before the model sees it; `answers` puts a result with its reason back at its place.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from promptcot_assets.inference.protocol import (
    Completion,
    EngineError,
    SamplingParams,
    TokenScores,
    completion_seed,
    prompt_seed,
)
from promptcot_assets.inference.refusals import (
    EMPTY,
    NOT_UNICODE,
    PLAIN,
    TOO_LONG,
    UNUSABLE,
    Refusal,
    embedded,
    is_logprob,
    is_unicode,
    told,
)

Value = TypeVar("Value")
Works = Callable[[], bool]  # whether the engine serves something plain; asked when it has served nothing of a call
BROKEN_MODEL = "the model's weights are broken, or numbers overflow in its dtype: try engine.dtype float32"


@dataclass(frozen=True)
class SampleRequests:
    """What is to be sampled, one row a completion: the `n` rows of a prompt stand together, prompts in order."""

    prompts: list[list[int]]  # token ids of those that are not refused
    prompt_of: list[int]  # of every row
    seeds: list[int]
    limits: list[int]  # most new tokens
    places: list[int]  # of every prompt in the call
    refused: dict[int, list[Completion]]  # by the place of their prompt: its `n` results

    @property
    def prompt_tokens(self) -> int:
        """Of every row: a prompt counts `n` times."""
        return sum(len(self.prompts[index]) for index in self.prompt_of)

    def answers(self, drawn: Sequence[Completion], works: Works) -> list[list[Completion]]:
        """The call's results: `drawn` (one a row) prompt by prompt, and the refused ones at their places.

        Raises: EngineError when nothing could be used of what was drawn, and the engine does not work.
        """
        results = {place: list[Completion]() for place in self.places} | self.refused
        for index, one in zip(self.prompt_of, drawn, strict=True):
            results[self.places[index]].append(one if one.refusal or is_logprob(one.logprob) else _without_logprob(one))
        every = [one for place in range(len(results)) for one in results[place]]
        refused = [one.refusal for one in every if one.refusal]
        told(refused, len(every), len(every) - len(refused), works, EngineError)
        return [results[place] for place in range(len(results))]


@dataclass(frozen=True)
class ScoreRequests:
    """What is to be scored, one row a pair that is not refused."""

    prefixes: list[list[int]]  # token ids
    continuations: list[list[int]]  # the end token included, where it was asked for
    offsets: list[list[int]]  # see TokenScores.offsets
    places: list[int]  # of every row in the call
    refused: dict[int, Refusal]  # by the place of their pair

    def answers(self, scored: Sequence[Sequence[float] | Refusal], works: Works) -> list[TokenScores]:
        """The call's results: log-probabilities row by row (or why there are none), and the refused pairs.

        Raises: as those of SampleRequests.
        """
        results = {place: TokenScores.refused(refusal) for place, refusal in self.refused.items()}
        for place, values, offsets in zip(self.places, scored, self.offsets, strict=True):
            if isinstance(values, Refusal):
                results[place] = TokenScores.refused(values)
            elif wrong := [value for value in values if not is_logprob(value)]:
                detail = f"pair {place} has a log-probability of {wrong[0]!r}: {BROKEN_MODEL}"
                results[place] = TokenScores.refused(Refusal(UNUSABLE, detail))
            else:
                results[place] = TokenScores(list(values), offsets)
        refused = [one.refusal for one in results.values() if one.refusal]
        told(refused, len(results), len(results) - len(refused), works, EngineError)
        return [results[place] for place in range(len(results))]


@dataclass(frozen=True)
class EmbedRequests:
    """What is to be embedded, one row a text that is not refused."""

    texts: list[list[int]]  # token ids
    places: list[int]
    refused: dict[int, Refusal]

    def answers(self, vectors: Sequence[np.ndarray], hidden: int, works: Works) -> np.ndarray:
        """[texts of the call, hidden] float32, NaN where a text is refused. Raises: as those of SampleRequests."""
        asked = len(self.places) + len(self.refused)
        results = np.full((asked, hidden), np.nan, dtype=np.float32)
        if vectors:
            results[self.places] = np.stack(vectors)
        served = int(embedded(results).sum())
        broken = [Refusal(UNUSABLE, f"vectors are not finite: {BROKEN_MODEL}")] * (len(vectors) - served)
        told([*self.refused.values(), *broken], asked, served, works, EngineError)
        return results


class TokenRequests:
    """Tokenizes and checks requests. max_len: tokens of prompt and completion, or prefix and continuation, together."""

    def __init__(self, tokenizer: Any, max_len: int) -> None:
        self.max_len = max_len
        self._tokenizer = tokenizer
        self._end: int | None = tokenizer.eos_token_id

    def plain(self) -> list[int]:
        """Tokens that every model of this tokenizer can go on from."""
        ids: list[int] = self._tokenizer([PLAIN])["input_ids"][0]
        return ids

    def to_sample(self, prompts: Sequence[str], params: SamplingParams, seeds: Sequence[int] | None) -> SampleRequests:
        """Refuses a prompt that is empty or leaves no room for a token. Raises: EngineError for wrong seeds."""
        if seeds is None:
            seeds = [prompt_seed(params.seed, prompt) for prompt in prompts]
        elif len(seeds) != len(prompts):
            raise EngineError(f"{len(seeds)} seeds for {len(prompts)} prompts: give one a prompt")
        elif any(not 0 <= seed < 1 << 64 for seed in seeds):
            raise EngineError("seeds must be integers from 0 to 2^64 - 1")
        found = self._prompt_ids(prompts, "prompt")
        for place, ids in enumerate(found):
            if not isinstance(ids, Refusal) and len(ids) >= self.max_len:
                found[place] = self._too_long(f"prompt {place}", len(ids), "leaves no room for a completion")
        kept, places, refused = _apart(found)
        rows = [(index, k) for index in range(len(kept)) for k in range(params.n)]
        return SampleRequests(
            prompts=kept,
            prompt_of=[index for index, _ in rows],
            seeds=[completion_seed(seeds[places[index]], k) for index, k in rows],
            limits=[min(params.max_new_tokens, self.max_len - len(kept[index])) for index, _ in rows],
            places=places,
            refused={
                place: [Completion.refused(refusal, completion_seed(seeds[place], k)) for k in range(params.n)]
                for place, refusal in refused.items()
            },
        )

    def to_score(self, prefixes: Sequence[str], continuations: Sequence[str], end: bool) -> ScoreRequests:
        """Refuses a pair of which one is empty, or that is longer than `max_len`. Raises: EngineError for a call that
        no pair of could be scored."""
        if len(prefixes) != len(continuations):
            raise EngineError(f"{len(prefixes)} prefixes for {len(continuations)} continuations: give one each")
        if end and self._end is None:
            raise EngineError("score(end=True) needs an end token and this tokenizer has none: pass end=False")
        before = self._prompt_ids(prefixes, "prefix")
        after, offsets = self._continuation_ids(continuations, end)
        for place, (prefix, continuation) in enumerate(zip(before, after, strict=True)):
            if isinstance(prefix, Refusal):
                continue
            if isinstance(continuation, Refusal):
                before[place] = continuation
            elif len(prefix) + len(continuation) > self.max_len:
                length = len(prefix) + len(continuation)
                before[place] = self._too_long(f"prefix and continuation {place}", length, "cannot be scored")
        ids, places, refused = _apart(before)
        kept = [after[place] for place in places]
        return ScoreRequests(
            ids,
            [one for one in kept if not isinstance(one, Refusal)],
            [offsets[place] for place in places],
            places,
            refused,
        )

    def to_embed(self, texts: Sequence[str]) -> EmbedRequests:
        """Refuses a text that is empty or longer than `max_len`."""
        found = self._prompt_ids(texts, "text")
        for place, ids in enumerate(found):
            if not isinstance(ids, Refusal) and len(ids) > self.max_len:
                found[place] = self._too_long(f"text {place}", len(ids), "cannot be embedded")
        return EmbedRequests(*_apart(found))

    def _prompt_ids(self, prompts: Sequence[str], what: str) -> list[list[int] | Refusal]:
        texts, text_of = distinct(prompts)
        sound = [text for text in texts if is_unicode(text)]
        tokenized = dict(zip(sound, self._tokenizer(sound)["input_ids"] if sound else [], strict=True))
        return [
            tokenized.get(texts[text]) or self._without_tokens(f"{what} {place}", texts[text])
            for place, text in enumerate(text_of)
        ]

    def _continuation_ids(self, texts: Sequence[str], end: bool) -> tuple[list[list[int] | Refusal], list[list[int]]]:
        sound = [text if is_unicode(text) else "" for text in texts]
        encoded = self._tokenizer(sound, add_special_tokens=False, return_offsets_mapping=True) if sound else {}
        ids: list[list[int] | Refusal] = []
        offsets: list[list[int]] = []
        for place, text in enumerate(texts):
            tokens = [*encoded["input_ids"][place], *([self._end] if end else [])]
            starts = [start for start, _ in encoded["offset_mapping"][place]]
            refused = not tokens or not is_unicode(text)
            ids.append(self._without_tokens(f"continuation {place}", text) if refused else tokens)
            offsets.append([*starts, len(text)] if end else starts)
        return ids, offsets

    def _without_tokens(self, what: str, text: str) -> Refusal:
        if is_unicode(text):
            return Refusal(EMPTY, f"{what} is empty: there is no token to continue from, to score or to embed")
        return Refusal(NOT_UNICODE, f"{what} has a lone surrogate, which no tokenizer takes: {text[:80]!a}")

    def _too_long(self, what: str, length: int, consequence: str) -> Refusal:
        return Refusal(
            TOO_LONG,
            f"{what} has {length} tokens and {consequence} under max_model_len {self.max_len}: "
            "shorten it, or raise engine.max_model_len if the model allows",
        )


def _apart(found: Sequence[list[int] | Refusal]) -> tuple[list[list[int]], list[int], dict[int, Refusal]]:
    """The token ids that stand there, their places, and the refusals by theirs."""
    ids = [(place, one) for place, one in enumerate(found) if not isinstance(one, Refusal)]
    refused = {place: one for place, one in enumerate(found) if isinstance(one, Refusal)}
    return [one for _, one in ids], [place for place, _ in ids], refused


def _without_logprob(completion: Completion) -> Completion:
    detail = f"the completion of seed {completion.seed} has a log-probability of {completion.logprob!r}: {BROKEN_MODEL}"
    return Completion.refused(Refusal(UNUSABLE, detail), completion.seed)


def distinct(values: Iterable[Value]) -> tuple[list[Value], list[int]]:
    """The distinct values in order of appearance, and the place among them of each value."""
    place: dict[Value, int] = {}
    places = [place.setdefault(value, len(place)) for value in values]
    return list(place), places


def token_count(rows: Iterable[list[int]]) -> int:
    return sum(map(len, rows))
