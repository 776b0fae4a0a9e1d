"""A world of few rationales, in which every probability of p and q can be worked out by hand."""

import math
from collections.abc import Mapping

from hypothesis import strategies as st

from promptcot_assets.domains.layout import BEGIN_PROBLEM, BEGIN_RATIONALE, END_PROBLEM, END_RATIONALE
from promptcot_assets.inference import Completion
from promptcot_assets.lake import Row
from promptcot_assets.settings.profile import Filters, Reward, Sampling
from promptcot_assets.stages.em import bounds, loop
from tests.exact_models import END, ExactModel

SEEDS = [
    {
        "problem_id": f"p{number}",
        "domain": "maths",
        "source": "a.jsonl",
        "concepts": ["sums"],
        "level": "easy",
        "problem": x,
    }
    for number, x in enumerate(["one?", "two?"])
]
SEED = SEEDS[0]
FREE = Sampling(temperature=1.0, max_new_tokens=8)
Laws = Mapping[str, float]


def generator(prior: Laws, likelihood: Mapping[str, Laws]) -> ExactModel:
    """p: the rationale from `prior`, then the problem from `likelihood[rationale]`; all else is certain."""

    def next_token(text: str) -> Laws:
        written = text.rpartition("\n\n")[2]
        if not written:
            return {BEGIN_RATIONALE: 1.0}
        if written.endswith(BEGIN_RATIONALE):
            return prior
        if written.endswith(END_RATIONALE):
            return {BEGIN_PROBLEM: 1.0}
        if written.endswith(BEGIN_PROBLEM):
            return likelihood[written.removeprefix(BEGIN_RATIONALE).partition(END_RATIONALE)[0]]
        if written.endswith(END_PROBLEM):
            return {END: 1.0}
        return {END_PROBLEM if BEGIN_PROBLEM in written else END_RATIONALE: 1.0}

    return ExactModel(next_token)


def proposer(law: Laws) -> ExactModel:
    """q: the same law for every problem; the text ends with the marker."""
    return ExactModel(lambda text: law if text.endswith(BEGIN_RATIONALE) else {END_RATIONALE: 1.0})


def candidate_row(text: str, number: int, log_q: float, **changed: object) -> Row:
    return {
        **SEED, "concept_set_id": "c", "candidate": number, "rationale": text, "log_q": log_q, "tokens": 2, "seed": 0,
        "lost_because": None, "copy_ratio": 0.0, "quoted_from": 0, "quoted_to": 0, "style": None, **changed,
    }  # fmt: skip


def measured(p: ExactModel, q: Laws, drawn: tuple[str, ...]) -> Row:
    """The held-out row of one draw of rationales from q."""
    rows = [candidate_row(z, k, math.log(q[z]), lost_because=unusable(z)) for k, z in enumerate(drawn)]
    (row,) = bounds.bounds(loop.judge(rows, p, Reward()), len(drawn))
    return row


def unusable(rationale: str) -> str | None:
    return loop._unusable(Completion(rationale, 2, "stop", 0.0, 0), Filters(), 0.0)


def normal(weights: list[int], names: tuple[str, ...]) -> Laws:
    return {name: weight / sum(weights) for name, weight in zip(names, weights, strict=True)}


Z = ("planned", "vague", "wrong")
WEIGHTS = st.lists(st.integers(1, 9), min_size=3, max_size=3)
worlds = st.builds(
    lambda prior, fit, q: (normal(prior, Z), dict(zip(Z, (w / 10 for w in fit), strict=True)), normal(q, Z)),
    WEIGHTS, WEIGHTS, WEIGHTS,
)  # fmt: skip


def world(prior: Laws, fit: Laws) -> tuple[ExactModel, float]:
    """The generator of a world, and its exact log p(x|c)."""
    x = SEED["problem"]
    p = generator(prior, {z: {x: fit[z], "else": 1 - fit[z]} for z in prior})
    return p, math.log(math.fsum(prior[z] * fit[z] for z in prior))
