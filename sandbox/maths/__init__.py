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
from sandbox.maths.extract import answers_beside, extract_answer
from sandbox.maths.policy import DEFAULT, REWARDS, Policy
from sandbox.maths.reader import read
from sandbox.maths.vote import Vote, majority_vote
from sandbox.model import Verdict

__all__ = [
    "REWARDS",
    "Grade",
    "Policy",
    "Vote",
    "equivalent",
    "extract_answer",
    "grade",
    "majority_vote",
    "normal_form",
]

LONGEST_INTEGER = 4_000  # digits
INTEGER = re.compile(rf"[-+]?[0-9]{{1,{LONGEST_INTEGER}}}")


@dataclass(frozen=True)
class Grade:
    """verdict: `ok`; `wrong_answer`; `time_limit`, as wrong, when the answer exhausted what one grade may use;
    `system_error`, neither right nor wrong, when the symbolic workers were lost.

    rule: what decided. reference, answer: both normal forms; answer is None when the completion has none.
    """

    verdict: Verdict
    rule: str
    reference: str
    answer: str | None


def equivalent(reference: str, answer: str, policy: Policy = DEFAULT) -> bool:
    """Whether `answer` is the same answer as `reference`. Undecided within the CPU limit counts as no."""
    both = reference + answer
    plain = both.isascii() and both.isdigit() and reference and answer and len(both) <= LONGEST_INTEGER
    if plain or (INTEGER.fullmatch(reference) and INTEGER.fullmatch(answer)):
        return int(reference) == int(answer)
    return judge(reference, answer, policy).equal


def grade(reference: str, completion: str, policy: Policy = DEFAULT) -> Grade:
    """The verdict on a whole completion: its final answer against the reference.

    Several boxed answers side by side are the list of them: right for a reference that is that list, or where each
    of them is the reference. Raises SandboxUnavailable when no symbolic worker starts, and nothing else.
    """
    answer = extract_answer(completion)
    if answer is None:
        return Grade(Verdict.WRONG_ANSWER, "no answer", normal_form(reference, policy), None)
    beside = list(dict.fromkeys(answers_beside(completion)))
    forms = normal_form(reference, policy), normal_form(", ".join(beside) if beside[1:] else answer, policy)
    try:
        judged = _judge_list(reference, beside, policy) if beside[1:] else judge(reference, answer, policy)
    except workers.WorkerLost:
        return Grade(Verdict.SYSTEM_ERROR, "symbolic worker lost", *forms)
    failed = Verdict.TIME_LIMIT if judged.limit else Verdict.WRONG_ANSWER
    return Grade(Verdict.OK if judged.equal else failed, judged.rule, *forms)


def _judge_list(reference: str, answers: list[str], policy: Policy) -> Judged:
    budget = workers.Budget()
    whole = _compared(reference, ", ".join(answers), policy, budget)
    if whole.equal or not all(_compared(reference, answer, policy, budget).equal for answer in answers):
        return whole if whole.equal else Judged(False, "several answers side by side")
    return Judged(True, "one answer, several times")


def normal_form(answer: str, policy: Policy = DEFAULT) -> str:
    """The answer in one spelling: equal normal forms mean equal answers, the reverse needs `equivalent`."""
    return read(answer, policy).text


@lru_cache(maxsize=1 << 14)
def judge(reference: str, answer: str, policy: Policy = DEFAULT) -> Judged:
    """As `equivalent`, with the rule that decided and whether a limit was hit."""
    return _compared(reference, answer, policy, workers.Budget())


def _compared(reference: str, answer: str, policy: Policy, budget: workers.Budget) -> Judged:
    def ask(name: str, *arguments: object) -> Judged:
        return workers.shared().ask(name, *arguments, budget=budget)

    return equality.same(read(reference, policy), read(answer, policy), policy, ask)
