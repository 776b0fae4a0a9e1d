"""Sets of real numbers, equal when they hold the same numbers: intervals, inequalities, what is united or left out.

The ends that two sets have between them cut the line into cells: points, and gaps between points. A set is a bit mask
over those cells, so that union, intersection and difference are those of masks, and equal sets are equal masks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from operator import and_, or_

from sandbox.maths import trees
from sandbox.maths.forms import Collection, Combination, Expression, Form, Interval, Number, Relation
from sandbox.maths.trees import Tree

FLIPPED = {"=": "=", "!=": "!=", "<": ">", ">": "<", "<=": ">=", ">=": "<="}
EMPTY = ("sym", "emptyset")
MOST_ENDS = 64

OPERATIONS: dict[str, Callable[[list[int]], int]] = {
    "union": lambda masks: reduce(or_, masks),
    "intersection": lambda masks: reduce(and_, masks),
    "difference": lambda masks: masks[0] & ~reduce(or_, masks[1:]),
    "listed": lambda masks: (
        reduce(and_, masks) or reduce(or_, masks)
    ),  # x > 3, x < 5 are meant together, x < 3, x > 5 not
}
Ranks = Callable[[Sequence[Tree]], "list[int] | None"]  # places of real constants in their order, equal for equal ones


class NoSet(Exception):
    """Not a set of real numbers whose ends are constants."""


def is_certain(form: Form) -> bool:
    """Whether it can only be meant as such a set: (1, 2) may be a point, [1, 2) not."""
    if isinstance(form, Collection):
        return any(isinstance(item, Relation) and not set(item.signs) <= {"="} for item in form.items)
    if isinstance(form, Relation):
        return not set(form.signs) <= {"="}
    return isinstance(form, Interval | Combination)


def same_set(a: Form, b: Form, ranks: Ranks) -> bool | None:
    """Whether both hold the same numbers; None when one is no set that we can compute."""
    try:
        a, b = solved(a), solved(b)
        if len(set(_variables(a)) | set(_variables(b))) > 1:
            return None
        ends = list(dict.fromkeys([*_ends(a), *_ends(b)]))
        finite = [end for end in ends if trees.INFINITY not in (end, trees.negative(end))]
        places = ranks(finite) if len(finite) <= MOST_ENDS else None
        if places is None:
            return None
        last = max(places, default=-1) + 1
        place = dict(zip(finite, places, strict=True)) | {trees.INFINITY: last, trees.negative(trees.INFINITY): -1}
        return _cells(a, place, last) == _cells(b, place, last)
    except NoSet:
        return None


def solved(form: Form) -> Form:
    """Inequalities as sets of their one variable, alone on a side or with a factor: 2x > 6 is (3, oo)."""
    if isinstance(form, Relation):
        return _of_relation(form)
    if isinstance(form, Combination):
        return Combination(form.kind, tuple(solved(part) for part in form.parts), _name_of(form))
    if isinstance(form, Collection) and form.kind == "list":
        parts = tuple(solved(item) for item in _all_unequal(form.items))
        if all(isinstance(part, Interval) for part in parts):  # `(0, 1) and (2, 3)` are meant together
            return Combination("union", parts)
        if not all(isinstance(part, Combination) for part in parts):
            raise NoSet
        names = {name for part in parts for name in _variables(part)}
        if len(names) > 1:
            raise NoSet
        kind = {"and": "intersection", "or": "union"}.get(form.word, "listed")
        return Combination(kind, parts, *names)  # type: ignore[arg-type]
    if isinstance(form, Collection) and form.kind in ("tuple", "brackets") and len(form.items) == 2:
        return Interval(form.items[0], form.items[1], (form.kind == "brackets",) * 2)
    return form


def _all_unequal(items: tuple[Form, ...]) -> tuple[Form, ...]:
    """`x != 2, 3` said in full."""
    first = items[0]
    if not (isinstance(first, Relation) and first.signs == ("!=",)):
        return items
    return tuple(i if isinstance(i, Relation) else Relation((first.sides[0], i), ("!=",), first.lone) for i in items)


def _name_of(form: Combination) -> str:
    return next(iter(dict.fromkeys(_variables(form))), "")


def _variables(form: Form) -> Iterator[str]:
    if isinstance(form, Combination):
        if form.variable:
            yield form.variable
        for part in form.parts:
            yield from _variables(part)
    elif isinstance(form, Relation):
        for side in form.sides:
            yield from sorted(trees.symbols(side.tree)) if isinstance(side, Number | Expression) else ()


def _of_relation(relation: Relation) -> Form:
    """One inequality after the other, each between neighbours, all of them at once."""
    steps = []
    names = set()
    for left, sign, right in zip(relation.sides, relation.signs, relation.sides[1:], strict=False):
        if not isinstance(left, Number | Expression) or not isinstance(right, Number | Expression):
            raise NoSet
        name, factor = _monomial(left.tree)
        value = right.tree
        if name is None:
            name, factor = _monomial(right.tree)
            value, sign = left.tree, FLIPPED[sign]
        if name is None or trees.symbols(value):
            raise NoSet
        if factor[1] < 0:
            sign = FLIPPED[sign]
        names.add(name)
        steps.append(_half(sign, Expression(trees.divide(value, factor))))
    if len(names) != 1:
        raise NoSet
    return Combination("intersection", tuple(steps), names.pop())


def _monomial(tree: Tree) -> tuple[str | None, Tree]:
    """The variable and the number before it, of x, -x and 2x; (None, 1) for anything else."""
    if tree[0] == "sym" and trees.symbols(tree):
        return tree[1], trees.ONE
    if tree[0] == "mul" and len(tree) == 3:
        factor, rest = sorted(tree[1:], key=lambda part: not trees.is_num(part))
        if trees.is_num(factor) and rest[0] == "sym" and trees.symbols(rest):
            return rest[1], factor
    return None, trees.ONE


def _half(sign: str, end: Form) -> Form:
    minus, plus = Expression(trees.negative(trees.INFINITY)), Expression(trees.INFINITY)
    if sign in ("=", "!="):
        point = Collection("set", (end,))
        return point if sign == "=" else Combination("difference", (Interval(minus, plus, (False, False)), point))
    if sign in ("<", "<="):
        return Interval(minus, end, (False, sign == "<="))
    return Interval(end, plus, (sign == ">=", False))


def _ends(form: Form) -> Iterator[Tree]:
    if isinstance(form, Combination):
        for part in form.parts:
            yield from _ends(part)
    elif isinstance(form, Interval):
        yield from (_constant(form.left), _constant(form.right))
    elif isinstance(form, Collection) and form.kind == "set":
        yield from (_constant(item) for item in form.items)
    elif not (isinstance(form, Expression) and form.tree == EMPTY):
        raise NoSet


def _constant(form: Form) -> Tree:
    if not isinstance(form, Number | Expression) or trees.symbols(form.tree):
        raise NoSet
    return form.tree


def _cells(form: Form, place: dict[Tree, int], last: int) -> int:
    """Bit 2k is the gap below the k-th end, bit 2k + 1 that end itself."""
    if isinstance(form, Combination):
        masks = [_cells(part, place, last) for part in form.parts]
        return OPERATIONS[form.kind](masks)
    if isinstance(form, Interval):
        left, right = place[_constant(form.left)], place[_constant(form.right)]
        if left > right or (left == right and form.closed != (True, True)) or (form.closed[0] and left < 0):
            raise NoSet
        if form.closed[1] and right == last:
            raise NoSet
        start = 2 * left + (1 if form.closed[0] else 2)
        end = 2 * right + (1 if form.closed[1] else 0)
        return (1 << (end + 1)) - (1 << start) if end >= start else 0
    if isinstance(form, Collection):
        points = [place[_constant(item)] for item in form.items]
        if any(point < 0 or point == last for point in points):
            raise NoSet
        return sum({1 << (2 * point + 1) for point in points})
    return 0
