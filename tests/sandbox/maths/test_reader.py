"""The reader: bounded on hostile text, stable under its own spelling."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.maths import equivalent, normal_form, trees
from sandbox.maths.forms import Nothing, Number, Unread, Words
from sandbox.maths.policy import DEFAULT
from sandbox.maths.reader import read

CHARACTERS = [*"0123456789xyzie+-*/^_=<>(){}[],;:|!%' $", "⟦", "⟧"]
COMMANDS = [
    "\\frac",
    "\\sqrt",
    "\\pi",
    "\\left",
    "\\{",
    "\\}",
    "\\text{",
    "\\\\",
    "\\begin{",
    "&",
    "pi",
    "sin",
    "\\pm",
    "\\cup",
]
latex = st.lists(st.sampled_from([*CHARACTERS, *COMMANDS]), max_size=25).map("".join)


@given(latex)
def test_reading_never_raises_and_is_reflexive(text: str) -> None:
    form = read(text, DEFAULT)
    assert form.text == read(text, DEFAULT).text


@given(st.text(max_size=60))
def test_any_text_can_be_read(text: str) -> None:
    assert isinstance(normal_form(text), str)


@given(st.fractions(max_denominator=10**6))
def test_a_fraction_is_read_exactly(value: Fraction) -> None:
    for text in (
        str(value),
        f"\\frac{{{value.numerator}}}{{{value.denominator}}}",
        f"{value.numerator} / {value.denominator}",
    ):
        form = read(text, DEFAULT)
        assert isinstance(form, Number)
        assert form.value == value


@given(st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**9), max_value=10**9))
def test_a_decimal_is_read_exactly(value: object) -> None:
    form = read(f"{value:f}", DEFAULT)
    assert isinstance(form, Number)
    assert form.value == Fraction(f"{value:f}")


HOSTILE = [
    "(" * 500 + "1" + ")" * 500,
    "{" * 900,
    "\\frac" * 300,
    "-" * 1900 + "1",
    "1" * 1999,
    "9" * 900 + "^" + "9" * 900,
    "+".join(f"\\frac{{1}}{{{n}^{{900}}}}" for n in range(2, 120)),
    "2^{" * 300 + "2" + "}" * 300,
    "x" * 1500,
    "1e" + "9" * 300,
    "\\sqrt{" * 200 + "2" + "}" * 200,
    "(1,2)," * 300,
    "a" * 100_000,
    "\\begin{pmatrix}" * 50,
    "|" * 1000,
    "400!" * 200,
    "5 " + "a " * 900 + "!",
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:12])
def test_hostile_text_is_read_at_once(text: str) -> None:
    """The pytest timeout would end a reader that is not bounded; equality with itself must still hold."""
    read.cache_clear()
    assert not equivalent("7", text)
    assert normal_form(text) == normal_form(text)


def test_what_cannot_be_read_is_words_or_unread_and_what_has_no_value_nothing() -> None:
    assert isinstance(read("???", DEFAULT), Words)
    assert isinstance(read(r"\lim_{x\to 0} x", DEFAULT), Unread)
    assert isinstance(read("1/0", DEFAULT), Nothing)


def test_trees_gather_and_fold() -> None:
    x, two = ("sym", "x"), trees.num(2)
    assert trees.add(x, x) == trees.mul(two, x)
    assert trees.mul(x, trees.power(x, two)) == trees.power(x, trees.num(3))
    assert trees.add(x, trees.negative(x)) == trees.ZERO
    assert trees.power(trees.num("4/9"), trees.num("1/2")) == trees.num("2/3")
    assert trees.power(two, trees.num(10**9)) == ("pow", two, trees.num(10**9))
    with pytest.raises(ZeroDivisionError):
        trees.divide(x, trees.ZERO)
