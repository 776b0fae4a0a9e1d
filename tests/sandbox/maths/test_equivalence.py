"""Pairs of reference and answer, each with the policy it needs; and references of real benchmarks rewritten."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, get_type_hints

import pytest

from sandbox import Verdict
from sandbox.maths import Grade, Policy, equivalent, grade, judge, normal_form, workers
from sandbox.maths.forms import Expression
from sandbox.maths.reader import read
from sandbox.maths.workers import Budget, Workers
from tests.published_samples import COUNTS


class Pair(NamedTuple):
    reference: str
    answer: str
    same: bool
    policy: Policy
    why: str


def policy(text: str) -> Policy:
    if not text:
        return Policy()
    name, value = text.split("=")
    kind = get_type_hints(Policy)[name]
    return Policy(**{name: value == "True" if kind is bool else float(value) if kind is float else value})


def pairs() -> list[Pair]:
    rows = []
    for line in Path(__file__).with_name("pairs.txt").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        head, verdict, asked, why = line.rsplit(" | ", 3) if "| | " not in line else _split(line)
        reference, answer = head.split(" | ", 1)
        assert verdict in ("same", "differ"), line
        rows.append(Pair(reference, answer, verdict == "same", policy(asked.strip()), why))
    return rows


def _split(line: str) -> tuple[str, str, str, str]:
    start, why = line.rsplit(" | | ", 1)
    head, verdict = start.rsplit(" | ", 1)
    return head, verdict, "", why


PAIRS = pairs()


def test_the_table_is_large_enough() -> None:
    assert len(PAIRS) >= 300
    assert len({(pair.reference, pair.answer, pair.policy) for pair in PAIRS}) == len(PAIRS)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair.reference} ~ {pair.answer}")
def test_pair(pair: Pair) -> None:
    judged = judge(pair.reference, pair.answer, pair.policy)
    assert judged.equal == pair.same, f"{pair.why}: {judged}"


def references(folder: Path, name: str) -> list[str]:
    rows = [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
    return [row["reference_solution"].rsplit("####", 1)[1].strip() for row in rows]


def rewritings(reference: str) -> list[str]:
    """The spellings in which models usually give this answer."""
    spelled = [
        f"${reference}$",
        f" {reference} ",
        f"\\({reference}\\)",
        f"\\text{{}}{reference}",
        f"x = {reference}",
        reference.replace("\\frac", "\\dfrac"),
        re.sub(r"\\frac\{(-?\d+)\}\{(\d+)\}", r"\1/\2", reference),
        reference.replace("(", "\\left(").replace(")", "\\right)").replace("\\left(\\left(", "\\left("),
        reference.replace("+", " + ").replace("\\sqrt", " \\sqrt"),
    ]
    if re.fullmatch(r"-?[\d,]+", reference):
        number = int(reference.replace(",", ""))
        spelled += [
            f"{number}.0",
            f"{number}.00",
            f"{number:,}",
            f"\\${number}",
            f"{number}\\text{{ cm}}",
            f"{number} dollars",
        ]
    return spelled


@pytest.mark.parametrize("name", ["gsm8k", "aime24", "aime25", "hmmt25"])
def test_references_equal_their_rewritings_and_no_others(name: str, published: Path) -> None:
    answers = references(published, name)
    assert len(answers) == COUNTS[name]
    wrong = [(a, b) for a in answers for b in [a, *rewritings(a)] if not equivalent(a, b)]
    assert not wrong
    chosen = random.Random(0)
    for answer in answers:
        others = [chosen.choice(answers) for _ in range(100)]
        mistaken = [b for b in others if equivalent(answer, b) and normal_form(answer) != normal_form(b)]
        assert not mistaken, answer


def test_the_answer_of_a_completion_is_graded() -> None:
    right = grade(r"\frac{\sqrt2}{2}", r"<think>\boxed{1}</think> Therefore \boxed{\frac{1}{\sqrt{2}}}.")
    assert (right.verdict, right.rule) == (Verdict.OK, "identity")
    assert right.reference != right.answer
    missing = grade("7", "The answer is 7.")
    assert (missing.verdict, missing.rule, missing.answer) == (Verdict.WRONG_ANSWER, "no answer", None)
    hedged = grade("2", r"\boxed{1} or \boxed{2}")
    assert (hedged.verdict, hedged.rule) == (Verdict.WRONG_ANSWER, "several answers side by side")
    assert grade("2", r"First \boxed{1}, and after correction of that slip: \boxed{2}").verdict is Verdict.OK


def test_a_hanging_expression_ends_at_its_limit_and_harms_nothing_else() -> None:
    short = Workers(size=1)
    tower = read("9^{9^{9^{9}}}", Policy())
    assert isinstance(tower, Expression)
    try:
        x, y = ("sym", "x"), ("mul", ("sym", "x"), ("sym", "y"))
        assert not short.ask("same", x, y).equal
        zygote = short.all[0].process
        judged = short.ask("same", tower.tree, x, budget=Budget(0.3))
        assert (judged.equal, judged.limit, judged.rule) == (False, True, "time limit")
        assert short.ask("same", y, y).equal
        assert short.all[0].process is zygote  # the same process answered: only its child was killed
    finally:
        short.close()
    assert zygote is not None and zygote.returncode is not None


def test_an_answer_that_exhausts_the_grader_says_so() -> None:
    assert grade("10^{10^{10}}", r"\boxed{10^{10^{10}}+1}").verdict is Verdict.TIME_LIMIT
    assert grade("7", r"\boxed{8}").verdict is Verdict.WRONG_ANSWER


def test_a_worker_that_is_killed_is_replaced() -> None:
    one = Workers(size=1)
    try:
        for _ in range(2):
            assert one.ask("same", ("sym", "x"), ("sym", "x")).equal
            process = one.all[0].process
            assert process is not None
            process.kill()
            process.wait()
    finally:
        one.close()


def children(pid: int) -> str:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text()


def test_a_worker_lost_twice_in_one_question_is_no_verdict() -> None:
    """Whichever of this process's workers is asked: tests before this one may have left more than one."""
    assert equivalent(r"\sqrt8", r"2\sqrt2")
    together = [threading.Thread(target=equivalent, args=(r"\sqrt8", rf"{n}\sqrt2")) for n in range(3, 9)]
    for one in together:
        one.start()
    for one in together:
        one.join()
    graded: list[Grade] = []
    asking = threading.Thread(target=lambda: graded.append(grade("5", r"\boxed{\sin(9^{9^{9}}+2)}")))
    asking.start()
    killed: set[int] = set()
    while asking.is_alive():  # every process that is asked: a grade may ask more than one question
        for process in [worker.process for worker in workers.shared().all]:
            with suppress(FileNotFoundError):  # it has ended meanwhile
                if process is not None and process.pid not in killed and children(process.pid):  # ready, and asked
                    os.kill(process.pid, signal.SIGKILL)
                    killed.add(process.pid)
        time.sleep(0.01)
    asking.join()
    assert [one.verdict for one in graded] == [Verdict.SYSTEM_ERROR]
    assert equivalent(r"\sqrt8", r"2\sqrt2")


def test_the_symbolic_child_can_reach_nothing() -> None:
    """Hostile text only ever meets arithmetic, and that under the system-call filter."""
    for text in ("__import__('os').system('true')", "().__class__", "lambda: 0", "exec('1')", r"\input{/etc/passwd}"):
        assert not equivalent("1", text)
    assert workers.shared().ask("same_latex", r"\operatorname{os}.\operatorname{system}(1)", "1").equal is False
