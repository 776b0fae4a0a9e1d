"""The comparison, against an independent statement of LiveCodeBench's rule."""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.compare import plain, same_stdout, same_value
from sandbox.guest import picture


def lcb_stdout(got: str, want: str) -> bool:
    """As many lines once all is stripped; each equal, or all tokens of both decimals and pairwise equal."""
    lines = [[line.strip() for line in text.strip().split("\n")] for text in (got, want)]
    if len(lines[0]) != len(lines[1]):
        return False
    for a, b in zip(*lines, strict=True):
        if a == b:
            continue
        try:
            if [Decimal(x) for x in a.split()] != [Decimal(y) for y in b.split()]:
                return False
        except InvalidOperation:
            return False
    return True


tokens = st.sampled_from(
    ["1", "1.0", "01", "-0", "0", "1e2", "100", "nan", "sNaN", "inf", "yes", "Yes", "", " ", "\n", "\t", "3.14", "x1"]
)
outputs = st.lists(tokens, max_size=8).map(" ".join) | st.lists(tokens, max_size=6).map("\n".join)


@given(outputs, outputs)
def test_stdout_rule(got: str, want: str) -> None:
    assert same_stdout(got, want) == lcb_stdout(got, want)
    assert same_stdout(got, got)


@pytest.mark.parametrize("tolerance", [0.0, 1e-6])
@pytest.mark.parametrize("want", ["1", "NaN", "-sNaN", "sNaN 1", "Infinity"])
def test_a_signalling_nan_equals_nothing_and_raises_nothing(want: str, tolerance: float) -> None:
    """Python raises when it compares one, even by `==`."""
    assert not same_stdout("sNaN", want, float_tolerance=tolerance)
    assert not same_stdout(want, "sNaN", float_tolerance=tolerance)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([0.0, 1.0, 0.5, float("inf")])
    | st.sampled_from(["", "a", "1"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2) | st.tuples(inner)
    ),
    max_leaves=6,
)


def jsonable(value: Any) -> Any:
    return json.loads(json.dumps(value))


@given(values, values)
def test_value_rule(got: Any, other: Any) -> None:
    """`==` after a top-level tuple became a list: what LiveCodeBench does inside the program's own process."""
    want = jsonable(other)
    top = list(got) if isinstance(got, tuple) else got
    assert same_value(jsonable(picture(got)), want) == (top == want)


@given(values)
def test_plain_is_what_json_would_say(value: Any) -> None:
    assert plain(jsonable(picture(value))) == jsonable(value)


@pytest.mark.parametrize(
    ("got", "want", "same"),
    [("0.3333333", "0.33333334", True), ("1e9", "1000000001", True), ("0.1", "0.2", False), ("nan", "1", False),
     ("inf", "1", False),     ("a 1.0000001", "a 1", True), ("a 1", "b 1", False), ("1", "1 1", False)],
)  # fmt: skip
def test_float_tolerance(got: str, want: str, same: bool) -> None:
    assert same_stdout(got, want, float_tolerance=1e-6) == same
