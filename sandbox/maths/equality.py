"""Whether two forms are the same answer. Structure is compared here, exactly; roots, functions and variables are asked
of a symbolic worker, which may be killed. Types matter: a tuple is no set, an open interval no closed one.

Types and lengths come first, and all questions of one comparison are paid from one budget: the first that exceeds it
ends the comparison.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple, Protocol

from sandbox.maths import trees
from sandbox.maths.forms import (
    Approximation,
    Choice,
    Collection,
    Combination,
    Expression,
    Form,
    Interval,
    Matrix,
    Nothing,
    Number,
    Quantity,
    Relation,
    Unread,
    Words,
    leaves,
)
from sandbox.maths.naming import each_named, is_solved, solution, value_of
from sandbox.maths.policy import Policy
from sandbox.maths.sets import FLIPPED, is_certain, same_set
from sandbox.maths.trees import Tree

MOST_ITEMS = 64  # in unordered collections whose items need a worker


class Judged(NamedTuple):
    """rule: what decided. limit: whether the symbolic worker hit its limit, so that `False` is not proved."""

    equal: bool
    rule: str
    limit: bool = False


class Symbolic(Protocol):
    """What a symbolic worker can be asked, by the names in `symbolic.py`."""

    def __call__(self, name: str, *arguments: Any) -> Judged: ...


def same(a: Form, b: Form, policy: Policy, ask: Symbolic) -> Judged:
    """Reference `a` against answer `b`."""
    if not policy.restatements and any(map(_is_to_compute, leaves(b))) and not any(map(_is_to_compute, leaves(a))):
        return Judged(False, "not worked out")
    comparison = _Comparison(policy, ask)
    judged = comparison.same(a, b)
    return Judged(False, "time limit", True) if comparison.limit and not judged.equal else judged


class _Comparison:
    def __init__(self, policy: Policy, ask: Symbolic) -> None:
        self.policy = policy
        self.symbolic = ask
        self.limit = False

    def ask(self, name: str, *arguments: Any) -> Judged:
        judged = Judged(False, "time limit", True) if self.limit else self.symbolic(name, *arguments)
        self.limit |= judged.limit
        return judged

    def same(self, a: Form, b: Form) -> Judged:
        if isinstance(a, Nothing) or isinstance(b, Nothing):
            return Judged(False, "no value")
        if self.policy.lone_variable and not (_has_relation(a) and _has_relation(b)):
            a, b = value_of(a, self.agree), value_of(b, self.agree, of_answer=True)
        if isinstance(a, Approximation) or isinstance(b, Approximation):
            return self.approximations(a, b)
        if isinstance(a, Quantity) or isinstance(b, Quantity):
            return self.quantities(a, b)
        if isinstance(a, Choice) or isinstance(b, Choice):
            return self.choices(a, b)
        if isinstance(b, Collection) and b.word == "or" and not isinstance(a, Collection | Combination | Relation):
            return Judged(all(self.agree(a, item) for item in b.items), "one answer, several times")
        if isinstance(a, Number) and isinstance(b, Number):
            return self.numbers(a, b)
        if isinstance(a, Number | Expression) and isinstance(b, Number | Expression):
            return self.expressions(a, b)
        if isinstance(a, Unread) or isinstance(b, Unread):
            return self.unread(a, b)
        if isinstance(a, Words) or isinstance(b, Words):
            return Judged(type(a) is type(b) and a.text == b.text, "words")
        if (is_certain(a) or is_certain(b)) and (equal := same_set(a, b, self.ranks)) is not None:
            return Judged(equal, "set of real numbers")
        if isinstance(a, Relation) != isinstance(b, Relation):
            a, b = each_named(a), each_named(b)
        if type(a) is not type(b):
            return Judged(False, "types differ")
        rules: dict[type, Callable[[Any, Any], Judged]] = {
            Collection: self.collections,
            Interval: self.intervals,
            Combination: self.combinations,
            Matrix: self.matrices,
            Relation: self.relations,
        }
        return rules[type(a)](a, b)

    def agree(self, a: Form, b: Form) -> bool:
        return self.same(a, b).equal

    # --- values

    def numbers(self, a: Number, b: Number) -> Judged:
        if a.value == b.value:
            return Judged(True, "exact number")
        loose = self.policy.tolerance and (a.decimal or b.decimal) and a.value.denominator != 1
        near = loose and abs(a.value - b.value) <= Fraction(self.policy.tolerance) * abs(a.value)
        return Judged(bool(near), "tolerance" if near else "exact number")

    def expressions(self, a: Number | Expression, b: Number | Expression) -> Judged:
        if a.tree == b.tree:
            return self.ask("defined", a.tree) if trees.may_lack_value(a.tree) else Judged(True, "normal form")
        judged = self.ask("same", a.tree, b.tree)
        if not judged.equal and self.policy.tolerance and (a.decimal or b.decimal):
            return self.ask("near", a.tree, b.tree, self.policy.tolerance)
        return judged

    def approximations(self, a: Form, b: Form) -> Judged:
        """An answer may say both, if the decimals round the exact value: then either may be what is asked for."""
        for form in (a, b):
            if isinstance(form, Approximation) and not self.is_rounding(form):
                return Judged(False, "no rounding of the exact value")
        sides = [(form.exact, form.decimals) if isinstance(form, Approximation) else (form,) for form in (a, b)]
        judged = Judged(False, "approximation")
        for x in sides[0]:
            for y in sides[1]:
                judged = self.same(x, y)
                if judged.equal:
                    return judged
        return judged

    def is_rounding(self, form: Approximation) -> bool:
        exact, near = form.exact, form.decimals
        if isinstance(exact, Quantity) and isinstance(near, Quantity) and exact.unit == near.unit:
            exact, near = exact.value, near.value
        if not isinstance(exact, Number | Expression) or not isinstance(near, Number):
            return False
        shown = next((n for n in range(50) if (near.value * 10**n).denominator == 1), 50)  # decimals
        half = Fraction(1, 2 * 10**shown)
        cut = near.value + (half if near.value > 0 else -half)  # decimals may be rounded or cut off
        if isinstance(exact, Number):
            return any(abs(exact.value - middle) <= half for middle in (near.value, cut))
        within = [(middle, float(half / abs(middle))) for middle in (near.value, cut) if middle]
        return any(self.ask("near", trees.num(middle), exact.tree, error).equal for middle, error in within)

    def quantities(self, a: Form, b: Form) -> Judged:
        units = [form.unit if isinstance(form, Quantity) else None for form in (a, b)]
        values = [form.value if isinstance(form, Quantity) else form for form in (a, b)]
        differ = units[0] != units[1] and (None not in units or self.policy.units == "required")
        if differ and self.policy.units != "ignored":
            return Judged(False, "units differ")
        return self.same(values[0], values[1])

    def choices(self, a: Form, b: Form) -> Judged:
        if isinstance(a, Choice) and isinstance(b, Choice):
            if a.letter != b.letter or a.value is None or b.value is None:
                return Judged(a.letter == b.letter, "choice")
            return self.same(a.value, b.value)
        values = [form.value if isinstance(form, Choice) else form for form in (a, b)]
        if values[0] is None or values[1] is None:
            return Judged(False, "choice")
        return self.same(values[0], values[1])

    def unread(self, a: Form, b: Form) -> Judged:
        if a.text == b.text:
            return Judged(True, "same text")
        if isinstance(a, Unread) and isinstance(b, Unread) and a.tree is not None and a.tree == b.tree:
            return Judged(True, "normal form")
        forms = [isinstance(form, Number | Expression) or (isinstance(form, Unread) and form.known) for form in (a, b)]
        if all(forms):
            return self.ask("same_latex", _latex(a), _latex(b))
        return Judged(False, "unreadable")

    # --- structures

    def collections(self, a: Collection, b: Collection) -> Judged:
        if a.kind != b.kind and {a.kind, b.kind} != {"list", "set"}:
            return Judged(False, "types differ")
        if _has_relation(a) != _has_relation(b):
            return Judged(False, "values of several unknowns")
        if (a.word == "or") != (b.word == "or") and _is_of_unknowns(a) and _is_of_unknowns(b):
            return Judged(False, "all of the unknowns, or one of them")
        free = "set" in (a.kind, b.kind) or (a.kind == "list" and not self.policy.ordered_lists)
        if not free:
            return self.in_order(a.items, b.items, a.kind)
        items = [_distinct(c.items) if "set" in (a.kind, b.kind) else c.items for c in (a, b)]
        return self.in_any_order(items[0], items[1], a.kind)

    def in_order(self, xs: Sequence[Form], ys: Sequence[Form], rule: str) -> Judged:
        if len(xs) != len(ys):
            return Judged(False, "lengths differ")
        for x, y in sorted(zip(xs, ys, strict=True), key=_needs_worker):
            judged = self.same(x, y)
            if not judged.equal:
                return Judged(False, rule, judged.limit)
        return Judged(True, rule)

    def in_any_order(self, xs: Sequence[Form], ys: Sequence[Form], rule: str) -> Judged:
        if len(xs) != len(ys):
            return Judged(False, "lengths differ")
        if len(xs) > MOST_ITEMS:
            return Judged(sorted(x.text for x in xs) == sorted(y.text for y in ys), rule)
        left = list(ys)
        for x in sorted(xs, key=lambda x: _needs_worker((x,))):  # most items agree to the letter: no question for those
            at = next((i for i, y in enumerate(left) if y == x and self.same(x, y).equal), None)
            if at is None:
                at = next((i for i, y in enumerate(left) if not self.limit and self.same(x, y).equal), None)
            if at is None:
                return Judged(False, rule, self.limit)
            del left[at]
        return Judged(True, rule)

    def intervals(self, a: Interval, b: Interval) -> Judged:
        if a.closed != b.closed:
            return Judged(False, "interval")
        return self.in_order((a.left, a.right), (b.left, b.right), "interval")

    def combinations(self, a: Combination, b: Combination) -> Judged:
        """Those with variables at their ends, by their parts."""
        if a.kind != b.kind:
            return Judged(False, "types differ")
        compare = self.in_order if a.kind == "difference" else self.in_any_order
        return compare(a.parts, b.parts, a.kind)

    def matrices(self, a: Matrix, b: Matrix) -> Judged:
        if len(a.rows) != len(b.rows) or len(a.rows[0]) != len(b.rows[0]):
            return Judged(False, "shapes differ")
        return self.in_order([x for row in a.rows for x in row], [y for row in b.rows for y in row], "matrix")

    def relations(self, a: Relation, b: Relation) -> Judged:
        one, other = solution(a, self.agree), solution(b, self.agree)
        if one is not None and other is not None:
            (name, value), (other_name, other_value) = one, other
            if (name.text, value.text) == (other_value.text, other_name.text):  # AB = CD, CD = AB
                return Judged(True, "equation")
            if name.text != other_name.text and not isinstance(name, Words) and not isinstance(other_name, Words):
                return Judged(False, "another variable")
            return self.same(value, other_value)
        if is_solved(a):
            return Judged(False, "not solved")
        sides = [*a.sides, *b.sides]
        if a.signs == b.signs == ("=",) and all(isinstance(side, Number | Expression) for side in sides):
            p, q = (trees.add(r.sides[0].tree, trees.negative(r.sides[1].tree)) for r in (a, b))  # type: ignore[union-attr, arg-type]
            if p in (q, trees.negative(q)):
                return Judged(True, "equation")
            return self.ask("proportional", p, q)
        if a.signs == b.signs:
            return self.in_order(a.sides, b.sides, "relation")
        if tuple(FLIPPED[sign] for sign in reversed(a.signs)) == b.signs:
            return self.in_order(tuple(reversed(a.sides)), b.sides, "relation")
        return Judged(False, "relation")

    def ranks(self, ends: Sequence[Tree]) -> list[int] | None:
        """Places of constants in their order; rational ones are put in order here."""
        if all(trees.is_num(end) for end in ends):
            places = {value: at for at, value in enumerate(sorted({end[1] for end in ends}))}
            return [places[end[1]] for end in ends]
        judged = self.ask("ranks", *ends)
        return json.loads(judged.rule) if judged.equal else None


def _needs_worker(forms: Sequence[Form]) -> bool:
    return not all(isinstance(form, Number | Words | Choice) for form in forms)


def _is_to_compute(leaf: Form) -> bool:
    """A constant that has only been written down: a sum, a floor."""
    return isinstance(leaf, Unread) or (
        isinstance(leaf, Number | Expression) and leaf.restated and not trees.symbols(leaf.tree)
    )


def _has_relation(form: Form) -> bool:
    if isinstance(form, Quantity):
        return _has_relation(form.value)
    items = form.items if isinstance(form, Collection) else (form,)
    return any(isinstance(item, Relation) for item in items)


def _is_of_unknowns(form: Collection) -> bool:
    """Whether every item is of an unknown of its own, as in `x = 1, y = 2`."""
    names = {item.sides[0].text.split("_")[0] for item in form.items if isinstance(item, Relation)}
    return len(names) == len(form.items) > 1


def _distinct(items: tuple[Form, ...]) -> tuple[Form, ...]:
    return tuple({item.text: item for item in items}.values())


def _latex(form: Form) -> str:
    return form.latex if isinstance(form, Unread) else trees.text(form.tree)  # type: ignore[union-attr]
