"""What hostile text costs: bounded on the host, by one budget in the workers, and no more than the text grows."""

from __future__ import annotations

import time

import pytest

from sandbox import Verdict
from sandbox.maths import equivalent, extract_answer, grade, majority_vote, workers
from sandbox.maths.reader import LONGEST, read
from sandbox.maths.workers import CPU_S, Budget, Workers
from tests.sandbox.maths.fuzz import PIECES

HANGING = r"\sin(9^{9^{9}})"


def host_seconds(completion: str) -> float:
    """CPU seconds of this thread for one grade, caches empty; the least of three."""
    took = []
    for _ in range(3):
        read.cache_clear()
        before = time.thread_time()
        grade("2", completion)
        took.append(time.thread_time() - before)
    return min(took)


GROWING = {
    "newlines between boxes": lambda n: "\\boxed{1}" + "\n" * n + "so \\boxed{2}",
    "blanks in a box": lambda n: "\\boxed{A" + " " * n + "x}",
    "blanks behind degrees": lambda n: "\\boxed{30^\\circ" + " " * n + "x}",
    "boxes that are only mentioned": lambda n: "\\boxed{1}" + " \\boxed{} " * (n // 10),
    "boxes side by side": lambda n: "\\boxed{1} or " * (n // 13) + "\\boxed{2}",
    "boxes that never close": lambda n: "\\boxed{" * (n // 7) + "\\boxed{2}",
    "braces": lambda n: "{" * n + "\\boxed{2}" + "}" * n,
    "thinking": lambda n: "<think>" * (n // 7) + "</think>\\boxed{2}",
    "braces in a box": lambda n: "\\boxed{" + "{" * (n // 2) + "2" + "}" * (n // 2) + "}",
    "emphasis": lambda n: "\\boxed{" + "*" * n + "}",
    "empty texts": lambda n: "\\boxed{" + "\\text{ }" * (n // 8) + "x}",
}


@pytest.mark.parametrize("kind", GROWING)
def test_twice_the_text_costs_little_more_than_twice(kind: str) -> None:
    """A rule that backtracks over two gaps costs four or eight times as much. Sixteen times the text in all."""
    grade("2", "\\boxed{1}")
    small, large = (host_seconds(GROWING[kind](length)) for length in (20_000, 320_000))
    assert large <= 16 * 3 * max(small, 1e-3)


@pytest.mark.parametrize("piece", [*PIECES, "a ", "\\text{a ", "2^", "x_", "(1,", "1+", "{}", "1 000 ", "!x", "x=1,"])
def test_no_piece_repeated_to_the_longest_answer_is_costly(piece: str) -> None:
    """As a share of what the same length of `1+1+1...` costs: what grows with a power of the length is far above."""
    plain = host_seconds("\\boxed{" + ("1+" * LONGEST)[: LONGEST - 1] + "}")
    answer = (piece * LONGEST)[: LONGEST - 2]
    assert host_seconds("\\boxed{" + answer + "}") < 50 * plain


@pytest.mark.parametrize(
    "text",
    [
        "5" + "!" * 400, "5!!!", "f" + "'" * 500, "x" + "^x" * 300, "2^" * 300 + "2", "*".join(["9" * 300] * 6),
        "9" * 1990, "400!*400!*400!", "1/" * 500 + "1",
        "+".join(f"\\frac{{1}}{{{n}^{{900}}}}" for n in range(2, 120)), "%" * 1000, "5" + "%" * 1900,
        "\\sqrt" * 300 + "2", "((" * 400, "\\frac" * 300, "=" * 900, "\\pm" * 300 + "1", "",
    ],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_nothing_raises_wherever_it_stands(text: str) -> None:
    grade(text, f"\\boxed{{{text}}}")
    grade(text, text)
    grade("2", f"\\boxed{{{text}}}")
    equivalent(text, "2")
    equivalent("x", text)
    majority_vote([text, "2", text + "+1"], 1)


def graded_and_spent(reference: str, completion: str) -> tuple[Verdict, float]:
    before = workers.shared().spent
    return grade(reference, completion).verdict, workers.shared().spent - before


@pytest.mark.parametrize(
    ("reference", "completion"),
    [
        ("1, 2, 3", f"\\boxed{{{HANGING}+1, {HANGING}+2, {HANGING}+3}}"),
        ("5", f"\\boxed{{x={HANGING}+1={HANGING}+2={HANGING}+3=5}}"),
        ("5", "".join(f"\\boxed{{{HANGING}+{i}}}" for i in range(8))),
        ("x<1, x>7", f"\\boxed{{x<{HANGING} \\text{{ or }} x>{HANGING}+1}}"),
    ],
    ids=["list", "chain", "boxes", "set"],
)
def test_one_grade_has_one_budget(reference: str, completion: str) -> None:
    verdict, spent = graded_and_spent(reference, completion)
    assert verdict in (Verdict.TIME_LIMIT, Verdict.WRONG_ANSWER)
    assert spent <= CPU_S + 1e-6


def test_types_and_lengths_come_before_any_question() -> None:
    hanging = ", ".join(f"{HANGING}+{i}" for i in range(10))
    for reference, answer in (("5", hanging), ("1, 2", hanging), ("(1, 2)", f"({hanging})"), ("B", HANGING)):
        assert graded_and_spent(reference, f"\\boxed{{{answer}}}") == (Verdict.WRONG_ANSWER, 0.0)


def test_a_spent_budget_asks_nothing() -> None:
    assert workers.shared().ask("same", ("sym", "x"), ("sym", "y"), budget=Budget(0.0)).limit


def test_workers_know_nothing_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "do not tell")
    one = Workers(size=1)
    try:
        one.ask("same", ("sym", "x"), ("sym", "y"))
        process = one.all[0].process
        assert process is not None
        with open(f"/proc/{process.pid}/environ", "rb") as file:  # noqa: PTH123
            names = {pair.split(b"=")[0] for pair in file.read().split(b"\0") if pair}
        assert names == {name.encode() for name in workers.ENVIRONMENT}
    finally:
        one.close()


def test_extraction_of_a_hostile_completion_is_linear() -> None:
    assert extract_answer("\\boxed{1}" + "\n" * 10**6 + "so \\boxed{2}") == "2"
