"""Language models whose whole distribution is written down, behind the engine's protocol: for tests that compute.

A model is a function: text so far -> probability of each next token; the token `""` is the end. Sampling, stopping,
limits and scoring follow `InferenceEngine`, so a stage cannot tell it from a neural network; but its posterior, its
likelihood and its verdicts can be worked out by hand.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Self

import numpy as np

from promptcot_assets.domains import domain_named, procedural_domain
from promptcot_assets.domains.annotators import annotate
from promptcot_assets.domains.layout import END_PROBLEM, generator_completion
from promptcot_assets.inference import (
    Completion,
    EngineError,
    SamplingParams,
    TokenScores,
    Usage,
    completion_seed,
    prompt_seed,
)

END = ""
NextToken = Callable[[str], Mapping[str, float]]


class ExactModel:
    """An engine over `next_token`. Temperature 0 takes the likeliest token (of equals the first), 1 samples."""

    def __init__(self, next_token: NextToken) -> None:
        self.usage = Usage()
        self._next = next_token

    def generate(
        self, prompts: Sequence[str], params: SamplingParams, seeds: Sequence[int] | None = None
    ) -> list[list[Completion]]:
        if params.temperature not in (0.0, 1.0) or params.top_p != 1.0:
            raise EngineError("an exact model knows temperatures 0 and 1 only")
        seeds = seeds or [prompt_seed(params.seed, prompt) for prompt in prompts]
        return [
            [self._sample(prompt, params, completion_seed(seed, k)) for k in range(params.n)]
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]

    def score(self, prefixes: Sequence[str], continuations: Sequence[str], end: bool = True) -> list[TokenScores]:
        return [self._score(*pair, end) for pair in zip(prefixes, continuations, strict=True)]

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        raise EngineError("an exact model has no hidden state")

    def close(self) -> None:
        """Nothing is held."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _sample(self, prompt: str, params: SamplingParams, seed: int) -> Completion:
        rng, text, logprob = random.Random(seed), "", 0.0
        for tokens in range(1, params.max_new_tokens + 1):
            law = self._next(prompt + text)
            greedy = params.temperature == 0
            token = max(law, key=law.__getitem__) if greedy else rng.choices(list(law), list(law.values()))[0]
            logprob += math.log(law[token])
            text += token
            stops = [text.index(stop) for stop in params.stop if stop in text]
            if token == END or stops:
                return Completion(text[: min(stops)] if stops else text, tokens, "stop", logprob, seed)
        return Completion(text, params.max_new_tokens, "length", logprob, seed)

    def _score(self, prefix: str, continuation: str, end: bool) -> TokenScores:
        logprobs, offsets, at = [], [], 0
        while at < len(continuation):
            law = self._next(prefix + continuation[:at])
            token = max((t for t in law if t and continuation.startswith(t, at)), key=len)
            logprobs.append(math.log(law[token]))
            offsets.append(at)
            at += len(token)
        if end:
            logprobs.append(math.log(self._next(prefix + continuation)[END]))
            offsets.append(at)
        return TokenScores(logprobs, offsets)


def one_of(texts_for: Callable[[str], Sequence[str]], prompt_end: str) -> ExactModel:
    """Writes one of `texts_for(prompt)` with equal chances; a prompt ends with the last `prompt_end` of the text."""

    def next_token(text: str) -> Mapping[str, float]:
        prompt, mark, written = text.rpartition(prompt_end)
        if written:
            return {END: 1.0}
        texts = texts_for(prompt + mark)
        return {t: texts.count(t) / len(texts) for t in texts}

    return ExactModel(next_token)


def problem_writer(domain_name: str, good: int = 6) -> ExactModel:
    """A generator for a procedural domain: `good` sound completions a prompt, and one of every kind that is not."""
    world = procedural_domain(domain_name)

    def texts(prompt: str) -> list[str]:
        rng = random.Random(prompt)
        concepts = prompt.partition("Concepts: ")[2].partition("\n")[0].split("; ")
        problems = [world.write(concepts, rng) for _ in range(good)]  # type: ignore[attr-defined]
        sound = [generator_completion(f"Idea: {number}", text) for number, text in enumerate(problems)]
        return [
            *sound,
            generator_completion("Idea: the same again", problems[0]),
            generator_completion("Idea: not a sentence", problems[1][:-1]),
            generator_completion("Idea: nonsense", "What is it?"),
            generator_completion("", problems[2]),
            sound[3].replace(END_PROBLEM, ""),
        ]

    return one_of(texts, "\n")


def solver(domain_name: str, error: float, texts: int = 8) -> ExactModel:
    """A student of a procedural domain that is wrong in a share `error` of its texts, or has no answer in its last."""
    world = procedural_domain(domain_name)

    def solutions(prompt: str) -> list[str]:
        rng = random.Random(prompt)
        problem = prompt.partition("Problem: ")[2].removesuffix("\nSolution:")
        return [*(world.teach(problem, error, rng).completion for _ in range(texts)), "<think>so far</think> "]

    return one_of(solutions, "\nSolution:")


def annotated(domain_name: str, problem: str, seed: int = 0) -> str:
    """A chatty rationale for a problem of a procedural domain."""
    parsed = _parse(domain_name, problem)
    return annotate("chatty", parsed, parsed, parsed.concepts, random.Random(seed))


def _parse(domain_name: str, problem: str):  # type: ignore[no-untyped-def]
    from promptcot_assets.domains import mini_code, mini_maths

    assert domain_named(domain_name)
    return {"mini_maths": mini_maths, "mini_code": mini_code}[domain_name].parse(problem)
