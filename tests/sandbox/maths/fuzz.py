"""Expressions whose value is known beforehand, and completions with mutations: what the fuzz tests are made of."""

from __future__ import annotations

from fractions import Fraction
from math import comb, factorial, gcd, lcm
from typing import NamedTuple

from hypothesis import strategies as st

SMALL = 10**6


class Term(NamedTuple):
    """LaTeX of a whole grammar tree in brackets of its own, and its exact value: None where it has none."""

    latex: str
    value: Fraction | None


def _written(value: Fraction, style: int) -> str:
    """A rational as answers write it: as a fraction, as a decimal where it is one, with a gap or a sign."""
    sign, size = ("-" if value < 0 else ""), abs(value)
    whole = size.denominator == 1
    spellings = [
        f"{sign}\\frac{{{size.numerator}}}{{{size.denominator}}}",
        f"{sign}{size.numerator}" if whole else f"{sign}{size.numerator}/{size.denominator}",
        f"{sign}\\dfrac{{{size.numerator}}} {{{size.denominator}}}",
        f"{sign}{float(size)}" if whole and size < SMALL else f"{sign}{{{size.numerator} \\over {size.denominator}}}",
        f"{sign}{int(size)}\\frac{{{size.numerator % size.denominator}}}{{{size.denominator}}}",
    ]
    return spellings[style % len(spellings)]


def _bracketed(latex: str, style: int) -> str:
    return (f"({latex})", f"\\left({latex}\\right)", f"{{({latex})}}", f"\\left( {latex} \\right)")[style % 4]


def _whole(*values: Fraction | None, most: int = 20) -> bool:
    return all(value is not None and value.denominator == 1 and 0 <= value <= most for value in values)


def _unary(operation: str, a: Term, style: int) -> Term:
    inside, value = _bracketed(a.latex, style), a.value
    match operation:
        case "negative":
            return Term(f"-{inside}", None if value is None else -value)
        case "square root":
            return Term(f"\\sqrt{{{inside} \\cdot {inside}}}", None if value is None else abs(value))
        case "absolute":
            return Term(f"\\left|{a.latex}\\right|", None if value is None else abs(value))
        case "floor":
            return Term(f"\\lfloor {a.latex} \\rfloor", None if value is None else Fraction(value.__floor__()))
        case "inverse":
            return Term(f"\\frac{{1}}{{{a.latex}}}", None if not value else 1 / value)
        case "zeroth":
            return Term(f"{inside}^0", None if not value else Fraction(1))
        case "factorial":
            return Term(f"{inside}!", Fraction(factorial(int(value)))) if value is not None and _whole(value) else a
        case "logarithm":
            return Term(f"\\log_2 2^{{{a.latex}}}", value)
        case "vanishing sine":
            return Term(f"{inside} + \\sin\\pi", value)
        case "percent":
            return Term(f"{inside}\\%", None if value is None else value / 100)
        case _:
            return Term(f"{inside}^2", None if value is None else value**2)


def _binary(operation: str, a: Term, b: Term, style: int) -> Term:
    x, y = _bracketed(a.latex, style), _bracketed(b.latex, style + 1)
    p, q = a.value, b.value
    both = p is not None and q is not None
    match operation:
        case "plus":
            return Term(f"{x}+{y}", p + q if both else None)
        case "minus":
            return Term(f"{x} - {y}", p - q if both else None)
        case "times":
            return Term(x + (" * ", " ", "\\cdot ", "\\times ")[style % 4] + y, p * q if both else None)
        case "over":
            return Term(f"\\frac{{{a.latex}}}{{{b.latex}}}", p / q if both and q else None)
        case "slash":
            return Term(f"{x}/{y}", p / q if both and q else None)
        case "gcd":
            return (
                Term(f"\\gcd({a.latex}, {b.latex})", Fraction(gcd(int(p), int(q)))) if _whole(p, q, most=10**9) else a
            )
        case "lcm":
            return Term(f"\\text{{lcm}}({a.latex}, {b.latex})", Fraction(lcm(int(p), int(q)))) if _whole(p, q) else b
        case "max":
            return Term(f"\\max({a.latex}, {b.latex})", max(p, q) if both else None)
        case "min":
            return Term(f"\\min\\{{{a.latex}, {b.latex}\\}}", min(p, q) if both else None)
        case _:
            return Term(f"\\binom{{{a.latex}}}{{{b.latex}}}", Fraction(comb(int(p), int(q)))) if _whole(p, q) else b


UNARY = ["negative", "square root", "absolute", "floor", "inverse", "zeroth", "factorial", "logarithm",
         "vanishing sine", "percent", "square"]  # fmt: skip
BINARY = ["plus", "minus", "times", "over", "slash", "gcd", "lcm", "max", "min", "binomial"]
STYLES = st.integers(0, 19)
RATIONALS = st.builds(Fraction, st.integers(-30, 30), st.integers(1, 12))
LEAVES = st.builds(lambda value, style: Term(_written(value, style), value), RATIONALS, STYLES)


def _is_small(term: Term) -> bool:
    value = term.value
    return value is None or (abs(value.numerator) < 10**60 and value.denominator < 10**60)


TERMS = st.recursive(
    LEAVES,
    lambda inner: (
        st.builds(_unary, st.sampled_from(UNARY), inner, STYLES)
        | st.builds(_binary, st.sampled_from(BINARY), inner, inner, STYLES)
    ).filter(_is_small),
    max_leaves=6,
)
EQUAL_WRITTEN = st.builds(
    lambda value, x, y: (value, _written(value, x), _written(value, y)), RATIONALS, STYLES, STYLES
)

PIECES = [
    *"0123456789 0123456789 xyniedABC+-*/^_=<>(){}[],.;:|!%'&~$`\n\t⟦⟧°²₁½∞π≈≤ℝ或", "\\boxed{", "\\boxed", "\\fbox{",
    "}", "}", "<think>", "</think>", "\\frac", "\\frac{", "\\sqrt", "\\text{", "\\mathrm{", "\\left(", "\\right)",
    "\\{", "\\}", "\\\\", "\\,", "\\!", "\\;", "\\quad", "\\begin{pmatrix}", "\\end{pmatrix}", "\\begin{array}{cc}",
    "\\end{array}", "\\cup", "\\cap", "\\setminus", "\\mathbb{R}", "\\pm", "\\approx", "\\in", "\\ne", "\\le", "\\ge",
    "\\infty", "\\pi", "\\sin", "\\log_", "\\ln", "\\gcd(", "\\max(", "\\lfloor", "\\rfloor", "\\sum_{k=1}^",
    "\\int_0^1", "\\lim_{x\\to0}", "\\bar", "\\dot", "\\overline{", "\\over", "\\choose", "\\angle", "\\langle",
    "\\rangle", "^\\circ", "^{\\text{th}}", " and ", " or ", "\\text{ or }", "\\text{ and }", " cm", " percent",
    "\\%", "\\$", " million", " dollars", "10^{", "9^{9^{", ",\\!", "!!", "''", "(A)", "(B) ", "x=", "x>", "Area = ",
    "m+n=", "f(x)=", "|AB|=", "no solution", "all real numbers", "1,000", "1 000", "0.", ".5", "3\\frac12", "2\\cdot",
    "e^{i\\pi}", "a_{", "x_1", "\\alpha", "dx", "\\circ", "\\lor", "\\det",
]  # fmt: skip
ANSWERS = [
    "42", "-7/3", "\\frac{\\sqrt2}{2}", "(1, 2)", "[0, \\infty)", "\\{1, 2\\}", "x=4", "x>3", "50\\%", "5\\text{ cm}",
    "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}", "\\text{Yes}", "B", "y=2x+1", "\\sum_{k=1}^n k", "1,2,3",
    "0.\\overline{3}",
]  # fmt: skip


@st.composite
def completions(draw: st.DrawFn) -> str:
    """A completion that boxes an answer, with pieces put in, cut out and repeated."""
    answer = draw(st.sampled_from(ANSWERS))
    text = draw(
        st.sampled_from(
            ["\\boxed{%s}", "<think>so \\boxed{1}</think> It is $\\boxed{%s}$.", "\\boxed{%s} or \\boxed{8}"]
        )
    )
    text = text.replace("%s", answer)
    for _ in range(draw(st.integers(0, 8))):
        at, piece, kind = draw(st.integers(0, len(text))), draw(st.sampled_from(PIECES)), draw(st.integers(0, 3))
        until = min(len(text), at + draw(st.integers(0, 12)))
        put = {0: piece, 1: piece + text[at:until], 2: text[at:until] * 3, 3: ""}[kind]
        text = text[:at] + put + text[until if kind else at :]
    return text
