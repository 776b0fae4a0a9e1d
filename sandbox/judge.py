"""From how a step ended to its verdict. Pure.

Precedence: system, compile, output, time, memory, runtime, and only then the comparison.
"""

from __future__ import annotations

import json
import signal

from sandbox import compare
from sandbox.model import Comparison, Limits, Output, Program, Test, TestResult, Verdict
from sandbox.worker import Ending, GuestLost, Report

# a value's picture is at most so many times as long as the expected JSON: 1e308 against its 309 digits
MOST_PER_CHARACTER, SPARE = 64, 1 << 16


def failure(ending: Ending, limits: Limits, *, exit_code_counts: bool = True) -> Verdict | None:
    """Why the step did not come to a good end, or None. `exit_code_counts=False` lets any `sys.exit` pass."""
    kind = ending.report.kind
    if not ending.armed:
        return Verdict.SYSTEM_ERROR
    if ending.output_size > limits.output:
        return Verdict.OUTPUT_LIMIT
    if ending.timed_out or ending.cpu_s > limits.cpu_s or ending.signal == signal.SIGXCPU:
        return Verdict.TIME_LIMIT
    if kind == "memory":
        return Verdict.MEMORY_LIMIT
    if ending.signal or (ending.exit_code and (exit_code_counts or kind != "exit")):
        return Verdict.RUNTIME_ERROR
    return None


def compile_failure(ending: Ending, limits: Limits) -> Verdict | None:
    """As `failure`, for the step that compiles: whatever the program did to the compiler is a compile error."""
    verdict = failure(ending, limits)
    return verdict if verdict in (None, Verdict.SYSTEM_ERROR, Verdict.TIME_LIMIT) else Verdict.COMPILE_ERROR


def compared(program: Program, test: Test, ending: Ending, how: Comparison, *, digit_strings: bool = True) -> Verdict:
    """The verdict on a step that ended well; a checker, if there is one, is asked elsewhere."""
    if program.fn is None:
        got = ending.stdout.decode("utf-8", errors="surrogateescape")
        same = compare.same_stdout(
            got,
            test.expected,
            ignore_case=how.ignore_case,
            float_tolerance=how.float_tolerance,
            digit_strings=digit_strings,
        )
    elif ending.report.kind != "value":
        return Verdict.RUNTIME_ERROR
    else:
        same = _is_value(ending.report.value, test.expected, how.float_tolerance)
    return Verdict.OK if same else Verdict.WRONG_ANSWER


def _is_value(said: bytes, expected: str, float_tolerance: float) -> bool:
    if len(said) > SPARE + MOST_PER_CHARACTER * len(expected):
        return False  # not worth the many times its size that it would take as objects
    try:
        return compare.same_value(compare.loads(said), compare.loads(expected), float_tolerance=float_tolerance)
    except ValueError:  # no JSON, so not from `guest.report`
        return False


def output(program: Program, ending: Ending, limits: Limits) -> Output:
    """What the program answered: its stdout, or its function's value as JSON."""
    verdict = failure(ending, limits)
    if verdict is not None:
        return Output(verdict, "")
    if program.fn is None:
        return Output(Verdict.OK, ending.stdout.decode("utf-8", errors="surrogateescape"))
    try:
        return Output(Verdict.OK, json.dumps(compare.plain(compare.loads(ending.report.value))))
    except (TypeError, ValueError, RecursionError):  # no value, or one that JSON cannot hold
        return Output(Verdict.RUNTIME_ERROR, "")


def result(verdict: Verdict, ending: Ending) -> TestResult:
    detail = ending.report.detail()
    if ending.signal:
        detail["signal"] = ending.signal
    return TestResult(verdict, ending.cpu_s, ending.wall_s, ending.max_rss, detail)


def lost(error: GuestLost) -> Ending:
    """The ending of a step of which nothing is known: it judges as `system_error`."""
    return Ending(False, False, 0, 0, 0.0, 0.0, 0, 0, b"", Report("guest", str(error)))
