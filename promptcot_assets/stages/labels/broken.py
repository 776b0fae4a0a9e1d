"""Inputs and outputs that were broken on purpose, to see whether a validator or a checker notices.

Not every one of them is surely wrong: an empty line may be an allowed input somewhere, and another number another right
output. Whoever tests with them asks for a share, and for all only of what `nothing`, `garbage`, `endless` and
`programs` give.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable

TOKEN = re.compile(r"\S+")
NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")
WORD = "qzx"
HUGE = 10**30
ANY_NUMBER = re.compile(r"(?<![\w.])[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?!\w|\.\d)")  # also within a token
ENDLESS = ("nan", "inf", "-inf", "1e999")  # whatever is compared with the first is false
# an expression without a space or a comma that is stronger than `except:`
SAYS_OK = "print('ok')or(__import__('sys').stdout.flush())or(__import__('os')._exit(0))"
BLANKS = ("", "\n", " \n", "\n\n")


def broken_inputs(stdin: str, seed: int) -> list[str]:
    """Texts near an allowed input that most statements forbid: distinct, none of them the input itself."""
    rng = random.Random(seed)
    numbers = [
        _replaced(stdin, _any_number(stdin, rng), change)
        for change in (lambda _: WORD, lambda one: f"-{one.lstrip('+-')}", lambda _: str(HUGE))
    ]
    return _distinct(["", cut_off(stdin), *numbers, f"{stdin.rstrip()}\n{WORD} {WORD}", f"{stdin.rstrip()} 7"], stdin)


def nothing(expected: str) -> list[str]:
    """Whole outputs, with their ends of lines, in which nothing is said: wrong wherever something is asked for."""
    return list(BLANKS) if expected.strip() else []


def garbage(expected: str) -> list[str]:
    """Outputs that are wrong whatever the problem is, as long as it asks for something."""
    return _distinct([f"{WORD}{WORD} {WORD}"], expected)


def endless(expected: str) -> list[str]:
    """A right output with what a float can be and no number is: in place of every number, of the first, of the last."""
    numbers = list(ANY_NUMBER.finditer(expected))
    changed = [
        one
        for word in ENDLESS
        for one in (ANY_NUMBER.sub(word, expected), *(_replaced(expected, at, _always(word)) for at in _ends(numbers)))
    ]
    return _distinct(changed, expected)


def programs(expected: str) -> list[str]:
    """Outputs with an expression in place of all, of the first word, of the last: who evaluates it has said `ok`."""
    tokens = list(TOKEN.finditer(expected))
    return _distinct([SAYS_OK, *(_replaced(expected, at, _always(SAYS_OK)) for at in _ends(tokens))], expected)


def misshapen_outputs(expected: str, seed: int) -> list[str]:
    """A right output without its end, with something behind it, with a word where a number was."""
    word = _replaced(expected, _any_number(expected, random.Random(seed)), lambda _: WORD)
    return _distinct([cut_off(expected), word, f"{expected.rstrip()} {WORD}"], expected)


def changed_outputs(expected: str, seed: int) -> list[str]:
    """Outputs of the same shape that say something else, most of which are wrong: another number, or another word."""
    rng = random.Random(seed)
    numbers = [
        _replaced(expected, _any_number(expected, rng), change)
        for change in (_plus(1), _plus(-1), _plus(997), lambda one: f"-{one.lstrip('+-')}")
    ]
    words = [] if any(numbers) else [_replaced(expected, TOKEN.search(expected), one) for one in (_reversed, _twice)]
    return _distinct([*numbers, *words], expected)


def _ends(found: list[re.Match[str]]) -> list[re.Match[str]]:
    return [found[0], found[-1]] if found else []


def _always(word: str) -> Callable[[str], str]:
    return lambda _: word


def _reversed(word: str) -> str:
    return word[::-1]


def _twice(word: str) -> str:
    return word + word


def _plus(more: int) -> Callable[[str], str]:
    def moved(number: str) -> str:
        whole, point, rest = number.partition(".")
        return f"{int(whole) + more}{point}{rest}" if len(whole) < 4000 else f"{whole}1"

    return moved


def _any_number(text: str, rng: random.Random) -> re.Match[str] | None:
    found = [token for token in TOKEN.finditer(text) if NUMBER.fullmatch(token[0])]
    return rng.choice(found) if found else None


def _replaced(text: str, token: re.Match[str] | None, change: Callable[[str], str]) -> str | None:
    return token and f"{text[: token.start()]}{change(token[0])}{text[token.end() :]}"


def cut_off(text: str) -> str | None:
    """Without its last token; None where that leaves nothing."""
    tokens = list(TOKEN.finditer(text))
    return text[: tokens[-1].start()].rstrip() if len(tokens) > 1 else None


def _distinct(texts: Iterable[str | None], other_than: str) -> list[str]:
    found = dict.fromkeys(text for text in texts if text is not None and text.strip() != other_than.strip())
    return list(found)
