"""What a change of grader changes: verdicts and so rewards, preference pairs, scores. Generations stay as they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from promptcot_assets.stages import Row

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
