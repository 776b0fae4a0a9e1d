"""Maths answers per CPU second: extraction, exact and symbolic equality; against math-verify and a regular expression.

    python benchmarks/sandbox_maths.py

Prints rates of this machine and ratios against the peers in the same run.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.sandbox_clock import cpu_seconds
from sandbox.maths import equivalent, extract_answer, grammar, judge, policy, workers
from sandbox.maths.workers import Budget, Workers


def rate(function: Callable[..., object], calls: Sequence[tuple[Any, ...]]) -> float:
    """Calls per CPU second, the symbolic workers' included."""
    groups = [worker.process.pid for worker in workers.shared().all if worker.process is not None]
    before = cpu_seconds(*groups)
    for arguments in calls:
        function(*arguments)
    return len(calls) / (cpu_seconds(*groups) - before)


def math_verify_equal(reference: str, answer: str) -> bool:
    from math_verify import parse, verify

    return bool(
        verify(
            parse(f"${reference}$", parsing_timeout=None),
            parse(f"${answer}$", parsing_timeout=None),
            timeout_seconds=None,
        )
    )


BOX = re.compile(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}")


def regex_extract(completion: str) -> str | None:
    found = BOX.findall(completion.rsplit("</think>", 1)[-1])
    return found[-1] if found else None


def traces(count: int, length: int = 100_000) -> list[tuple[str]]:
    chosen = random.Random(0)
    words = ["Let", "us", "see", "x_1", "=", "\\frac{1}{2}", "so", "\\boxed{7}?", "wait"]
    thinking = " ".join(chosen.choices(words, k=length // 5))[:length]
    return [(f"<think>{thinking}{n}</think> The answer is $\\boxed{{\\frac{{{n}}}{{7}}}}$.",) for n in range(count)]


def symbolic_pairs(count: int) -> list[tuple[str, str]]:
    kinds = [
        lambda n: (f"\\frac{{\\sqrt{{{n}}}}}{{{n}}}", f"\\frac{{1}}{{\\sqrt{{{n}}}}}"),
        lambda n: (f"(x+{n})^2", f"x^2+{2 * n}x+{n * n}"),
        lambda n: (f"{n}\\sqrt{{2}}", f"\\sqrt{{{2 * n * n}}}"),
        lambda n: (f"\\sqrt{{{n}}}", f"\\sqrt{{{n + 1}}}"),
        lambda n: (f"\\frac{{{n}\\pi}}{{4}}", f"{n}\\arctan 1"),
    ]
    return [kinds[n % len(kinds)](n + 2) for n in range(count)]


def main() -> None:
    integers = [(str(n), str(n + n % 2)) for n in range(200_000)]
    ours = rate(equivalent, integers)
    theirs = rate(math_verify_equal, integers[:100])
    print(f"integers   {ours:10,.0f} pairs/s  {ours / theirs:8,.0f}x math-verify  (goal: 1,000,000)")

    pairs = symbolic_pairs(1_000)
    judge(*symbolic_pairs(2_000)[-1])  # starts the worker
    ours, theirs = rate(judge, pairs), rate(math_verify_equal, pairs[:50])
    wrong = [pair for n, pair in enumerate(pairs) if judge(*pair).equal != (n % 5 != 3)]
    print(f"symbolic   {ours:10,.0f} pairs/s  {ours / theirs:8.1f}x math-verify  (goal: 700), wrong: {len(wrong)}")

    completions = traces(2_000)
    ours, theirs = rate(extract_answer, completions), rate(regex_extract, completions)
    print(f"extraction {ours:10,.0f} traces/s {ours / theirs:8.1f}x a regular expression  (goal: 100,000)")

    limited = Workers(size=1)
    tower = grammar.parse("9^{9^{9^{9}}}", policy.DEFAULT).tree  # type: ignore[union-attr]
    limited.ask("same", ("sym", "x"), ("sym", "y"))
    process = limited.all[0].process
    assert process is not None
    before = cpu_seconds(process.pid)
    judged = limited.ask("same", tower, ("sym", "x"), budget=Budget(1.0))
    took = cpu_seconds(process.pid) - before
    alive = limited.ask("same", ("sym", "x"), ("sym", "x")).equal
    limited.close()
    print(f"hanging    {took:10.2f} of its CPU limit  (goal: 1.3), rule: {judged.rule}, worker alive: {alive}")


if __name__ == "__main__":
    main()
