"""The symbolic worker's own side: identities tested in numbers of many digits, and math-verify for what we cannot read.

Runs in a process that forks one child after another; a child answers questions until one of them exceeds its CPU time
or memory, which kills that child and nothing else. Children are under the system-call filter of `policy.py`.

An identity holds when both sides agree at several points, negative ones among them, to at least fifty digits and to
more than the numerals written in them could hide; where a function could switch (|x - 3|, a root), also at points far
beyond those numerals. What has a value nowhere is equal to nothing.
That takes a fifth of a millisecond where simplification may not end. What has no root, constant or function in it is
compared in integers and fractions, exactly.
"""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import math
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import mpmath  # type: ignore[import-untyped]
from mpmath import mp

from sandbox import policy
from sandbox.guest import check, filter_of, install_seccomp, libc

DIGITS = 50
MOST_DIGITS = 20_000  # a number longer than that is not resolved to its last digit, so nothing is said of it
ONE_DRAWN = 5 * 10**11
MOST_BITS = 10_000  # of a value that is computed exactly
SLACK, SLACK_BITS = 15, 50  # digits, binary digits lost to rounding on the way
POINTS = 5
MOST_WRITTEN = 8  # of the numbers written, close to which variables go, too: |x - 10||x - 11| switches in between
FAR = 6  # further points, where |x - 3| has switched: 10^3, 10^8 and beyond all numerals, of either sign
SWITCHES = {"abs", "floor", "ceil", "max", "min", "log", "arcsin", "arccos", "arctan", "arccot"}
LARGEST_QUESTION = 100_000  # bytes
MEMORY = 1 << 30  # bytes a child may map beyond what the forked process has
QUESTIONS = 5_000  # then a fresh child: sympy's caches only grow
KILLED = 1e9  # CPU seconds: more than any budget has left
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38

Encoded = list[Any]  # a tree as JSON: Fractions as "p/q"

FUNCTIONS = {
    "sin": mpmath.sin, "cos": mpmath.cos, "tan": mpmath.tan, "cot": mpmath.cot, "sec": mpmath.sec, "csc": mpmath.csc,
    "arcsin": mpmath.asin, "arccos": mpmath.acos, "arctan": mpmath.atan, "arccot": mpmath.acot, "sinh": mpmath.sinh,
    "cosh": mpmath.cosh, "tanh": mpmath.tanh, "log": mpmath.log, "abs": abs, "floor": mpmath.floor, "ceil": mpmath.ceil,
    "factorial": mpmath.factorial, "factorial2": mpmath.fac2, "binomial": mpmath.binomial, "max": max, "min": min,
}  # fmt: skip


def _of_integers(function: Callable[..., int]) -> Callable[..., Any]:
    """A function of integers, on values that are integers to half of their digits."""

    def value(*arguments: Any) -> Any:
        whole = [mp.nint(argument) for argument in arguments]
        if any(abs(x - n) > mp.mpf(10) ** -(mp.dps // 2) for x, n in zip(arguments, whole, strict=True)):
            raise ValueError("no integer")
        return mp.mpf(function(*map(int, whole)))

    return value


FUNCTIONS |= {"gcd": _of_integers(math.gcd), "lcm": _of_integers(math.lcm)}
PERIODIC = {"sin", "cos", "tan", "cot", "sec", "csc", "log"}  # may vanish where rounding leaves a trace of a value
OPAQUE = {"prime", "gcd", "lcm", "sum", "prod"}  # with variables in them they are known by their arguments only
CONSTANTS = {"pi": lambda: +mp.pi, "e": lambda: +mp.e, "i": lambda: mp.mpc(0, 1), "infinity": lambda: mp.inf}


class Places(NamedTuple):
    """Where variables go further out: `beyond`, the power of ten above all constants; near the numbers `written`."""

    beyond: int = 0
    written: tuple[str, ...] = ()


AT_HOME = Places()


class Unresolved(Exception):
    """Values too large to tell apart."""


class Evaluation:
    """Trees evaluated with every variable at its `point`-th place, in the current precision.

    span: binary magnitude of the largest or smallest product, power or function value on the way: what it drowns, or
    what drowns it, needs that many more digits to be seen. lost: binary digits by which a sum is less than its parts.
    """

    def __init__(self, point: int, places: Places = AT_HOME) -> None:
        self.point = point
        self.places = places
        self.span = 0
        self.lost = 0

    def value(self, tree: Encoded) -> Any:
        """A number, or None where there is no value."""
        try:
            return self._value(tree)
        except (ValueError, ArithmeticError, TypeError, KeyError, mpmath.libmp.NoConvergence):
            return None

    def _value(self, tree: Encoded) -> Any:
        kind = tree[0]
        if kind == "num":
            above, _, below = tree[1].partition("/")
            return mp.mpf(int(above)) / int(below) if below else mp.mpf(int(above))
        if kind == "sym":
            return CONSTANTS[tree[1]]() if tree[1] in CONSTANTS else place(tree[1], self.point, self.places)
        if kind == "add":
            parts = [self._value(part) for part in tree[1:]]
            return self._cleared(mp.fsum(parts), parts)
        if kind == "mul":
            x = mp.fprod(self._value(part) for part in tree[1:])
        elif kind == "pow":
            x = self._power(tree[1], tree[2])
        elif is_opaque(tree):
            return place(json.dumps(tree), self.point, self.places)
        else:
            x = self._function(tree[1], [self._value(part) for part in tree[2:]])
        if x and mp.isfinite(x):
            self.span = max(self.span, abs(int(mp.mag(x))))
        return x

    def _function(self, name: str, arguments: list[Any]) -> Any:
        if name in ("tan", "sec"):
            cosine = self._function("cos", arguments)
            return (self._function("sin", arguments) if name == "tan" else 1) / cosine
        if name in ("cot", "csc"):
            sine = self._function("sin", arguments)
            return (self._function("cos", arguments) if name == "cot" else 1) / sine
        x = FUNCTIONS[name](*arguments)
        return self._cleared(x, [mp.one, *arguments]) if name in PERIODIC else x

    def difference(self, x: Any, y: Any) -> Any:
        return self._cleared(x - y, [x, y])

    def _cleared(self, x: Any, parts: list[Any]) -> Any:
        """Zero for what rounding left of a sum or a sine that vanishes, so that nothing is divided by it."""
        sizes = [mp.mag(part) for part in parts if part]
        if not sizes or not mp.isfinite(x):
            return x
        lost = int(max(sizes)) - int(mp.mag(x)) if x else mp.prec
        self.lost = max(self.lost, lost)
        return mp.zero if lost > mp.prec - SLACK_BITS else x

    def _power(self, base: Encoded, exponent: Encoded) -> Any:
        x = self._value(base)
        if not x and not self._value(exponent):
            raise ZeroDivisionError
        if exponent[0] == "num" and mp.im(x) == 0 and mp.re(x) < 0:
            above, _, below = exponent[1].partition("/")
            if int(below or 1) % 2:  # the real root of an odd degree
                root = mp.power(-mp.re(x), mp.mpf(int(above)) / int(below or 1))
                return -root if int(above) % 2 else root
        return mp.power(x, self._value(exponent))


def place(name: str, point: int, places: Places) -> Any:
    """A fixed, odd-looking number for a variable.

    Around 1 at the first points: all variables positive at two, all negative at one, of either sign at the others.
    Further points come in pairs, one the mirror of the other, so that differences have either sign, too. The last ones
    are a little above each number that is written.
    """
    pair, is_mirror = divmod(point - POINTS, 2)
    drawn = draw(name, point if point < POINTS else POINTS + pair)
    size = mp.mpf(drawn.size) / ONE_DRAWN
    if point >= POINTS + FAR:
        return mpmath.mpmathify(places.written[point - POINTS - FAR]) + size / 100
    if point >= POINTS:
        return (-size if is_mirror else size) * mp.mpf(10) ** (3, 8, places.beyond)[pair]
    return -size if drawn.negative else size


class Drawn(NamedTuple):
    """Where a variable is at one point: the size, ONE_DRAWN times as large, and the sign at the first points."""

    size: int
    negative: bool


@lru_cache(maxsize=1 << 12)
def draw(name: str, point: int) -> Drawn:
    seed = int.from_bytes(hashlib.sha256(f"{name} {point}".encode()).digest()[:8], "big")
    return Drawn(3 + seed % 10**12 + 3 * ONE_DRAWN // 10, point == 2 or (point > 2 and bool(seed >> 63)))


def places_of(*trees: Encoded) -> Places:
    beyond = 3 + sum(math.ceil(abs(size) * 0.302) for tree in trees for size in constants(tree))
    written = sorted(set().union(*map(numerals, trees)), key=lambda text: (len(text), text))[:MOST_WRITTEN]
    return Places(beyond, tuple(sign + text for text in written for sign in ("", "-")))


def numerals(tree: Encoded) -> set[str]:
    """The numbers in a tree, without their signs."""
    if tree[0] == "num":
        return {tree[1].removeprefix("-")}
    return set().union(*(numerals(part) for part in tree[1:] if isinstance(part, list)))


def constants(tree: Encoded) -> list[int]:
    """Binary magnitudes of the largest parts without variables."""
    if tree[0] == "sym" and tree[1] not in CONSTANTS:
        return []
    if not names(tree):
        value = Evaluation(0).value(tree)
        return [int(mp.mag(value))] if value and mp.isfinite(value) else []
    return [size for part in tree[1:] if isinstance(part, list) for size in constants(part)]


def digits_written(tree: Encoded) -> int:
    if tree[0] == "num":
        return len(tree[1])
    return sum(digits_written(part) for part in tree[1:] if isinstance(part, list))


def names(tree: Encoded) -> set[str]:
    if tree[0] == "sym":
        return {tree[1]} - set(CONSTANTS)
    inside: set[str] = set().union(*(names(part) for part in tree[1:] if isinstance(part, list)))
    if tree[0] == "call" and (tree[1] == "prime" or (tree[1] in OPAQUE and inside)):
        return {json.dumps(tree)}
    return inside


def is_opaque(tree: Encoded) -> bool:
    return tree[1] in OPAQUE and bool(names(tree))


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


def points(*trees: Encoded, written: int = 0) -> range:
    if not any(map(names, trees)):
        return range(1)
    return range(POINTS + FAR + written if any(map(switches, trees)) else POINTS)


def same_at(a: Encoded, b: Encoded, point: int, digits: int, places: Places) -> bool | None:
    """Whether both have one value there; None when neither has. Raises Unresolved for more than MOST_DIGITS digits."""
    digits += places.beyond if point >= POINTS else 0
    with mp.workdps(digits):
        evaluation = Evaluation(point, places)
        x, y = evaluation.value(a), evaluation.value(b)
        if x is None or y is None:
            return None if x is y or point >= POINTS else False
        if not (mp.isfinite(x) and mp.isfinite(y)):
            return bool(x == y) and not mp.isnan(x)
        if evaluation.lost < mp.prec // 2 and abs(x - y) * 1000 > max(abs(x), abs(y)) > mp.mpf(10) ** -SLACK:
            return False
        left = evaluation.difference(x, y)
    drowned = int(evaluation.span * 0.302)
    if drowned > MOST_DIGITS:
        raise Unresolved
    difference = ["add", a, ["mul", ["num", "-1"], b]]
    if drowned:
        digits += drowned
        left = value_at(difference, point, digits, places)
    return left is not None and vanishes(left, difference, point, digits, places)


def value_at(tree: Encoded, point: int, digits: int, places: Places) -> Any:
    with mp.workdps(digits):
        return Evaluation(point, places).value(tree)


def vanishes(left: Any, difference: Encoded, point: int, digits: int, places: Places) -> bool:
    """Whether a difference, of which `left` is left in so many digits, is zero there: then it shrinks as the precision
    grows, where a true value stays. What cancelled to the last digit twice is zero."""
    precision = 2 * digits
    further = value_at(difference, point, precision, places)
    if left == 0 and further:
        left, further = further, value_at(difference, point, 2 * precision, places)
    return further is not None and bool(further == 0 or abs(further) < abs(left) * mp.mpf(10) ** (SLACK - digits))


def same(a: Encoded, b: Encoded) -> tuple[bool, str]:
    """Whether a and b are one expression: equal at every point where they have values, and at some they must."""
    if is_short(a) and is_short(b):
        return same_exactly(a, b)
    digits = DIGITS + SLACK + digits_written(a) + digits_written(b)
    where, places = points(a, b), AT_HOME
    if len(where) > POINTS:
        places = places_of(a, b)
        where = points(a, b, written=len(places.written))
    valued = False
    for point in where:
        try:
            equal = same_at(a, b, point, digits, places)
        except Unresolved:
            if point < POINTS:
                raise
            continue
        if equal is False:
            return False, "identity"
        valued |= bool(equal)
    return valued, "identity" if valued else "no value"


# ------------------------------------------------------------------------------------------------ fractions


def bits(tree: Encoded) -> int:
    """About how long the exact value of a polynomial or of a quotient is at a place; for all else, too long."""
    kind, *parts = tree
    if kind == "num":
        return 4 * len(parts[0])
    if kind == "sym":
        return MOST_BITS if parts[0] in CONSTANTS else 42
    if kind in ("add", "mul"):
        return sum(map(bits, parts))
    if kind == "pow" and parts[1][0] == "num" and "/" not in parts[1][1]:
        return bits(parts[0]) * max(1, abs(int(parts[1][1])))
    return MOST_BITS


def is_short(tree: Encoded) -> bool:
    return bits(tree) < MOST_BITS


def exact(tree: Encoded, point: int) -> int | Fraction:
    """Its value where every variable is a large integer. Raises ZeroDivisionError where there is none."""
    kind, *parts = tree
    if kind == "num":
        return Fraction(parts[0]) if "/" in parts[0] else int(parts[0])
    if kind == "sym":
        size, negative = draw(parts[0], point)
        return -size if negative else size
    if kind == "add":
        return sum(exact(part, point) for part in parts)
    if kind == "mul":
        return math.prod(exact(part, point) for part in parts)
    base, exponent = exact(parts[0], point), int(parts[1][1])
    if not base and exponent == 0:
        raise ZeroDivisionError
    return Fraction(base) ** exponent if exponent < 0 else base**exponent


def exact_value(tree: Encoded, point: int) -> int | Fraction | None:
    try:
        return exact(tree, point)
    except ZeroDivisionError:
        return None


def same_exactly(a: Encoded, b: Encoded) -> tuple[bool, str]:
    """As `same`, for what is a fraction wherever its variables are integers: no digit is ever lost."""
    values = [(exact_value(a, point), exact_value(b, point)) for point in points(a, b)]
    if any(x != y for x, y in values):
        return False, "identity"
    valued = any(x is not None for x, _ in values)
    return valued, "identity" if valued else "no value"


def defined(a: Encoded) -> tuple[bool, str]:
    """Whether it has a value anywhere."""
    with mp.workdps(DIGITS + SLACK + digits_written(a)):
        found = any(Evaluation(point).value(a) is not None for point in points(a)[:POINTS])
    return found, "normal form" if found else "no value"


def ranks(*constants: Encoded) -> tuple[bool, str]:
    """The places of real constants in their order, as JSON: equal ones share a place."""
    digits = DIGITS + SLACK + sum(map(digits_written, constants))
    with mp.workdps(digits):
        values = [Evaluation(0).value(constant) for constant in constants]
    if any(value is None or mp.im(value) or not mp.isfinite(value) for value in values):
        return False, "no real number"
    order = sorted(range(len(values)), key=lambda i: mp.re(values[i]))
    places, last = [0] * len(values), 0
    for before, at in pairwise(order):
        last += not same(constants[before], constants[at])[0]
        places[at] = last
    return True, json.dumps(places)


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


def same_latex(a: str, b: str) -> tuple[bool, str]:
    """For what our reader does not know, such as sums and integrals: math-verify reads, sympy decides."""
    import sympy

    x, y = _by_math_verify(a), _by_math_verify(b)
    if x is None or y is None:
        return False, "unreadable"
    x, y = x.doit(), y.doit()
    if x.has(sympy.nan, sympy.zoo) or y.has(sympy.nan, sympy.zoo):
        return False, "no value"
    return x == y or sympy.simplify(x - y) == 0, "sympy"


def _by_math_verify(latex: str) -> Any:
    import sympy
    from math_verify import LatexExtractionConfig, parse

    found = parse(f"${latex}$", [LatexExtractionConfig()], fallback_mode="no_fallback", parsing_timeout=None)
    expressions = [form for form in found if isinstance(form, sympy.Expr)]
    return expressions[0] if expressions else None


QUESTIONS_KNOWN: dict[str, Callable[..., tuple[bool, str]]] = {
    "same": same, "near": near, "proportional": proportional, "defined": defined, "ranks": ranks,
    "same_latex": same_latex,
}  # fmt: skip


# ------------------------------------------------------------------------------------------------ the process


def answer_questions(control: int, parent: int, base: int) -> None:
    """The child: [CPU seconds, name, arguments...] in, [equal, rule, limit, CPU seconds used] out.

    Exits 0 when the host has gone, 1 when it is time for a fresh child.
    """
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)
    resource.setrlimit(resource.RLIMIT_AS, (base + MEMORY, base + MEMORY))
    install_seccomp(filter_of(policy.load()))
    for _ in range(QUESTIONS):
        question = os.read(control, LARGEST_QUESTION)  # read and write: the filter knows no recv or send
        if not question:
            os._exit(0)
        cpu_s, name, *arguments = json.loads(question.decode())
        started = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, cpu_s)  # SIGPROF's default ends us, even inside C
        try:
            equal, rule = QUESTIONS_KNOWN[name](*arguments)
            limit = False
        except Unresolved:
            equal, rule, limit = False, "too large", True
        except (MemoryError, RecursionError):
            equal, rule, limit = False, "memory limit", True
        except Exception as error:  # noqa: BLE001 of sympy or math-verify, on text that they cannot read
            equal, rule, limit = False, f"unreadable: {type(error).__name__}", False
        signal.setitimer(signal.ITIMER_PROF, 0)
        os.write(control, json.dumps([equal, rule, limit, time.process_time() - started]).encode())
    os._exit(1)


def serve(fd: int) -> None:
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
                answer_questions(fd, parent, base)
            finally:
                os._exit(2)
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            rule = "time limit" if os.WTERMSIG(status) == signal.SIGPROF else f"signal {os.WTERMSIG(status)}"
            os.write(fd, json.dumps([False, rule, True, KILLED]).encode())
        elif os.WEXITSTATUS(status) != 1:
            sys.exit(os.WEXITSTATUS(status))


def address_space_used() -> int:
    with open("/proc/self/statm") as file:  # noqa: PTH123
        return int(file.read().split()[0]) * resource.getpagesize()
