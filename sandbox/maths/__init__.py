"""Maths answers: the final answer of a completion, and whether it is the reference's.

`equivalent` is exact: integers and fractions as such, other expressions as identities, structures by their types.
What is convention is a `Policy`. Symbolic work happens in workers that may be killed; if those cannot run,
SandboxUnavailable is raised.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from sandbox.maths import equality, workers
from sandbox.maths.equality import Judged
from sandbox.maths.extract import extract_answer, is_hedged
from sandbox.maths.policy import DEFAULT, Policy
from sandbox.maths.reader import read
from sandbox.maths.vote import Vote, majority_vote
from sandbox.model import Verdict

__all__ = ["Grade", "Policy", "Vote", "equivalent", "extract_answer", "grade", "majority_vote", "normal_form"]

INTEGER = re.compile(r"[-+]?[0-9]{1,4000}")


@dataclass(frozen=True)
class Grade:
    """verdict: `ok`, `wrong_answer`, or `time_limit` when the symbolic worker gave up on the comparison.

    rule: what decided. reference, answer: both normal forms; answer is None when the completion has none.
    """

    verdict: Verdict
    rule: str
    reference: str
    answer: str | None


def equivalent(reference: str, answer: str, policy: Policy = DEFAULT) -> bool:
    """Whether `answer` is the same answer as `reference`. Undecided within the CPU limit counts as no."""
    if INTEGER.fullmatch(reference) and INTEGER.fullmatch(answer):
        return int(reference) == int(answer)
    return judge(reference, answer, policy).equal


def grade(reference: str, completion: str, policy: Policy = DEFAULT) -> Grade:
    """The verdict on a whole completion: its final answer against the reference."""
    answer = extract_answer(completion)
    if answer is None:
        return Grade(Verdict.WRONG_ANSWER, "no answer", normal_form(reference, policy), None)
    forms = normal_form(reference, policy), normal_form(answer, policy)
    if is_hedged(completion):
        return Grade(Verdict.WRONG_ANSWER, "several answers side by side", *forms)
    judged = judge(reference, answer, policy)
    failed = Verdict.TIME_LIMIT if judged.limit else Verdict.WRONG_ANSWER
    return Grade(Verdict.OK if judged.equal else failed, judged.rule, *forms)


def normal_form(answer: str, policy: Policy = DEFAULT) -> str:
    """The answer in one spelling: equal normal forms mean equal answers, the reverse needs `equivalent`."""
    return read(answer, policy).text


@lru_cache(maxsize=1 << 14)
def judge(reference: str, answer: str, policy: Policy = DEFAULT) -> Judged:
    """As `equivalent`, with the rule that decided and whether a limit was hit."""
    return equality.same(read(reference, policy), read(answer, policy), policy, workers.shared())
