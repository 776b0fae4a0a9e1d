"""The label of a problem from many answers: grouped by what `equivalent` calls equal."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from sandbox.maths import equality
from sandbox.maths.forms import Form, Quantity
from sandbox.maths.policy import DEFAULT, Policy
from sandbox.maths.reader import read
from sandbox.maths.workers import Budget, shared

MOST_FORMS = 64  # different answers that are compared with each other; more than that, and only equal texts meet


@dataclass(frozen=True)
class Vote:
    """answer: the winner in its most frequent spelling, or None. votes: for it, or for the front runner.

    reason: `majority`, `tie`, `too few votes` or `no answers`. total: all ballots, those without an answer too.
    """

    answer: str | None
    votes: int
    total: int
    reason: Literal["majority", "tie", "too few votes", "no answers"]


def majority_vote(answers: Iterable[str | None], min_votes: int = 4, policy: Policy = DEFAULT) -> Vote:
    """The answer with the most votes, if it has `min_votes` and is strictly ahead (paper section 5: 8 ballots).

    Depends on the answers only, not on their order. Empty and missing answers are ballots for nothing. A policy's
    tolerance is not applied: nearness is no equivalence.
    """
    if min_votes < 1:
        raise ValueError(f"min_votes must be at least 1, not {min_votes}")
    ballots = list(answers)
    groups = _groups(
        [answer.strip() for answer in ballots if answer and answer.strip()], replace(policy, tolerance=0.0)
    )
    if not groups:
        return Vote(None, 0, len(ballots), "no answers")
    sizes = sorted((group.total() for group in groups), reverse=True)
    best = next(group for group in groups if group.total() == sizes[0])
    if sizes[1:] and sizes[1] == sizes[0]:
        return Vote(None, sizes[0], len(ballots), "tie")
    if sizes[0] < min_votes:
        return Vote(None, sizes[0], len(ballots), "too few votes")
    return Vote(_spelling(best), sizes[0], len(ballots), "majority")


def _spelling(group: Counter[str]) -> str:
    return min(group, key=lambda text: (-group[text], len(text), text))


def _groups(answers: list[str], policy: Policy) -> list[Counter[str]]:
    """Answers by meaning. Those without a unit join those with one, unless several units compete for them."""
    by_form: dict[Form, Counter[str]] = defaultdict(Counter)
    for answer, count in sorted(Counter(answers).items()):
        by_form[read(answer, policy)][answer] += count
    by_value: list[tuple[Form, dict[str, Counter[str]]]] = []
    budget = Budget()
    for form, spellings in by_form.items():
        unit = form.unit if isinstance(form, Quantity) and policy.units != "ignored" else ""
        value = form.value if isinstance(form, Quantity) else form
        units = next((units for other, units in by_value[:MOST_FORMS] if _same(other, value, policy, budget)), None)
        if units is None:
            units = defaultdict(Counter)
            by_value.append((value, units))
        units[unit] += spellings
    groups: list[Counter[str]] = []
    for _, units in by_value:
        named = [unit for unit in units if unit]
        if policy.units == "optional" and len(named) == 1 and "" in units:
            groups.append(units[""] + units[named[0]])
        else:
            groups += units.values()
    return groups


def _same(a: Form, b: Form, policy: Policy, budget: Budget) -> bool:
    def ask(name: str, *arguments: object) -> equality.Judged:
        return shared().ask(name, *arguments, budget=budget)

    return equality.same(a, b, policy, ask).equal or equality.same(b, a, policy, ask).equal
