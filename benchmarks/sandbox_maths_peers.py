"""Our maths grader and the math-verify library on all tables of the tests: agreement, who is wrong and how.

    python benchmarks/sandbox_maths_peers.py [docs/maths_graders.md]

What a table says is the truth here. Given a page, writes every disagreement and its reason there. math-verify reads
each side as `$...$` with its latex and expression targets on, as its readme does; of completions it is given the answer
that we extract, since by itself it takes any last number.
"""

from __future__ import annotations

import logging
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from sandbox.maths import equivalent, extract_answer, grade
from tests.sandbox.maths import table, test_equivalence


class Case(NamedTuple):
    kind: str
    why: str
    reference: str
    answer: str
    same: bool
    ours: bool
    theirs: bool


def by_math_verify(reference: str, answer: str) -> bool:
    """False also where it raises or gives up, as its users treat it."""
    from math_verify import parse, verify

    try:
        return bool(verify(parse(f"${reference}$"), parse(f"${answer}$")))
    except Exception:  # noqa: BLE001 whatever it is, the answer is not accepted
        return False


def cases() -> Iterator[Case]:
    for name in ("attacks", "honest"):
        for row in table.rows(f"{name}.txt"):
            sides = row.reference, row.answer
            yield Case(row.kind, row.why, *sides, row.same, equivalent(*sides), by_math_verify(*sides))
    for row in table.rows("completions.txt"):
        ours = grade(row.reference, row.answer).verdict.value == "ok"
        theirs = by_math_verify(row.reference, extract_answer(row.answer) or "")
        yield Case(row.kind, row.why, row.reference, row.answer, row.same, ours, theirs)
    for pair in test_equivalence.PAIRS:
        if pair.policy == test_equivalence.policy(""):
            sides = pair.reference, pair.answer
            yield Case("pairs", pair.why, *sides, pair.same, equivalent(*sides), by_math_verify(*sides))


def main(page: Path | None) -> None:
    logging.disable(logging.WARNING)
    found = list(cases())
    lines = list(table_of(found))
    print("\n".join(lines))
    if page is not None:
        page.write_text("\n".join([INTRODUCTION, "```text", *lines, "```", *disagreements(found), TO_DO]))


def table_of(found: list[Case]) -> Iterator[str]:
    yield f"{'kind':36}{'rows':>6}{'agree':>7}{'ours right':>12}{'theirs':>8}{'accepts wrong':>15}{'refuses right':>15}"
    for kind in [*Counter(case.kind for case in found), "all"]:
        own = [case for case in found if kind in (case.kind, "all")]
        agree = sum(case.ours == case.theirs for case in own) / len(own)
        right, accepts, refuses = [], [], []
        for side in ([case.ours for case in own], [case.theirs for case in own]):
            judged = list(zip(side, own, strict=True))
            right.append(sum(one == case.same for one, case in judged) / len(own))
            accepts.append(str(sum(one and not case.same for one, case in judged)))
            refuses.append(str(sum(not one and case.same for one, case in judged)))
        yield (
            f"{kind:36}{len(own):6}{agree:7.1%}{right[0]:12.1%}{right[1]:8.1%}{'/'.join(accepts):>15}{'/'.join(refuses):>15}"
        )


def disagreements(found: list[Case]) -> Iterator[str]:
    """Under a heading a kind: both sides, what math-verify does, why the table says otherwise, whose matter it is."""
    for kind in Counter(case.kind for case in found):
        own = [case for case in found if case.kind == kind and case.ours != case.theirs]
        if own:
            yield f"\n## {kind}\n"
        for case in own:
            who, answer = ("theirs" if case.ours == case.same else "ours"), case.answer.replace("\n", " ")
            does = "accepts" if (case.theirs if who == "theirs" else case.ours) else "refuses"
            reason = "ours to do" if who == "ours" else "policy" if is_policy(case) else "theirs wrong"
            yield f"- `` {case.reference} `` ~ `` {answer} ``: {who} {does}; {case.why}; **{reason}**"


POLICY_KINDS = {"several boxes", "several letters", "exact value and decimals", "percent", "units"}
POLICY_WORDS = re.compile(
    r"round|nearly|exact|percent|not the value|list|set|type|tuple|ratio|time is|natural log|missing|choice|case|unit"
    r"|letter beside|repetition|interval|vector|statement|base|words|sign as"
)


def is_policy(case: Case) -> bool:
    """Whether it is a matter of convention: exactness, units, percent, types, what a hedge is."""
    return case.kind in POLICY_KINDS or (case.kind == "pairs" and bool(POLICY_WORDS.search(case.why)))


INTRODUCTION = """# Our maths grader beside math-verify

Written by `python benchmarks/sandbox_maths_peers.py docs/maths_graders.md`: every row of the tables in
`tests/sandbox/maths` on which the two disagree. The pairs in "accepts wrong" and "refuses right" are ours and theirs.
*theirs wrong*: mathematics decides. *policy*: a convention that we chose otherwise (`sandbox/maths/policy.py`).
"""
TO_DO = """
## Ours to do

Right answers that we refuse, known and not in the tables yet:

- a sum or product of matrices as the answer for the matrix that it is;
- a point by its name and coordinates, `P(2, 3)`, for `(2, 3)`;
- `x = 3, y = 2` for the pair `(3, 2)`: whose first coordinate is x is not said;
- units with powers inside one command, `\\mathrm{m\\,s^{-2}}`;
- a decimal comma, where the policy is not set: `1000,99` is a list by default;
- congruences, `3 \\pmod 5`, are compared as texts.
"""

if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
