"""How far a label can be believed, without asking a model again: rivals, other graders, the problem's own rationale.

The writer of a problem often states the answer in its rationale. Where the vote says something else, one of the two is
wrong: a filter that costs nothing (`labels.stated: drop`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from promptcot_assets.lake import Row
from promptcot_assets.stages.labels.labelling import by_problem
from promptcot_assets.stages.labels.votes import same_answer

STATED = re.compile(
    r"\banswer(?: of the problem| to the problem)?(?: is| equals|:| =)\s*\$?([^$\n,;]{1,60}?)\$?[.,;]?(?=\s|$)"
)
NUMERIC = re.compile(r"-?[0-9][0-9./]*|\\d?frac\{.+\}")  # of prose only such a text is taken for an answer
CONTRADICTED = "the rationale states another answer"


def stated_answer(rationale: str) -> str | None:
    """The answer that a rationale states: its last box, else the last number after "answer is"; None without one.

    Prose is read cautiously: an answer that is no number is only believed in a box.
    """
    from sandbox.maths import extract_answer

    if boxed := extract_answer(rationale):
        return boxed
    found = [match[1].strip().rstrip(".") for match in STATED.finditer(rationale)]
    return next((one for one in reversed(found) if NUMERIC.fullmatch(one)), None)


def stated_answers(problems: Iterable[Row]) -> dict[str, str]:
    """problem_id -> what its rationale states, of those that state one. problems: with `rationale`."""
    found = ((row["problem_id"], stated_answer(row["rationale"] or "")) for row in problems)
    return {problem: stated for problem, stated in found if stated is not None}


def without_contradicted(labels: Iterable[Row], stated: Mapping[str, str]) -> list[Row]:
    """Rows of `math_answers`; a label falls where the problem's rationale states another answer."""
    rows = []
    for row in labels:
        other = stated.get(row["problem_id"])
        falls = row["answer"] is not None and other is not None and not same_answer(row["answer"], other)
        rows.append(row | {"answer": None, "drop_reason": CONTRADICTED} if falls else row)
    return rows


def label_agreement(labels: Sequence[Row], votes: Iterable[Row], stated: Mapping[str, str]) -> list[Row]:
    """A row a problem that was voted on: what else there is to say of its label.

    votes: rows of `math_votes` of the same problems in the same order.
    """
    rows = []
    for label, (problem_id, cast) in zip(labels, by_problem(votes), strict=True):
        assert problem_id == label["problem_id"]
        texts = Counter(vote["answer"] for vote in cast if vote["answer"])
        forms = Counter(vote["normal_form"] for vote in cast if vote["normal_form"])
        answer, said = label["answer"], stated.get(problem_id)
        rows.append({
            "label_id": label["label_id"],
            "problem_id": problem_id,
            "domain": label["domain"],
            "answer": answer,
            "share": label["share"],
            "distinct_answers": len(forms),
            "runner_up": _second(forms) / len(cast),
            "unanswered": sum(not vote["answer"] for vote in cast) / len(cast),
            "by_text": _leader(texts),
            "by_form": _leader(forms),
            "graders_agree": _agree(answer, [_leader(texts), _leader(forms)]),
            "stated": said,
            "stated_agrees": None if said is None or answer is None else same_answer(answer, said),
        })  # fmt: skip
    return rows


def _leader(counts: Counter[str]) -> str | None:
    """What has most votes, strictly ahead."""
    first = counts.most_common(2)
    return first[0][0] if first and (len(first) == 1 or first[0][1] > first[1][1]) else None


def _second(counts: Counter[str]) -> int:
    return sorted(counts.values())[-2] if len(counts) > 1 else 0


def _agree(answer: str | None, others: Sequence[str | None]) -> bool | None:
    if answer is None:
        return None
    return all(other is not None and same_answer(answer, other) for other in others)
