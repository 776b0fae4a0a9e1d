"""When outputs of candidate programs count as the same answer: as the sandbox compares them, or as a checker says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from promptcot_assets.judging.verifier import Checked, Verifier
from promptcot_assets.lake import Row


class Sameness(Protocol):
    def same(self, place: int, got: str | None, want: str | None) -> bool:
        """Whether `got` is right where `want` is. place: of the input among the proposals. None is nothing, and equal
        to nothing."""

    def groups(self, place: int, outputs: Sequence[str]) -> list[list[str]]:
        """The outputs that are right if the first one of a group is, group by group."""


class Compared:
    """Outputs are compared, as in a verdict without a checker."""

    def same(self, place: int, got: str | None, want: str | None) -> bool:
        return same_text(got, want)

    def groups(self, place: int, outputs: Sequence[str]) -> list[list[str]]:
        found: list[list[str]] = []
        for output in outputs:
            group = next((one for one in found if same_text(one[0], output)), None)
            if group is None:
                found.append(group := [])
            group.append(output)
        return found


@dataclass(frozen=True)
class CheckedBy:
    """A checker has been asked about every pair of outputs of an input: `right` are those that it accepts."""

    right: frozenset[tuple[int, str, str]]  # place, output, what it is held against

    def same(self, place: int, got: str | None, want: str | None) -> bool:
        return got is not None and want is not None and (place, got, want) in self.right

    def groups(self, place: int, outputs: Sequence[str]) -> list[list[str]]:
        firsts = [one for one in dict.fromkeys(outputs) if self.same(place, one, one)]
        return [[first, *(one for one in _without(outputs, first) if self.same(place, one, first))] for first in firsts]


def checked_by(checker: str, proposals: Sequence[Row], programs: Sequence[Row], verifier: Verifier) -> CheckedBy:
    """What the checker says of all outputs of a problem's programs, each held against each, and against the proposal's.

    An output that it does not take for right even against itself is held against nothing else, and one that it has no
    word on is not asked about again: it may hang there.
    """
    outputs = [_said(place, row, programs) for place, row in enumerate(proposals)]
    itself = [(place, one, one) for place, said in enumerate(outputs) for one in said]
    verdicts = _verdicts(checker, itself, proposals, verifier)
    pairs = [
        (place, got, want)
        for place, said in enumerate(outputs)
        for got in said
        for want in said
        if got != want and verdicts[place, got, got] is not None and verdicts[place, want, want]
    ]
    verdicts |= _verdicts(checker, pairs, proposals, verifier)
    return CheckedBy(frozenset(pair for pair, is_right in verdicts.items() if is_right))


def as_printed(stdin: str, expected: str, output: str) -> Checked:
    """What a checker is asked: outputs are kept without the line break that nearly every program ends with."""
    return stdin, expected, f"{output}\n"


def same_text(got: str | None, want: str | None) -> bool:
    """As the sandbox compares what a program prints with what is expected. None: nothing, and equal to nothing."""
    from sandbox.compare import same_stdout

    return got is not None and want is not None and same_stdout(got, want, digit_strings=True)


def _said(place: int, proposal: Row, programs: Sequence[Row]) -> list[str]:
    """The distinct outputs of an input: those that programs print, and the one that is proposed."""
    if proposal["stdin"] is None or proposal["drop_reason"] is not None:
        return []
    printed = (row["outputs"][place] for row in programs if row["outputs"] is not None)
    return list(dict.fromkeys(one for one in (*printed, proposal["proposed"]) if one))


def _verdicts(
    checker: str, pairs: Sequence[tuple[int, str, str]], proposals: Sequence[Row], verifier: Verifier
) -> dict[tuple[int, str, str], bool | None]:
    asked = [as_printed(proposals[place]["stdin"], want, got) for place, got, want in pairs]
    return dict(zip(pairs, verifier.accepted(checker, asked), strict=True))


def _without(outputs: Sequence[str], one: str) -> list[str]:
    """All of them but for one of that text."""
    rest = list(outputs)
    rest.remove(one)
    return rest
