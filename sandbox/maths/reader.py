"""From the text of an answer, LaTeX or plain, to its form. Pure and bounded; runs in the host."""

from __future__ import annotations

from functools import lru_cache

from sandbox.maths import trees
from sandbox.maths.forms import Choice, Form, Quantity, Unread, Words
from sandbox.maths.grammar import Unreadable, parse
from sandbox.maths.policy import Policy
from sandbox.maths.spelling import (
    ANOTHER_LETTER,
    CONSTANT_NAMES,
    FUNCTION_NAMES,
    KNOWN_WORDS,
    LETTER,
    LETTER_AND_VALUE,
    WORDS,
    clean,
    fold,
    split_unit,
)

LONGEST = 2_000  # characters


@lru_cache(maxsize=1 << 14)
def read(text: str, policy: Policy) -> Form:
    """The form of an answer. Never raises: what no rule reads is `Words` or `Unread`."""
    if len(text) > LONGEST:
        return Words(fold(text))
    cleaned = clean(text, policy)
    if policy.multiple_choice:
        if match := LETTER.fullmatch(cleaned):
            return Choice(match[1])
        if (match := LETTER_AND_VALUE.fullmatch(cleaned)) and not ANOTHER_LETTER.match(match[4]):
            return Choice(match[1] or match[2] or match[3], _read(match[4], policy))
    return _read(cleaned, policy)


def _read(text: str, policy: Policy) -> Form:
    spoken = text.replace("⟦", " ").replace("⟧", " ").strip()
    if WORDS.fullmatch(spoken):
        words = fold(spoken)
        if words not in (*FUNCTION_NAMES, *CONSTANT_NAMES) and (len(words) > 2 or words in KNOWN_WORDS or "⟦" in text):
            return Words(words)
    try:
        measured = split_unit(text, policy)
        if measured is not None:
            value = parse(measured.value, policy)
            return Quantity(value, measured.unit) if measured.unit else value
        return parse(text, policy)
    except ZeroDivisionError:  # no value, for anybody
        return Words(fold(spoken))
    except (Unreadable, trees.TooLarge, RecursionError, OverflowError):
        return Unread(" ".join(text.split())) if "\\" in text else Words(fold(spoken))
