"""A procedural world of word problems, small enough for half a million parameters and exact enough to check.

    Let A be the root of 4t + 3 = 31. Let B be the larger share of 35 split 2:5.
    Find the remainder when A + B is divided by 6.

Every problem joins two quantities, and with a third concept their difference or a remainder. Most quantities hide a
consistency condition (31 = 4*7 + 3), so a text written without a plan is usually ill-posed: about one in five is
solvable when each number is drawn on its own. `solve` reads the text alone, never the writer's parameters.
"""

from __future__ import annotations

import itertools
import math
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from promptcot_assets.domains.annotators import annotate
from promptcot_assets.domains.domain import Answers, Attempt, Seed
from promptcot_assets.domains.layout import solution_text
from promptcot_assets.domains.procedural import ProceduralWorld, level_of

Numbers = tuple[int, ...]


@dataclass(frozen=True)
class Solved:
    """A quantity's value, the forward steps that find it, and the backward steps that design it."""

    value: int
    steps: str
    plan: str


@dataclass(frozen=True)
class Quantity:
    """One concept: how its numbers are drawn, worded and solved. `solve` gives None for an ill-posed instance."""

    concept: str
    label: str  # short name of the value, used in plans
    text: str  # with {0}, {1}, ... for the numbers
    draw: Callable[[random.Random], Numbers]
    solve: Callable[..., Solved | None]

    @property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(re.sub(r"\\{\d\\}", r"(\\d{1,4})", re.escape(self.text)))


def _solve_linear(a: int, b: int, c: int) -> Solved | None:
    if a < 1 or c <= b or (c - b) % a:
        return None
    t = (c - b) // a
    return Solved(t, f"{c}-{b}={c - b}, {c - b}/{a}={t}", f"{a}*{t}={a * t}, {a * t}+{b}={c}")


def _draw_linear(rng: random.Random) -> Numbers:
    t, a, b = rng.randint(2, 9), rng.randint(2, 6), rng.randint(1, 6)
    return a, b, a * t + b


def _solve_sequence(a: int, b: int, c: int) -> Solved | None:
    d = b - a
    if d < 1 or c <= b or (c - a) % d:
        return None
    n = (c - a) // d
    return Solved(n + 1, f"{b}-{a}={d}, {c}-{a}={c - a}, {c - a}/{d}={n}, {n}+1={n + 1}",
                  f"{a}+{d}={b}, {d}*{n}={d * n}, {a}+{d * n}={c}")  # fmt: skip


def _draw_sequence(rng: random.Random) -> Numbers:
    a, d, k = rng.randint(1, 6), rng.randint(2, 5), rng.randint(4, 8)
    return a, a + d, a + (k - 1) * d


def _solve_quadratic(s: int, p: int) -> Solved | None:
    discriminant = s * s - 4 * p
    root = math.isqrt(max(discriminant, 0))
    if discriminant <= 0 or p < 1 or root * root != discriminant:
        return None
    y = (s + root) // 2
    x = s - y
    return Solved(y, f"{x}*{y}={p}, {x}+{y}={s}, larger {y}", f"{x}+{y}={s}, {x}*{y}={p}")


def _draw_quadratic(rng: random.Random) -> Numbers:
    while True:
        x, y = sorted((rng.randint(1, 7), rng.randint(2, 8)))
        if x < y:
            return x + y, x * y


def _solve_simultaneous(s: int, d: int) -> Solved | None:
    if (s + d) % 2 or d < 1 or d >= s:
        return None
    u = (s + d) // 2
    return Solved(u, f"{s}+{d}={s + d}, {s + d}/2={u}", f"{u}+{s - u}={s}, {u}-{s - u}={d}")


def _draw_simultaneous(rng: random.Random) -> Numbers:
    v, d = rng.randint(1, 7), rng.randint(1, 7)
    return v + d + v, d


def _solve_ratio(total: int, m: int, n: int) -> Solved | None:
    if m < 1 or m >= n or total % (m + n) or total < m + n:
        return None
    unit = total // (m + n)
    return Solved(unit * n, f"{m}+{n}={m + n}, {total}/{m + n}={unit}, {unit}*{n}={unit * n}",
                  f"unit {unit}, {m}+{n}={m + n}, {unit}*{m + n}={total}")  # fmt: skip


def _draw_ratio(rng: random.Random) -> Numbers:
    while True:
        m, n, unit = rng.randint(1, 4), rng.randint(2, 5), rng.randint(2, 7)
        if m < n and math.gcd(m, n) == 1:
            return unit * (m + n), m, n


def _solve_average(a: int, b: int, mean: int) -> Solved | None:
    w = 3 * mean - a - b
    if w < 1:
        return None
    return Solved(w, f"3*{mean}={3 * mean}, {a}+{b}={a + b}, {3 * mean}-{a + b}={w}",
                  f"{a}+{b}={a + b}, {a + b}+{w}={3 * mean}, 3*{mean}={3 * mean}")  # fmt: skip


def _draw_average(rng: random.Random) -> Numbers:
    while True:
        a, b, mean = rng.randint(1, 7), rng.randint(1, 7), rng.randint(3, 7)
        if 1 <= 3 * mean - a - b <= 15:
            return a, b, mean


def _solve_rectangle(length: int, area: int) -> Solved | None:
    if length < 1 or area < 1 or area % length:
        return None
    w = area // length
    return Solved(w, f"{area}/{length}={w}", f"{length}*{w}={area}")


def _draw_rectangle(rng: random.Random) -> Numbers:
    w, length = rng.randint(2, 8), rng.randint(2, 8)
    return length, length * w


def _solve_percentage(percent: int, whole: int) -> Solved | None:
    if percent not in (10, 20, 25, 50) or whole < 1 or whole % (100 // percent):
        return None
    d = 100 // percent
    part = whole // d
    return Solved(part, f"100/{percent}={d}, {whole}/{d}={part}", f"100/{percent}={d}, {d}*{part}={whole}")


def _draw_percentage(rng: random.Random) -> Numbers:
    percent = rng.choice([10, 20, 25, 50])
    return percent, 100 // percent * rng.randint(2, 9)


QUANTITIES = (
    Quantity("linear equations", "root", "the root of {0}t + {1} = {2}", _draw_linear, _solve_linear),
    Quantity(
        "arithmetic sequences", "terms", "the number of terms in {0}, {1}, ..., {2}", _draw_sequence, _solve_sequence
    ),
    Quantity(
        "quadratic equations", "larger", "the larger root of t^2 - {0}t + {1} = 0", _draw_quadratic, _solve_quadratic
    ),
    Quantity(
        "simultaneous equations",
        "u",
        "the value of u if u + v = {0} and u - v = {1}",
        _draw_simultaneous,
        _solve_simultaneous,
    ),
    Quantity("ratios", "share", "the larger share of {0} split {1}:{2}", _draw_ratio, _solve_ratio),
    Quantity("averages", "w", "the w if {0}, {1} and w have mean {2}", _draw_average, _solve_average),
    Quantity(
        "rectangle area",
        "width",
        "the width of a rectangle of length {0} and area {1}",
        _draw_rectangle,
        _solve_rectangle,
    ),
    Quantity("percentages", "part", "{0} percent of {1}", _draw_percentage, _solve_percentage),
)
BY_CONCEPT = {quantity.concept: quantity for quantity in QUANTITIES}
COMBINERS = ("absolute difference", "remainders")  # the sum is implicit: it is no concept of its own

FRAME = "Let A be {A}. Let B be {B}. {question}"
FRAME_PATTERN = re.compile(r"Let A be (.+?)\. Let B be (.+?)\. (Find .*)")
SUM, DIFFERENCE, REMAINDER = "Find A + B.", "Find |A - B|.", "Find the remainder when A + B is divided by {m}."
QUESTIONS = {None: SUM, "absolute difference": DIFFERENCE, "remainders": REMAINDER}
REMAINDER_PATTERN = re.compile(r"Find the remainder when A \+ B is divided by (\d{1,4})\.")


@dataclass(frozen=True)
class Parsed:
    """The structure of a grammatical text."""

    a: tuple[Quantity, Numbers]
    b: tuple[Quantity, Numbers]
    combiner: str | None
    modulus: int | None

    @property
    def concepts(self) -> list[str]:
        return [self.a[0].concept, self.b[0].concept, *([self.combiner] if self.combiner else [])]

    def values(self) -> tuple[Solved, Solved] | None:
        a, b = self.a[0].solve(*self.a[1]), self.b[0].solve(*self.b[1])
        return (a, b) if a and b else None

    def plan(self) -> str:
        a, b = self._solved()
        ending = f" mod {self.modulus}." if self.modulus else ""
        return f"A {self.a[0].label} {a.value}: {a.plan}. B {self.b[0].label} {b.value}: {b.plan}.{ending}"

    def targets(self) -> str:
        a, b = self._solved()
        return f"{self.a[0].label} {a.value}, {self.b[0].label} {b.value}."

    def _solved(self) -> tuple[Solved, Solved]:
        values = self.values()
        if values is None:
            raise ValueError(f"an ill-posed problem has no plan: {self}")
        return values


def parse(text: str) -> Parsed | None:
    """Problem text -> structure; None when it is not grammatical."""
    frame = FRAME_PATTERN.fullmatch(text.strip())
    if not frame:
        return None
    a, b = _parse_quantity(frame[1]), _parse_quantity(frame[2])
    if not a or not b:
        return None
    if frame[3] == SUM:
        return Parsed(a, b, None, None)
    if frame[3] == DIFFERENCE:
        return Parsed(a, b, "absolute difference", None)
    remainder = REMAINDER_PATTERN.fullmatch(frame[3])
    return Parsed(a, b, "remainders", int(remainder[1])) if remainder else None


def _parse_quantity(text: str) -> tuple[Quantity, Numbers] | None:
    for quantity in QUANTITIES:
        if match := quantity.pattern.fullmatch(text):
            return quantity, tuple(map(int, match.groups()))
    return None


def solve(text: str) -> tuple[int, str] | None:
    """Text -> (answer, worked steps), exactly; None when it is ungrammatical or ill-posed."""
    parsed = parse(text)
    values = parsed and parsed.values()
    if not parsed or not values:
        return None
    a, b = values
    start = f"A: {a.steps}. B: {b.steps}. "
    if parsed.combiner == "absolute difference":
        high, low = max(a.value, b.value), min(a.value, b.value)
        return high - low, f"{start}{high}-{low}={high - low}."
    total = a.value + b.value
    if parsed.combiner is None:
        return total, f"{start}{a.value}+{b.value}={total}."
    if not parsed.modulus or parsed.modulus < 2:
        return None
    whole, answer = total - total % parsed.modulus, total % parsed.modulus
    return answer, f"{start}{a.value}+{b.value}={total}, {total}-{whole}={answer}."


class MiniMaths(ProceduralWorld):
    name = "mini_maths"
    answers: Answers = "maths"

    def concept_sets(self) -> list[list[str]]:
        """All sets: two quantities, with or without a combiner."""
        pairs = itertools.combinations(BY_CONCEPT, 2)
        return [[*pair, *([combiner] if combiner else [])] for pair in pairs for combiner in (None, *COMBINERS)]

    def shuffled(self, concepts: list[str], rng: random.Random) -> list[str]:
        return [concepts[1], concepts[0], *concepts[2:]] if rng.random() < 0.5 else concepts

    def write(self, concepts: Sequence[str], rng: random.Random) -> str:
        """One well-posed problem on these concepts (two quantities, then at most one combiner)."""
        a, b = (BY_CONCEPT[name] for name in concepts[:2])
        question = QUESTIONS[concepts[2] if len(concepts) > 2 else None]
        return FRAME.format(
            A=a.text.format(*a.draw(rng)), B=b.text.format(*b.draw(rng)), question=question.format(m=rng.randint(3, 9))
        )

    def seed(self, text: str, concepts: list[str], annotator: str, rng: random.Random) -> Seed:
        parsed, other, solved = parse(text), parse(self.write(concepts, rng)), solve(text)
        assert parsed and other and solved, f"the writer and the parser disagree on {text!r}"
        answer, steps = solved
        return Seed(
            problem=text,
            concepts=concepts,
            level=level_of(concepts),
            answer=str(answer),
            solution=solution_text(steps, f"\\boxed{{{answer}}}"),
            rationale=annotate(annotator, parsed, other, concepts, rng),
            annotator=annotator,
        )

    def defect(self, problem: str) -> str | None:
        return None if problem.rstrip().endswith((".", "?")) else "truncated"

    def well_posed(self, problem: str) -> bool:
        return solve(problem) is not None

    def concepts_of(self, problem: str) -> list[str] | None:
        parsed = parse(problem)
        return parsed.concepts if parsed else None

    def teach(self, problem: str, error: float, rng: random.Random) -> Attempt:
        solved = solve(problem)
        if solved is None:  # it cannot know: a guess, with no reasoning worth learning from
            guess = str(rng.randint(1, 40))
            return Attempt(solution_text("I guess.", f"\\boxed{{{guess}}}"), guess)
        answer, steps = solved
        if rng.random() < error:
            answer += rng.choice([-2, -1, 1, 2, 10])
        return Attempt(solution_text(steps, f"\\boxed{{{answer}}}"), str(answer))

    def write_stdin(self, rng: random.Random) -> str:
        raise TypeError("mini_maths answers are numbers: there is nothing to run")

    def write_validator(self, error: float, rng: random.Random) -> str:
        raise TypeError("mini_maths answers are numbers: there is nothing to run")
