"""From the text of an answer, LaTeX or plain, to its form. Pure and bounded; runs in the host."""

from __future__ import annotations

import re
from functools import lru_cache

from sandbox.maths.forms import Choice, Form, Nothing, Quantity, Unread, Words
from sandbox.maths.grammar import parse
from sandbox.maths.policy import Policy
from sandbox.maths.signs import CONSTANT_NAMES, FUNCTION_NAMES
from sandbox.maths.spelling import (
    ANOTHER_LETTER,
    DIFFERENCE,
    KNOWN_WORDS,
    LETTER,
    LETTER_AND_VALUE,
    LETTERS,
    WORDS,
    clean,
    fold,
    split_sign,
)

LONGEST = 2_000  # characters


@lru_cache(maxsize=1 << 14)
def read(text: str, policy: Policy) -> Form:
    """The form of an answer. Never raises: what no rule reads is `Words` or `Unread`, what has no value `Nothing`."""
    if len(text) > LONGEST:
        return Words(fold(text))
    cleaned = clean(text, policy)
    if policy.multiple_choice:
        if match := LETTER.fullmatch(cleaned):
            return Choice(match[1])
        if (match := LETTER_AND_VALUE.fullmatch(cleaned)) and not ANOTHER_LETTER.search(match[4]):
            return Choice(match[1] or match[2] or match[3], _read(match[4], policy))
    return _read(cleaned, policy)


def _read(text: str, policy: Policy) -> Form:
    spoken = text.replace("⟦", " ").replace("⟧", " ").strip()
    if not spoken:
        return Nothing(text)
    if LETTERS.fullmatch(" ".join(spoken.split())):
        return parse(", ".join(re.findall("[A-J]", spoken)), policy)
    if WORDS.fullmatch(spoken) and not DIFFERENCE.fullmatch(text):
        words = fold(spoken)
        if words not in (*FUNCTION_NAMES, *CONSTANT_NAMES) and (len(words) > 2 or words in KNOWN_WORDS or "⟦" in text):
            return Words(words)
    try:
        if (measured := split_sign(text, policy)) is not None:
            return Quantity(parse(measured.value, policy), measured.unit)
        return parse(text, policy)
    except ZeroDivisionError:
        return Nothing(spoken)
    except (ValueError, RecursionError, OverflowError):  # not in our grammar, or too large for it
        return Unread(" ".join(text.split())) if "\\" in text else Words(fold(spoken))
