"""Verdicts as data: completions judged by their labels, and what the grader saw of both sides.

A row holds all that a verdict is: grader and version, the rule that decided, both normal forms. What it cost is not in
the row: no two runs agree on it, and equal inputs must give equal data versions. CPU seconds go to the asset's page
(`MeteredPool.figures`); the limit in CPU seconds that makes a `time_limit` verdict is in the commit's settings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import fsum
from statistics import median
from typing import TYPE_CHECKING

from promptcot_assets.domains import domain_named
from promptcot_assets.settings.engines import Sandbox
from promptcot_assets.stages import Row
from promptcot_assets.stages.verification import Question, Verifier
from sandbox import Limits, Program, ProgramResult, Test
from sandbox.client import Judges, open_pool

if TYPE_CHECKING:
    from promptcot_assets.stages.ray_verification import RayVerifier


def judge(drawn: Sequence[Row], labels: Mapping[str, Row], label_id: str, verifier: Verifier) -> list[Row]:
    """What each completion is judged to be: columns of `verdicts` and `benchmark_verdicts`, in order.

    drawn: rows with `domain`, `completion` and the column `label_id`; labels: rows with `answer`, `tests`, by that id.
    """
    from sandbox.maths import normal_form

    questions = [
        Question(row["domain"], row["completion"], label["answer"], label["tests"])
        for row in drawn
        for label in [labels[row[label_id]]]
    ]
    forms = {one.answer: normal_form(one.answer) for one in questions if _is_maths(one) and one.answer is not None}
    return [
        judgement.columns() | {"reference": forms.get(question.answer or "") if _is_maths(question) else None}
        for question, judgement in zip(questions, verifier.judge(questions), strict=True)
    ]


def _is_maths(question: Question) -> bool:
    return domain_named(question.domain).answers == "maths"


class MeteredPool:
    """A pool that notes the CPU seconds of every program it judges."""

    def __init__(self, pool: Judges) -> None:
        self._pool = pool
        self.outputs = pool.outputs
        self.cpu_s: list[float] = []

    def run(self, program: Program, tests: Sequence[Test], limits: Limits | None = None, /) -> ProgramResult:
        result = self._pool.run(program, tests, limits)
        self.cpu_s.append(fsum(test.cpu_s for test in result.tests))
        return result

    def figures(self) -> dict[str, float]:
        """For an asset's page; empty when no program ran."""
        return cpu_figures(self.cpu_s)


def cpu_figures(cpu_s: Sequence[float]) -> dict[str, float]:
    """What CPU seconds of programs come to."""
    if not cpu_s:
        return {}
    return {
        "programs_cpu_s": round(fsum(cpu_s), 3),
        "program_median_cpu_s": round(median(cpu_s), 4),
        "program_longest_cpu_s": round(max(cpu_s), 3),
    }


@contextmanager
def metered(settings: Sandbox) -> Iterator[tuple[Verifier, MeteredPool | RayVerifier]]:
    """A verifier and what meters it. Raises: sandbox.SandboxUnavailable, as `Verifier.open`."""
    if settings.ray is not None:
        from promptcot_assets.stages.ray_verification import RayVerifier

        with RayVerifier(settings) as verifier:
            yield verifier, verifier
        return
    with open_pool(settings.workers) as opened:
        pool = MeteredPool(opened)
        yield Verifier(pool, settings), pool
