"""Labels that a student's verified rollouts speak against: the votes and its own usable answers counted together.

A vote and a usable rollout are one ballot each. A label is changed only where more than half of all ballots agree on
another answer, and taken away where they are divided about it, `withdraw` saying how far; so a student that errs
differently each time changes nothing. What errs together with the voters stays wrong.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from promptcot_assets.domains import domain_named
from promptcot_assets.lake import Row
from promptcot_assets.stages.labels.votes import same_answer


def relabelled(labels: Iterable[Row], rollouts: Iterable[Row], withdraw: float) -> list[Row]:
    """A row for every label of a maths problem that was played on. Rows of `relabelled`.

    labels: rows of `math_answers` with a label; rollouts: rows of `verdicts` or `rollouts_online`. withdraw: share of
    all ballots below which a label that lost its majority is taken away.
    """
    from sandbox.maths import majority_vote

    answered: dict[str, list[str]] = defaultdict(list)
    for row in rollouts:
        if row["usable"] and row["passed"] is not None and row["answer"] and _is_maths(row):
            answered[row["problem_id"]].append(row["answer"])
    rows = []
    for label in labels:
        own = answered.get(label["problem_id"])
        if label["answer"] is None or not own:
            continue
        ballots = [*label["answers"], *own]
        vote = majority_vote([one or None for one in ballots], min_votes=len(ballots) // 2 + 1)
        kept = _share(label["answer"], ballots)
        after = label["answer"] if kept >= withdraw else None
        if vote.answer is not None:
            after = label["answer"] if same_answer(vote.answer, label["answer"]) else vote.answer
        rows.append({
            "label_id": label["label_id"],
            "problem_id": label["problem_id"],
            "domain": label["domain"],
            "before": label["answer"],
            "after": after,
            "changed": after is None or after != label["answer"],
            "votes": len(label["answers"]),
            "rollouts": len(own),
            "share_before": kept,
            "share_after": _share(after, ballots) if after else 0.0,
        })  # fmt: skip
    return rows


def with_new_labels(known: Sequence[Row], changes: Iterable[Row]) -> list[Row]:
    """The problems with the labels that former rounds gave them; one whose label was taken away is gone.

    known: problems with `answer`; changes: rows of `relabelled`, the last round last.
    """
    new = {row["problem_id"]: row["after"] for row in changes if row["changed"]}
    labelled = [row | {"answer": new.get(row["problem_id"], row["answer"])} for row in known]
    return [row for row in labelled if not (row["problem_id"] in new and row["answer"] is None)]


def _is_maths(row: Row) -> bool:
    return domain_named(row["domain"]).answers == "maths"


def _share(answer: str, ballots: Sequence[str]) -> float:
    return sum(same_answer(answer, one) for one in ballots) / len(ballots)
