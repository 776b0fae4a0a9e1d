"""Workers behind walls, shared by any number of threads, tasks or actors: programs and tests in, verdicts out."""

from __future__ import annotations

import asyncio
import queue
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Literal, Self

from sandbox import compare, judge, tiers
from sandbox.cache import VerdictCache, environment
from sandbox.cache import key as cache_key
from sandbox.calibration import measured_factor
from sandbox.checker import CHECKER_LIMITS, RUNNER, checked, question
from sandbox.model import (
    Comparison,
    Limits,
    Output,
    Profile,
    Program,
    ProgramResult,
    SandboxUnavailable,
    Test,
    TestResult,
    Verdict,
)
from sandbox.worker import Ending, GuestLost, Worker

Tier = Literal["bwrap", "landlock"]
TIERS: tuple[Tier, ...] = ("bwrap", "landlock")

EXACT = Comparison()
STRICT_LIMITS = Limits()
LCB_LIMITS = Limits(cpu_s=10.5, wall_s=21.0)  # LiveCodeBench: 6 s of wall clock, top-level code 1.74 times as fast
WANTS_NUMPY = re.compile(r"\b(?:numpy|sortedcontainers)\b")

# what a program behind walls must not be able to do; prints one word a success
SELF_TEST = Program("""
import os, socket
def can(word, action):
    try:
        action()
    except OSError:
        return
    print(word)
can("read", lambda: open("/etc/passwd").read())
can("list", lambda: os.listdir("/etc"))
can("write", lambda: open("/tmp/mark", "w"))
can("connect", lambda: socket.socket())
can("fork", lambda: os.fork())
can("execute", lambda: os.execv("/bin/true", ["true"]))
can("signal", lambda: os.kill(os.getppid(), 0))
print("sealed", input())
""")


class Cancelled(Exception):
    """The caller has gone, or the pool was closed under it: there is no result and no verdict."""


class Slot:
    """One place in the pool: a guest for plain programs and, once asked for, one with numpy loaded."""

    def __init__(self, tier: str, number: int) -> None:
        self.tier, self.number = tier, number
        self.workers: dict[bool, Worker] = {}

    def worker(self, packages: bool) -> Worker:
        if packages not in self.workers:
            self.workers[packages] = Worker(tiers.start(self.tier, self.number, packages))
        return self.workers[packages]

    def hang_up(self) -> None:
        for worker in list(self.workers.values()):
            worker.hang_up()

    def stop(self) -> None:
        for worker in self.workers.values():
            worker.stop()


class Call:
    """One caller's stay in the pool; `cancel` may come from any thread and ends the test that runs."""

    def __init__(self) -> None:
        self.cancelled = False
        self.slot: Slot | None = None

    def cancel(self) -> None:
        self.cancelled = True
        slot = self.slot
        if slot is not None:
            slot.hang_up()


class Pool:
    """`workers` guests of the strongest tier that holds here; every method may be called from any thread.

    Raises SandboxUnavailable when no tier passes its self-test: there is no fallback in this process.
    tier: insist on one. cache: verdicts known from before. cpu_factor: what the seconds of every limit are multiplied
    by; None: measured now (calibration.py).
    """

    def __init__(
        self,
        workers: int = 2,
        *,
        tier: Tier | None = None,
        cache: VerdictCache | None = None,
        cpu_factor: float | None = 1.0,
    ) -> None:
        if workers < 1:
            raise ValueError(f"workers must be at least 1, not {workers}")
        first = first_sealed(TIERS if tier is None else (tier,))
        self.tier = first.tier
        self.python = first.worker(False).description.python
        self.asked_factor = cpu_factor
        self.cpu_factor = measured_factor(first.worker(False)) if cpu_factor is None else cpu_factor
        packages = tiers.package_paths(self.python)
        self.has_packages = bool(packages)
        self.cache = cache
        self.environment = environment(self.python, packages)
        self.closed = False
        self.calls: set[Call] = set()
        self.slots = [first, *(Slot(first.tier, number) for number in range(1, workers))]
        self.idle: queue.SimpleQueue[Slot] = queue.SimpleQueue()
        for slot in self.slots:
            self.idle.put(slot)
        self.threads = ThreadPoolExecutor(workers, thread_name_prefix="sandbox")

    def run(
        self,
        program: Program,
        tests: Sequence[Test],
        limits: Limits | None = None,
        early_stop: bool = True,
        *,
        comparison: Comparison = EXACT,
        profile: Profile = "strict",
    ) -> ProgramResult:
        """Judge `program` on `tests`, each in a process of its own; with `early_stop`, up to the first failure.

        profile: `strict` for training, where a non-zero exit fails; `lcb` for numbers that must compare with
        LiveCodeBench's: any `sys.exit` may follow the right output, and the default time limit is slacker.
        Raises ValueError for no tests, or for a function-mode test that is not JSON.
        """
        return self._run(Call(), program, tests, limits, early_stop, comparison, profile)

    def submit(self, program: Program, tests: Sequence[Test], **options: Any) -> Future[ProgramResult]:
        """As `run`, with its options, in a thread of the pool's."""
        return self.threads.submit(self.run, program, tests, **options)

    async def arun(
        self,
        program: Program,
        tests: Sequence[Test],
        limits: Limits | None = None,
        early_stop: bool = True,
        *,
        comparison: Comparison = EXACT,
        profile: Profile = "strict",
    ) -> ProgramResult:
        """As `run`, for asyncio. Cancelling it kills the test that runs: no worker stays busy for nobody."""
        call = Call()
        run = self.threads.submit(self._run, call, program, tests, limits, early_stop, comparison, profile)
        try:
            return await asyncio.wrap_future(run)
        except asyncio.CancelledError:
            call.cancel()
            raise

    def outputs(self, program: Program, stdins: Sequence[str], limits: Limits | None = None) -> list[Output]:
        """What `program` says for each input: for tests whose expected output nobody knows yet.

        In function mode an input is JSON, one argument a line, and the answer is the JSON of the value.
        """
        limits = (limits or STRICT_LIMITS).scaled(self.cpu_factor)
        call = Call()
        with self._slot(call) as slot:
            code, failed = self._compile(call, slot, program, limits)
            if failed is not None:
                return [Output(failed.verdict, "") for _ in stdins]
            endings = (self._execute(call, slot, program, code, stdin, limits) for stdin in stdins)
            return [judge.output(program, ending, limits) for ending in endings]

    def close(self) -> None:
        """End every guest; a test that still runs raises Cancelled in its caller. May be called twice."""
        if self.closed:
            return
        self.closed = True
        for call in list(self.calls):
            call.cancel()
        self.threads.shutdown(cancel_futures=True)
        for slot in [self.idle.get() for _ in self.slots]:
            slot.stop()
            self.idle.put(slot)  # for those who wait: they find the pool closed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(
        self,
        call: Call,
        program: Program,
        tests: Sequence[Test],
        limits: Limits | None,
        early_stop: bool,
        comparison: Comparison,
        profile: Profile,
    ) -> ProgramResult:
        if not tests:
            raise ValueError("a program with no tests has no verdict: pass at least one Test")
        if program.fn is not None:
            _assert_json(tests)
        limits = limits or (LCB_LIMITS if profile == "lcb" else STRICT_LIMITS)
        asked = (program, tuple(tests), limits.scaled(self.cpu_factor), early_stop, comparison, profile)
        # of a measured factor only that it was measured: it is there so that a busy minute asks for the same work
        question = (program, tests, limits, self.asked_factor, early_stop, comparison, profile)
        key = "" if self.cache is None else cache_key(self.environment, *question)
        if self.cache is not None and (known := self.cache.get(key)) is not None:
            return known
        with self._slot(call) as slot:
            results = list(self._results(call, slot, *asked))
        failures = [result.verdict for result in results if result.verdict is not Verdict.OK]
        verdict = failures[0] if failures else Verdict.OK
        result = ProgramResult(verdict, len(results) - len(failures), results, self.cpu_factor)
        if self.cache is not None:
            self.cache.put(key, result)
        return result

    def _results(
        self,
        call: Call,
        slot: Slot,
        program: Program,
        tests: tuple[Test, ...],
        limits: Limits,
        early_stop: bool,
        comparison: Comparison,
        profile: Profile,
    ) -> Iterator[TestResult]:
        code, failed = self._compile(call, slot, program, limits)
        for test in tests:
            result = failed or self._test(call, slot, program, code, test, limits, comparison, profile)
            yield result
            if early_stop and result.verdict is not Verdict.OK:
                return

    def _compile(self, call: Call, slot: Slot, program: Program, limits: Limits) -> tuple[bytes, TestResult | None]:
        """The marshalled code object, made once by a child that runs none of it; the host never loads it."""
        ending = self._step(call, slot, program, "compile", program.code.encode("utf-8", "surrogatepass"), b"", limits)
        verdict = judge.compile_failure(ending, limits)
        return ending.stdout, None if verdict is None else judge.result(verdict, ending)

    def _execute(self, call: Call, slot: Slot, program: Program, code: bytes, stdin: str, limits: Limits) -> Ending:
        return self._step(call, slot, program, "run", code, _encoded(stdin), limits)

    def _test(
        self,
        call: Call,
        slot: Slot,
        program: Program,
        code: bytes,
        test: Test,
        limits: Limits,
        comparison: Comparison,
        profile: Profile,
    ) -> TestResult:
        ending = self._execute(call, slot, program, code, test.stdin, limits)
        verdict = judge.failure(ending, limits, exit_code_counts=profile == "strict")
        if verdict is None and comparison.checker is not None:
            verdict = self._check(call, slot, judge.output(program, ending, limits), test, comparison.checker)
        elif verdict is None:
            verdict = judge.compared(program, test, ending, comparison, digit_strings=profile == "strict")
        return judge.result(verdict, ending)

    def _check(self, call: Call, slot: Slot, output: Output, test: Test, checker: Program) -> Verdict:
        """Ask the checker, in a child of its own: it may see the expected output, the solution has ended."""
        if output.verdict is not Verdict.OK:
            return output.verdict
        limits = CHECKER_LIMITS.scaled(self.cpu_factor)
        code, _ = self._compile(call, slot, RUNNER, limits)

        def says(output: str) -> Verdict:
            return checked(self._execute(call, slot, checker, code, question(checker, test, output), limits), limits)

        verdict = says(output.stdout)
        if verdict is Verdict.SYSTEM_ERROR and says(test.expected) is not Verdict.SYSTEM_ERROR:
            return Verdict.WRONG_ANSWER  # the checker is sound: it was this output that it could not take
        return verdict

    def _step(
        self, call: Call, slot: Slot, program: Program, kind: str, text: bytes, stdin: bytes, limits: Limits
    ) -> Ending:
        """One child. Tried twice when the sandbox itself fails, then the ending says so."""
        worker = slot.worker(self.has_packages and WANTS_NUMPY.search(program.code) is not None)
        for _ in range(2):
            if call.cancelled or self.closed:
                raise Cancelled
            try:
                ending = worker.step(kind, program, text, stdin, limits)
            except GuestLost as lost:
                ending = judge.lost(lost)
            if ending.armed:
                break
            if ending.report.kind == "arguments":
                where = f"the function-mode test {stdin[:80].decode(errors='replace')!r}, line {ending.report.code}"
                raise ValueError(f"{where}: an argument must be JSON: {ending.report.exception}")
        if call.cancelled:
            raise Cancelled
        return ending

    @contextmanager
    def _slot(self, call: Call) -> Iterator[Slot]:
        """A slot of one's own for a while; waits for one if all are busy."""
        slot = self.idle.get()
        try:
            if self.closed:
                raise Cancelled("the sandbox pool is closed")
            call.slot = slot
            self.calls.add(call)
            yield slot
        finally:
            self.calls.discard(call)
            call.slot = None
            self.idle.put(slot)


def first_sealed(wanted: Sequence[str]) -> Slot:
    """A slot of the first tier whose guest really starts and passes the self-test; else SandboxUnavailable."""
    tiers.find_python(tiers.guest_uid())  # without one, its own error says more than two tiers would
    failures = []
    for tier in wanted:
        try:
            return sealed(tier)
        except SandboxUnavailable as error:
            failures.append(str(error))
    raise SandboxUnavailable(
        "no isolation holds on this machine, so no program is run. Tried: "
        + "; ".join(failures)
        + ". Mend: install bubblewrap where user namespaces are allowed, or use a kernel with Landlock (5.13 or newer, "
        "in `lsm=`); in a container without capabilities run as a non-root user."
    )


def sealed(tier: str) -> Slot:
    """A started slot of `tier` in which the self-test found no hole. Raises SandboxUnavailable naming what it found."""
    slot = Slot(tier, 0)
    worker = slot.worker(False)
    try:
        code = worker.step("compile", SELF_TEST, SELF_TEST.code.encode(), b"", STRICT_LIMITS).stdout
        ending = worker.step("run", SELF_TEST, code, b"42", STRICT_LIMITS)
    except GuestLost as lost:
        raise SandboxUnavailable(f"{tier}: the guest ended in its self-test ({lost})") from lost
    if ending.stdout != b"sealed 42\n" or judge.failure(ending, STRICT_LIMITS) is not None:
        worker.stop()
        raise SandboxUnavailable(
            f"{tier}: self-test failed: {ending.stdout.decode(errors='replace')!r} {ending.report}"
        )
    return slot


def _encoded(text: str) -> bytes:
    """Bytes that the guest reads back as the same text: lone surrogates stand for bytes that are no UTF-8."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        return text.encode("utf-8", "surrogatepass")


def _assert_json(tests: Sequence[Test]) -> None:
    for number, test in enumerate(tests):
        try:
            compare.loads(test.expected)
        except ValueError as error:
            raise ValueError(f"test {number}: in function mode `expected` must be JSON: {error}") from None
