"""Putting problems to a model: the prompt, a seed a problem, and the columns that all tables of completions share.

A problem that cannot be asked (too long, stopped by a content filter) has completions too, each with its `refusal`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from promptcot_assets.domains import domain_named
from promptcot_assets.inference import Completion, InferenceEngine, SamplingParams
from promptcot_assets.inference.refusals import REASONS
from promptcot_assets.lake import Row
from promptcot_assets.settings.profile import Sampling


def sampling_params(sampling: Sampling, n: int) -> SamplingParams:
    return SamplingParams(sampling.temperature, sampling.top_p, sampling.max_new_tokens, n=n)


def solve_prompt(row: Row) -> str:
    return domain_named(row["domain"]).solve_prompt(row["problem"])


def ask(
    problems: Sequence[Row],
    model: InferenceEngine,
    sampling: Sampling,
    n: int,
    seed_of: Callable[[Row], int],
    prompt_of: Callable[[Row], str] = solve_prompt,
) -> Iterator[tuple[Row, list[Completion]]]:
    """`n` completions of each problem (rows with domain and problem), in order."""
    prompts, seeds = [prompt_of(row) for row in problems], [seed_of(row) for row in problems]
    yield from zip(problems, model.generate(prompts, sampling_params(sampling, n), seeds), strict=True)


def refused(reason: str | None) -> bool:
    """Whether a row's `finish_reason` or `drop_reason` says that no model has answered."""
    return reason in REASONS


def refusals(rows: Iterable[Row]) -> Counter[str]:
    """Rows with `finish_reason` that no model has answered, by the reason."""
    return Counter(row["finish_reason"] for row in rows if refused(row["finish_reason"]))


def completion_columns(completion: Completion, attempt: int, model: str) -> Row:
    """What every table of completions says of one."""
    return {
        "attempt": attempt,
        "completion": completion.text,
        "finish_reason": completion.finish_reason,
        "tokens": completion.tokens,
        "seed": completion.seed,
        "model": model,
    }
