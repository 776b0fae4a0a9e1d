"""Verdicts on untrusted completions: maths answers and programs, both judged by `sandbox` and nowhere else.

A failure of ours (lost worker, no isolation, full disk) is `system_error` with `passed` null; it is never a fail.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from promptcot_assets.domains import domain_named
from promptcot_assets.lake import Row
from promptcot_assets.settings.engines import Sandbox

if TYPE_CHECKING:
    from sandbox import Limits
    from sandbox.client import Judges

MATHS_GRADER, PROGRAM_GRADER = "sandbox.maths/3", "sandbox.programs/2"
LOST_WORKER = "the sandbox lost a worker twice on one program; run the step again"
CHECKED_AT_ONCE = 4  # outputs a checker is asked about by one guest
Checked = tuple[str, str, str]  # an input, the output that is expected for it, and the one that is judged
JUDGED_BY = ("checker", "float_tolerance", "cpu_s", "judge_profile")  # columns of a problem, where its source has them


@dataclass(frozen=True)
class Question:
    """A completion and what it is judged by: a reference answer, or tests.

    tests: JSON list of {stdin, expected}, and fn_name where they call a function. How outputs are judged is the
    settings' choice but for what the problem's source says: checker, a Python program (sandbox/checker.py);
    float_tolerance, absolute or relative; cpu_s, seconds a test; judge_profile, `strict` or `lcb`.
    """

    domain: str
    completion: str
    answer: str | None = None
    tests: str | None = None
    checker: str | None = None
    float_tolerance: float | None = None
    cpu_s: float | None = None
    judge_profile: str | None = None

    @classmethod
    def on(cls, problem: Row, completion: str) -> Question:
        """problem: a row with `domain`, `answer`, `tests` and, where it has them, the columns of JUDGED_BY."""
        how = {name: problem.get(name) for name in JUDGED_BY}
        return cls(problem["domain"], completion, problem["answer"], problem["tests"], **how)


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
    from sandbox.extract import extract_program

    return extract_program(completion)


class Verifier:
    """Judges completions with `settings.workers` isolated workers; programs run in parallel."""

    def __init__(self, pool: Judges, settings: Sandbox) -> None:
        from sandbox import Limits

        self.pool = pool
        self._workers = settings.workers
        self.limits = Limits(cpu_s=settings.cpu_s, wall_s=settings.wall_s, memory=settings.memory_mb << 20)
        self._source_cpu_factor = settings.source_cpu_factor

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

    def accepted(self, checker: str, outputs: Sequence[Checked], patience: int | None = None) -> list[bool | None]:
        """Whether a checker takes each output for right; None where it says no word of its own (sandbox/checker.py).

        It has the limits that it has in a verdict, whatever the settings': what is believed here has its word there.
        patience: once it has said no word on more outputs than that, it is asked about no others; they are None too.
        """
        from sandbox import Program, Test, Verdict
        from sandbox.checker import CHECKER_LIMITS, RUNNER, question, word

        wordless = list[None]()

        def asked(some: Sequence[Checked]) -> list[bool | None]:
            if patience is not None and len(wordless) > patience:
                return [None] * len(some)
            told = [question(Program(checker), Test(stdin, expected), output) for stdin, expected, output in some]
            said = self.pool.outputs(RUNNER, told, CHECKER_LIMITS)
            if any(one.verdict is Verdict.SYSTEM_ERROR for one in said):
                raise RuntimeError(LOST_WORKER)
            words = [word(one.stdout) if one.verdict is Verdict.OK else Verdict.SYSTEM_ERROR for one in said]
            verdicts = [None if one is Verdict.SYSTEM_ERROR else one is Verdict.OK for one in words]
            wordless.extend(one for one in verdicts if one is None)
            return verdicts

        shards = [outputs[at : at + CHECKED_AT_ONCE] for at in range(0, len(outputs), CHECKED_AT_ONCE)]
        with ThreadPoolExecutor(self._workers) as threads:
            return [one for said in threads.map(asked, shards) for one in said]

    def caught(
        self, programs: Sequence[str], tests: Sequence[Mapping[str, str]], checker: str | None = None
    ) -> list[bool]:
        """For each program whether the tests {stdin, expected} fail it, by the same judge as a completion's verdict.

        checker: the problem's, where it has one. Where that says nothing of an output, nor of the expected one, the
        program is not caught. Raises: RuntimeError, only where the sandbox itself failed.
        """
        from sandbox import Comparison, Program, Test, Verdict

        cases = [Test(case["stdin"], case["expected"]) for case in tests]
        how = Comparison(checker=Program(checker) if checker else None)

        def fails(code: str) -> bool:
            verdict = self.pool.run(Program(code), cases, self.limits, comparison=how).verdict
            if verdict is Verdict.SYSTEM_ERROR:
                # a checker without a word reads the same: the sandbox failed if it fails without one too
                if checker is None or self.pool.run(Program(code), cases, self.limits).verdict is Verdict.SYSTEM_ERROR:
                    raise RuntimeError(LOST_WORKER)
                self.accepted(checker, [(cases[0].stdin, cases[0].expected, cases[0].expected)])  # raises if it is lost
            return verdict not in (Verdict.OK, Verdict.SYSTEM_ERROR)

        with ThreadPoolExecutor(self._workers) as threads:
            return list(threads.map(fails, programs))

    def _judge(self, question: Question) -> Judgement:
        if domain_named(question.domain).answers == "maths":
            return _judge_answer(question)
        return self._judge_program(question)

    def _judge_program(self, question: Question) -> Judgement:
        from sandbox import Comparison, Program, Test, Verdict

        if not question.tests:
            raise ValueError(f"a {question.domain} completion came to be judged without tests")
        code = extract(question.domain, question.completion)
        if code is None:
            return Judgement(None, "no_program", False, "no block of Python after the think block", PROGRAM_GRADER)
        cases = json.loads(question.tests)
        tests = [Test(case["stdin"], case["expected"]) for case in cases]
        try:
            checker = Program(question.checker) if question.checker else None
            result = self.pool.run(
                Program(code, fn=cases[0].get("fn_name")),
                tests,
                self._limits(question),
                comparison=Comparison(float_tolerance=question.float_tolerance or 0.0, checker=checker),
                profile="lcb" if question.judge_profile == "lcb" else "strict",
            )
        except ValueError as error:  # the tests' fault: no verdict on the program, and its neighbours have theirs
            return Judgement(code, Verdict.SYSTEM_ERROR.value, None, f"bad tests: {error}", PROGRAM_GRADER)
        passed = None if result.verdict is Verdict.SYSTEM_ERROR else result.verdict is Verdict.OK
        rule = f"{result.passed} of {len(tests)} tests" if passed is not None else "sandbox failure"
        return Judgement(code, result.verdict.value, passed, rule, PROGRAM_GRADER)

    def _limits(self, question: Question) -> Limits:
        """The source's time limit, else LiveCodeBench's where its rules hold, else the settings'."""
        from sandbox.pool import LCB_LIMITS

        if question.cpu_s is not None:
            cpu_s = question.cpu_s * self._source_cpu_factor
            return replace(self.limits, cpu_s=cpu_s, wall_s=2 * cpu_s + 2)
        if question.judge_profile == "lcb":
            return replace(self.limits, cpu_s=LCB_LIMITS.cpu_s, wall_s=LCB_LIMITS.wall_s)
        return self.limits


def _judge_answer(question: Question) -> Judgement:
    from sandbox import Verdict
    from sandbox.maths import REWARDS, grade

    if question.answer is None:
        raise ValueError(f"a {question.domain} completion came to be judged without a reference answer")
    result = grade(question.answer, question.completion, REWARDS)
    # an answer that exhausts the grader is wrong, or hanging it would pay better than a wrong answer
    passed = None if result.verdict is Verdict.SYSTEM_ERROR else result.verdict is Verdict.OK
    return Judgement(result.answer, str(result.verdict), passed, result.rule, MATHS_GRADER)


class ProblemLabels:
    """What problems are judged by: the answers of `math_answers`, the tests of `code_tests`. Holds no problem."""

    def __init__(self, answers: Iterable[Row], tests: Iterable[Row]) -> None:
        self._answers = {row["problem_id"]: row["answer"] for row in answers if row["answer"] is not None}
        self._tests: dict[str, list[dict[str, str]]] = {}
        self._repaired = dict[str, str]()
        self._checkers = dict[str, str]()
        for row in tests:
            if row.get("statement") is not None:
                self._repaired[row["problem_id"]] = row["statement"]
            if row["expected"] is not None:
                case = {"stdin": row["stdin"], "expected": row["expected"]}
                self._tests.setdefault(row["problem_id"], []).append(case)
                if row.get("checker") is not None:
                    self._checkers[row["problem_id"]] = row["checker"]

    def on(self, problem: Row) -> Row | None:
        """The problem with `answer` or `tests` (JSON) filled in; None when it has no label.

        Where its tests have a checker, that judges with them (`checker`, one of JUDGED_BY). Where its worked example
        was repaired (`code_tests.statement`) it is the repaired statement that is asked.
        """
        answer, cases = self._answers.get(problem["problem_id"]), self._tests.get(problem["problem_id"])
        if answer is None and not cases:
            return None
        repaired = self._repaired.get(problem["problem_id"])
        asked = {"problem": repaired} if repaired is not None and "problem" in problem else {}
        if (checker := self._checkers.get(problem["problem_id"])) is not None:
            asked |= {"checker": checker}
        return problem | asked | {"answer": answer, "tests": json.dumps(cases) if cases else None}
