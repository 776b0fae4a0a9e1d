"""A procedural world of programming tasks whose solutions are two to five lines of Python.

    Read integers a and b. Print the larger of a times 3 and b plus 2. Example: for 5 9 print 15.

The worked example is the hidden consistency condition: a statement whose example contradicts it is ill-posed.
`parse` reads the text alone. Reference outputs are computed from the parsed meaning; programs, also the teacher's,
are untrusted text and run nowhere but in `sandbox`.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from promptcot_assets.domains.annotators import annotate
from promptcot_assets.domains.domain import Answers, Attempt, Seed
from promptcot_assets.domains.layout import solution_text
from promptcot_assets.domains.procedural import ProceduralWorld, level_of

Values = Mapping[str, int]
READ = "a, b = map(int, input().split())\n"
TESTS_PER_PROBLEM = 5
# a few hundred seeds must show a tiny model every product, sum and remainder that a worked example can need
LARGEST_CONSTANT, LARGEST_EXAMPLE = 4, 5


@dataclass(frozen=True)
class Operation:
    """A concept that makes a term of one variable and one constant."""

    text: str
    code: str
    apply: Callable[[int, int], int]


@dataclass(frozen=True)
class Task:
    """A concept that makes a statement of one or two terms."""

    text: str
    code: str
    variables: str  # letters a term may use
    terms: int
    apply: Callable[[list[Callable[[Values], int]], Values], int]


@dataclass(frozen=True)
class Term:
    concept: str
    variable: str
    constant: int

    def text(self) -> str:
        return OPERATIONS[self.concept].text.format(v=self.variable, k=self.constant)

    def code(self) -> str:
        return OPERATIONS[self.concept].code.format(v=self.variable, k=self.constant)

    def __call__(self, values: Values) -> int:
        return OPERATIONS[self.concept].apply(values[self.variable], self.constant)


OPERATIONS = {
    "products": Operation("{v} times {k}", "{v}*{k}", lambda v, k: v * k),
    "sums": Operation("{v} plus {k}", "{v}+{k}", lambda v, k: v + k),
    "remainders": Operation("{v} mod {k}", "{v}%{k}", lambda v, k: v % k),
    "squares": Operation("{v} squared", "{v}*{v}", lambda v, k: v * v),
}
TASKS = {
    "maximum": Task(
        "Print the larger of {s} and {t}.", "print(max({s}, {t}))", "ab", 2, lambda f, v: max(f[0](v), f[1](v))
    ),
    "addition": Task("Print the sum of {s} and {t}.", "print({s} + {t})", "ab", 2, lambda f, v: f[0](v) + f[1](v)),
    "conditionals": Task(
        "If a > b print {s}, otherwise print {t}.", "print({s} if a > b else {t})", "ab", 2,
        lambda f, v: f[0](v) if v["a"] > v["b"] else f[1](v),
    ),
    "loops": Task(
        "Print the total of {s} for i from 1 to a.",
        "s = 0\nfor i in range(1, a + 1):\n    s += {s}\nprint(s)", "ib", 1,
        lambda f, v: sum(f[0]({**v, "i": i}) for i in range(1, v["a"] + 1)),
    ),
}  # fmt: skip
VALIDATOR = r"""import re, sys
is_allowed = re.fullmatch(r"-?\d+ -?\d+\s*", sys.stdin.read())
print("valid" if is_allowed else "invalid")"""
WRONG_VALIDATORS = (
    "print('valid')",
    VALIDATOR.replace(r"-?\d+ -?\d+", r"-?\d+ -?\d+ -?\d+"),  # of three numbers
    "a, b, c = map(int, input().split())\nprint('valid')",
)
STATEMENT = re.compile(r"Read integers a and b\. (.+\.) Example: for (\d{1,4}) (\d{1,4}) print (\d{1,6})\.")


@dataclass(frozen=True)
class Parsed:
    task: str
    terms: tuple[Term, ...]
    example: tuple[int, int, int]

    @property
    def concepts(self) -> list[str]:
        return [self.task, *(term.concept for term in self.terms)]

    def program(self) -> str:
        names = dict(zip("st", (term.code() for term in self.terms), strict=False))
        return READ + TASKS[self.task].code.format(**names)

    def output(self, a: int, b: int) -> int:
        return TASKS[self.task].apply(list(self.terms), {"a": a, "b": b})

    def consistent(self) -> bool:
        return self.output(*self.example[:2]) == self.example[2]

    def plan(self) -> str:
        a, b, answer = self.example
        values = {"a": a, "b": b, "i": 1}
        worked = ", ".join(f"{term.code()} is {term(values)}" for term in self.terms)
        return f"{self.task}; with {a} {b}: {worked}, so print {answer}."

    def targets(self) -> str:
        return f"{self.task}, print {self.example[2]}."


def parse(text: str) -> Parsed | None:
    """Statement -> structure; None when it is not grammatical. A contradictory example still parses."""
    match = STATEMENT.fullmatch(text.strip())
    if not match:
        return None
    example = (int(match[2]), int(match[3]), int(match[4]))
    for name, task in TASKS.items():
        pattern = re.escape(task.text).replace(r"\{s\}", "(.+?)").replace(r"\{t\}", "(.+?)")
        if found := re.fullmatch(pattern, match[1]):
            terms = [_parse_term(part, task.variables) for part in found.groups()]
            if all(terms):
                return Parsed(name, tuple(term for term in terms if term), example)
    return None


def _parse_term(text: str, variables: str) -> Term | None:
    for concept, operation in OPERATIONS.items():
        pattern = re.escape(operation.text).replace(r"\{v\}", f"([{variables}])").replace(r"\{k\}", r"([1-9]\d{0,2})")
        if match := re.fullmatch(pattern, text):
            return Term(concept, match[1], int(match[2]) if match.lastindex == 2 else 0)
    return None


class MiniCode(ProceduralWorld):
    name = "mini_code"
    answers: Answers = "program"

    def concept_sets(self) -> list[list[str]]:
        """All sets: a task with its one or two operations."""
        return [
            [name, *operations]
            for name, task in TASKS.items()
            for operations in itertools.product(OPERATIONS, repeat=task.terms)
        ]

    def write(self, concepts: Sequence[str], rng: random.Random) -> str:
        """One consistent statement on these concepts (a task, then its operations)."""
        task = TASKS[concepts[0]]
        terms = tuple(Term(name, rng.choice(task.variables), rng.randint(2, LARGEST_CONSTANT)) for name in concepts[1:])
        a, b = rng.randint(1, LARGEST_EXAMPLE), rng.randint(1, LARGEST_EXAMPLE)
        answer = Parsed(concepts[0], terms, (a, b, 0)).output(a, b)
        statement = task.text.format(**dict(zip("st", (term.text() for term in terms), strict=False)))
        return f"Read integers a and b. {statement} Example: for {a} {b} print {answer}."

    def seed(self, text: str, concepts: list[str], annotator: str, rng: random.Random) -> Seed:
        parsed, other = parse(text), parse(self.write(concepts, rng))
        assert parsed and other, f"the writer and the parser disagree on {text!r}"
        stdins = [self.write_stdin(rng) for _ in range(TESTS_PER_PROBLEM)]
        return Seed(
            problem=text,
            concepts=concepts,
            level=level_of(concepts),
            solution=self.teach(text, 0.0, rng).completion,
            tests=[{"stdin": line, "expected": str(parsed.output(*map(int, line.split())))} for line in stdins],
            rationale=annotate(annotator, parsed, other, concepts, rng),
            annotator=annotator,
        )

    def defect(self, problem: str) -> str | None:
        if not problem.rstrip().endswith("."):
            return "truncated"
        return None if "Example: for" in problem else "no worked example"

    def well_posed(self, problem: str) -> bool:
        parsed = parse(problem)
        return parsed is not None and parsed.consistent()

    def concepts_of(self, problem: str) -> list[str] | None:
        parsed = parse(problem)
        return parsed.concepts if parsed else None

    def teach(self, problem: str, error: float, rng: random.Random) -> Attempt:
        parsed = parse(problem)
        if parsed is None:
            program = f"print({rng.randint(1, 40)})"
            return Attempt(solution_text("I guess.", _fenced(program)), program)
        if rng.random() < error:  # one constant or one operation mistaken
            at = rng.randrange(len(parsed.terms))
            right = wrong = parsed.terms[at]
            while wrong.code() == right.code():
                wrong = Term(rng.choice(list(OPERATIONS)), right.variable, rng.randint(2, LARGEST_CONSTANT))
            parsed = replace(parsed, terms=(*parsed.terms[:at], wrong, *parsed.terms[at + 1 :]))
        program = parsed.program()
        thoughts = f"{parsed.task} of {' and '.join(term.code() for term in parsed.terms)}"
        return Attempt(solution_text(thoughts, _fenced(program)), program)

    def write_stdin(self, rng: random.Random) -> str:
        return f"{rng.randint(1, 20)} {rng.randint(1, 20)}"

    def write_validator(self, error: float, rng: random.Random) -> str:
        return rng.choice(WRONG_VALIDATORS) if rng.random() < error else VALIDATOR

    def worked_example(self, problem: str) -> dict[str, str] | None:
        """The statement's own test, read from the text."""
        match = STATEMENT.fullmatch(problem.strip())
        return {"stdin": f"{match[2]} {match[3]}", "expected": match[4]} if match else None

    def with_worked_example(self, problem: str, expected: str) -> str | None:
        match = STATEMENT.fullmatch(problem.strip())
        return f"{match.string[: match.start(4)]}{expected.strip()}." if match else None


def _fenced(program: str) -> str:
    return f"```python\n{program}\n```"
