"""What an answer can be. Every form has a `text`: its normal form, one readable line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from sandbox.maths import trees
from sandbox.maths.trees import Tree

COMMAND = re.compile(r"\\(?:begin\s*\{vmatrix\}|end\s*\{vmatrix\}|[a-zA-Z]+|[^a-zA-Z\s])")
KNOWN = {"\\" + name for name in """
sum prod int lim infty to frac sqrt binom pi sin cos tan cot sec csc log ln exp arcsin arccos arctan
alpha beta gamma delta epsilon theta lambda mu phi omega \\ begin{vmatrix} end{vmatrix}
""".split()}  # fmt: skip # noqa: SIM905


@dataclass(frozen=True)
class Number:
    """An exact rational. decimal: it was written with a decimal point. restated: see `Policy.restatements`."""

    value: Fraction
    decimal: bool = False
    restated: bool = False

    @property
    def text(self) -> str:
        return str(self.value)

    @property
    def tree(self) -> Tree:
        return ("num", self.value)


@dataclass(frozen=True)
class Expression:
    """Anything with roots, constants, functions or variables."""

    tree: Tree
    decimal: bool = False
    restated: bool = False

    @property
    def text(self) -> str:
        return trees.text(self.tree)


@dataclass(frozen=True)
class Quantity:
    """A value with a unit of measure (or a base, or a percent sign): `5 cm`, `1011_2`."""

    value: Form
    unit: str

    @property
    def text(self) -> str:
        return f"{self.value.text} {self.unit}"


@dataclass(frozen=True)
class Words:
    """An answer in words, case and spaces folded."""

    words: str

    @property
    def text(self) -> str:
        return self.words


@dataclass(frozen=True)
class Choice:
    """A letter of a multiple-choice question, with the value beside it if one is written."""

    letter: str
    value: Form | None = None

    @property
    def text(self) -> str:
        return f"({self.letter})"


@dataclass(frozen=True)
class Collection:
    """list: `1, 2`; tuple: `(1, 2)`, or an open interval; brackets: `[1, 2]`; set: `{1, 2}`; ratio: `1:2`.

    word: `and` or `or`, where that stands between the items of a list.
    """

    kind: Literal["list", "tuple", "brackets", "set", "ratio"]
    items: tuple[Form, ...]
    word: str = ""

    @property
    def text(self) -> str:
        texts = [item.text for item in self.items]
        if self.kind in ("list", "set"):
            texts = sorted(set(texts) if self.kind == "set" else texts)
        left, right = {"tuple": ("(", ")"), "brackets": ("[", "]"), "set": ("{", "}")}.get(self.kind, ("", ""))
        return left + (":" if self.kind == "ratio" else ", ").join(texts) + right


@dataclass(frozen=True)
class Interval:
    """left and right end, and whether each belongs to it."""

    left: Form
    right: Form
    closed: tuple[bool, bool]

    @property
    def text(self) -> str:
        left, right = "[" if self.closed[0] else "(", "]" if self.closed[1] else ")"
        return f"{left}{self.left.text}, {self.right.text}{right}"


@dataclass(frozen=True)
class Combination:
    """Sets united, intersected, or the first without the others. listed: inequalities with commas between them.

    variable: whose inequalities they are, if they come from such.
    """

    kind: Literal["union", "intersection", "difference", "listed"]
    parts: tuple[Form, ...]
    variable: str = ""

    @property
    def text(self) -> str:
        texts = [part.text for part in self.parts]
        sign = {"union": " U ", "intersection": " n ", "difference": " \\ ", "listed": ", "}[self.kind]
        return sign.join(texts if self.kind == "difference" else sorted(texts))


@dataclass(frozen=True)
class Matrix:
    rows: tuple[tuple[Form, ...], ...]

    @property
    def text(self) -> str:
        return "[" + "; ".join(", ".join(entry.text for entry in row) for row in self.rows) + "]"


@dataclass(frozen=True)
class Relation:
    """`sides[0] signs[0] sides[1] ...`, signs of =, !=, <, <=, >, >=. lone: the first side is a name, as x or f(x)."""

    sides: tuple[Form, ...]
    signs: tuple[str, ...]
    lone: bool = False

    @property
    def text(self) -> str:
        steps = zip(self.signs, self.sides[1:], strict=True)
        return self.sides[0].text + "".join(f" {sign} {side.text}" for sign, side in steps)


@dataclass(frozen=True)
class Approximation:
    """`sqrt(3)/3 \\approx 0.577`: an exact value and the decimals that it is near."""

    exact: Form
    decimals: Form

    @property
    def text(self) -> str:
        return self.exact.text


@dataclass(frozen=True)
class Nothing:
    """What has no value, such as 1/0: equal to nothing, not even to itself."""

    latex: str

    @property
    def text(self) -> str:
        return self.latex


@dataclass(frozen=True)
class Unread:
    """What our reader does not evaluate: sums, integrals, limits, ... A symbolic worker may, through math-verify.

    tree: of sums and products, to see that they differ in the order of factors only.
    """

    latex: str
    tree: Tree | None = None

    @property
    def known(self) -> bool:
        """Whether it is of these commands alone. Of others math-verify makes something, and leaves out the rest."""
        return not set(COMMAND.findall(self.latex)) - KNOWN and not set(self.latex) & set("⟦⟧,;%")

    @property
    def text(self) -> str:
        return self.latex


Form = (
    Number | Expression | Quantity | Words | Choice | Collection | Interval | Combination | Matrix | Relation
    | Approximation | Nothing | Unread
)  # fmt: skip


def leaves(form: Form) -> Iterator[Form]:
    """The parts that hold no others: numbers, expressions, words."""
    match form:
        case Quantity(value, _):
            parts: tuple[Form, ...] = (value,)
        case Collection(items=parts) | Combination(parts=parts) | Relation(sides=parts):
            pass
        case Interval(left, right, _) | Approximation(left, right):
            parts = (left, right)
        case Matrix(rows):
            parts = tuple(entry for row in rows for entry in row)
        case _:
            yield form
            return
    for part in parts:
        yield from leaves(part)
