"""When an output is the expected one. Host only and pure: the expected output never enters the sandbox."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any

LONGEST_INT = 4_000  # digits; beyond them Python refuses int(text), so such integers are compared as text
PADDED = re.compile(r"[-+]?0\d+", re.ASCII)


def same_stdout(
    got: str, want: str, *, ignore_case: bool = False, float_tolerance: float = 0.0, digit_strings: bool = False
) -> bool:
    """LiveCodeBench's rule: stripped lines equal as text, or token by token as numbers.

    digit_strings: a row of digits that starts with a needless zero is no number but text, so that 0101 is not 101.
    Stops at the first unequal token, so that a wrong flood costs the host little.
    """
    if ignore_case:
        got, want = got.casefold(), want.casefold()
    got, want = got.strip(), want.strip()
    if got.count("\n") != want.count("\n"):  # before a flood is split into millions of lines
        return False
    pairs = zip((line.strip() for line in got.split("\n")), (line.strip() for line in want.split("\n")), strict=True)
    numbers = _same_decimal if not float_tolerance else partial(_equal_or_close, tolerance=float_tolerance)
    equal = partial(_same_digits, otherwise=numbers) if digit_strings else numbers
    return all(x == y or _same_tokens(x.split(), y.split(), equal) for x, y in pairs)


def _same_tokens(xs: list[str], ys: list[str], equal: Callable[[str, str], bool]) -> bool:
    return len(xs) == len(ys) and all(equal(x, y) for x, y in zip(xs, ys, strict=True))


def _same_digits(x: str, y: str, otherwise: Callable[[str, str], bool]) -> bool:
    return x == y if PADDED.fullmatch(x) or PADDED.fullmatch(y) else otherwise(x, y)


def _equal_or_close(x: str, y: str, tolerance: float) -> bool:
    return x == y or _close(x, y, tolerance)


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
    """JSON in which an integer too long for `int` becomes `("int", digits)`: still comparable, never an error.

    Raises: ValueError for what is no JSON, or is nested too deeply to be read.
    """
    try:
        return json.loads(text, parse_int=lambda s: int(s) if len(s) < LONGEST_INT else ("int", s))
    except RecursionError as error:
        raise ValueError("JSON that is nested too deeply") from error


def same_value(picture: Any, want: Any, *, float_tolerance: float = 0.0) -> bool:
    """Whether the guest's picture of a return value (see `guest.picture`) is the wanted JSON value.

    LiveCodeBench's rule: `==`, and a tuple counts as a list at the top only. The picture may be forged: one that
    `guest.picture` never makes equals nothing.
    """
    if isinstance(picture, dict) and isinstance(picture.get("tuple"), list):
        picture = picture["tuple"]
    pairs = [(picture, want)]
    while pairs:  # no recursion: it may be nested as deeply as JSON can be
        got, due = pairs.pop()
        if isinstance(got, dict):
            items = got.get("dict")
            if not isinstance(items, list) or not isinstance(due, dict) or len(items) != len(due):
                return False
            if not all(isinstance(item, list) and len(item) == 2 and isinstance(item[0], str) for item in items):
                return False
            known = dict(items)
            if known.keys() != due.keys():  # as well when one right pair is told again and again
                return False
            pairs += [(known[key], due[key]) for key in due]
        elif isinstance(got, list):
            if not isinstance(due, list) or len(got) != len(due):
                return False
            pairs += zip(got, due, strict=True)
        elif not _same_leaf(got, due, float_tolerance):
            return False
    return True


def _same_leaf(got: Any, due: Any, float_tolerance: float) -> bool:
    if isinstance(due, list | dict):
        return False
    if float_tolerance and _is_number(got) and _is_number(due) and _close(got, due, float_tolerance):
        return True
    return bool(got == due)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def plain(picture: Any) -> Any:
    """The picture as plain JSON: tuples become lists. Raises TypeError for a value that JSON cannot hold."""
    if isinstance(picture, list):
        return [plain(x) for x in picture]
    if not isinstance(picture, dict):
        return int(picture[1]) if isinstance(picture, tuple) else picture
    if isinstance(picture.get("tuple"), list):
        return [plain(x) for x in picture["tuple"]]
    if "dict" in picture and all(isinstance(k, str) for k, _ in picture["dict"]):
        return {k: plain(v) for k, v in picture["dict"]}
    raise TypeError("the function's result is not a JSON value")
