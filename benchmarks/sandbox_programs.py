"""Tests per CPU-second against the reference harness, which starts a Manager and a Process for every test.

    python benchmarks/sandbox_programs.py [--tests 400]

CPU counts every process of both sides, so a loaded machine changes the figures little; the start of the sandbox's
worker, once for 20,000 tests, is left out and printed. Prints the ratio.
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
from typing import Any

from sandbox_clock import cpu_seconds

from sandbox import Pool, Program, SandboxUnavailable, Test
from sandbox.guest import PRELUDE
from sandbox.pool import TIERS

CODE = "a, b = map(int, input().split())\nprint(a + b)"


def reference(tests: list[Test]) -> int:
    """The usual harness's approach, restated: a Manager and a Process for every test, the prelude run in each.

    Nothing is isolated. Its parent usually holds an engine and costs more to fork than this small one.
    """
    passed = 0
    for test in tests:
        manager = multiprocessing.Manager()
        results = manager.list()
        process = multiprocessing.Process(target=_judge_in_process, args=(CODE, test.stdin, test.expected, results))
        process.start()
        process.join(timeout=10)
        if process.is_alive():
            process.kill()
        passed += bool(results and results[0])
        manager.shutdown()
    return passed


def _judge_in_process(code: str, stdin: str, expected: str, results: list[bool]) -> None:
    """Wrap the program in a function behind the prelude, as source text again, and run it on a replaced stdin."""
    signal.signal(signal.SIGALRM, lambda *_: sys.exit(1))
    signal.alarm(6)
    wrapper = ast.FunctionDef("wrapped", ast.arguments([], [], None, [], [], None, []), ast.parse(code).body, [], None)
    source = PRELUDE + ast.unparse(ast.fix_missing_locations(ast.Module([wrapper], [])))
    module: dict[str, Any] = {"__name__": "solution"}
    exec(compile(source, "main.py", "exec"), module)
    sys.stdin, sys.stdout = io.StringIO(stdin), io.StringIO()
    module["wrapped"]()
    said = sys.stdout.getvalue()
    results.append([line.strip() for line in said.split()] == [line.strip() for line in expected.split()])


def ours(pool: Pool, tests: list[Test]) -> int:
    return pool.run(Program(CODE), tests).passed


def cost(run: Callable[[list[Test]], int], tests: list[Test], cpu: Callable[[], float]) -> tuple[float, float]:
    """CPU and wall seconds a test."""
    before, started = cpu(), time.perf_counter()
    passed = run(tests)
    if passed != len(tests):
        raise SystemExit(f"{passed} of {len(tests)} honest tests passed")
    return (cpu() - before) / len(tests), (time.perf_counter() - started) / len(tests)


def own_and_ended_children() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tests", type=int, default=400)
    count = parser.parse_args().tests
    tests = [Test(f"{n} 1", str(n + 1)) for n in range(count)]
    their_cpu, their_wall = cost(reference, tests[: max(20, count // 10)], own_and_ended_children)
    print(f"reference         {their_cpu * 1e3:6.2f} ms CPU a test  {their_wall * 1e3:6.2f} ms wall")
    for tier in TIERS:
        started = time.perf_counter()
        try:
            pool = Pool(1, tier=tier)
        except SandboxUnavailable as error:
            print(f"{tier}: {error}")
            continue
        start_s = time.perf_counter() - started
        with pool:
            guest = pool.slots[0].worker(False).guest
            assert guest is not None
            cpu, wall = cost(partial(ours, pool), tests, partial(cpu_seconds, guest.pid))
        print(f"sandbox, {tier:8} {cpu * 1e3:6.2f} ms CPU a test  {wall * 1e3:6.2f} ms wall  (goal: at most 4 ms CPU)")
        print(f"  tests per CPU-second, sandbox / reference: {their_cpu / cpu:.1f}x  (goal: at least 10x)")
        print(f"  a pool starts, self-tested, in {start_s * 1e3:.0f} ms")


if __name__ == "__main__":
    main()
