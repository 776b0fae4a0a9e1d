"""The spelling of answers: what LaTeX, Markdown and Unicode write in many ways in one way.

Text in, text out; the grammar of what is left is in `grammar.py`. Words in the result stand between ⟦ and ⟧. Blanks are
single before any rule sees the text, so that no rule has two gaps of unknown length side by side.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

from sandbox.maths.extract import unboxed
from sandbox.maths.policy import Policy
from sandbox.maths.signs import (
    COMMANDS,
    CONNECTIVES,
    CURRENCIES,
    DEGREE_SCALES,
    FUNCTION_NAMES,
    LOWERED,
    NUMBER_SETS,
    RAISED,
    UNICODE,
)
from sandbox.maths.units import BASES, unit_named

TEXT = re.compile(
    r"\\(?:text(?:bf|it|rm|normal|sf|tt|up)?|emph|math(?:rm|sf)|[mhf]box|operatorname\*?) ?\{([^{}]*)\}"
    r"|\\(?:textbf|textit|textrm|mathrm) ?([a-zA-Z0-9])(?![a-zA-Z])"
)
INNER_DOLLAR = re.compile(r"(?<!\\)\$")
COMMAND = re.compile(r"\\([a-zA-Z]+)")
SYSTEM = re.compile(  # all of the answer: rows without columns
    r"^(?:\\left ?\\\{ ?)?\\begin ?\{(cases|array|aligned)\} ?(?:\{[lrc| ]*\})?((?:[^&,\\⟦]|\\\\|\\[a-zA-Z]++)*)"
    r"\\end ?\{\1\} ?(?:\\right ?\.?)?$"
)
Rules = list[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]]
BEFORE: Rules = [  # commands are replaced
    (SYSTEM, lambda match: _equations(match)),
    (re.compile(r"^\\(?:therefore|implies|Rightarrow|Longrightarrow)(?![a-zA-Z])|(?:\\(?:blacksquare|qed)|\\\\)$"), ""),
    (re.compile(r"⟦ ?([ied]) ?⟧"), r" \1 "),
    (re.compile(r"\^ ?\{? ?⟦ ?o ?⟧ ?\}?"), r"^\\circ "),
    (re.compile(rf"⟦ ?({'|'.join(FUNCTION_NAMES)}) ?⟧(?= ?[({{\\|_])"), r"\\\1 "),
    (re.compile(r"⟦([^⟦⟧a-zA-Z]*|[-+]?\d[^⟦⟧]*|\^?\\[^⟦⟧]*)⟧"), r" \1 "),
    (re.compile(r"\\(?:left|right)\."), ""),
    (re.compile(r"\\(?:Bbb|mathbb) ?\{? ?([RZN]) ?\}?(?![a-zA-Z])"), lambda match: NUMBER_SETS[match[1]]),
    (re.compile(r"\\not ?="), "!="),
    (re.compile(r"\\(?:text)?color ?\{[a-z]+\}|\\underline(?![a-z])"), ""),
    (re.compile(r"\\\{ ?\\\}"), r"\\emptyset "),
    (re.compile(r"\bm ?\\(?=(?:measured)?angle)"), r"\\"),
]
AFTER: Rules = [
    (re.compile(r"(?<=\d) ?(?:, ?\\!|\{ ?, ?\}|\\[,!:;]) ?(?=\d{3}(?!\d))"), ""),
    (re.compile(r"(?<!\\)\\!"), ""),
    (re.compile(r"(?<!\\)\\[,;:> ]|~"), " "),
    (re.compile(r"\\frac ?\{ ?⟦([^⟦⟧]*)⟧ ?\} ?\{ ?⟦([^⟦⟧]*)⟧ ?\}"), r"⟦\1/\2⟧"),
    (re.compile(r"⟦([^⟦⟧]*[^⟦⟧ ,;]) (and|or) ?⟧"), r"⟦\1⟧⟦\2⟧"),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"\{ ?: ?\}"), ":"),
    (re.compile(r"(?<=[\d)}\]]) ?⟦? ?(?:per ?cent(?:age)?|pct)\b\.? ?⟧?"), "%"),
    (re.compile(r"(?<=\d) ?(?:\^ ?\{? ?)?⟦? ?(?:st|nd|rd|th)\b ?⟧? ?\}?(?= ?(?:[,;.]|$|⟦))"), ""),
    (re.compile(r"_ ?\{? ?⟦ ?([a-z]+) ?⟧ ?\}?"), lambda match: f"_{{{BASES.get(match[1], match[1])}}}"),
    (re.compile(r"(?<![\d.,])(\d{1,3}(?: \d{3})+)(?![\d/]| ?/)"), lambda match: match[1].replace(" ", "")),
]
NO_SOLUTION = re.compile(r"(?:the )?(?:empty set|null set|no (?:real )?solutions?)", re.IGNORECASE)
REAL_NUMBERS = re.compile(
    r"(?:the set of )?(?:(?:all|the|any) )*(?:real numbers?|reals)"
    r"(?: (?:except|other than|excluding|but)(?: for)? ([^ ].*))?",
    re.IGNORECASE,
)
PREAMBLE = re.compile(
    r"⟦? ?(?:the )?(?:final )?(?:answer|ans|result|(?:(?:minimum|maximum|least|greatest|exact) )?value)(?: is)?"
    r"(?: ?: ?|\b ?⟧?(?=[ \d\\(-]))⟧?",
    re.IGNORECASE,
)
DESCRIPTION = re.compile(r"([A-Za-z]{4,}(?: [A-Za-z]+)*|[Ss]um) ?(?==(?!=))")
BUILDER = re.compile(r"\\\{ ?\(?[a-z](?: ?\\in ?\\reals)? ?\)?[:|] ?([^:|]+)\\\}")
THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
DECIMAL_COMMA = re.compile(r"(?<=\d),(?=\d)")
MOST_MARKS = 8  # around each other: delimiters, emphasis, boxes, braces
DELIMITERS = [("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"), ("`", "`")]
PLAIN_WORDS = re.compile(r"(?<![\\A-Za-z⟦])(?:[A-Za-z]{2,}|[$€£¥])(?:[ /-](?:[A-Za-z]+|\*))*")
PERIOD = re.compile(
    r"(?<!\d)(\d*)\.(\d*)(?:\\(?:overline|bar) ?(?:\{ ?(\d+) ?\}|(\d))"
    r"|\\dot ?(?:\{ ?(\d) ?\}|(\d))(?:(\d*)\\dot ?(?:\{ ?(\d) ?\}|(\d)))?|\((\d+)\))"
)


def clean(text: str, policy: Policy) -> str:
    """One spelling for what LaTeX and Unicode spell in many ways."""
    text = re.sub(r"(?<=\d) ?m([²³])", r"⟦m⟧\1", text.replace("⟦", "\ufffd").replace("⟧", "\ufffd"))
    text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺]+", lambda match: f"^{{{match[0].translate(RAISED)}}}", text)
    text = re.sub("[₀₁₂₃₄₅₆₇₈₉₋₊]+", lambda match: f"_{{{match[0].translate(LOWERED)}}}", text)
    text = _bare(" ".join(text.translate(UNICODE).split()))
    for _ in range(2):  # text in text
        text = TEXT.sub(lambda match: f"⟦{INNER_DOLLAR.sub('', match[1] or match[2] or '')}⟧", text)
    for pattern, replacement in BEFORE if "\\" in text or "⟦" in text else ():
        text = pattern.sub(replacement, text)
    text = COMMAND.sub(lambda match: COMMANDS.get(match[1], match[0]), text)
    for pattern, replacement in AFTER:
        text = pattern.sub(replacement, text)
    text = _bare(" ".join(text.split()))
    if text.startswith("⟦") and text.find("⟧") == len(text) - 1 and re.search(r"[\d(=]", text):
        text = text[1:-1].strip()
    text = PERIOD.sub(_repeating, _bare(text[match.end() :]) if (match := PREAMBLE.match(text)) else text)
    text = _spoken_set(text)
    if match := DESCRIPTION.match(text):
        text = f"⟦{match[1]}⟧{text[match.end() :]}"
    text = _with_words_marked(_without_inner_dollars(text))
    if policy.decimal_comma:
        return DECIMAL_COMMA.sub(".", text.replace(".", "") if DECIMAL_COMMA.search(text) else text)
    if not _has_comma_in_brackets(text):
        text = THOUSANDS.sub(lambda match: match[0].replace(",", ""), text)
    return text


def _equations(system: re.Match[str]) -> str:
    """`x = 1, y = 2` for one equation a row; any other rows stay in their environment."""
    rows = [row for row in system[2].split(r"\\") if row.strip()]
    return ", ".join(rows) if rows and all(row.count("=") == 1 for row in rows) else system[0]


def _spoken_set(text: str) -> str:
    """Sets in words or by a condition: `all real numbers except 1`, `no solution`, `\\{x : x > 3\\}`."""
    spoken = text.replace("⟦", "").replace("⟧", "").strip()
    if NO_SOLUTION.fullmatch(spoken):
        return r"\emptyset "
    if match := REAL_NUMBERS.fullmatch(spoken):
        return r"\reals " + (rf"\setminus \{{{match[1]}\}}" if match[1] else "")
    if (match := BUILDER.fullmatch(text)) and set(match[1]) & set("<>="):
        return match[1]
    return text


def _bare(text: str) -> str:
    """Without the marks around it: maths delimiters, emphasis, boxes, and a sentence's end."""
    for _ in range(MOST_MARKS):
        before = text
        for left, right in DELIMITERS:
            if text.startswith(left) and text.endswith(right) and len(text) > len(left + right) - 1:
                text = text[len(left) : len(text) - len(right)].strip()
        while text[-1:] in (".", ";", ",", " ") and text[-2:-1] not in ("\\", "."):
            text = text[:-1]
        text = unboxed(text)
        if _is_one_group(text):
            text = text[1:-1].strip()
        if text == before:
            break
    return text


def _is_one_group(text: str) -> bool:
    """Whether braces stand around all of it, and are not those of a set or of a fraction in old TeX."""
    if not text.startswith("{") or "\\over" in text or "\\choose" in text:
        return False
    depth = 0
    for at, sign in enumerate(text):
        depth += (sign == "{") - (sign == "}")
        if sign == "," or (depth == 0 and at < len(text) - 1):
            return False
    return depth == 0


def _without_inner_dollars(text: str) -> str:
    """`12 $ and $13` is text between two formulas; a dollar at either end is money."""
    marks = [at for at, sign in enumerate(text) if sign == "$" and text[at - 1 : at] != "\\"]
    money = {0, len(text) - 1} if len(marks) % 2 else set()
    return "".join(" " if at in marks and at not in money else sign for at, sign in enumerate(text)) if marks else text


def _has_comma_in_brackets(text: str) -> bool:
    depth = 0
    for sign in text:
        depth += (sign in "([{") - (sign in ")]}")
        if sign == "," and depth > 0:
            return True
    return False


def _repeating(match: re.Match[str]) -> str:
    """0.1\\overline{6}, 0.1\\bar6, 0.\\dot14285\\dot7, 0.1(6): the digits that repeat, as a fraction."""
    whole, fixed = match[1], match[2]
    first, last = match[5] or match[6] or "", match[8] or match[9] or ""
    period = match[3] or match[4] or match[10] or first + (match[7] or "") + last
    scale = 10 ** len(fixed)
    value = Fraction(int((whole or "0") + fixed), scale) + Fraction(int(period), (10 ** len(period) - 1) * scale)
    return f"(({value.numerator})/({value.denominator}))"


def _with_words_marked(text: str) -> str:
    """Units and scale words in plain text, `18 dollars`, `5cm`, between ⟦ and ⟧, as those of `\\text`."""
    pieces, done = [], 0
    for match in PLAIN_WORDS.finditer(text):
        start, before = match.start(), text[: match.start()].rstrip()
        touches = start > 0 and text[start - 1] != " "
        if not before or start < done or not (before[-1].isdigit() or before[-1] in ")}]"):
            continue
        words = re.split(r"(?<= )", match[0])
        if touches and len(words) == 1 and words[0] in ("pi", "in", *FUNCTION_NAMES):
            continue
        for count in range(min(len(words), 6), 0, -1):
            phrase = "".join(words[:count]).rstrip()
            rest = "".join(words[count:]).split(" ", 1)[0]
            if (not rest or rest in CONNECTIVES) and phrase not in FUNCTION_NAMES and unit_named(phrase):
                pieces += [text[done:start], f"⟦{phrase}⟧"]
                done = start + len(phrase)
                break
    return "".join([*pieces, text[done:]])


# ---- choices, and marks around a whole answer

LETTER = re.compile(r"\(? ?⟦? ?(?:(?:[Oo]ption|[Cc]hoice) )?\(? ?([A-J]) ?\)? ?⟧? ?\)?[.:]?")
LETTER_AND_VALUE = re.compile(r"(?:⟦ ?\(([A-J])\) ?⟧|\(([A-J])\)|([A-J])[.:)]) ?([^ ].*)")
LETTERS = re.compile(r"(?:[A-J]|\( ?[A-J] ?\))(?:(?: ?, ?(?:and )?| and )(?:[A-J]|\( ?[A-J] ?\)))+")
ANOTHER_LETTER = re.compile(  # behind the first: a hedge
    r"^[ ⟦(]*(?:[,;/&]|(?:and|or)\b|[A-J][ ⟧]*(?:[).:,;]|$))|\([A-J]\)|⟦ ?[A-J][).]? ?⟧"
    r"|(?:and|or)[ ⟦⟧(]*[A-J](?![A-Za-z])"
)
WORDS = re.compile(r"[A-Za-z][A-Za-z'’\- ]*[A-Za-z]")
DIFFERENCE = re.compile(r"[A-Za-z](?: ?- ?[A-Za-z])+")  # of letters: p - q is no word
KNOWN_WORDS = {"no", "am", "pm"}
MONEY = re.compile(rf"(-?) ?{CURRENCIES} ?(?=[-\d.(\\])")
MONEY_BEHIND = re.compile(rf"(?<=[\d)}}\]]) ?{CURRENCIES}$")
DEGREES = re.compile(r"\^ ?\{? ?\\circ ?\}? ?⟦? ?([CFK]?) ?⟧?$")
TRIGONOMETRY = re.compile(r"sin|cos|tan|cot|sec|csc")  # here degrees are part of the value, not its unit
BASE = re.compile(r"(-?[0-9A-Z]+)_(?:\{([1-9]\d?)\}|([1-9]\d?))")


class Measured(NamedTuple):
    value: str
    unit: str


def split_sign(text: str, policy: Policy) -> Measured | None:
    """Value and unit of what has a sign for its unit at an end: `\\$18`, `90^\\circ`, `1011_2`; or None."""
    if match := MONEY.match(text):
        return Measured(match[1] + text[match.end() :].removesuffix("⟦dollars⟧"), match[2].removeprefix("\\"))
    if match := MONEY_BEHIND.search(text):
        return Measured(text[: match.start()], match[1].removeprefix("\\"))
    if (match := DEGREES.search(text)) and "," not in text and not TRIGONOMETRY.search(text):
        return (
            Measured(text[: match.start()], "degree" + DEGREE_SCALES[match[1]])
            if text[: match.start()].strip()
            else None
        )
    if match := BASE.fullmatch(text.replace(" ", "")):
        return Measured(match[1], f"base {match[2] or match[3]}")
    if policy.percent == "optional" and text.endswith("%"):
        return Measured(text[:-1], "%")
    return None


def fold(words: str) -> str:
    """Words without what does not matter in them: case, spaces, a final mark."""
    return " ".join(words.lower().replace("’", "'").split()).strip(" .,:;")
