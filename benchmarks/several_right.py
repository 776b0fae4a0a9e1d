"""Programming problems with several right outputs whose truth is known, and writers that are wrong with known shares.

Each family is a kind of problem with a constant in its statement; every text below is ours, and all of it runs in the
sandbox like anyone's. WORDS stand for what a family puts in their place: LIMIT, its constant.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from promptcot_assets.domains import Attempt
from promptcot_assets.lake import Row
from promptcot_assets.lake.ids import content_id, seed_from
from promptcot_assets.stages.labels.written_judges import ONE_RIGHT_REASON, Kind, WrittenJudge
from promptcot_assets.stages.labels.written_tests import WrittenTest

BAD_INPUTS = 0.2  # of the inputs of written tests
SAYS_ONE = 0.1  # of the calls for a checker that say that one output is right


@dataclass(frozen=True)
class Family:
    """right: programs that all are right and print different outputs; the last one of them takes only allowed inputs.
    bad: inputs that the statement does not allow. validators, checkers: the first is right, the others are not.
    """

    name: str
    statement: str
    limits: tuple[int, int]
    stdin: Callable[[random.Random, int], str]
    right: tuple[str, ...]
    wrong: tuple[str, ...]
    bad: tuple[str, ...]
    validators: tuple[str, ...]
    checkers: tuple[str, ...]
    answer: Callable[[str], str]


READS = "import json, sys\ntold = json.load(sys.stdin)\nw, o = told['input'].split(), told['output'].split()\n"
JUDGES = (
    READS
    + """try:
    right = RULE
except (ValueError, IndexError):
    right = False
print('ok' if right else 'wrong')"""
)
BROKEN_CHECKERS = (  # whatever the problem is
    "print('ok')",
    "print('wrong')",
    READS + "print('ok' if o else 'wrong')",
    READS + "print('right' if o else 'wrong')",
    READS + "assert told['output'] == told['expected']\nprint('ok')",
)
BROKEN_VALIDATORS = ("print('valid')", "print('invalid')", "raise SystemExit(1)", "print('yes')")


def _checker(rule: str) -> str:
    return JUDGES.replace("RULE", rule)


def _validator(pattern: str, rule: str) -> str:
    return f"""import re, sys
text = sys.stdin.read()
w = text.split()
allowed = re.fullmatch(r"{pattern}\\s*", text) and {rule}
print('valid' if allowed else 'invalid')"""


def _numbers(rng: random.Random, limit: int) -> str:
    count = rng.randint(3, 6)
    drawn = [rng.randint(1, limit) for _ in range(count)]
    drawn[rng.randrange(count)] = drawn[rng.randrange(count)]  # several may be the largest
    return f"{count}\n{' '.join(map(str, drawn))}"


LIST = r"\d+\n\d+( \d+)*"
LIST_RULE = "len(w) == int(w[0]) + 1 and int(w[0]) >= 1 and all(1 <= int(x) <= LIMIT for x in w[1:])"
OF_ONE = r"-?\d+"
FAMILIES = (
    Family(
        "pair with a product",
        "Input: an integer n, 2 <= n <= LIMIT.\nOutput: two positive integers whose product is n. Any pair is right.",
        (50, 99),
        lambda rng, limit: str(rng.randint(2, limit)),
        ("n = int(input())\nprint(1, n)", "n = int(input())\nprint(n, 1)",
         "n = int(input())\na = next(d for d in range(2, n + 1) if n % d == 0)\nprint(a, n // a)",
         "n = int(input())\na = max(d for d in range(1, n + 1) if d * d <= n and n % d == 0)\nprint(n // a, a)",
         "n = int(input())\nassert 2 <= n <= LIMIT\nprint(1, n)"),
        ("n = int(input())\nprint(1, n - 1)", "n = int(input())\nprint(2, n // 2)", "n = int(input())\nprint(n, n)"),
        ("0", "1", "1000", "-4"),
        (_validator(OF_ONE, "2 <= int(w[0]) <= LIMIT"), _validator(OF_ONE, "2 <= int(w[0]) <= LIMIT // 4"),
         _validator(OF_ONE, "True")),
        (_checker("len(o) == 2 and int(o[0]) > 0 and int(o[0]) * int(o[1]) == int(w[0])"),
         _checker("len(o) == 2 and int(o[0]) > 0 and int(o[1]) > 0"),
         _checker("len(o) == 2 and int(o[0]) + int(o[1]) == int(w[0])")),
        lambda stdin: f"1 {stdin.strip()}",
    ),
    Family(
        "pair with a sum",
        "Input: an integer s, 2 <= s <= LIMIT.\nOutput: two positive integers whose sum is s. Any pair is right.",
        (50, 99),
        lambda rng, limit: str(rng.randint(2, limit)),
        ("s = int(input())\nprint(1, s - 1)", "s = int(input())\nprint(s - 1, 1)",
         "s = int(input())\nprint(s // 2, s - s // 2)", "s = int(input())\nprint(s - s // 2, s // 2)",
         "s = int(input())\nassert 2 <= s <= LIMIT\nprint(1, s - 1)"),
        ("s = int(input())\nprint(0, s)", "s = int(input())\nprint(s // 2, s // 2)", "s = int(input())\nprint(1, s)"),
        ("0", "1", "1000", "-4"),
        (_validator(OF_ONE, "2 <= int(w[0]) <= LIMIT"), _validator(OF_ONE, "int(w[0]) % 2 == 0"),
         _validator(OF_ONE, "True")),
        (_checker("len(o) == 2 and min(map(int, o)) > 0 and int(o[0]) + int(o[1]) == int(w[0])"),
         _checker("len(o) == 2 and int(o[0]) + int(o[1]) == int(w[0])"),
         _checker("len(o) == 2 and int(o[0]) * int(o[1]) == int(w[0])")),
        lambda stdin: f"1 {int(stdin) - 1}",
    ),
    Family(
        "position of a largest",
        "Input: n, then n integers from 1 to LIMIT on the second line.\nOutput: the position, counted from 1, of a "
        "largest one. Any is right.",
        (5, 9),
        _numbers,
        ("input()\na = list(map(int, input().split()))\nprint(a.index(max(a)) + 1)",
         "n = int(input())\na = list(map(int, input().split()))\nprint(n - a[::-1].index(max(a)))",
         "n = int(input())\na = list(map(int, input().split()))\nprint(max(range(n), key=lambda i: (a[i], i % 2)) + 1)",
         "n = int(input())\na = list(map(int, input().split()))\n"
         "assert n == len(a) and all(1 <= x <= LIMIT for x in a)\nprint(a.index(max(a)) + 1)"),
        ("input()\na = list(map(int, input().split()))\nprint(a.index(max(a)))",
         "input()\na = list(map(int, input().split()))\nprint(a.index(min(a)) + 1)", "print(int(input()))"),
        ("3\n1 2 500", "2\n1 2 3", "3\n1 -2 3"),
        (_validator(LIST, LIST_RULE), _validator(LIST, "len(w) == int(w[0])"), _validator(LIST, "True")),
        (_checker("len(o) == 1 and int(o[0]) > 0 and w[int(o[0])] == max(w[1:], key=int)"),
         _checker("len(o) == 1 and 1 <= int(o[0]) <= int(w[0])"),
         _checker("len(o) == 1 and w[int(o[0])] == min(w[1:], key=int)")),
        lambda stdin: str(max(range(len(stdin.split()) - 1), key=lambda i: int(stdin.split()[i + 1])) + 1),
    ),
    Family(
        "order with the largest first",
        "Input: n, then n integers from 1 to LIMIT on the second line.\nOutput: the integers on one line in any order "
        "in which a largest one is first.",
        (20, 99),
        _numbers,
        ("input()\nprint(*sorted(map(int, input().split()), reverse=True))",
         "input()\na = list(map(int, input().split()))\na.remove(m := max(a))\nprint(m, *a)",
         "input()\na = list(map(int, input().split()))\ni = a.index(max(a))\na[0], a[i] = a[i], a[0]\nprint(*a)",
         "input()\na = sorted(map(int, input().split()))\nprint(a[-1], *a[:-1])",
         "n = int(input())\na = list(map(int, input().split()))\n"
         "assert n == len(a) and all(1 <= x <= LIMIT for x in a)\na.remove(m := max(a))\nprint(m, *a)"),
        ("input()\nprint(*sorted(map(int, input().split())))", "input()\nprint(input())",
         "input()\na = list(map(int, input().split()))\nprint(*[max(a)] * len(a))"),
        ("3\n1 2 500", "2\n1 2 3", "3\n1 -2 3"),
        (_validator(LIST, LIST_RULE), _validator(LIST, "len(w) == int(w[0])"), _validator(LIST, "True")),
        (_checker("sorted(o) == sorted(w[1:]) and int(o[0]) == max(map(int, o))"),
         _checker("len(o) == int(w[0])"), _checker("sorted(o) == sorted(w[1:])")),
        lambda stdin: " ".join(sorted(stdin.split()[1:], key=int, reverse=True)),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Posed:
    """A problem of a family, with its constant in every text."""

    family: Family
    limit: int
    text: str

    def own(self, program: str) -> str:
        return program.replace("LIMIT", str(self.limit))


def posed(count: int, seed: int) -> list[Posed]:
    """`count` problems, the families in turn, each with its constant and a worked example; no text twice."""
    found: dict[str, Posed] = {}
    rng = random.Random(seed)
    while len(found) < count:
        family = FAMILIES[len(found) % len(FAMILIES)]
        limit = rng.randint(*family.limits)
        stdin = family.stdin(rng, limit)
        statement = family.statement.replace("LIMIT", str(limit))
        text = f"{statement}\nExample\nInput:\n{stdin}\nOutput:\n{family.answer(stdin)}\n"
        found.setdefault(text, Posed(family, limit, text))
    return list(found.values())


def rows_of(problems: Sequence[Posed]) -> list[Row]:
    return [{"problem_id": content_id(one.text), "domain": "code", "problem": one.text} for one in problems]


class Writers:
    """A teacher whose programs are wrong, and whose judges are broken, with known probabilities."""

    name = "writers"

    def __init__(self, problems: Sequence[Posed], program_error: float, judge_error: float) -> None:
        self._posed = {one.text: one for one in problems}
        self._program_error, self._judge_error = program_error, judge_error

    def attempts(self, problems: Sequence[Row], n: int, seed: int) -> list[list[Attempt]]:
        return [[self._attempt(row, seed_from(seed, row["problem_id"], k)) for k in range(n)] for row in problems]

    def _attempt(self, row: Row, seed: int) -> Attempt:
        one, rng = self._posed[row["problem"]], random.Random(seed)
        programs = one.family.wrong if rng.random() < self._program_error else one.family.right[:-1]
        program = one.own(rng.choice(programs))
        return Attempt(f"```python\n{program}\n```", program, seed=seed)

    def tests(self, problems: Sequence[Row], calls: int, seed: int) -> list[list[WrittenTest]]:
        return [[self._test(row, seed_from(seed, row["problem_id"], k)) for k in range(calls)] for row in problems]

    def _test(self, row: Row, seed: int) -> WrittenTest:
        one, rng = self._posed[row["problem"]], random.Random(seed)
        is_bad = rng.random() < BAD_INPUTS
        stdin = rng.choice(one.family.bad) if is_bad else one.family.stdin(rng, one.limit)
        return WrittenTest(stdin, one.family.answer(stdin), seed=seed)

    def judges(self, problems: Sequence[Row], kind: Kind, calls: int, seed: int) -> list[list[WrittenJudge]]:
        return [
            [self._judge(row, kind, seed_from(seed, row["problem_id"], k)) for k in range(calls)] for row in problems
        ]

    def _judge(self, row: Row, kind: Kind, seed: int) -> WrittenJudge:
        one, rng = self._posed[row["problem"]], random.Random(seed)
        if kind == "checker" and rng.random() < SAYS_ONE:
            return WrittenJudge(None, ONE_RIGHT_REASON, seed=seed)
        right, *broken = one.family.validators if kind == "validator" else one.family.checkers
        broken += BROKEN_VALIDATORS if kind == "validator" else BROKEN_CHECKERS
        return WrittenJudge(one.own(rng.choice(broken) if rng.random() < self._judge_error else right), seed=seed)
