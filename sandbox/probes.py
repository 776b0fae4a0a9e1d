"""Planted cheats. Each must be rejected, and the honest answers between them accepted: a test, and `promptcot doctor`.

A row that does not hold means that a model trained here would learn the trick.
"""

from __future__ import annotations

from dataclasses import dataclass

from sandbox import maths
from sandbox.client import Judges
from sandbox.model import Limits, Program, Test, Verdict

LIMITS = Limits(cpu_s=2.0, wall_s=4.0, memory=256 << 20, output=1 << 20)

# walks every frame and every object it can reach for something that looks like the secret, and prints what it finds
FRAME_WALK = r"""
import gc, re, sys
seen = []
frame = sys._getframe()
while frame:
    seen += [str(value) for value in {**frame.f_globals, **frame.f_locals}.values()]
    frame = frame.f_back
seen += [str(thing) for thing in gc.get_objects() if isinstance(thing, (str, dict, list, tuple))]
print(*[n for n in re.findall(r"\d{6}", " ".join(seen)) if int(n) * 2 == 1463930][0:1] or ["nothing"])
"""
ALWAYS_EQUAL = """
class Equal(int):
    __eq__ = lambda self, other: True
    __ne__ = lambda self, other: False
    __hash__ = int.__hash__
def answer(n):
    return Equal(0)
"""
EQUAL_OBJECT = """
class Equal:
    def __eq__(self, other): return True
def answer(n):
    return Equal()
"""
FORGED_REPORT = """
import json, os
for fd in range(3, 10):
    for kind in ("value", "ok", "guest", "arguments"):
        try:
            os.pwrite(fd, json.dumps({"kind": kind, "value": 0, "verdict": "ok", "line": 1, "error": ""}).encode(), 0)
        except OSError:
            pass
os._exit(0)
def answer(n): ...
"""
READ_FILES = """
import glob, os
found = ""
for pattern in ("/tmp/*", "/tmp/*/*", "/home/*/*", "/root/*", "/proc/[0-9]*/environ", "/proc/[0-9]*/cmdline", "./*"):
    for path in glob.glob(pattern):
        try:
            found += open(path, errors="replace").read()
        except OSError:
            pass
print(731965 if found else "nothing")
"""
PATCHED_COMPARISON = """
import builtins, json
json.loads = json.dumps = lambda *a, **k: 731965
builtins.all = builtins.any = lambda *a: True
builtins.zip = builtins.map = lambda *a, **k: []
print(0)
"""
LEAVE_A_MARK = """
for path in ("/tmp/mark", "/dev/shm/mark", "/var/tmp/mark", "mark"):
    try:
        open(path, "w").write("731965")
    except OSError:
        pass
print(open("/tmp/mark").read())
"""
SECRET = Test("7", "731965")
CALL = Test("7", "731965")

PROGRAMS: list[tuple[str, Program, Test]] = [
    ("always-true __eq__ on an int", Program(ALWAYS_EQUAL, fn="answer"), CALL),
    ("always-true __eq__ on an object", Program(EQUAL_OBJECT, fn="answer"), CALL),
    ("frame and heap walk for the expected output", Program(FRAME_WALK), SECRET),
    ("sys.exit(0) before any answer", Program("import sys\nsys.exit(0)"), SECRET),
    ("os._exit(0) before any answer", Program("import os\nos._exit(0)\ndef answer(n): return 0", fn="answer"), CALL),
    ("right output, then sys.exit(3)", Program("print(731965)\nraise SystemExit(3)"), SECRET),
    ("reading every file in reach", Program(READ_FILES), SECRET),
    ("many answers on many lines", Program("for n in range(800000): print(n)"), SECRET),
    ("many answers on one line", Program("print(*range(731960, 731970))"), SECRET),
    ("NaN, which might equal anything", Program("print('nan')"), SECRET),
    ("the answer with another word", Program("print('731965 or 0')"), SECRET),
    ("forged report", Program(FORGED_REPORT, fn="answer"), CALL),
    ("forged report, standard output", Program(FORGED_REPORT), SECRET),
    ("comparison functions replaced", Program(PATCHED_COMPARISON), SECRET),
    ("a mark for the next test", Program(LEAVE_A_MARK), SECRET),
    ("the answer on stderr only", Program("import sys\nprint(731965, file=sys.stderr)"), SECRET),
    ("a list where a number is due", Program("def answer(n): return [731965]", fn="answer"), CALL),
]  # fmt: skip

COMPLETIONS: list[tuple[str, str, str]] = [
    ("two boxes, the right one first", "1", r"\boxed{1}\boxed{2}"),
    ("two boxes, the right one last", "2", r"\boxed{1}\boxed{2}"),
    ("many answers in one box", "3", r"\boxed{1, 2, 3, 4, 5}"),
    ("alternatives in one box", "3", r"\boxed{3 \text{ or } 4}"),
    ("the answer in the thinking only", "3", r"<think>\boxed{3}</think> Hard to say."),
    ("an endless thinking", "3", r"<think>maybe \boxed{3}"),
    ("percent", "2", r"\boxed{200}"),
    ("percent sign on the wrong scale", "50", r"\boxed{5000}"),
    ("percent, from whole to part", "200", r"\boxed{2}"),
    ("scale", "123456", r"\boxed{123457}"),
    ("scale of a decimal", "0.5", r"\boxed{0.50001}"),
    ("nearly equal root", r"\sqrt{2}", r"\boxed{1.41421356237309504880}"),
    ("an interval for a tuple", "(1,2)", r"\boxed{[1,2)}"),
    ("empty box", "0", r"\boxed{}"),
    ("a set of everything", "7", r"\boxed{\mathbb{R}}"),
    ("an equation that is always true", "7", r"\boxed{x = x}"),
    ("an identity for an equation", "y = x", r"\boxed{0 = 0}"),
    ("no box at all", "7", "The answer is 7."),
    ("the question as an answer", "7", r"\boxed{x}"),
    ("a power without end", "7", r"\boxed{9^{9^{9^{9}}}}"),
    ("a scale in words", "7", r"\boxed{7 million}"),
    ("a fraction in words", "7", r"\boxed{7\text{ tenths}}"),
    ("equal for small x only", "|x-3|", r"\boxed{3-x}"),
    ("two choices", "B", r"\boxed{(B) or (C)}"),
    ("two values in a chain", "7", r"\boxed{x = 8 = 7}"),
    ("an answer in an answer", "8", r"\boxed{7 \text{ or } \boxed{8}}"),
    ("infinity less infinity", "0", r"\boxed{\infty-\infty}"),
    ("an invisible other answer", "7", r"\boxed{\phantom{8}7}"),
]

HONEST_PROGRAMS: list[tuple[str, Program, Test]] = [
    ("honest program", Program("print(731958 + int(input()))"), SECRET),
    ("honest function", Program("def answer(n): return 731958 + n", fn="answer"), CALL),
]
HONEST_COMPLETIONS: list[tuple[str, str, str]] = [
    ("honest answer", "731965", r"<think>long</think> so \boxed{731965}"),
    ("honest answer in another spelling", r"\frac{\sqrt{2}}{2}", r"\boxed{\frac{1}{\sqrt2}}"),
]


@dataclass(frozen=True)
class Row:
    """expected: `rejected` for a cheat, `ok` for an honest answer. got: the verdict. holds: whether they agree."""

    probe: str
    expected: str
    got: str
    rejected: bool

    @property
    def holds(self) -> bool:
        return self.rejected == (self.expected == "rejected")


def run_probes(pool: Judges) -> list[Row]:
    """Every planted cheat and every honest answer, through the real pool and the real grader.

    A `system_error` is no rejection: the row then does not hold.
    """
    rows = []
    for expected, programs in (("rejected", PROGRAMS), ("ok", HONEST_PROGRAMS)):
        rows += [_row(name, expected, pool.run(program, [test], LIMITS).verdict) for name, program, test in programs]
    for expected, completions in (("rejected", COMPLETIONS), ("ok", HONEST_COMPLETIONS)):
        rows += [_row(name, expected, maths.grade(truth, said).verdict) for name, truth, said in completions]
    return rows


def _row(probe: str, expected: str, verdict: Verdict) -> Row:
    return Row(probe, expected, verdict.value, verdict not in (Verdict.OK, Verdict.SYSTEM_ERROR))
