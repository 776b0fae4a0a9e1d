"""`promptcot regrade`: stored generations judged by the grader as it is now, beside the verdicts in the lake.

Nothing is generated and nothing is written. Labels, items and seed are those that the stored verdicts were made from,
so what differs is the grader (or its limits in the profile) and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from promptcot_assets.judging.opening import open_verifier
from promptcot_assets.judging.verifier import ProblemLabels, Question, Verifier, extract
from promptcot_assets.lake import Lake, LakeError, Ref, Row
from promptcot_assets.settings import Settings
from promptcot_assets.stages.analysis.grader_change import (
    Difference,
    label_difference,
    pair_difference,
    score_difference,
    trace_difference,
    verdict_difference,
)
from promptcot_assets.stages.asking import refused
from promptcot_assets.stages.evaluation import benchmarks
from promptcot_assets.stages.labels import agreement, cross_execution, votes
from promptcot_assets.stages.students import relabelling, self_play
from promptcot_assets.tables import open_lake

SHOWN = 10  # changed verdicts of each table in the printed report


@dataclass(frozen=True)
class Regrade:
    """What the present grader makes of one student: `tables` by name, pairs lost and gained, scores and labels that
    change."""

    student: str
    tables: dict[str, Difference] = field(default_factory=dict)
    pairs: dict[str, list[Row]] = field(default_factory=dict)
    scores: list[Row] = field(default_factory=list)
    labels: dict[str, list[Row]] = field(default_factory=dict)  # version of a label table -> those that change


def regrade(home: Path, student: str, settings: Settings) -> Regrade:
    """Judge anew the student's rollouts and benchmark generations, the labels that it plays by and its traces.

    Raises: LakeError when neither has been judged yet; sandbox.SandboxUnavailable when no isolation holds here.
    """
    lake = open_lake(home)
    names = ("verdicts", "benchmark_verdicts", "rollouts_online", "sft_examples")
    played, answered, online, taught = (lake.newest(name, student) for name in names)
    if played is None and answered is None and online is None:
        raise LakeError(f"no verdicts of student {student!r} in {home} yet: materialize verdicts or benchmark_verdicts")
    found = Regrade(student)
    with open_verifier(settings.sandbox) as verifier:
        if played:
            _rollouts(found, _Inputs(lake, played), settings, verifier)
        if online:
            _rollouts_online(found, _Inputs(lake, online), settings, verifier)
        for ref in _labels_of(lake, played or online):
            _labels(found, _Inputs(lake, ref), settings, verifier)
        if taught:
            traces = [ref for ref in lake.commit_of(taught).provenance.inputs if ref.asset == "teacher_traces"]
            _traces(found, [_Inputs(lake, ref) for ref in traces], verifier)
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


def _labels_by_problem(stored: _Inputs) -> dict[str, Row]:
    """What the rollouts of a commit were judged by."""
    tables = (stored.rows(name) for name in ("problems", "math_answers", "code_tests", "seed_problems"))
    known = relabelling.with_new_labels(self_play.labels(*tables), stored.rows("relabelled"))
    return {row["problem_id"]: row for row in known}


def _rollouts(found: Regrade, stored: _Inputs, settings: Settings, verifier: Verifier) -> None:
    labels = _labels_by_problem(stored)
    drawn, before = stored.rows("rollouts"), stored.own()
    after = self_play.verdicts(drawn, labels, verifier, settings.self_play.think_block)
    found.tables["verdicts"] = verdict_difference(before, after, "rollout_id")
    pairs = partial(self_play.preference_pairs, drawn, settings=settings.self_play, seed=stored.made.seed)
    found.pairs.update(pair_difference(list(pairs(judged=before)), list(pairs(judged=after))))


def _rollouts_online(found: Regrade, stored: _Inputs, settings: Settings, verifier: Verifier) -> None:
    labels = _labels_by_problem(stored)
    before = stored.own()
    after = self_play.verdicts(before, labels, verifier, settings.self_play.think_block)
    found.tables["rollouts_online"] = verdict_difference(before, after, "rollout_id")


def _labels_of(lake: Lake, judged: Ref | None) -> list[Ref]:
    """The versions of labels that a student's rollouts were judged by."""
    inputs = lake.commit_of(judged).provenance.inputs if judged else ()
    return [ref for ref in inputs if ref.asset in ("math_answers", "code_tests") and ref.rows]


def _labels(found: Regrade, stored: _Inputs, settings: Settings, verifier: Verifier) -> None:
    """Votes read and counted anew, programs run and tests decided anew; of older homes, which have neither, nothing."""
    before = stored.own()
    if stored.ref.asset == "math_answers":
        cast = [_read_again(vote) for vote in stored.rows("math_votes")]
        if not cast:
            return
        counted = votes.math_answers(cast, settings.labels)
        if settings.labels.stated == "drop":
            counted = agreement.without_contradicted(counted, agreement.stated_answers(stored.rows("problems")))
        changed = label_difference(before, counted, "problem_id", "answer")
    else:
        proposals, programs = stored.rows("proposed_tests"), stored.rows("candidate_programs")
        if not proposals:
            return
        ids = {row["problem_id"] for row in proposals}
        asked = [row for row in stored.rows("problems") if row["problem_id"] in ids] or None  # only where they repaired
        tested = stored.rows("tested_judges") or None  # as they were believed; a checker is asked anew
        executed = cross_execution.executed(proposals, programs, asked, tested)
        again = [cross_execution.run_again(one, verifier) for one in executed]
        decided = cross_execution.code_tests(again, verifier, settings.labels, stored.made.seed)
        changed = label_difference(before, decided, "test_id", "expected")
    found.labels[str(stored.ref)] = changed


def _read_again(vote: Row) -> Row:
    """The vote with the answer that is read in its completion now, where that was kept."""
    if vote["completion"] is None or refused(vote["finish_reason"]):
        return vote
    return vote | {"answer": extract(vote["domain"], vote["completion"])}


def _traces(found: Regrade, batches: Sequence[_Inputs], verifier: Verifier) -> None:
    """Those that have a label; the others were never judged."""
    before, after = list[Row](), list[Row]()
    for stored in batches:
        known_by = ProblemLabels(stored.rows("math_answers"), stored.rows("code_tests"))
        labels = {row["problem_id"]: row for row in map(known_by.on, stored.rows("problems")) if row}
        own = [row for row in stored.own() if row["problem_id"] in labels and not refused(row["drop_reason"])]
        questions = [Question.on(labels[row["problem_id"]], row["trace"]) for row in own]
        before += own
        after += [
            {"trace_id": row["trace_id"], "domain": row["domain"]} | one.columns()
            for row, one in zip(own, verifier.judge(questions), strict=True)
        ]
    found.tables["teacher_traces"] = trace_difference(before, after)


def _benchmarks(found: Regrade, stored: _Inputs, settings: Settings, verifier: Verifier) -> None:
    items = {row["item_id"]: row for row in stored.rows("benchmark_items")}
    before = stored.own()
    after = benchmarks.verdicts(stored.rows("benchmark_generations"), items, verifier)
    found.tables["benchmark_verdicts"] = verdict_difference(before, after, "generation_id")
    asked = settings.evaluation
    sides = (benchmarks.scores(side, asked.generations, asked.generations_of) for side in (before, after))
    found.scores.extend(score_difference(*sides))


def as_json(found: Regrade) -> dict[str, Any]:
    tables = {
        name: {"judged": one.judged, "changed": one.changed, "rewards": one.moves(),
               "unannounced": len(one.unannounced())}
        for name, one in found.tables.items()
    }  # fmt: skip
    return {"student": found.student, "tables": tables, "pairs": found.pairs, "scores": found.scores,
            "labels": found.labels}  # fmt: skip


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
    for version, labels in found.labels.items():
        lines.append(f"{version}: {len(labels):,} labels are others")
        lines += [f"  {row['id']} {row['domain']}: {row['before']!r:.60} -> {row['after']!r:.60}"
                  for row in labels[:SHOWN]]  # fmt: skip
    for row in found.scores:
        sides = " -> ".join(f"{side['value']:.4f}" if side else "none" for side in (row["before"], row["after"]))
        against = f" minus {row['compared_with']}" if row["compared_with"] else ""
        lines.append(f"benchmark_scores: {row['benchmark']} {row['stage']} {row['metric']}{against}: {sides}")
    moved = [name for name, one in found.tables.items() if one.changed and name != "teacher_traces"]
    if moved:
        lines.append("nothing was written; to keep the new verdicts:")
        lines += [f"  dagster asset materialize -m promptcot_assets.definitions --select '{name}*' "
                  f"--partition {found.student}" for name in moved]  # fmt: skip
    of_batches = [str(name) for name, labels in found.labels.items() if labels]
    if "teacher_traces" in found.tables and found.tables["teacher_traces"].changed:
        of_batches.append("teacher_traces")
    if of_batches:
        lines.append(f"to keep what changes of {', '.join(of_batches)}, materialize these tables of their batch anew")
    return "\n".join(lines)
