"""The symbolic worker's own side: identities tested in numbers of many digits, and math-verify for what we cannot read.

Runs in a process that forks one child after another; a child answers questions until one of them exceeds its CPU time
or memory, which kills that child and nothing else. Children are under the system-call filter of `policy.py`.

An identity holds when both sides agree at several points, negative ones among them, to at least fifty digits and to
more than the numerals written in them could hide; where a function could switch (|x - 3|, a root), at far points too.
That takes half a millisecond where simplification may not end.
"""

from __future__ import annotations

import ctypes
import gc
import hashlib
import json
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any

import mpmath  # type: ignore[import-untyped]
from mpmath import mp

from sandbox import policy
from sandbox.guest import check, install_seccomp, libc

DIGITS = 50
MOST_DIGITS = 20_000  # a number longer than that is not resolved to its last digit, so nothing is said of it
SLACK = 15  # digits lost to rounding on the way
POINTS = 5
FAR = (10**3, -(10**3), 10**8, -(10**8))  # times about 1: variables at further points, where |x - 3| has switched
SWITCHES = {"abs", "floor", "ceil", "max", "min", "log", "arcsin", "arccos", "arctan", "arccot"}
LARGEST_QUESTION = 100_000  # bytes
MEMORY = 1 << 30  # bytes a child may map beyond what the forked process has
QUESTIONS = 5_000  # then a fresh child: sympy's caches only grow
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38

Encoded = list[Any]  # a tree as JSON: Fractions as "p/q"

FUNCTIONS = {
    "sin": mpmath.sin, "cos": mpmath.cos, "tan": mpmath.tan, "cot": mpmath.cot, "sec": mpmath.sec, "csc": mpmath.csc,
    "arcsin": mpmath.asin, "arccos": mpmath.acos, "arctan": mpmath.atan, "arccot": mpmath.acot, "sinh": mpmath.sinh,
    "cosh": mpmath.cosh, "tanh": mpmath.tanh, "log": mpmath.log, "abs": abs, "floor": mpmath.floor, "ceil": mpmath.ceil,
    "factorial": mpmath.factorial, "binomial": mpmath.binomial, "max": max, "min": min,
}  # fmt: skip
CONSTANTS = {"pi": lambda: +mp.pi, "e": lambda: +mp.e, "i": lambda: mp.mpc(0, 1), "infinity": lambda: mp.inf}


class Unresolved(Exception):
    """Values too large to tell apart."""


class Evaluation:
    """Trees evaluated with every variable at its `point`-th place, in the current precision.

    span: binary magnitude of the largest or smallest product, power or function value on the way: what it drowns, or
    what drowns it, needs that many more digits to be seen.
    """

    def __init__(self, point: int) -> None:
        self.point = point
        self.span = 0

    def value(self, tree: Encoded) -> Any:
        """A number, or None where there is no value."""
        try:
            return self._value(tree)
        except (ValueError, ZeroDivisionError, OverflowError, TypeError, KeyError, mpmath.libmp.NoConvergence):
            return None

    def _value(self, tree: Encoded) -> Any:
        kind = tree[0]
        if kind == "num":
            above, _, below = tree[1].partition("/")
            return mp.mpf(int(above)) / int(below or 1)
        if kind == "sym":
            return CONSTANTS[tree[1]]() if tree[1] in CONSTANTS else place(tree[1], self.point)
        if kind == "add":
            return mp.fsum(self._value(part) for part in tree[1:])
        if kind == "mul":
            x = mp.fprod(self._value(part) for part in tree[1:])
        elif kind == "pow":
            x = self._power(tree[1], tree[2])
        elif tree[1] == "prime":
            return place(json.dumps(tree), self.point)
        else:
            x = FUNCTIONS[tree[1]](*(self._value(part) for part in tree[2:]))
        if x and mp.isfinite(x):
            self.span = max(self.span, abs(int(mp.mag(x))))
        return x

    def _power(self, base: Encoded, exponent: Encoded) -> Any:
        x = self._value(base)
        if exponent[0] == "num" and mp.im(x) == 0 and mp.re(x) < 0:
            above, _, below = exponent[1].partition("/")
            if int(below or 1) % 2:  # the real root of an odd degree
                root = mp.power(-mp.re(x), mp.mpf(int(above)) / int(below or 1))
                return -root if int(above) % 2 else root
        return mp.power(x, self._value(exponent))


def place(name: str, point: int) -> Any:
    """A fixed, odd-looking number for a variable.

    Around 1 at the first points: all variables positive at two, all negative at one, of either sign at the others.
    """
    seed = int.from_bytes(hashlib.sha256(f"{name} {point}".encode()).digest()[:8], "big")
    size = mp.mpf(3 + seed % 10**12) / (5 * 10**11) + mp.mpf("0.3")
    if point >= POINTS:
        return size * FAR[point - POINTS]
    return -size if point == 2 or (point > 2 and seed >> 63) else size


def digits_written(tree: Encoded) -> int:
    if tree[0] == "num":
        return len(tree[1])
    return sum(digits_written(part) for part in tree[1:] if isinstance(part, list))


def names(tree: Encoded) -> set[str]:
    if tree[0] == "sym":
        return {tree[1]} - set(CONSTANTS)
    if tree[0] == "call" and tree[1] == "prime":
        return {json.dumps(tree)}
    return set().union(*(names(part) for part in tree[1:] if isinstance(part, list)))


def switches(tree: Encoded) -> bool:
    """Whether it may be one function here and another one there: with |x|, floors, roots, inverse functions."""
    if not names(tree):
        return False
    root = tree[0] == "pow" and (tree[2][0] != "num" or "/" in tree[2][1])
    return (
        root
        or (tree[0] == "call" and tree[1] in SWITCHES)
        or any(switches(part) for part in tree[1:] if isinstance(part, list))
    )


def points(*trees: Encoded) -> range:
    if not any(map(names, trees)):
        return range(1)
    return range(POINTS + len(FAR) if any(map(switches, trees)) else POINTS)


def same_at(a: Encoded, b: Encoded, point: int, digits: int) -> bool:
    """Whether both have one value there, or none. Raises Unresolved for values of more than MOST_DIGITS digits."""
    with mp.workdps(digits):
        evaluation = Evaluation(point)
        x, y = evaluation.value(a), evaluation.value(b)
        if x is None or y is None:
            return x is y
        if not (mp.isfinite(x) and mp.isfinite(y)):
            return bool(x == y)
        if abs(x - y) * 1000 > max(abs(x), abs(y)) > mp.mpf(10) ** -SLACK:
            return False
    drowned = int(evaluation.span * 0.302)
    if drowned > MOST_DIGITS:
        raise Unresolved
    return vanishes(["add", a, ["mul", ["num", "-1"], b]], point, digits + drowned)


def vanishes(difference: Encoded, point: int, digits: int) -> bool:
    """Whether it is zero there: then what is left of it shrinks as the precision grows, where a true value stays."""
    values = []
    for precision in (digits, 2 * digits, 4 * digits):
        with mp.workdps(precision):
            values.append(Evaluation(point).value(difference))
    if None in values:
        return False
    first, second, third = (abs(x) for x in values)
    if first == 0:  # cancelled to the last digit: look at the next two
        first, second = second, third
    return bool(first == 0 or second < first * mp.mpf(10) ** (SLACK - digits))


def same(a: Encoded, b: Encoded) -> tuple[bool, str]:
    """Whether a and b are one expression: equal at every point."""
    digits = DIGITS + SLACK + digits_written(a) + digits_written(b)
    for point in points(a, b):
        try:
            if not same_at(a, b, point, digits):
                return False, "identity"
        except Unresolved:
            if point < POINTS:
                raise
    return True, "identity"


def near(a: Encoded, b: Encoded, tolerance: float) -> tuple[bool, str]:
    """Whether two constants differ by at most `tolerance`, relative to the first."""
    if names(a) | names(b):
        return False, "identity"
    x, y = Evaluation(0).value(a), Evaluation(0).value(b)
    if x is None or y is None:
        return False, "identity"
    return bool(abs(x - y) <= tolerance * abs(x)), "tolerance"


def proportional(a: Encoded, b: Encoded) -> tuple[bool, str]:
    """Whether a = 0 and b = 0 are one equation: a is b times a constant that is not zero."""
    digits = DIGITS + SLACK + digits_written(a) + digits_written(b)
    if names(a) != names(b):
        return False, "equation"
    with mp.workdps(digits):
        values = [(Evaluation(point).value(a), Evaluation(point).value(b)) for point in points(a, b)]
        if any(not x or not y for x, y in values):
            return False, "equation"
        ratios = [x / y for x, y in values]
        apart = max(abs(ratio - ratios[0]) for ratio in ratios)
        return bool(apart <= abs(ratios[0]) * mp.mpf(10) ** (SLACK - digits)), "equation"


def fingerprint(a: Encoded) -> tuple[bool, str]:
    """Thirty digits at every point: a key under which equal expressions meet."""
    digits = 2 * DIGITS + digits_written(a)
    seen = []
    for point in range(POINTS + len(FAR) if names(a) else 1):  # equal trees may differ in what switches
        with mp.workdps(digits):
            x = Evaluation(point).value(a)
            if x is None or not mp.isfinite(x):
                seen.append(str(x))
                continue
            parts = (mp.re(x), mp.im(x))
            visible = [part if abs(part) > mp.mpf(10) ** -DIGITS * max(1, abs(x)) else mp.zero for part in parts]
            seen.append(" ".join(mp.nstr(part, 30) for part in visible))
    return True, "; ".join(seen)


def same_latex(a: str, b: str) -> tuple[bool, str]:
    """For what our reader does not know, such as sums and integrals: math-verify reads, sympy decides."""
    import sympy

    x, y = _by_math_verify(a), _by_math_verify(b)
    if x is None or y is None:
        return False, "unreadable"
    if x == y:
        return True, "sympy"
    difference = sympy.simplify(x.doit() - y.doit())
    return difference == 0, "sympy"


def _by_math_verify(latex: str) -> Any:
    import sympy
    from math_verify import LatexExtractionConfig, parse

    found = parse(f"${latex}$", [LatexExtractionConfig()], fallback_mode="no_fallback", parsing_timeout=None)
    expressions = [form for form in found if isinstance(form, sympy.Expr)]
    return expressions[0] if expressions else None


QUESTIONS_KNOWN: dict[str, Callable[..., tuple[bool, str]]] = {
    "same": same, "near": near, "proportional": proportional, "fingerprint": fingerprint, "same_latex": same_latex,
}  # fmt: skip


# ------------------------------------------------------------------------------------------------ the process


def answer_questions(control: int, parent: int, cpu_s: float, base: int) -> None:
    """The child: one question, one answer. Exits 0 when the host has gone, 1 when it is time for a fresh child."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)
    resource.setrlimit(resource.RLIMIT_AS, (base + MEMORY, base + MEMORY))
    bpf = policy.load()
    install_seccomp(ctypes.create_string_buffer(bpf, len(bpf)), len(bpf) // 8)
    for _ in range(QUESTIONS):
        question = os.read(control, LARGEST_QUESTION)  # read and write: the filter knows no recv or send
        if not question:
            os._exit(0)
        name, *arguments = json.loads(question)
        signal.setitimer(signal.ITIMER_PROF, cpu_s)  # SIGPROF's default ends us, even inside C
        try:
            equal, rule = QUESTIONS_KNOWN[name](*arguments)
            limit = False
        except Unresolved:
            equal, rule, limit = False, "too large", True
        except (MemoryError, RecursionError):
            equal, rule, limit = False, "memory limit", True
        signal.setitimer(signal.ITIMER_PROF, 0)
        os.write(control, json.dumps([equal, rule, limit]).encode())
    os._exit(1)


def serve(fd: int, cpu_s: float) -> None:
    """Fork children until the host goes; tell the host when a question killed one."""
    import math_verify  # noqa: F401  loaded once, before the forks
    import sympy  # noqa: F401

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that we set our own limits
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    same_latex(r"\int_0^1 x dx", r"\frac{1}{2}")  # warm caches are forked, too
    same(["sym", "x"], ["sym", "y"])
    check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    base = address_space_used()
    gc.collect()
    gc.freeze()
    os.write(fd, b'"ready"')
    while True:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                answer_questions(fd, parent, cpu_s, base)
            finally:
                os._exit(2)
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            rule = "time limit" if os.WTERMSIG(status) == signal.SIGPROF else f"signal {os.WTERMSIG(status)}"
            os.write(fd, json.dumps([False, rule, True]).encode())
        elif os.WEXITSTATUS(status) != 1:
            sys.exit(os.WEXITSTATUS(status))


def address_space_used() -> int:
    with open("/proc/self/statm") as file:  # noqa: PTH123
        return int(file.read().split()[0]) * resource.getpagesize()
