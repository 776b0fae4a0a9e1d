"""What the pool promises beside verdicts: isolation between tests, recovery, threads, asyncio, failing closed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pytest

import sandbox
from sandbox import (
    Comparison,
    Limits,
    Output,
    Pool,
    Program,
    SandboxUnavailable,
    Test,
    Verdict,
    VerdictCache,
    calibration,
    tiers,
)
from sandbox.actor import SandboxActor
from sandbox.pool import Cancelled

ADD = Program("a, b = map(int, input().split())\nprint(a + b)")
SMALL = Limits(cpu_s=2.0, wall_s=5.0, memory=256 << 20, output=1 << 20)
FOREVER = Program("while True: pass")


def is_gone(group: int) -> bool:
    """Whether the process group ends soon: its last members may wait to be reaped by init."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_early_stop_ends_at_the_first_failure(any_pool: Pool) -> None:
    tests = [Test("1 2", "3"), Test("1 2", "4"), Test("1 2", "3")]
    stopped = any_pool.run(ADD, tests, SMALL)
    assert (stopped.verdict, stopped.passed, len(stopped.tests)) == (Verdict.WRONG_ANSWER, 1, 2)
    whole = any_pool.run(ADD, tests, SMALL, early_stop=False)
    assert (whole.verdict, whole.passed, len(whole.tests)) == (Verdict.WRONG_ANSWER, 2, 3)


def test_each_test_reports_its_cost(any_pool: Pool) -> None:
    (test,) = any_pool.run(
        Program("x = bytearray(50 << 20)\nsum(range(10**6))\nprint(1)"), [Test("", "1")], SMALL
    ).tests
    assert test.verdict is Verdict.OK
    assert 0 < test.cpu_s < SMALL.cpu_s
    assert test.max_rss > 50 << 20


def test_a_failure_says_what_it_was(any_pool: Pool) -> None:
    (test,) = any_pool.run(Program("def f():\n    return {}['key']\nf()"), [Test("", "")], SMALL).tests
    assert test.detail["exception"] == "KeyError"
    assert 'File "main.py", line 2, in f' in test.detail["traceback"]


def test_no_tests_is_an_error_not_a_pass(any_pool: Pool) -> None:
    with pytest.raises(ValueError, match="no tests"):
        any_pool.run(ADD, [])


def test_function_tests_must_be_json(any_pool: Pool) -> None:
    program = Program("def f(x): return x", fn="f")
    with pytest.raises(ValueError, match="test 1: in function mode `expected` must be JSON"):
        any_pool.run(program, [Test("1", "1"), Test("1", "one")], SMALL)
    with pytest.raises(ValueError, match=r"test '1\\none', line 2: an argument must be JSON"):
        any_pool.run(program, [Test("1\none", "1")], SMALL)


@pytest.mark.parametrize("name", ["cpu_s", "wall_s", "memory", "output", "threads"])
def test_limits_must_be_positive(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Limits(**{name: 0})


def test_outputs_of_inputs_without_expectation(any_pool: Pool) -> None:
    said = any_pool.outputs(ADD, ["1 2", "x", "3 4"], SMALL)
    assert said == [Output(Verdict.OK, "3\n"), Output(Verdict.RUNTIME_ERROR, ""), Output(Verdict.OK, "7\n")]
    function = Program("def f(a): return (a, {'b': [None, 1.5]})", fn="f")
    assert any_pool.outputs(function, ["1"], SMALL) == [Output(Verdict.OK, '[1, {"b": [null, 1.5]}]')]
    assert any_pool.outputs(Program("def f(a): return {1}", fn="f"), ["1"], SMALL)[0].verdict is Verdict.RUNTIME_ERROR
    assert any_pool.outputs(Program("def"), ["1"], SMALL) == [Output(Verdict.COMPILE_ERROR, "")]


def test_nothing_of_one_test_reaches_the_next(pool: Pool) -> None:
    """Neither changed builtins nor module state, nor an earlier stdin in the memory of the forked interpreter."""
    vandal = Program("import builtins, math, sys\nbuiltins.print = builtins.len = math.gcd = None\nsys.stolen = 1")
    scan = Program(
        "import ctypes, sys\n"
        "needle = bytes(reversed(b'enoyna-llet-ton-od'))\n"
        "own = id(needle) + bytes.__basicsize__ - 1  # where its text is, which can be the page after its head\n"
        "found = 0\n"
        "for o in [object() for _ in range(2000)] + [bytearray(n) for n in range(0, 500, 8)]:\n"
        "    page = id(o) & ~0xFFFFF\n"
        "    if not (page <= own < page + (1 << 20)):\n"
        "        continue\n"
        "    start = id(o) & ~0xFFF\n"
        "    text = ctypes.string_at(start, 4096)\n"
        "    found += text.count(needle) - (1 if start <= own < start + 4096 else 0)\n"
        "print(max(found, 0), len('abc'), hasattr(sys, 'stolen'))"
    )
    with Pool(1, tier=pool.tier) as one:
        for _ in range(3):
            one.run(Program("secret = input()\nprint(secret)"), [Test("do-not-tell-anyone", "x")], SMALL)
            one.run(vandal, [Test("", "")], SMALL)
            assert one.run(scan, [Test("", "0 3 False")], SMALL).verdict is Verdict.OK


def test_a_test_has_its_input_to_itself(pool: Pool) -> None:
    """A program may write over its stdin: it is a copy that no other test and no second attempt reads."""
    code = "import os\nprint(os.read(0, 9).decode())\nos.ftruncate(0, 0)\nos.pwrite(0, b'other', 0)"
    result = pool.run(Program(code), [Test("first", "first"), Test("first", "first")], SMALL)
    assert (result.verdict, result.passed) == (Verdict.OK, 2)


def test_threads_share_the_workers(any_pool: Pool) -> None:
    with ThreadPoolExecutor(6) as threads:
        results = list(threads.map(lambda n: any_pool.run(ADD, [Test(f"{n} 1", str(n + 1))], SMALL), range(40)))
    assert all(result.verdict is Verdict.OK for result in results)
    assert any_pool.submit(ADD, [Test("1 2", "3")], limits=SMALL).result().passed == 1


def test_a_worker_outlives_the_thread_that_started_it(pool: Pool) -> None:
    opened: list[Pool] = []
    starter = threading.Thread(target=lambda: opened.append(Pool(1, tier=pool.tier)))
    starter.start()
    starter.join()
    with opened[0] as one:
        assert one.run(ADD, [Test("1 2", "3")], SMALL).verdict is Verdict.OK


def test_asyncio_and_cancellation(pool: Pool) -> None:
    async def cancel_one() -> Verdict:
        with Pool(1, tier=pool.tier) as one:
            task = asyncio.create_task(one.arun(FOREVER, [Test("", "")], Limits(cpu_s=100, wall_s=200)))
            await asyncio.sleep(0.3)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return (await one.arun(ADD, [Test("1 2", "3")], SMALL)).verdict  # the only worker is free again

    assert asyncio.run(asyncio.wait_for(cancel_one(), 60)) is Verdict.OK


def test_an_actor_holds_a_pool() -> None:
    """What `remote_sandbox` gives to Ray; the class itself needs no Ray."""
    actor = SandboxActor(1)
    try:
        assert asyncio.run(actor.run(ADD, [Test("1 2", "3")], limits=SMALL)).verdict is Verdict.OK
    finally:
        actor.pool.close()


def test_a_killed_guest_is_replaced(pool: Pool) -> None:
    with Pool(1, tier=pool.tier) as one:
        worker = one.slots[0].worker(False)
        assert worker.guest is not None
        os.killpg(worker.guest.pid, signal.SIGKILL)
        worker.guest.wait()
        assert one.run(ADD, [Test("1 2", "3")], SMALL).verdict is Verdict.OK


def test_a_stopped_guest_is_replaced(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It neither answers nor ends: the host waits no longer than the wall limit and a grace, and kills it."""
    monkeypatch.setattr("sandbox.worker.GRACE_S", 1.0)
    monkeypatch.setattr("sandbox.worker.PARTING_S", 0.1)
    with Pool(1, tier=pool.tier) as one:
        guest = one.slots[0].worker(False).guest
        assert guest is not None
        os.killpg(guest.pid, signal.SIGSTOP)
        assert one.run(ADD, [Test("1 2", "3")], Limits(cpu_s=1, wall_s=2)).verdict is Verdict.OK
        assert guest.returncode is not None
        assert is_gone(guest.pid)


def test_a_guest_that_is_lost_twice_is_no_verdict(pool: Pool) -> None:
    """A failure of the sandbox is `system_error`, never a pass or a fail, and is not cached."""
    with Pool(1, tier=pool.tier, cache=VerdictCache(":memory:")) as one:
        worker = one.slots[0].worker(False)
        stop = threading.Event()

        def keep_killing() -> None:
            while not stop.is_set():
                worker.hang_up()
                time.sleep(0.005)

        killer = threading.Thread(target=keep_killing)
        killer.start()
        try:
            lost = one.run(Program("import time\ntime.sleep(2)\nprint(3)"), [Test("", "3")], SMALL)
        except SandboxUnavailable:  # killed while it started: as clear
            lost = None
        stop.set()
        killer.join()
        assert lost is None or lost.verdict is Verdict.SYSTEM_ERROR
        assert one.run(Program("import time\ntime.sleep(0)\nprint(3)"), [Test("", "3")], SMALL).verdict is Verdict.OK


def test_close_ends_what_runs_and_leaves_nothing(pool: Pool) -> None:
    files = len(list(Path("/proc/self/fd").iterdir()))
    one = Pool(1, tier=pool.tier)
    guest = one.slots[0].worker(False).guest
    assert guest is not None
    running = one.submit(FOREVER, [Test("", "")], limits=Limits(cpu_s=100, wall_s=200))
    while not one.calls:
        time.sleep(0.01)
    one.close()
    with pytest.raises(Cancelled):
        running.result()
    with pytest.raises(Cancelled):
        one.run(ADD, [Test("1 2", "3")])
    one.close()
    assert guest.returncode is not None
    assert is_gone(guest.pid)
    assert len(list(Path("/proc/self/fd").iterdir())) == files


def test_the_guest_ends_with_its_host(pool: Pool) -> None:
    """kill -9 of the host in the middle of a test leaves no process of the guest's group."""
    script = (
        "import sys\nfrom sandbox import *\n"
        f"pool = Pool(1, tier={pool.tier!r})\n"
        "print(pool.slots[0].worker(False).guest.pid, flush=True)\n"
        "pool.run(Program('while True: pass'), [Test('', '')], Limits(cpu_s=100, wall_s=200))\n"
    )
    root = str(Path(sandbox.__file__).parents[1])
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=root) as host:
        assert host.stdout is not None
        guest = int(host.stdout.readline())
        time.sleep(0.3)
        host.kill()
    assert is_gone(guest)


def test_numpy_flavour(pool: Pool) -> None:
    if not pool.has_packages:
        pytest.skip("no numpy for the guest's Python on this machine")
    solve = Program("import numpy as np\nprint(np.linalg.solve([[2.0, 0], [0, 4]], [2, 4]).tolist())")
    assert pool.run(solve, [Test("", "[1.0, 1.0]")], SMALL).verdict is Verdict.OK
    scalar = Program("import numpy as np\ndef f(xs): return np.sum(np.array(xs))", fn="f")
    assert pool.run(scalar, [Test("[1, 2]", "3")], SMALL).verdict is Verdict.OK
    hog = Program("import numpy as np\nnp.ones(1 << 28)")
    assert pool.run(hog, [Test("", "")], SMALL).verdict is Verdict.MEMORY_LIMIT
    neighbour = Program("import numpy, torch")
    assert pool.run(neighbour, [Test("", "")], SMALL).verdict is Verdict.RUNTIME_ERROR


CHECKER = Program(
    "import json\nq = json.loads(input())\n"
    "a, b = map(int, q['output'].split())\nprint('ok' if a + b == int(q['input']) else 'wrong')"
)
OF_FILES = Program(  # in the form of open-r1's Codeforces
    "import sys\n"
    "def main():\n"
    "    given, expected, said = (open(name).read().split() for name in sys.argv[1:4])\n"
    "    print(1 if sum(map(int, said)) == int(given[0]) == sum(map(int, expected)) else 0)\n"
    "if __name__ == '__main__':\n"
    "    main()\n"
)
ENDLESS = Program("import json\nq = json.loads(input())\nwhile q['output'] == '1\\n': pass\nprint('ok')")
FLOOD = Program("while 1: print(1)")
BEYOND = Program("def f(): return 10**400", fn="f")
THIRD = Program("def f(x): return [x / 3]", fn="f")
COMPARISONS = [
    ("any of several right answers", Program("print(3, 4)"), Test("7", "1 6"), Comparison(checker=CHECKER), Verdict.OK),
    ("wrong for it", Program("print(3, 5)"), Test("7", "1 6"), Comparison(checker=CHECKER), Verdict.WRONG_ANSWER),
    ("it cannot take this", Program("print('x')"), Test("7", "1 6"), Comparison(checker=CHECKER), Verdict.WRONG_ANSWER),
    ("it cannot take any", Program("print(3, 4)"), Test("x", "1 6"), Comparison(checker=CHECKER), Verdict.SYSTEM_ERROR),
    ("a crash is not checked", Program("1 / 0"), Test("7", "1 6"), Comparison(checker=CHECKER), Verdict.RUNTIME_ERROR),
    ("it reads files", Program("print(4, 3)"), Test("7", "1 6"), Comparison(checker=OF_FILES), Verdict.OK),
    ("wrong in files", Program("print(4, 4)"), Test("7", "1 6"), Comparison(checker=OF_FILES), Verdict.WRONG_ANSWER),
    ("words in files", Program("print('?')"), Test("7", "1 6"), Comparison(checker=OF_FILES), Verdict.WRONG_ANSWER),
    ("it never ends", Program("print(1)"), Test("7", "1 6"), Comparison(checker=ENDLESS), Verdict.WRONG_ANSWER),
    ("it floods", Program("print(1)"), Test("", "1"), Comparison(checker=FLOOD), Verdict.SYSTEM_ERROR),
    ("broken checker", Program("print(1)"), Test("", ""), Comparison(checker=Program("def")), Verdict.SYSTEM_ERROR),
    ("float tolerance", Program("print(0.30000001)"), Test("", "0.3"), Comparison(float_tolerance=1e-6), Verdict.OK),
    ("beyond it", Program("print(0.31)"), Test("", "0.3"), Comparison(float_tolerance=1e-6), Verdict.WRONG_ANSWER),
    ("an integer beyond floats", BEYOND, Test("", "1.5"), Comparison(float_tolerance=1e-6), Verdict.WRONG_ANSWER),
    ("ignore case", Program("print('YES')"), Test("", "Yes"), Comparison(ignore_case=True), Verdict.OK),
    ("tolerance in values", THIRD, Test("1", "[0.333333]"), Comparison(float_tolerance=1e-5), Verdict.OK),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "program", "test", "comparison", "verdict"), COMPARISONS, ids=[row[0] for row in COMPARISONS]
)
def test_comparison(
    any_pool: Pool, name: str, program: Program, test: Test, comparison: Comparison, verdict: Verdict
) -> None:
    assert any_pool.run(program, [test], SMALL, comparison=comparison).verdict is verdict


def test_lcb_profile_lets_any_exit_pass(any_pool: Pool) -> None:
    exits = Program("import sys\nprint(3)\nsys.exit(3)")
    assert any_pool.run(exits, [Test("", "3")], profile="lcb").verdict is Verdict.OK
    assert any_pool.run(exits, [Test("", "3")]).verdict is Verdict.RUNTIME_ERROR
    assert any_pool.run(exits, [Test("", "4")], profile="lcb").verdict is Verdict.WRONG_ANSWER
    crash = Program("print(3)\n1 / 0")
    assert any_pool.run(crash, [Test("", "3")], profile="lcb").verdict is Verdict.RUNTIME_ERROR


def test_reports_of_junk_cost_the_host_little_and_are_not_kept(any_pool: Pool) -> None:
    """Lists by the million in a report, or in a value: read as objects they would be twenty times as large."""
    junk = "b'{\"kind\": \"value\", \"junk\": [' + b'[],' * (2 << 20) + b'[]]}\\n'"
    programs = [
        Program(f"import os\ndef f(n):\n    os.write(3, {junk})\n    os._exit(0)", fn="f"),
        Program("import os\ndef f(n):\n    return [[]] * (1 << 20)", fn="f"),
        Program(f"import os\nprint(1)\nos.write(3, {junk})\nraise ValueError('x' * (1 << 20))"),
    ]
    for program in programs:
        tests = [Test("1" if program.fn else "", "1")] * 8
        tracemalloc.start()
        try:
            result = any_pool.run(program, tests, early_stop=False)
            kept, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert {test.verdict for test in result.tests} <= {Verdict.WRONG_ANSWER, Verdict.RUNTIME_ERROR}
        assert all(set(test.detail) <= {"kind", "exception", "traceback", "code"} for test in result.tests)
        assert kept < 1 << 20 and peak < 40 << 20
        assert len(json.dumps(asdict(result))) < 1 << 15


def test_what_a_child_says_of_itself_is_cut_and_typed(any_pool: Pool) -> None:
    said = 'class E(Exception): pass\nE.__name__ = "E" * 10000\nraise E("x" * 100000)'
    (test,) = any_pool.run(Program(said), [Test("", "")], SMALL).tests
    assert (test.detail["kind"], len(test.detail["exception"])) == ("exception", 300)
    assert len(test.detail["traceback"]) <= 2000


def test_questions_that_are_nested_too_deeply_are_an_error(any_pool: Pool) -> None:
    program, deep = Program("def f(x): return x", fn="f"), "[" * 100_000
    with pytest.raises(ValueError, match="test 0: in function mode `expected` must be JSON"):
        any_pool.run(program, [Test("1", deep)], SMALL)
    with pytest.raises(ValueError, match="line 1: an argument must be JSON"):
        any_pool.run(program, [Test(deep, "1")], SMALL)


@pytest.mark.parametrize("name", ["", "a b", "f(", "f" * 5000])
def test_a_function_has_a_name(name: str) -> None:
    with pytest.raises(ValueError, match="must be a name of Python"):
        Program("def f(): return 1", fn=name)


@pytest.mark.parametrize("tolerance", [-1.0, float("inf"), float("nan")])
def test_a_tolerance_is_a_number(tolerance: float) -> None:
    with pytest.raises(ValueError, match="float_tolerance"):
        Comparison(float_tolerance=tolerance)


LEAVES_NOTHING = """
import ctypes, os, signal, sys
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER: what is left behind comes to us
import sandbox.worker
from sandbox import Limits, Pool, Program, Test
sandbox.worker.PARTING_S, sandbox.worker.GRACE_S = 0.5, 1.0
for stuck in (False, True):
    with Pool(2, tier=sys.argv[1]) as pool:
        worker = pool.slots[0].worker(False)
        pool.slots[1].worker(False).start()
        if stuck:
            os.killpg(worker.guest.pid, signal.SIGSTOP)
            for _ in range(2):
                pool.run(Program("print(1)"), [Test("", "1")], Limits(cpu_s=0.5, wall_s=1.0))
    try:
        print("left behind:", os.waitpid(-1, os.WNOHANG))
    except ChildProcessError:
        print("nothing")
"""


def test_no_guest_is_left_to_be_reaped(pool: Pool) -> None:
    """Not to PID 1 either: in a container a program that reaps nothing may be it, and zombies pile up."""
    root = str(Path(sandbox.__file__).parents[1])
    command = [sys.executable, "-c", LEAVES_NOTHING, pool.tier]
    said = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60)
    assert said.stdout.split() == ["nothing", "nothing"], said.stderr


def test_limits_are_multiplied_by_the_hosts_factor(pool: Pool) -> None:
    burn = Program("import time\nwhile time.process_time() < 0.45: pass\nprint(1)")
    limits = Limits(cpu_s=0.3, wall_s=20)
    for factor, verdict in ((1.0, Verdict.TIME_LIMIT), (2.0, Verdict.OK)):
        with Pool(1, tier=pool.tier, cpu_factor=factor) as one:
            result = one.run(burn, [Test("", "1")], limits)
            assert (result.verdict, result.cpu_factor) == (verdict, factor)
            assert one.outputs(burn, [""], limits)[0].verdict is verdict


def test_a_host_is_measured_once_within_bounds(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    with Pool(1, tier=pool.tier, cpu_factor=None) as one:
        assert calibration.LEAST <= one.cpu_factor <= calibration.MOST
        assert one.cpu_factor * 4 == int(one.cpu_factor * 4)
        assert one.run(Program("print(1)"), [Test("", "1")]).cpu_factor == one.cpu_factor
        worker = one.slots[0].worker(False)
        monkeypatch.setattr(calibration, "REFERENCE_S", 1000.0)  # the reference host crawls: we are beyond all bounds
        assert calibration.measured_factor(worker) == calibration.LEAST
        monkeypatch.setattr(calibration, "REFERENCE_S", 0.0005)  # it flies, and no run here ends within its limit
        assert calibration.measured_factor(worker) == calibration.MOST


@pytest.mark.parametrize(("share", "verdict"), [(0.8, Verdict.OK), (1.2, Verdict.TIME_LIMIT)])
def test_cpu_verdicts_do_not_depend_on_load(pool: Pool, share: float, verdict: Verdict) -> None:
    """A program that burns a share of the limit by its own clock, with both workers busy."""
    burn = Program(f"import time\nwhile time.process_time() < {share} * 0.3: pass\nprint(1)")
    limits = Limits(cpu_s=0.3, wall_s=20)
    runs = [pool.submit(burn, [Test("", "1")], limits=limits) for _ in range(3)]
    assert [run.result().verdict for run in runs] == [verdict] * 3


def test_no_tier_no_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without bwrap and with the guest broken there is no pool, and the message names what was tried and the mend."""
    monkeypatch.setattr(tiers.shutil, "which", lambda name: None)
    monkeypatch.setattr(tiers, "_landlock", lambda *a: tiers.Start("landlock", a[0], ["/bin/false"], {}, None))
    with pytest.raises(SandboxUnavailable, match=r"bwrap is not installed.*landlock.*Mend"):
        Pool(1)


def test_a_tier_with_a_hole_is_refused(monkeypatch: pytest.MonkeyPatch, pools: dict[str, Pool | str]) -> None:
    """The self-test finds a readable file that a real guest must not see."""
    if isinstance(pools["landlock"], str):
        pytest.skip(pools["landlock"])
    honest = tiers._landlock

    def with_a_hole(*args: object) -> tiers.Start:
        start = honest(*args)  # type: ignore[arg-type]
        start.setup["landlock"].append(("/etc", "read"))  # type: ignore[attr-defined]
        return start

    monkeypatch.setattr(tiers, "_landlock", with_a_hole)
    with pytest.raises(SandboxUnavailable, match=r"self-test failed.*read"):
        Pool(1, tier="landlock")


def test_no_usable_python_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDBOX_PYTHON", "/nowhere/python3")
    tiers.find_python.cache_clear()
    with pytest.raises(SandboxUnavailable, match=r"/nowhere/python3: not there.*SANDBOX_PYTHON"):
        Pool(1)
    tiers.find_python.cache_clear()
