"""Verdicts on untrusted completions: maths answers and programs, both judged by `sandbox` and nowhere else.

A failure of ours (lost worker, no isolation, full disk) is `system_error` with `passed` null; it is never a fail.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from promptcot_assets.domains import domain_named
from promptcot_assets.domains.layout import BEGIN_THINK, END_THINK
from promptcot_assets.settings.engines import Sandbox
from promptcot_assets.stages import Row

if TYPE_CHECKING:
    from sandbox.client import Judges

MATHS_GRADER, PROGRAM_GRADER = "sandbox.maths/2", "sandbox.programs/1"
LOST_WORKER = "the sandbox lost a worker twice on one program; run the step again"
PROGRAM = re.compile(r"```(?:python3?|py)[ \t]*\r?\n(.*?)```", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True)
class Question:
    """A completion and what it is judged by: a reference answer, or tests."""

    domain: str
    completion: str
    answer: str | None = None
    tests: str | None = None  # JSON list of {stdin, expected}, and fn_name where they call a function


@dataclass(frozen=True)
class Judgement:
    """answer: the extracted answer (maths: normal form) or program. passed: None when the infrastructure failed."""

    answer: str | None
    verdict: str
    passed: bool | None
    rule: str | None
    grader: str

    def columns(self) -> Row:
        return {"answer": self.answer, "verdict": self.verdict, "passed": self.passed, "rule": self.rule,
                "grader": self.grader}  # fmt: skip


def extract(domain: str, completion: str) -> str | None:
    """The final answer (boxed, after the think block) or the last program of a completion; None when there is none."""
    if domain_named(domain).answers == "maths":
        from sandbox.maths import extract_answer

        return extract_answer(completion)
    if BEGIN_THINK in completion and END_THINK not in completion:
        return None
    programs = PROGRAM.findall(completion.rpartition(END_THINK)[2])
    return programs[-1].rstrip() if programs and programs[-1].strip() else None


class Verifier:
    """Judges completions with `settings.workers` isolated workers; programs run in parallel."""

    def __init__(self, pool: Judges, settings: Sandbox) -> None:
        from sandbox import Limits

        self.pool = pool
        self._workers = settings.workers
        self.limits = Limits(cpu_s=settings.cpu_s, wall_s=settings.wall_s, memory=settings.memory_mb << 20)

    @classmethod
    @contextmanager
    def open(cls, settings: Sandbox) -> Iterator[Verifier]:
        """Raises: sandbox.SandboxUnavailable when no isolation holds on this machine; nothing runs without.

        The pool is this machine's, or that of the server that SANDBOX_SOCKET names; with `settings.ray` it is those of
        a cluster's nodes.
        """
        if settings.ray is not None:
            from promptcot_assets.stages.ray_verification import RayVerifier

            with RayVerifier(settings) as verifier:
                yield verifier
            return
        from sandbox.client import open_pool

        with open_pool(settings.workers) as pool:
            yield cls(pool, settings)

    def judge(self, questions: Sequence[Question]) -> list[Judgement]:
        """One judgement a question, in order."""
        with ThreadPoolExecutor(self._workers) as threads:
            return list(threads.map(self._judge, questions))

    def outputs(self, programs: Sequence[str], stdins: Sequence[str]) -> list[list[str | None]]:
        """What each program prints for each input; None where it does not end well. [programs][inputs]"""
        from sandbox import Program, Verdict

        def run(code: str) -> list[str | None]:
            outputs = self.pool.outputs(Program(code), stdins, self.limits)
            lost = [output for output in outputs if output.verdict is Verdict.SYSTEM_ERROR]
            if lost:
                raise RuntimeError(LOST_WORKER)
            return [output.stdout.strip() if output.verdict is Verdict.OK else None for output in outputs]

        with ThreadPoolExecutor(self._workers) as threads:
            return list(threads.map(run, programs))

    def caught(self, programs: Sequence[str], tests: Sequence[Mapping[str, str]]) -> list[bool]:
        """For each program whether the tests {stdin, expected} fail it, by the same judge as a completion's verdict."""
        from sandbox import Program, Test, Verdict

        cases = [Test(case["stdin"], case["expected"]) for case in tests]

        def fails(code: str) -> bool:
            verdict = self.pool.run(Program(code), cases, self.limits).verdict
            if verdict is Verdict.SYSTEM_ERROR:
                raise RuntimeError(LOST_WORKER)
            return verdict is not Verdict.OK

        with ThreadPoolExecutor(self._workers) as threads:
            return list(threads.map(fails, programs))

    def _judge(self, question: Question) -> Judgement:
        if domain_named(question.domain).answers == "maths":
            return _judge_answer(question)
        return self._judge_program(question)

    def _judge_program(self, question: Question) -> Judgement:
        from sandbox import Program, Test, Verdict

        if not question.tests:
            raise ValueError(f"a {question.domain} completion came to be judged without tests")
        code = extract(question.domain, question.completion)
        if code is None:
            return Judgement(None, "no_program", False, "no ```python block after the think block", PROGRAM_GRADER)
        cases = json.loads(question.tests)
        tests = [Test(case["stdin"], case["expected"]) for case in cases]
        result = self.pool.run(Program(code, fn=cases[0].get("fn_name")), tests, self.limits)
        passed = None if result.verdict is Verdict.SYSTEM_ERROR else result.verdict is Verdict.OK
        rule = f"{result.passed} of {len(tests)} tests" if passed is not None else "sandbox failure"
        return Judgement(code, result.verdict.value, passed, rule, PROGRAM_GRADER)


def _judge_answer(question: Question) -> Judgement:
    from sandbox import Verdict
    from sandbox.maths import grade

    if question.answer is None:
        raise ValueError(f"a {question.domain} completion came to be judged without a reference answer")
    result = grade(question.answer, question.completion)
    # `time_limit` is our symbolic worker giving up on the comparison: that says nothing about the answer
    passed = {Verdict.OK: True, Verdict.WRONG_ANSWER: False}.get(result.verdict)
    return Judgement(result.answer, str(result.verdict), passed, result.rule, MATHS_GRADER)


class ProblemLabels:
    """What problems are judged by: the answers of `math_answers`, the tests of `code_tests`. Holds no problem."""

    def __init__(self, answers: Iterable[Row], tests: Iterable[Row]) -> None:
        self._answers = {row["problem_id"]: row["answer"] for row in answers if row["answer"] is not None}
        self._tests: dict[str, list[dict[str, str]]] = {}
        for row in tests:
            if row["expected"] is not None:
                case = {"stdin": row["stdin"], "expected": row["expected"]}
                self._tests.setdefault(row["problem_id"], []).append(case)

    def on(self, problem: Row) -> Row | None:
        """The problem with `answer` or `tests` (JSON) filled in; None when it has no label."""
        answer, cases = self._answers.get(problem["problem_id"]), self._tests.get(problem["problem_id"])
        if answer is None and not cases:
            return None
        return problem | {"answer": answer, "tests": json.dumps(cases) if cases else None}
