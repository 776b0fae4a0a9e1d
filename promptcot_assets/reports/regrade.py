"""`promptcot regrade`: stored generations judged by the grader as it is now, beside the verdicts in the lake.

Nothing is generated and nothing is written. Labels, items and seed are those that the stored verdicts were made from,
so what differs is the grader (or its limits in the profile) and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from promptcot_assets.lake import Lake, LakeError, Ref
from promptcot_assets.settings import Settings
from promptcot_assets.stages import Row, evaluation, self_play
from promptcot_assets.stages.regrade import Difference, pair_difference, score_difference, verdict_difference
from promptcot_assets.stages.verification import Verifier

SHOWN = 10  # changed verdicts of each table in the printed report


@dataclass(frozen=True)
class Regrade:
    """What the present grader makes of one student: `tables` by name, pairs lost and gained, changed scores."""

    student: str
    tables: dict[str, Difference] = field(default_factory=dict)
    pairs: dict[str, list[Row]] = field(default_factory=dict)
    scores: list[Row] = field(default_factory=list)


def regrade(home: Path, student: str, settings: Settings) -> Regrade:
    """Judge the student's rollouts and benchmark generations anew.

    Raises: LakeError when neither has been judged yet; sandbox.SandboxUnavailable when no isolation holds here.
    """
    lake = Lake(home)
    played, answered = (lake.newest(name, student) for name in ("verdicts", "benchmark_verdicts"))
    if played is None and answered is None:
        raise LakeError(f"no verdicts of student {student!r} in {home} yet: materialize verdicts or benchmark_verdicts")
    found = Regrade(student)
    with Verifier.open(settings.sandbox) as verifier:
        if played:
            _rollouts(found, _Inputs(lake, played), settings, verifier)
        if answered:
            _benchmarks(found, _Inputs(lake, answered), settings, verifier)
    return found


class _Inputs:
    """Rows of a commit and of the exact versions it was made from."""

    def __init__(self, lake: Lake, ref: Ref) -> None:
        self._lake, self.ref = lake, ref
        self.made = lake.commit_of(ref).provenance

    def rows(self, asset: str) -> list[Row]:
        return [row for ref in self.made.inputs if ref.asset == asset for row in self._lake.table(ref).to_pylist()]

    def own(self) -> list[Row]:
        return self._lake.table(self.ref).to_pylist()


def _rollouts(found: Regrade, stored: _Inputs, settings: Settings, verifier: Verifier) -> None:
    tables = (stored.rows(name) for name in ("problems", "math_answers", "code_tests", "seed_problems"))
    labels = {row["problem_id"]: row for row in self_play.labels(*tables)}
    drawn, before = stored.rows("rollouts"), stored.own()
    after = self_play.verdicts(drawn, labels, verifier)
    found.tables["verdicts"] = verdict_difference(before, after, "rollout_id")
    pairs = partial(self_play.preference_pairs, drawn, settings=settings.self_play, seed=stored.made.seed)
    found.pairs.update(pair_difference(list(pairs(judged=before)), list(pairs(judged=after))))


def _benchmarks(found: Regrade, stored: _Inputs, settings: Settings, verifier: Verifier) -> None:
    items = {row["item_id"]: row for row in stored.rows("benchmark_items")}
    before = stored.own()
    after = evaluation.verdicts(stored.rows("benchmark_generations"), items, verifier)
    found.tables["benchmark_verdicts"] = verdict_difference(before, after, "generation_id")
    asked = settings.evaluation
    sides = (evaluation.scores(side, asked.generations, asked.generations_of) for side in (before, after))
    found.scores.extend(score_difference(*sides))


def as_json(found: Regrade) -> dict[str, Any]:
    tables = {
        name: {"judged": one.judged, "changed": one.changed, "rewards": one.moves(),
               "unannounced": len(one.unannounced())}
        for name, one in found.tables.items()
    }  # fmt: skip
    return {"student": found.student, "tables": tables, "pairs": found.pairs, "scores": found.scores}


def as_text(found: Regrade) -> str:
    lines = []
    for name, one in found.tables.items():
        lines.append(f"{name}: {one.judged:,} judged anew, {len(one.changed):,} say something else, "
                     f"{len(one.rewards):,} rewards move")  # fmt: skip
        lines += [f"  {move}: {count:,}" for move, count in one.moves().items()]
        for row in one.rewards[:SHOWN]:
            before, after = row["before"], row["after"]
            lines.append(f"  {row['id']} {row['domain']}: {before['verdict']} ({before['rule']}) -> "
                         f"{after['verdict']} ({after['rule']}); answer {after['answer']!r:.60}")  # fmt: skip
        if len(one.rewards) > SHOWN:
            lines.append(f"  … {len(one.rewards) - SHOWN:,} more (--json has all)")
        if unannounced := one.unannounced():
            grader = unannounced[0]["after"]["grader"]
            lines.append(
                f"  {len(unannounced):,} of them under one grader version, {grader}: give the grader a new one"
            )
    if found.pairs:
        lines.append(f"preference_pairs: {len(found.pairs['lost']):,} lost, {len(found.pairs['gained']):,} gained")
    for row in found.scores:
        sides = " -> ".join(f"{side['value']:.4f}" if side else "none" for side in (row["before"], row["after"]))
        against = f" minus {row['compared_with']}" if row["compared_with"] else ""
        lines.append(f"benchmark_scores: {row['benchmark']} {row['stage']} {row['metric']}{against}: {sides}")
    moved = [name for name, one in found.tables.items() if one.changed]
    if moved:
        lines.append("nothing was written; to keep the new verdicts:")
        lines += [f"  dagster asset materialize -m promptcot_assets.definitions --select '{name}*' "
                  f"--partition {found.student}" for name in moved]  # fmt: skip
    return "\n".join(lines)
