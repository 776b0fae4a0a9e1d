"""What an answer can be. Every form has a `text`: its normal form, one readable line."""

from __future__ import annotations

import re
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
    """An exact rational. decimal: it was written with a decimal point."""

    value: Fraction
    decimal: bool = False

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
    """list: `1, 2`; tuple: `(1, 2)`, or an open interval; brackets: `[1, 2]`; set: `{1, 2}`; ratio: `1:2`."""

    kind: Literal["list", "tuple", "brackets", "set", "ratio"]
    items: tuple[Form, ...]

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
class Union:
    parts: tuple[Form, ...]

    @property
    def text(self) -> str:
        return " U ".join(sorted(part.text for part in self.parts))


@dataclass(frozen=True)
class Matrix:
    rows: tuple[tuple[Form, ...], ...]

    @property
    def text(self) -> str:
        return "[" + "; ".join(", ".join(entry.text for entry in row) for row in self.rows) + "]"


@dataclass(frozen=True)
class Relation:
    """`sides[0] signs[0] sides[1] ...`, signs of =, !=, <, <=, >, >=. lone: the first side is one variable or f(x)."""

    sides: tuple[Form, ...]
    signs: tuple[str, ...]
    lone: bool = False

    @property
    def text(self) -> str:
        steps = zip(self.signs, self.sides[1:], strict=True)
        return self.sides[0].text + "".join(f" {sign} {side.text}" for sign, side in steps)


@dataclass(frozen=True)
class Unread:
    """What our reader does not know: sums, integrals, limits, ... A symbolic worker may, through math-verify."""

    latex: str

    @property
    def known(self) -> bool:
        """Whether it is of these commands alone. Of others math-verify makes something, and leaves out the rest."""
        return not set(COMMAND.findall(self.latex)) - KNOWN and not set(self.latex) & set("⟦⟧,;%")

    @property
    def text(self) -> str:
        return self.latex


Form = Number | Expression | Quantity | Words | Choice | Collection | Interval | Union | Matrix | Relation | Unread
