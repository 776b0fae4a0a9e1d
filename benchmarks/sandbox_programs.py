"""Tests per CPU-second against the released harness, which starts a Manager and a Process for every test.

    python benchmarks/sandbox_programs.py [--tests 200] [--rounds 5]

CPU counts every process of both sides, so a loaded machine changes the figures little; the start of the sandbox's
worker, once for 20,000 tests, is left out. Prints the ratio.
"""

from __future__ import annotations

import argparse
import ast
import io
import multiprocessing
import resource
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any
from unittest.mock import mock_open, patch

from benchmarks.sandbox_clock import cpu_seconds, page_faults
from sandbox import Pool, Program, SandboxUnavailable, Test
from sandbox.guest import PRELUDE
from sandbox.pool import TIERS

CODE = "a, b = map(int, input().split())\nprint(a + b)"


def reference(tests: list[Test]) -> int:
    """The released harness's approach, restated: a Manager and a Process for every test, the prelude run in each.

    Nothing is isolated. The harness imports numpy and unittest.mock, so its parent holds them at both forks, and all
    completions of its file besides, which are left out here.
    """
    import numpy  # noqa: F401

    passed = 0
    for test in tests:
        manager = multiprocessing.Manager()
        results, metadata = manager.list(), manager.list()
        process = multiprocessing.Process(
            target=_judge_in_process, args=(CODE, test.stdin, test.expected, results, metadata)
        )
        process.start()
        process.join(timeout=10)
        if process.is_alive():
            process.kill()
        passed += bool(results and results[0] and not metadata[0])
        manager.shutdown()
    return passed


def _judge_in_process(
    code: str, stdin: str, expected: str, results: list[bool], metadata: list[dict[str, str]]
) -> None:
    """Parse for a main guard, wrap the program in a function behind the prelude, as source text again, and run it with
    mocks in the place of stdin, its three ways to be read, and open."""
    signal.signal(signal.SIGALRM, lambda *_: sys.exit(1))
    signal.alarm(6)
    ast.parse(code)
    wrapper = ast.FunctionDef("wrapped", ast.arguments([], [], None, [], [], None, []), ast.parse(code).body, [], None)
    source = PRELUDE + ast.unparse(ast.fix_missing_locations(ast.Module([wrapper], [])))
    module: dict[str, Any] = {"__name__": "solution"}
    exec(compile(source, "main.py", "exec"), module)
    said = _with_mocked_streams(module["wrapped"], stdin)
    results.append([line.strip() for line in said.split()] == [line.strip() for line in expected.split()])
    metadata.append({})


def _with_mocked_streams(run: Callable[[], object], stdin: str) -> str:
    """What `run` prints."""
    lines = iter(stdin.split("\n"))
    stdout, sys.stdout = sys.stdout, io.StringIO()
    with (
        patch("builtins.open", mock_open(read_data=stdin)),
        patch("sys.stdin", io.StringIO(stdin)),
        patch("sys.stdin.readline", lambda *_: next(lines)),
        patch("sys.stdin.readlines", lambda *_: stdin.split("\n")),
        patch("sys.stdin.read", lambda *_: stdin),
    ):
        run()
    said, sys.stdout = sys.stdout.getvalue(), stdout
    return said


def ours(pool: Pool, tests: list[Test]) -> int:
    return pool.run(Program(CODE), tests).passed


def cost(run: Callable[[list[Test]], int], tests: list[Test], cpu: Callable[[], float]) -> float:
    """CPU seconds a test."""
    before = cpu()
    passed = run(tests)
    if passed != len(tests):
        raise SystemExit(f"{passed} of {len(tests)} honest tests passed")
    return (cpu() - before) / len(tests)


def own_and_ended_children() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def compare(pool: Pool, tests: list[Test], rounds: int) -> None:
    """Both sides in turn, so that a neighbour on this machine slows both; prints the medians."""
    guest = pool.slots[0].worker(False).guest
    assert guest is not None
    theirs, our, faults = [], [], 0
    for _ in range(rounds):
        theirs.append(cost(reference, tests[: max(10, len(tests) // 10)], own_and_ended_children))
        before = page_faults(guest.pid)
        our.append(cost(partial(ours, pool), tests, partial(cpu_seconds, guest.pid)))
        faults = (page_faults(guest.pid) - before) // len(tests)
    ratio = median(their / mine for their, mine in zip(theirs, our, strict=True))
    print(f"{pool.tier:8} {median(our) * 1e3:.2f} ms CPU a test (goal: at most 2.5), {faults} page faults")
    print(f"  the reference harness {median(theirs) * 1e3:.1f} ms")
    print(f"  tests per CPU-second, sandbox / reference: {ratio:.1f}x (goal: at least 10x)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tests", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    tests = [Test(f"{n} 1", str(n + 1)) for n in range(asked.tests)]
    for tier in TIERS:
        started = time.perf_counter()
        try:
            with Pool(1, tier=tier) as pool:
                start_s = time.perf_counter() - started
                compare(pool, tests, asked.rounds)
                print(f"  the pool started, self-tested, in {start_s * 1e3:.0f} ms")
        except SandboxUnavailable as error:
            print(f"{tier}: {error}")


if __name__ == "__main__":
    main()
