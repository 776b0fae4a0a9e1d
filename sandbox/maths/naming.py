"""What a relation names: `x = 5`, `(x, y) = (3, 2)`, `Area = 12`, `m + n = 293` are the values that they give names."""

from __future__ import annotations

import re
from collections.abc import Callable

from sandbox.maths import trees
from sandbox.maths.forms import Approximation, Collection, Expression, Form, Number, Quantity, Relation, Words
from sandbox.maths.trees import Tree

LATIN = re.compile(r"[a-z]")  # rather the unknown of an equation than an angle

Agree = Callable[[Form, Form], bool]


def value_of(form: Form, agree: Agree, of_answer: bool = False) -> Form:
    """`x = 5` as 5, `x = 1, x = 2` and `x = 1, 2` as a list; `x = 1, y = 2` and `x = 7 = 8` stay what they are.

    of_answer: sums and products of several unknowns are names, too. `m + n = 293` answers 293; as a reference it is
    an equation, that 293 does not answer.
    """
    if isinstance(form, Relation):
        named = solution(form, agree, of_answer)
        return named[1] if named is not None else form
    if isinstance(form, Quantity) and isinstance(form.value, Relation):
        return Quantity(value_of(form.value, agree, of_answer), form.unit)
    if isinstance(form, Collection) and form.kind == "list":
        names = [item.sides[0] for item in form.items if isinstance(item, Relation)]
        values = tuple(value_of(item, agree, of_answer) for item in form.items)
        one_name = len({name.text.split("_")[0] for name in names}) == 1 and len(names) in (1, len(values))
        if one_name and not any(isinstance(value, Relation) for value in values):
            return Collection("list", values)
    return form


def each_named(form: Form) -> Form:
    """`(x, y) = (3, 2)` as `x = 3, y = 2`."""
    if isinstance(form, Relation) and form.signs == ("=",):
        names, values = form.sides
        if isinstance(names, Collection) and isinstance(values, Collection) and len(names.items) == len(values.items):
            pairs = zip(names.items, values.items, strict=True)
            return Collection("list", tuple(Relation(pair, ("=",), lone=True) for pair in pairs))
    return form


def solution(relation: Relation, agree: Agree, of_answer: bool = False) -> tuple[Form, Form] | None:
    """Name and value; of a chain, the last value if all before it agree with it. None for any other relation."""
    if set(relation.signs) != {"="}:
        return None
    sides = relation.sides
    if not _is_name(sides[0], relation.lone, of_answer):
        if len(sides) != 2 or not _is_constant(sides[0]) or not _is_letter(sides[1]):  # 5 = x
            return None
        sides = sides[::-1]
    if _is_letter(sides[0]) and any(_names(side) & _names(sides[0]) for side in sides[1:]):  # x = 2x - 4 is not solved
        return None
    if len(sides) > 2 and not all(agree(side, sides[-1]) for side in sides[1:-1]):
        return None
    return sides[0], sides[-1]


def is_solved(relation: Relation) -> bool:
    """Whether it is an unknown alone with a constant: then its restatements are the question, not the answer."""
    if set(relation.signs) != {"="} or len(relation.sides) != 2:
        return False
    left, right = relation.sides
    return (_is_name(left, relation.lone, of_answer=False) and _is_constant(right)) or (
        _is_constant(left) and _is_letter(right)
    )


def _is_name(form: Form, lone: bool, of_answer: bool) -> bool:
    if lone or isinstance(form, Words) or _is_letter(form):
        return True
    if of_answer and isinstance(form, Expression) and form.tree[0] == "call":  # the cosine of an angle
        return (
            form.tree[1] in ("sin", "cos", "tan") and form.tree[2][0] == "sym" and not LATIN.fullmatch(form.tree[2][1])
        )
    if isinstance(form, Collection) and form.kind == "brackets":  # the area [ABC]
        return len(form.items) == 1 and isinstance(form.items[0], Expression) and form.items[0].text.isupper()
    if isinstance(form, Collection) and form.kind == "tuple":
        return all(_is_letter(item) for item in form.items)
    return (
        of_answer and isinstance(form, Expression) and len(trees.symbols(form.tree)) > 1 and _is_polynomial(form.tree)
    )


def _is_polynomial(tree: Tree) -> bool:
    return tree[0] != "call" and all(_is_polynomial(part) for part in tree[1:] if isinstance(part, tuple))


def _is_letter(form: Form) -> bool:
    return isinstance(form, Expression) and form.tree[0] == "sym" and bool(trees.symbols(form.tree))


def _is_constant(form: Form) -> bool:
    if isinstance(form, Approximation):
        form = form.exact
    if isinstance(form, Quantity):
        form = form.value
    return isinstance(form, Number | Expression) and not trees.symbols(form.tree)


def _names(form: Form) -> set[str]:
    return trees.symbols(form.tree) if isinstance(form, Number | Expression) else set()
