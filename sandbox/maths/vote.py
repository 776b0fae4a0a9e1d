"""The label of a problem from many answers: one pass of grouping by normal form, no pair is ever compared."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from sandbox.maths import workers
from sandbox.maths.equality import without_variable
from sandbox.maths.forms import Collection, Expression, Form, Interval, Matrix, Quantity, Relation, Union
from sandbox.maths.policy import DEFAULT, Policy
from sandbox.maths.reader import read


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
    groups = _groups([answer.strip() for answer in ballots if answer and answer.strip()], policy)
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
    by_value: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for answer, count in Counter(answers).items():
        form = read(answer, policy)
        unit = form.unit if isinstance(form, Quantity) else ""
        value = form.value if isinstance(form, Quantity) else form
        by_value[key(value, policy)][unit if policy.units != "ignored" else ""][answer] += count
    groups: list[Counter[str]] = []
    for units in by_value.values():
        named = [unit for unit in units if unit]
        if policy.units == "optional" and len(named) == 1 and "" in units:
            groups.append(units[""] + units[named[0]])
        else:
            groups += units.values()
    return groups


def key(form: Form, policy: Policy) -> str:
    """Equal for equal answers: the normal form, with thirty digits in the place of every expression."""

    def agree(x: Form, y: Form) -> bool:
        return key(x, policy) == key(y, policy)

    if isinstance(form, Expression):
        seen = workers.shared().fingerprint(form.tree)
        return seen.rule if seen.equal else form.text
    if policy.lone_variable and (bare := without_variable(form, agree)) is not form:
        return key(bare, policy)
    if isinstance(form, Relation):
        return f"relation{form.signs}{[key(side, policy) for side in form.sides]}"
    if isinstance(form, Collection):
        if any(isinstance(item, Relation) for item in form.items):  # of several variables: each keeps its own
            policy = replace(policy, lone_variable=False)
        keys = [key(item, policy) for item in form.items]
        free = form.kind == "set" or (form.kind == "list" and not policy.ordered_lists)
        return f"{'unordered' if free else form.kind}{sorted(keys) if free else keys}"
    if isinstance(form, Interval):
        return f"interval{form.closed}{key(form.left, policy)}, {key(form.right, policy)}"
    if isinstance(form, Union):
        return f"union{sorted(key(part, policy) for part in form.parts)}"
    if isinstance(form, Matrix):
        return f"matrix{[[key(entry, policy) for entry in row] for row in form.rows]}"
    return f"{type(form).__name__} {form.text}"
