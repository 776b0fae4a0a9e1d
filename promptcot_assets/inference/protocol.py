"""What a stage may ask of a language model, whatever runs it: sample, score, embed.

Belongs here: the protocol and its plain data. `factory.py` turns settings into an engine.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from promptcot_assets.inference.refusals import Refusal


class EngineError(RuntimeError):
    """The engine cannot do what was asked: a call that makes no sense, a missing model, or a worker that died.

    Never a statement about a completion: a caller must not turn it into a verdict. A fault of one request is none of
    these: the call returns and says `refusal` at its place.
    """


class EngineLost(EngineError):
    """What computed is gone (a worker that died), and this engine with it; a new one may well serve the request."""


@dataclass(frozen=True)
class SamplingParams:
    """How to sample. Defaults are plain ancestral sampling, the E-step's setting (paper section 3.1)."""

    temperature: float = 1.0  # 0 is greedy
    top_p: float = 1.0
    max_new_tokens: int = 256  # the end token counts
    n: int = 1  # completions a prompt
    stop: tuple[str, ...] = ()  # a completion ends before the first of these
    seed: int = 0

    def __post_init__(self) -> None:
        wrong = [
            (self.temperature < 0, "temperature", "must be 0 (greedy) or positive"),
            (not 0 < self.top_p <= 1, "top_p", "must be in (0, 1]"),
            (self.max_new_tokens < 1, "max_new_tokens", "must be at least 1"),
            (self.n < 1, "n", "must be at least 1"),
            (isinstance(self.stop, str) or "" in self.stop, "stop", "must be a tuple of non-empty strings"),
        ]
        for is_wrong, name, rule in wrong:
            if is_wrong:
                raise ValueError(f"SamplingParams.{name} {rule}; got {getattr(self, name)!r}")


@dataclass(frozen=True)
class Completion:
    """One sampled text. The same prompt with `seeds=[seed]`, n=1 and the same parameters samples it again."""

    text: str  # without the stop string or the end token
    tokens: int  # sampled tokens, the end token and those of the stop string included
    finish_reason: str  # "stop": end token or stop string; "length": a limit was reached; else the refusal's reason
    logprob: float  # sum over the sampled tokens of their raw (untempered, untruncated) log-probabilities, in nats
    seed: int
    refusal: Refusal | None = None  # why nothing was sampled: then there is no text, no token and no log-probability

    @classmethod
    def refused(cls, refusal: Refusal, seed: int) -> Self:
        return cls("", 0, refusal.reason, 0.0, seed, refusal)


@dataclass(frozen=True)
class TokenScores:
    """Teacher-forced log-probabilities of one continuation, token by token."""

    logprobs: list[float]  # nats
    offsets: list[int]  # character of the continuation where the token starts; the end token: len(continuation)
    refusal: Refusal | None = None  # why nothing was scored: then both lists are empty

    @classmethod
    def refused(cls, refusal: Refusal) -> Self:
        return cls([], [], refusal)


@dataclass(frozen=True)
class Usage:
    """Totals of one or several engines: what was asked, what was computed for it, how long that took.

    A position is a place in a batch that went through the model; a padded one held no token.
    """

    prompt_tokens: int = 0  # before what is sampled or scored, for every row (n completions: n times); embedded texts
    shared_tokens: int = 0  # of these: not computed, because another row of the batch had the same beginning
    completion_tokens: int = 0
    scored_tokens: int = 0
    positions: int = 0
    padded_positions: int = 0
    sampling_seconds: float = 0.0  # wall clock inside generate, score and embed
    scoring_seconds: float = 0.0
    embedding_seconds: float = 0.0
    device_seconds: float = 0.0  # seconds inside calls times the accelerators held

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    def seconds(self) -> float:
        return self.sampling_seconds + self.scoring_seconds + self.embedding_seconds

    def rates(self) -> dict[str, float]:
        """What an asset's page shows: tokens a second, shares, accelerator time. Only what there is a measure of."""
        ratios = {
            "sampled_tokens_per_second": (self.completion_tokens, self.sampling_seconds),
            "scored_tokens_per_second": (self.scored_tokens, self.scoring_seconds),
            "padded_share": (self.padded_positions, self.positions),
            "shared_prompt_share": (self.shared_tokens, self.prompt_tokens),
        }
        measured = {name: part / whole for name, (part, whole) in ratios.items() if whole}
        return measured | ({"device_seconds": self.device_seconds} if self.device_seconds else {})


class InferenceEngine(Protocol):
    """A loaded causal language model. A context manager: when it closes, the device and all workers are free.

    Whatever is asked has a result at its place. A request at fault itself (too long, empty, stopped by a content
    filter, answered with what cannot be used) has one with a `refusal`, and the others are served. Raises: EngineError
    when the engine fails; then nothing is returned in part.
    """

    usage: Usage
    parallel_calls: int  # how many calls may run side by side, each from a thread of its own

    def generate(
        self, prompts: Sequence[str], params: SamplingParams, seeds: Sequence[int] | None = None
    ) -> list[list[Completion]]:
        """`params.n` completions for every prompt, in order.

        seeds: one a prompt; by default `prompt_seed(params.seed, prompt)`, so the noise of a prompt does not depend on
        what else is in the call. Completion k uses `completion_seed(seed, k)`.
        """
        ...

    def score(self, prefixes: Sequence[str], continuations: Sequence[str], end: bool = True) -> list[TokenScores]:
        """log p(token | all before it) for every token of each continuation after its prefix.

        Prefix and continuation are tokenized apart and concatenated; `end` appends the end token. A prefix that stands
        several times in `prefixes` is computed once: give the K candidates of one prompt in one call.
        """
        ...

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """[n, hidden] float32: mean over tokens of the last hidden state, L2-normalised; NaN for a refused text.

        `refusals.embedded` tells which texts have a vector.
        """
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


class EngineSettings(Protocol):
    """The settings an engine reads; the pydantic object lives in `promptcot_assets.settings`."""

    name: str
    workers: int
    threads: int
    batch_size: int
    score_batch_size: int
    batch_tokens: int | None
    max_model_len: int | None
    dtype: str
    vllm: Any
    server: Any
    chat_api: Any
    ray: Any


def prompt_seed(seed: int, prompt: str) -> int:
    """The default seed of a prompt, from its text and `seed` only: equal prompts get equal seeds."""
    return _hash63(f"{seed}\0{prompt}")


def completion_seed(seed: int, k: int) -> int:
    """The seed of completion `k`. The first keeps the prompt's own, so any completion can be sampled again alone."""
    return seed if k == 0 else _hash63(f"{seed}\0{k}")


def _hash63(text: str) -> int:
    """63 bits, so that a seed fits a signed integer column."""
    return int.from_bytes(hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest(), "big") >> 1
