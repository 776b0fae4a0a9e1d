"""When an output is the expected one. Host only and pure: the expected output never enters the sandbox."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

LONGEST_INT = 4_000  # digits; beyond them Python refuses int(text), so such integers are compared as text


def same_stdout(got: str, want: str, *, ignore_case: bool = False, float_tolerance: float = 0.0) -> bool:
    """LiveCodeBench's rule: stripped lines equal as text, or token by token as numbers.

    Stops at the first unequal token, so that a wrong flood costs the host little.
    """
    if ignore_case:
        got, want = got.casefold(), want.casefold()
    got, want = got.strip(), want.strip()
    if got.count("\n") != want.count("\n"):  # before a flood is split into millions of lines
        return False
    pairs = zip((line.strip() for line in got.split("\n")), (line.strip() for line in want.split("\n")), strict=True)
    equal: Callable[[str, str], bool] = _same_decimal
    if float_tolerance:

        def equal(x: str, y: str) -> bool:
            return x == y or _close(x, y, float_tolerance)

    return all(x == y or _same_tokens(x.split(), y.split(), equal) for x, y in pairs)


def _same_tokens(xs: list[str], ys: list[str], equal: Callable[[str, str], bool]) -> bool:
    return len(xs) == len(ys) and all(equal(x, y) for x, y in zip(xs, ys, strict=True))


def _same_decimal(x: str, y: str) -> bool:
    """Also for equal texts: a line that differs somewhere must consist of numbers, and NaN is not itself."""
    try:
        return Decimal(x) == Decimal(y)
    except (InvalidOperation, ValueError):  # not a number, or a signalling NaN
        return False


def _close(x: str | float, y: str | float, tolerance: float) -> bool:
    try:
        got, want = float(x), float(y)
    except (ValueError, OverflowError):  # not a number, or an integer beyond all floats
        return False
    return abs(got - want) <= tolerance * max(1.0, abs(want))  # False for NaN, and for an infinity against a number


def loads(text: str | bytes) -> Any:
    """JSON in which an integer too long for `int` becomes `("int", digits)`: still comparable, never an error."""
    return json.loads(text, parse_int=lambda s: int(s) if len(s) < LONGEST_INT else ("int", s))


def same_value(picture: Any, want: Any, *, float_tolerance: float = 0.0, _top: bool = True) -> bool:
    """Whether the guest's picture of a return value (see `guest.picture`) is the wanted JSON value.

    LiveCodeBench's rule: `==`, and a tuple counts as a list at the top only.
    """
    if isinstance(picture, dict):
        if "tuple" in picture:
            return _top and same_value(picture["tuple"], want, float_tolerance=float_tolerance, _top=False)
        items = picture.get("dict")
        if items is None or not isinstance(want, dict) or len(items) != len(want):
            return False
        if len({k for k, _ in items if isinstance(k, str)}) != len(want):  # one right pair, told again and again
            return False
        return all(
            isinstance(k, str) and k in want and same_value(v, want[k], float_tolerance=float_tolerance, _top=False)
            for k, v in items
        )
    if isinstance(picture, list):
        return (
            isinstance(want, list)
            and len(picture) == len(want)
            and all(
                same_value(x, y, float_tolerance=float_tolerance, _top=False)
                for x, y in zip(picture, want, strict=True)
            )
        )
    if isinstance(want, list | dict):
        return False
    if float_tolerance and _is_number(picture) and _is_number(want) and _close(picture, want, float_tolerance):
        return True
    return bool(picture == want)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def plain(picture: Any) -> Any:
    """The picture as plain JSON: tuples become lists. Raises TypeError for a value that JSON cannot hold."""
    if isinstance(picture, list):
        return [plain(x) for x in picture]
    if not isinstance(picture, dict):
        return int(picture[1]) if isinstance(picture, tuple) else picture
    if "tuple" in picture:
        return [plain(x) for x in picture["tuple"]]
    if "dict" in picture and all(isinstance(k, str) for k, _ in picture["dict"]):
        return {k: plain(v) for k, v in picture["dict"]}
    raise TypeError("the function's result is not a JSON value")
