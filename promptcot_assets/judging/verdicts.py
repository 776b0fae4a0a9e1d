"""Verdicts as data: completions judged by their labels, and what the grader saw of both sides.

A row holds all that a verdict is: grader and version, the rule that decided, both normal forms. What it cost is not in
the row: no two runs agree on it, and equal inputs must give equal data versions. CPU seconds go to the asset's page
(`MeteredPool.figures`); the limit in CPU seconds that makes a `time_limit` verdict is in the commit's settings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import fsum
from statistics import median
from typing import Any

from promptcot_assets.domains import domain_named
from promptcot_assets.inference.refusals import REASONS
from promptcot_assets.judging.verifier import MATHS_GRADER, PROGRAM_GRADER, Judgement, Question, Verifier
from promptcot_assets.lake import Row
from sandbox import Limits, Program, ProgramResult, Test
from sandbox.client import Judges

NOT_ANSWERED = "not_answered"  # a verdict beside those of the sandbox: there was no completion to judge


def judge(drawn: Sequence[Row], labels: Mapping[str, Row], label_id: str, verifier: Verifier) -> list[Row]:
    """What each completion is judged to be: columns of `verdicts` and `benchmark_verdicts`, in order.

    drawn: rows with `completion`, `finish_reason` and the column `label_id`; labels: what `Question.on` takes, by that
    id. What no model has answered is no wrong answer: it has no verdict.
    """
    from sandbox.maths import normal_form

    questions = [Question.on(labels[row[label_id]] | {"domain": row["domain"]}, row["completion"]) for row in drawn]
    answered = [row.get("finish_reason") not in REASONS for row in drawn]
    forms = {one.answer: normal_form(one.answer) for one in questions if _is_maths(one) and one.answer is not None}
    judged = iter(verifier.judge([one for one, is_there in zip(questions, answered, strict=True) if is_there]))
    return [
        (next(judged) if is_there else _unanswered(row)).columns()
        | {"reference": forms.get(question.answer or "") if _is_maths(question) else None}
        for row, question, is_there in zip(drawn, questions, answered, strict=True)
    ]


def reference_of(question: Question) -> str | None:
    """The label of a maths problem in normal form, which an answer is held against; None of a program."""
    from sandbox.maths import normal_form

    return normal_form(question.answer) if _is_maths(question) and question.answer is not None else None


def _unanswered(row: Row) -> Judgement:
    grader = MATHS_GRADER if domain_named(row["domain"]).answers == "maths" else PROGRAM_GRADER
    return Judgement(None, NOT_ANSWERED, None, row["finish_reason"], grader)


def _is_maths(question: Question) -> bool:
    return domain_named(question.domain).answers == "maths"


class MeteredPool:
    """A pool that notes the CPU seconds of every program it judges, and what their limits were multiplied by."""

    def __init__(self, pool: Judges) -> None:
        self._pool = pool
        self.outputs = pool.outputs
        self.cpu_s: list[float] = []
        self._cpu_factor = 1.0

    def run(
        self, program: Program, tests: Sequence[Test], limits: Limits | None = None, /, **options: Any
    ) -> ProgramResult:
        result = self._pool.run(program, tests, limits, **options)
        self.cpu_s.append(fsum(test.cpu_s for test in result.tests))
        self._cpu_factor = result.cpu_factor
        return result

    def figures(self) -> dict[str, float]:
        """For an asset's page; empty when no program ran."""
        figures = cpu_figures(self.cpu_s)
        return figures | {"cpu_factor": self._cpu_factor} if figures else {}


def cpu_figures(cpu_s: Sequence[float]) -> dict[str, float]:
    """What CPU seconds of programs come to."""
    if not cpu_s:
        return {}
    return {
        "programs_cpu_s": round(fsum(cpu_s), 3),
        "program_median_cpu_s": round(median(cpu_s), 4),
        "program_longest_cpu_s": round(max(cpu_s), 3),
    }
