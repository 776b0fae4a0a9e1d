"""What a change of grader changes: verdicts and so rewards, preference pairs, scores. Generations stay as they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from promptcot_assets.lake import Row
from promptcot_assets.stages.students.distillation import TOO_LONG

TOLD = ("verdict", "passed", "answer", "reference", "rule", "grader")  # what a verdict says


@dataclass(frozen=True)
class Difference:
    """Rows before and after, matched by id. `changed`: {id, domain, before, after} of those that say something else."""

    judged: int
    changed: list[Row] = field(default_factory=list)

    @property
    def rewards(self) -> list[Row]:
        """Of these, the ones whose reward (`passed`) is another; the others only say it differently."""
        return [row for row in self.changed if row["before"]["passed"] != row["after"]["passed"]]

    def moves(self) -> dict[str, int]:
        """How often a reward moved from what to what, e.g. {"fail -> pass": 3}."""
        counts = Counter(f"{_word(row['before'])} -> {_word(row['after'])}" for row in self.rewards)
        return dict(sorted(counts.items()))

    def unannounced(self) -> list[Row]:
        """Rewards that moved although the grader calls itself the same: a change without a new version."""
        return [row for row in self.rewards if row["before"]["grader"] == row["after"]["grader"]]


def _word(verdict: Row) -> str:
    return {True: "pass", False: "fail", None: "no verdict"}[verdict["passed"]]


def verdict_difference(before: Sequence[Row], after: Sequence[Row], row_id: str) -> Difference:
    """Verdicts of the same rows by two graders. A column that the older one did not write yet is no difference."""
    old = {row[row_id]: row for row in before}
    changed = []
    for row in after:
        was = old[row[row_id]]
        told = [name for name in TOLD if was.get(name) is not None or name in ("passed", "answer")]
        sides = [{name: side.get(name) for name in TOLD} for side in (was, row)]
        if any(sides[0][name] != sides[1][name] for name in told):
            changed.append({"id": row[row_id], "domain": row["domain"], "before": sides[0], "after": sides[1]})
    return Difference(len(after), changed)


def trace_difference(before: Sequence[Row], after: Sequence[Row]) -> Difference:
    """Teacher traces by the grader that their batch had and by another one. after: their verdicts, by `trace_id`.

    That a trace is too long is no grader's word: it was right.
    """
    told = [
        {"trace_id": row["trace_id"], "domain": row["domain"], "answer": row["answer"]}
        | ({"verdict": "ok", "passed": True} if _is_right(row) else {"verdict": row["drop_reason"], "passed": False})
        for row in before
    ]
    return verdict_difference(told, after, "trace_id")


def _is_right(trace: Row) -> bool:
    return trace["valid"] or trace["drop_reason"] == TOO_LONG


def label_difference(before: Sequence[Row], after: Sequence[Row], row_id: str, label: str) -> list[Row]:
    """Labels that are others now, or are no longer or newly there: {id, problem_id, domain, before, after}."""
    old = {row[row_id]: row for row in before}
    return [
        {"id": row[row_id], "problem_id": row["problem_id"], "domain": row["domain"], "before": was[label],
         "after": row[label]}
        for row in after
        if (was := old.get(row[row_id])) is not None and was[label] != row[label]
    ]  # fmt: skip


def pair_difference(before: Sequence[Row], after: Sequence[Row]) -> dict[str, list[Row]]:
    """Preference pairs that are `lost` and `gained`: {pair_id, problem_id, domain}."""
    ids = [{row["pair_id"] for row in side} for side in (before, after)]
    shown = ("pair_id", "problem_id", "domain")
    return {
        "lost": [{name: row[name] for name in shown} for row in before if row["pair_id"] not in ids[1]],
        "gained": [{name: row[name] for name in shown} for row in after if row["pair_id"] not in ids[0]],
    }


def score_difference(before: Sequence[Row], after: Sequence[Row]) -> list[Row]:
    """Scores with another value or significance: {benchmark, stage, metric, compared_with, before, after, ...}."""
    name = ("benchmark", "stage", "metric", "compared_with")
    told = ("value", "low", "high", "significant")
    sides = [{tuple(row[n] for n in name): {n: row[n] for n in told} for row in side} for side in (before, after)]
    return [
        dict(zip(name, key, strict=True)) | {"before": sides[0].get(key), "after": sides[1].get(key)}
        for key in dict.fromkeys([*sides[0], *sides[1]])
        if sides[0].get(key) != sides[1].get(key)
    ]


def vote_difference(label: Row) -> tuple[str, str] | None:
    """What a row of `math_answers` with an answer says of its votes, and what counting them again says; None: the same.

    Another spelling of the same answer with as many votes is the same.
    """
    from sandbox.maths import equivalent, majority_vote

    answer, votes = label["answer"], label["votes"]
    ballots = [one or None for one in label["answers"]]
    vote = majority_vote(ballots, min_votes=1)
    won = vote.answer
    if vote.reason == "tie":  # the profile may take the first: one ballot more must put it ahead
        won = majority_vote([*ballots, answer], min_votes=vote.votes + 1).answer
    if vote.votes != votes or won is None or not (won == answer or equivalent(answer, won)):
        return f"{answer} by {votes}", f"{won} by {vote.votes}"
    if abs(label["share"] - votes / max(1, label["asked"])) > 1e-9:
        return f"share {label['share']}", f"{votes} of {label['asked']}"
    return None
