"""Whether two forms are the same answer. Structure is compared here, exactly; roots, functions and variables are asked
of a symbolic worker, which may be killed. Types matter: a tuple is no set, an open interval no closed one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple, Protocol

from sandbox.maths import trees
from sandbox.maths.forms import (
    Choice,
    Collection,
    Expression,
    Form,
    Interval,
    Matrix,
    Number,
    Quantity,
    Relation,
    Union,
    Unread,
    Words,
)
from sandbox.maths.policy import Policy
from sandbox.maths.trees import Tree

MOST_ITEMS = 64  # in unordered collections whose items need a worker


class Judged(NamedTuple):
    """rule: what decided. limit: whether the symbolic worker hit its limit, so that `False` is not proved."""

    equal: bool
    rule: str
    limit: bool = False


class Symbolic(Protocol):
    """What a symbolic worker can be asked. Every answer is (equal, rule, limit)."""

    def same(self, a: Tree, b: Tree) -> Judged: ...
    def near(self, a: Tree, b: Tree, tolerance: float) -> Judged: ...
    def proportional(self, a: Tree, b: Tree) -> Judged: ...
    def same_latex(self, a: str, b: str) -> Judged: ...


def same(a: Form, b: Form, policy: Policy, symbolic: Symbolic) -> Judged:
    """Reference `a` against answer `b`."""
    return _Comparison(policy, symbolic).same(a, b)


class _Comparison:
    def __init__(self, policy: Policy, symbolic: Symbolic) -> None:
        self.policy = policy
        self.symbolic = symbolic

    def same(self, a: Form, b: Form) -> Judged:
        if self.policy.lone_variable and _has_relation(a) != _has_relation(b):
            a, b = (without_variable(form, lambda x, y: self.same(x, y).equal) for form in (a, b))
        if isinstance(a, Quantity) or isinstance(b, Quantity):
            return self.quantities(a, b)
        if isinstance(a, Choice) or isinstance(b, Choice):
            return self.choices(a, b)
        if isinstance(a, Number) and isinstance(b, Number):
            return self.numbers(a, b)
        if isinstance(a, Number | Expression) and isinstance(b, Number | Expression):
            return self.expressions(a, b)
        if isinstance(a, Unread) or isinstance(b, Unread):
            return self.unread(a, b)
        if isinstance(a, Words) or isinstance(b, Words):
            return Judged(type(a) is type(b) and a.text == b.text, "words")
        a, b = _as_sets(a, b)
        if type(a) is not type(b):
            return Judged(False, "types differ")
        rules: dict[type, Callable[[Any, Any], Judged]] = {
            Collection: self.collections,
            Interval: self.intervals,
            Union: self.unions,
            Matrix: self.matrices,
            Relation: self.relations,
        }
        return rules[type(a)](a, b)

    # --- values

    def numbers(self, a: Number, b: Number) -> Judged:
        if a.value == b.value:
            return Judged(True, "exact number")
        loose = self.policy.tolerance and (a.decimal or b.decimal) and a.value.denominator != 1
        near = loose and abs(a.value - b.value) <= Fraction(self.policy.tolerance) * abs(a.value)
        return Judged(bool(near), "tolerance" if near else "exact number")

    def expressions(self, a: Number | Expression, b: Number | Expression) -> Judged:
        if a.tree == b.tree:
            return Judged(True, "normal form")
        judged = self.symbolic.same(a.tree, b.tree)
        if not judged.equal and self.policy.tolerance and (a.decimal or b.decimal):
            return self.symbolic.near(a.tree, b.tree, self.policy.tolerance)
        return judged

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
        if isinstance(a, Choice) and a.value is not None:
            return self.same(a.value, b)
        return Judged(False, "choice")

    def unread(self, a: Form, b: Form) -> Judged:
        if a.text == b.text:
            return Judged(True, "same text")
        forms = [isinstance(form, Number | Expression) or (isinstance(form, Unread) and form.known) for form in (a, b)]
        if all(forms):
            return self.symbolic.same_latex(_latex(a), _latex(b))
        return Judged(False, "unreadable")

    # --- structures

    def collections(self, a: Collection, b: Collection) -> Judged:
        if a.kind != b.kind and {a.kind, b.kind} != {"list", "set"}:
            return Judged(False, "types differ")
        free = "set" in (a.kind, b.kind) or (a.kind == "list" and not self.policy.ordered_lists)
        if not free:
            return self.in_order(a.items, b.items, a.kind)
        items = [_distinct(c.items) if "set" in (a.kind, b.kind) else c.items for c in (a, b)]
        return self.in_any_order(items[0], items[1], a.kind)

    def in_order(self, xs: Sequence[Form], ys: Sequence[Form], rule: str) -> Judged:
        if len(xs) != len(ys):
            return Judged(False, "lengths differ")
        judged = Judged(True, rule)
        for x, y in zip(xs, ys, strict=True):
            judged = self.same(x, y)
            if not judged.equal:
                return Judged(False, rule, judged.limit)
        return Judged(True, rule)

    def in_any_order(self, xs: Sequence[Form], ys: Sequence[Form], rule: str) -> Judged:
        if len(xs) != len(ys):
            return Judged(False, "lengths differ")
        left = list(ys)
        unmatched = []
        for x in xs:  # most items agree to the letter: linear for those
            twin = next((i for i, y in enumerate(left) if y == x), None) if len(xs) <= MOST_ITEMS else None
            if twin is None:
                unmatched.append(x)
            else:
                del left[twin]
        if len(xs) > MOST_ITEMS:
            return Judged(sorted(x.text for x in xs) == sorted(y.text for y in ys), rule)
        limit = False
        for x in unmatched:
            judgements = [(i, self.same(x, y)) for i, y in enumerate(left)]
            limit |= any(judged.limit for _, judged in judgements)
            match = next((i for i, judged in judgements if judged.equal), None)
            if match is None:
                return Judged(False, rule, limit)
            del left[match]
        return Judged(True, rule)

    def intervals(self, a: Interval, b: Interval) -> Judged:
        if a.closed != b.closed:
            return Judged(False, "interval")
        return self.in_order((a.left, a.right), (b.left, b.right), "interval")

    def unions(self, a: Union, b: Union) -> Judged:
        return self.in_any_order(a.parts, b.parts, "union")

    def matrices(self, a: Matrix, b: Matrix) -> Judged:
        if len(a.rows) != len(b.rows) or len(a.rows[0]) != len(b.rows[0]):
            return Judged(False, "shapes differ")
        return self.in_order([x for row in a.rows for x in row], [y for row in b.rows for y in row], "matrix")

    def relations(self, a: Relation, b: Relation) -> Judged:
        equations = a.signs == b.signs == ("=",)
        sides = [*a.sides, *b.sides]
        if equations and all(isinstance(side, Number | Expression) for side in sides):
            p, q = (trees.add(r.sides[0].tree, trees.negative(r.sides[1].tree)) for r in (a, b))  # type: ignore[union-attr]
            if p in (q, trees.negative(q)):
                return Judged(True, "equation")
            return self.symbolic.proportional(p, q)
        if a.signs == b.signs:
            return self.in_order(a.sides, b.sides, "relation")
        if tuple(_FLIPPED[sign] for sign in reversed(a.signs)) == b.signs:
            return self.in_order(tuple(reversed(a.sides)), b.sides, "relation")
        return Judged(False, "relation")


def without_variable(form: Form, equal: Callable[[Form, Form], bool]) -> Form:
    """`x = 5` as 5, `x = 1, x = 2` and `x = 1, 2` as a list; `x = 1, y = 2` and `x = 7 = 8` stay what they are."""
    if isinstance(form, Relation) and form.lone and set(form.signs) == {"="}:
        return form.sides[-1] if all(equal(side, form.sides[-1]) for side in form.sides[1:-1]) else form
    if isinstance(form, Collection) and form.kind == "list":
        named = [item.sides[0] for item in form.items if isinstance(item, Relation)]
        values = tuple(without_variable(item, equal) for item in form.items)
        one_variable = len({side.text for side in named}) == 1 and (len(named) in (1, len(values)))
        if one_variable and not any(isinstance(value, Relation) for value in values):
            return Collection("list", values)
    return form


_FLIPPED = {"=": "=", "!=": "!=", "<": ">", ">": "<", "<=": ">=", ">=": "<="}
_INFINITY = Expression(("sym", "infinity"))
_MINUS_INFINITY = Expression(trees.negative(("sym", "infinity")))


def _as_sets(a: Form, b: Form) -> tuple[Form, Form]:
    """Both as intervals or unions where one is certainly such a set: x > 3 is (3, oo), and (1, 2) may be one."""
    sets = _as_set(a), _as_set(b)
    certain = any(isinstance(form, Interval | Union | Relation) for form in (a, b))
    if not certain or sets[0] is None or sets[1] is None:
        return a, b
    if isinstance(a, Relation) and isinstance(b, Relation) and _variable(a) != _variable(b):
        return a, b
    return sets[0], sets[1]


def _as_set(form: Form) -> Form | None:
    if isinstance(form, Interval | Union):
        return form
    if isinstance(form, Relation):
        return _interval(form)
    if isinstance(form, Collection) and form.kind in ("tuple", "brackets") and len(form.items) == 2:
        return Interval(form.items[0], form.items[1], (form.kind == "brackets",) * 2)
    if isinstance(form, Collection) and form.kind == "list":
        parts = [_interval(item) if isinstance(item, Relation) else None for item in form.items]
        return Union(tuple(part for part in parts if part)) if all(parts) else None
    return None


def _variable(relation: Relation) -> str:
    return next(side.text for side in relation.sides if isinstance(side, Expression) and side.tree[0] == "sym")


def _interval(relation: Relation) -> Interval | None:
    """x > 3, 3 < x, 1 <= x < 2 as intervals."""
    sides, signs = relation.sides, relation.signs
    if any(sign in ("=", "!=") for sign in signs):
        return None
    if signs[0] in (">", ">="):
        sides, signs = tuple(reversed(sides)), tuple(_FLIPPED[sign] for sign in reversed(signs))
    if any(sign not in ("<", "<=") for sign in signs):
        return None
    variable = [isinstance(side, Expression) and trees.symbols(side.tree) == {side.text} for side in sides]
    if variable == [False, True, False]:
        return Interval(sides[0], sides[2], (signs[0] == "<=", signs[1] == "<="))
    if variable == [True, False]:
        return Interval(_MINUS_INFINITY, sides[1], (False, signs[0] == "<="))
    if variable == [False, True]:
        return Interval(sides[0], _INFINITY, (signs[0] == "<=", False))
    return None


def _has_relation(form: Form) -> bool:
    items = form.items if isinstance(form, Collection) else (form,)
    return any(isinstance(item, Relation) for item in items)


def _distinct(items: tuple[Form, ...]) -> tuple[Form, ...]:
    return tuple({item.text: item for item in items}.values())


def _latex(form: Form) -> str:
    return form.latex if isinstance(form, Unread) else trees.text(form.tree)  # type: ignore[union-attr]
