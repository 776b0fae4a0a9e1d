"""The spelling of answers: what LaTeX, Markdown and Unicode write in many ways in one way; words, units and choices.

Text in, text out; the grammar of what is left is in `grammar.py`.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from sandbox.maths.extract import unboxed
from sandbox.maths.policy import Policy

UNICODE = str.maketrans(
    {
        "−": "-", "–": "-", "×": "*", "·": "*", "⋅": "*", "∗": "*", "÷": "/", "∕": "/", "π": r"\pi ", "∞": r"\infty ",
        "√": r"\sqrt ", "°": r"^\circ ", "≤": "<=", "≥": ">=", "≠": "!=", "∪": r"\cup ", "∈": r"\in ", "±": r"\pm ",
        "½": r"\frac{1}{2}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}", "²": "^2", "³": "^3", "∅": r"\emptyset ",
        "\u00a0": " ", "\u2009": " ", "′": "'", "（": "(", "）": ")", "，": ",",
    }
)  # fmt: skip
REWRITES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in [
        (r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|limits|nolimits)(?![a-zA-Z])\.?", ""),
        (r"\\[dtc]frac", r"\\frac"),
        (r"\\(?:text|textbf|textit|textrm|textnormal|mathrm|mbox|hbox)\s*\{([^{}]*)\}", "⟦\\1⟧"),
        (r"⟦\s*⟧", ""),
        (r"⟦\s*([-+]?\d[\d.,/]*)\s*⟧", r"\1"),
        (r"^\s*⟦\s*(\([-+]?\d[\d.,/]*\))\s*⟧\s*$", r"\1"),
        (r"\\(?:mathbf|boldsymbol|mathit|mathsf|bm|vec|hat|bar)\s*(?=\{)", ""),
        (r"(\d)\\[,!](?=\d{3})", r"\1"),
        (r"\{,\}", ","),
        (r"(?<!\\)\\(?:[,;:!> ]|quad|qquad)(?![a-zA-Z])|~", " "),
        (r"\\(?:cdot|times|ast)(?![a-zA-Z])", "*"),
        (r"\\div(?![a-zA-Z])", "/"),
        (r"\\(?:leq?|leqslant)(?![a-zA-Z])", "<="),
        (r"\\(?:geq?|geqslant)(?![a-zA-Z])", ">="),
        (r"\\lt(?![a-zA-Z])", "<"),
        (r"\\gt(?![a-zA-Z])", ">"),
        (r"\\neq?(?![a-zA-Z])", "!="),
        (r"\\(?:lvert|rvert|vert|mid)(?![a-zA-Z])", "|"),
        (r"\\(?:lbrace)(?![a-zA-Z])", r"\\{"),
        (r"\\(?:rbrace)(?![a-zA-Z])", r"\\}"),
        (r"\\(?:varnothing)(?![a-zA-Z])|\\\{\s*\\\}", r"\\emptyset "),
        (r"\\(?:degree|deg)(?![a-zA-Z])", r"^\\circ "),
        (r"\\%", "%"),
        (r"^\s*(?:\\\[|\\\(|\$\$?)|(?:\\\]|\\\)|\$\$?)\s*$", ""),
    ]
]
THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
DECIMAL_COMMA = re.compile(r"(?<=\d),(?=\d)")
REPEATING = re.compile(r"(\d*)\.(\d*)\\overline\s*\{(\d+)\}")
EMPHASIS = re.compile(r"^\*\*(.*)\*\*$")


def clean(text: str, policy: Policy) -> str:
    """One spelling for what LaTeX and Unicode spell in many ways."""
    text = unboxed(EMPHASIS.sub(r"\1", text.strip())).translate(UNICODE)
    for pattern, replacement in REWRITES:
        text = pattern.sub(replacement, text)
    text = REPEATING.sub(_repeating, text)
    text = text.strip().rstrip(".;,").strip() if not text.endswith("\\") else text
    if policy.decimal_comma:
        return DECIMAL_COMMA.sub(".", text.replace(".", "") if DECIMAL_COMMA.search(text) else text)
    if not re.search(r"[(\[{]\s*[^()\[\]{}]*,", text):  # inside brackets a comma separates
        text = THOUSANDS.sub(lambda match: match[0].replace(",", ""), text)
    return text


def _repeating(match: re.Match[str]) -> str:
    whole, fixed, period = match.groups()
    scale = 10 ** len(fixed)
    value = Fraction(int((whole or "0") + fixed), scale) + Fraction(int(period), (10 ** len(period) - 1) * scale)
    return f"(({value.numerator})/({value.denominator}))"


# ---- words, units, choices

LETTER = re.compile(r"\(?\s*⟦?\s*\(?\s*([A-J])\s*\)?\s*⟧?\s*\)?[.:]?")
ANOTHER_LETTER = re.compile(r"[\s⟦(]*(?:[,;/&]|(?:and|or)\b|[A-J][\s⟧]*(?:[).:,;]|$))")  # behind the first: a hedge
LETTER_AND_VALUE = re.compile(r"(?:⟦\s*\(([A-J])\)\s*⟧|\(([A-J])\)|([A-J])[.:)])\s*(\S.*)")
WORDS = re.compile(r"[A-Za-z][A-Za-z'’\- ]*[A-Za-z]")
KNOWN_WORDS = {"no", "am", "pm"}
FUNCTION_NAMES = """
arcsin arccos arctan arccot sinh cosh tanh sin cos tan cot sec csc log ln exp sqrt cbrt max min gcd lcm floor ceil abs
""".split()  # noqa: SIM905
CONSTANT_NAMES = {"pi": "pi", "inf": "infinity", "infinity": "infinity", "infty": "infinity", "oo": "infinity"}
MONEY = re.compile(r"^(-?)\s*(\\?\$|£|€|¥)\s*(?=[-\d.(\\])")
DEGREES = re.compile(r"\^\s*\{?\s*\\circ\s*\}?\s*([CFK]?)\s*$")
TRIGONOMETRY = re.compile(r"sin|cos|tan|cot|sec|csc")  # here degrees are part of the value, not its unit
TEXT_UNIT = re.compile(r"^(.*[^\s⟦⟧])\s*⟦\s*([^⟦⟧]*?)\s*⟧\s*((?:\^\s*\{?\s*-?\d\s*\}?)?)\s*$")
PLAIN_UNIT = re.compile(r"^(.*[\d)}\]])\s+([A-Za-z]{2,}[A-Za-z]*(?:[\s/]+[A-Za-z]+)*)\s*((?:\^\s*\{?\d\}?)?)\s*$")
BASE = re.compile(r"^(-?[0-9A-Z]+)_(?:\{([1-9]\d?)\}|([1-9]\d?))$")
CONNECTIVES = {"and", "or", "if", "for", "where", "when", "with"}
# behind a number these are no unit: they make it another number, or take it back
CHANGE_THE_VALUE = set(
    """
half halve halves third thirds fourth fourths fifth fifths sixth sixths seventh sevenths eighth eighths ninth ninths
tenth tenths hundredth hundredths thousandth thousandths millionth millionths
squared cubed factorial plus minus times over divided by less more than below under above zero negative modulo mod
power root point one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty sixty seventy
eighty ninety is not isn wrong false incorrect approximately approx about roughly maybe perhaps possibly but else vs
versus
""".split()  # noqa: SIM905
)
SCALES = {
    "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12,
}  # fmt: skip
SYNONYMS = {
    "centimeter": "cm", "centimetre": "cm", "meter": "m", "metre": "m", "kilometer": "km", "kilometre": "km",
    "inche": "inch", "in": "inch", "feet": "foot", "ft": "foot", "hour": "h", "hr": "h", "minute": "min", "second": "s",
    "sec": "s", "gram": "g", "kilogram": "kg", "dollar": "$", "usd": "$", "buck": "$", "percent": "%", "deg": "degree",
    "liter": "L", "litre": "L", "sq": "square", "mph": "mile/h", "radian": "rad",
}  # fmt: skip


def _unit(words: str, exponent: str = "") -> str:
    """A unit in one spelling: `miles per hour` is `mile/h`, `cm^2` and `square centimeters` are `cm^2`."""
    parts = re.findall(r"[A-Za-z$%]+|/|\^-?\d", words.replace(" per ", "/"))
    singular = [part if len(part) <= 2 else part.lower().removesuffix("s") for part in parts]
    names = [SYNONYMS.get(part.lower(), part) for part in singular]
    for power, name in (("^2", "square"), ("^3", "cubic")):
        if name in names:
            names = [*(part for part in names if part != name), power]
    return "".join(names) + re.sub(r"[\s{}]", "", exponent)


class Measured(NamedTuple):
    """unit: empty for a mere number, as in `5 million`."""

    value: str
    unit: str


def split_unit(text: str, policy: Policy) -> Measured | None:
    """Value and unit of `5 \\text{ cm}`, `\\$18`, `18 dollars`, `90^\\circ`, `1011_2`, `5 million`; or None."""
    if match := MONEY.match(text):
        rest = split_unit(text[match.end() :], policy)  # `$18 dollars`
        sign = "$" if match[2] in ("$", "\\$") else match[2]
        return Measured(match[1] + (rest.value if rest else text[match.end() :]), sign)
    if (match := DEGREES.search(text)) and not TRIGONOMETRY.search(text):
        return Measured(text[: match.start()], "degree" + match[1]) if text[: match.start()].strip() else None
    if match := BASE.match(text.replace(" ", "")):
        return Measured(match[1], f"base {match[2] or match[3]}")
    if policy.percent == "optional" and text.endswith("%"):
        return Measured(text[:-1], "%")
    for pattern in (TEXT_UNIT, PLAIN_UNIT):
        match = pattern.match(text)
        words = re.findall(r"[a-z]+", match[2].lower()) if match else []
        if match and match[2].strip() and not {*words} & (CONNECTIVES | CHANGE_THE_VALUE):
            if words and (scale := SCALES.get(words[0].removesuffix("s"))):
                return Measured(f"({match[1]})*{scale}", _unit(" ".join(words[1:]), match[3]))
            unit = _unit(match[2], match[3])
            known = match[2].split()[0] not in (*FUNCTION_NAMES, *CONSTANT_NAMES)
            if unit == "%" and policy.percent == "value":
                return None
            if known and (pattern is TEXT_UNIT or "," not in match[1]):
                return Measured(match[1], unit)
    return None


def fold(words: str) -> str:
    """Words without what does not matter in them: case, spaces, a final mark."""
    return " ".join(words.lower().replace("’", "'").split()).strip(" .,:;")
