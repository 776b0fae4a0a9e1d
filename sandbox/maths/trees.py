"""Expressions as plain nested tuples, folded and ordered while they are built. Exact, bounded, nothing is evaluated.

A tree is one of
    ("num", Fraction)  ("sym", name)
    ("add", tree, ...)  ("mul", tree, ...)  ("pow", base, exponent)  ("call", name, tree, ...)
Sums and products are flat and sorted, like terms and equal bases gathered: equal trees mean equal expressions.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from functools import reduce
from math import comb, factorial, gcd, isqrt, lcm, prod
from typing import Any

Tree = tuple[Any, ...]

# bits of a folded number: larger powers stay powers, sums and products of twice the size (4,215 digits, and Python
# writes out no more than 4,300) are refused
LARGEST = 7_000
HAVE_VALUES = ("abs", "prime", "factorial", "binomial", "sin", "cos", "gcd", "lcm")  # wherever their arguments do
ZERO, ONE, MINUS_ONE = ("num", Fraction(0)), ("num", Fraction(1)), ("num", Fraction(-1))
INFINITY = ("sym", "infinity")


class TooLarge(ValueError):
    """Exact arithmetic on this would cost more than an answer is worth."""


def num(value: int | str | Fraction) -> Tree:
    return ("num", Fraction(value))


def is_num(tree: Tree) -> bool:
    return tree[0] == "num"


def add(*trees: Tree) -> Tree:
    """The sum, with like terms gathered: 2x + 3x is 5x."""
    if len(trees) == 1:
        return trees[0]
    coefficients: dict[Tree, Fraction] = {}
    for term in _flat("add", trees):
        coefficient, rest = _split(term)
        coefficients[rest] = _bounded(coefficients.get(rest, Fraction(0)) + coefficient)
        if not coefficients[rest]:
            _determinate(rest)
    terms = [mul(("num", c), rest) for rest, c in coefficients.items() if c or may_lack_value(rest)]
    if not terms:
        return ZERO
    return terms[0] if len(terms) == 1 else ("add", *sorted(terms, key=repr))


def mul(*trees: Tree) -> Tree:
    """The product, with equal bases gathered: x x^2 is x^3. Powers of numbers are gathered only when they fold."""
    if len(trees) == 1:
        return trees[0]
    coefficient = ONE[1]
    exponents: dict[Tree, list[Tree]] = {}
    for factor in _flat("mul", trees):
        if is_num(factor):
            coefficient = _bounded(coefficient * factor[1])
        else:
            base, exponent = factor[1:] if factor[0] == "pow" else (factor, ONE)
            exponents.setdefault(base, []).append(exponent)
    if not coefficient:
        _determinate(*exponents)
        gathered = (factor for base, powers in exponents.items() for factor in _gathered(base, powers))
        doubtful = [factor for factor in gathered if may_lack_value(factor)]
        return ("mul", *sorted([*doubtful, ZERO], key=repr)) if doubtful else ZERO
    factors = []
    for base, powers in exponents.items():
        for factor in _gathered(base, powers):
            if is_num(factor):
                coefficient = _bounded(coefficient * factor[1])
            else:
                factors.append(factor)
    if coefficient != 1 and len(factors) == 1 and factors[0][0] == "add":
        return add(*(mul(("num", coefficient), term) for term in factors[0][1:]))
    if coefficient != 1 or not factors:
        factors.append(("num", coefficient))
    return factors[0] if len(factors) == 1 else ("mul", *sorted(factors, key=repr))


def _gathered(base: Tree, powers: list[Tree]) -> list[Tree]:
    """Powers of one base as one, unless one of them may lack the value that it would have then: 0^2 / 0 is no 0."""
    factor = power(base, add(*powers))
    if len(powers) == 1:
        return [factor]
    below = any(is_num(one) and one[1] < 0 for one in powers)
    if below and may_lack_value(("pow", base, MINUS_ONE)) and not may_lack_value(factor):
        return [power(base, one) for one in powers]
    return [factor]


def negative(tree: Tree) -> Tree:
    return mul(MINUS_ONE, tree)


def divide(a: Tree, b: Tree) -> Tree:
    """a / b. Raises ZeroDivisionError when b is plainly zero."""
    return mul(a, power(b, MINUS_ONE))


def power(base: Tree, exponent: Tree) -> Tree:
    """base^exponent, folded where it is exact and small. Raises ZeroDivisionError for 0^-1 and 0^0."""
    if exponent == ONE:
        return base
    if exponent == ZERO:
        if base == ZERO:
            raise ZeroDivisionError("0^0")
        _determinate(base)
        if base[0] in ("num", "sym") or symbols(base) or (base[:2] == ("call", "log") and is_num(base[2])):
            return ONE  # of other constants a worker must know whether they vanish
    if is_num(base) and is_num(exponent):
        folded = _fold_power(base[1], exponent[1])
        if folded is not None:
            return ("num", folded)
    if base[0] == "pow" and is_num(exponent) and exponent[1].denominator == 1:
        if exponent[1] > 0 or not may_lack_value(base):  # 1/(1/0) is no 0
            return power(base[1], mul(base[2], exponent))  # (b^a)^n, exact for whole n
        return ("pow", base, exponent)
    if base[0] == "mul" and is_num(exponent) and exponent[1].denominator == 1:
        return mul(*(power(factor, exponent) for factor in base[1:]))
    return ("pow", base, exponent)


def call(name: str, *arguments: Tree) -> Tree:
    """A function's value, folded for exact arguments of the few that stay rational."""
    values = [a[1] for a in arguments if is_num(a)]
    if len(values) == len(arguments):
        value = values[0]
        if name == "abs":
            return ("num", abs(value))
        if name == "floor":
            return ("num", Fraction(value.numerator // value.denominator))
        if name == "ceil":
            return ("num", Fraction(-(-value.numerator // value.denominator)))
        if name in ("max", "min"):
            return ("num", max(values) if name == "max" else min(values))
        if name == "log":
            if value == 0:
                raise ZeroDivisionError("log 0")
            return ZERO if value == 1 else ("call", name, *arguments)
        if all(v.denominator == 1 for v in values) and name in ("gcd", "lcm"):
            return num((gcd if name == "gcd" else lcm)(*map(int, values)))
        whole = all(v.denominator == 1 and 0 <= v <= 400 for v in values)
        if name == "factorial" and whole:
            return num(factorial(int(value)))
        if name == "factorial2" and whole:
            return num(prod(range(int(value), 0, -2)))
        if name == "binomial" and whole:
            return num(comb(int(value), int(values[1])))
    return ("call", name, *(sorted(arguments, key=repr) if name in ("max", "min", "gcd", "lcm") else arguments))


def _fold_power(base: Fraction, exponent: Fraction) -> Fraction | None:
    if exponent.denominator == 1:
        if _bits(base) * abs(exponent) > LARGEST:
            return None
        return base ** int(exponent)
    if exponent.denominator > 12 or (base < 0 and exponent.denominator % 2 == 0):
        return None
    if base < 0:  # the real root of an odd degree
        folded = _fold_power(-base, exponent)
        return folded if folded is None or exponent.numerator % 2 == 0 else -folded
    root = _exact_root(base.numerator, exponent.denominator), _exact_root(base.denominator, exponent.denominator)
    if root[0] is None or root[1] is None:
        return None
    return _fold_power(Fraction(root[0], root[1]), Fraction(exponent.numerator))


def _exact_root(n: int, degree: int) -> int | None:
    if n.bit_length() > 1000:
        return None
    root = isqrt(n) if degree == 2 else round(n ** (1 / degree)) if n.bit_length() < 900 else 0
    return root if root**degree == n else None


def _determinate(*vanishing: Tree) -> None:
    """Raises ZeroDivisionError where infinity would vanish: oo - oo, 0 oo, oo / oo and oo^0 have no value."""
    if any(_has_infinity(tree) for tree in vanishing):
        raise ZeroDivisionError("indeterminate")


def may_lack_value(tree: Tree) -> bool:
    """Whether something in it could be without a value that folding has not seen: a quotient by a sum, a function.

    Nothing times such a tree is not yet nothing.
    """
    if tree[0] == "call" and tree[1] not in HAVE_VALUES:
        of_numbers = tree[1] == "log" and all(is_num(part) and part[1] > 0 for part in tree[2:])
        return not of_numbers and not symbols(tree)
    doubtful = tree[0] == "pow" and (tree[1] == ZERO or tree[1][0] in ("add", "call")) and not symbols(tree)
    return doubtful or any(may_lack_value(part) for part in tree[1:] if isinstance(part, tuple))


def _has_infinity(tree: Tree) -> bool:
    return tree == INFINITY or any(_has_infinity(part) for part in tree[1:] if isinstance(part, tuple))


def _bounded(value: Fraction) -> Fraction:
    if _bits(value) > 2 * LARGEST:
        raise TooLarge
    return value


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def _flat(kind: str, trees: Iterable[Tree]) -> list[Tree]:
    return reduce(lambda flat, tree: flat + (list(tree[1:]) if tree[0] == kind else [tree]), trees, [])


def _split(term: Tree) -> tuple[Fraction, Tree]:
    """A term as coefficient and rest."""
    if is_num(term):
        return term[1], ONE
    if term[0] == "mul":
        numbers = [t for t in term[1:] if is_num(t)]
        others = [t for t in term[1:] if not is_num(t)]
        if len(numbers) == 1 and others:
            return numbers[0][1], others[0] if len(others) == 1 else ("mul", *others)
    return ONE[1], term


def symbols(tree: Tree) -> set[str]:
    if tree[0] == "sym":
        return {tree[1]} - {"pi", "e", "i", "infinity"}
    return set().union(*(symbols(part) for part in tree[1:] if isinstance(part, tuple)))


def text(tree: Tree) -> str:
    """The tree as one readable line."""
    kind, *parts = tree
    if kind == "num":
        return str(parts[0])
    if kind == "sym":
        return str(parts[0])
    if kind == "call":
        return f"{parts[0]}({', '.join(text(part) for part in parts[1:])})"
    sign = {"add": " + ", "mul": "*", "pow": "^"}[kind]
    return sign.join(f"({text(p)})" if p[0] in ("add", "mul", "pow") or "/" in text(p) else text(p) for p in parts)
