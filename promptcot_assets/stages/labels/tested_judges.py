"""Which written validators and checkers are believed: those that know right from broken when they are really run.

What is right is known from elsewhere: the worked example, inputs that most candidate programs answer, outputs that
several of them print alike. What is broken is made from it (broken.py), and for outputs by mutants of a program. Who
says no word is not believed, and a lost sandbox is no verdict: it ends the step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from promptcot_assets.judging.verifier import Checked, Verifier
from promptcot_assets.lake import Row
from promptcot_assets.lake.ids import seed_from
from promptcot_assets.settings.profile import Labels
from promptcot_assets.stages.labels.broken import (
    broken_inputs,
    changed_outputs,
    cut_off,
    endless,
    garbage,
    misshapen_outputs,
    nothing,
    programs,
)
from promptcot_assets.stages.labels.labelling import beside, by_problem
from promptcot_assets.stages.labels.mutants import mutants
from promptcot_assets.stages.labels.sameness import Compared, as_printed, same_text
from promptcot_assets.stages.labels.written_judges import INVALID, ONE_RIGHT_REASON, VALID, text_defect
from promptcot_assets.stages.labels.written_tests import WORKED_EXAMPLE

MIN_REFUSED = 0.5  # of the inputs or outputs that are broken in ways that some statement may allow
MOST_WORDLESS = 3  # of all outputs that a checker is asked about
AT_ONCE = 4  # inputs that a validator is asked about; one without a word on all of them is asked no more
CHANGED = 2  # right outputs that others are made of by changing them
NOT_ALLOWED = "the statement does not allow the input, say its validators"
NOTHING_KNOWN = "nothing is known to be right to test it on"
NO_WORD = "says no word of its own on what is right"
WORDLESS = "says no word of its own on too many outputs"
REFUSES_EXAMPLE = "refuses the worked example"
REFUSES_RIGHT = "refuses what most programs agree on"
REFUSES_LITTLE = "refuses too little of what is broken"
ACCEPTS_GARBAGE = "accepts an empty output or words without meaning"
ACCEPTS_ENDLESS = "accepts nan or an infinity in place of a number"
RUNS_OUTPUT = "runs what an output says"
NOT_ITSELF = "says another thing when asked again"
NEVER_RIGHT = (ACCEPTS_GARBAGE, ACCEPTS_GARBAGE, RUNS_OUTPUT, ACCEPTS_ENDLESS)  # of four kinds of broken outputs
ONE_IS_RIGHT = "most of its writers say that exactly one output is right"
ANOTHER = "another checker decides"
JUDGED = ("judge_id", "problem_id", "domain", "kind", "number", "program", "drop_reason")  # columns of written_judges


@dataclass(frozen=True)
class Known:
    """What a problem's candidate programs show without any judge. Places are those of the proposals.

    allowed: inputs that most programs answer. right: by input an output that several programs print alike, and more
    than any other. The worked example, where there is one, is at place 0 of both. printed: by input, for all that
    something is printed for, the right output or the first that a program prints.
    """

    stdins: tuple[str | None, ...]  # None of what is no input
    has_example: bool
    allowed: tuple[int, ...]
    right: Mapping[int, str]
    printed: Mapping[int, str]
    others: tuple[Checked, ...]  # what else programs print where an output is known to be right
    program: str | None  # one that prints the first of the right outputs


@dataclass(frozen=True)
class Tested:
    """What became of one judge. words: what a validator says of each proposal; verdicts: a checker's, of every try."""

    reason: str | None
    sound: int = 0
    accepted: int = 0
    broken: int = 0
    refused: int = 0
    words: tuple[str | None, ...] | None = None
    verdicts: tuple[bool | None, ...] = field(default=(), repr=False)


def executed(proposals: Iterable[Row], programs: Iterable[Row], judges: Iterable[Row]) -> Iterator[Row]:
    """A row a problem with its rows of `proposed_tests`, `candidate_programs` and `written_judges`, in one order."""
    groups = ((of, {"problem_id": of, "proposed_tests": own}) for of, own in by_problem(proposals))
    return beside(groups, candidate_programs=programs, written_judges=judges)


def tested_judges(executed: Sequence[Row], verifier: Verifier, settings: Labels, seed: int) -> list[Row]:
    """Rows of `tested_judges`, in the order of `written_judges`."""
    rows = []
    for one in executed:
        proposals, programs = one["proposed_tests"], one["candidate_programs"]
        own_seed = seed_from(seed, "tested judges", one["problem_id"])
        written = {kind: [row for row in one["written_judges"] if row["kind"] == kind]
                   for kind in ("validator", "checker")}  # fmt: skip
        known = known_of(proposals, programs)
        validators = [_row(row, _validator(row, known, verifier, own_seed)) for row in written["validator"]]
        known = known_of(allowed_by(proposals, validators), programs)  # what is printed for other inputs says nothing
        checkers = _checkers(written["checker"], known, verifier, settings, own_seed)
        rows += [*validators, *(_row(row, one) for row, one in zip(written["checker"], checkers, strict=True))]
    return rows


def _row(written: Row, tested: Tested) -> Row:
    return {
        **{name: written[name] for name in ("judge_id", "problem_id", "domain", "kind", "number", "program")},
        "says": None if tested.words is None else list(tested.words),
        "sound": tested.sound,
        "accepted": tested.accepted,
        "broken": tested.broken,
        "refused": tested.refused,
        "decides": tested.reason is None,
        "drop_reason": tested.reason,
    }


# ---- what is known to be right
def known_of(proposals: Sequence[Row], programs: Sequence[Row]) -> Known:
    stdins = tuple(None if row["drop_reason"] is not None else row["stdin"] for row in proposals)
    run = [row for row in programs if row["outputs"] is not None]
    said = [[row["outputs"][place] for row in run if row["outputs"][place]] for place in range(len(proposals))]
    has_example = bool(proposals) and proposals[0]["origin"] == WORKED_EXAMPLE and bool(proposals[0]["proposed"])
    places = [place for place, stdin in enumerate(stdins) if stdin is not None]
    allowed = [place for place in places if 2 * len(said[place]) > len(run) or (has_example and place == 0)]
    right = {place: output for place in places if (output := _alike(said[place])) is not None}
    if has_example:
        right = {0: proposals[0]["proposed"], **{place: output for place, output in right.items() if place}}
    first = next(iter(right), None)
    prints = (row["program"] for row in run if first is not None and same_text(row["outputs"][first], right[first]))
    others = tuple(
        as_printed(stdins[place] or "", output, other)
        for place, output in right.items()
        for other in dict.fromkeys(said[place])
        if not same_text(other, output)
    )
    printed = {place: right.get(place) or said[place][0] for place in places if place in right or said[place]}
    return Known(stdins, has_example, tuple(allowed), right, printed, others, next(prints, None))


def _alike(said: Sequence[str]) -> str | None:
    """The output that at least two programs print, and more than any other."""
    groups = Compared().groups(0, said)
    sizes = sorted((len(group) for group in groups), reverse=True)
    if not sizes or sizes[0] < 2 or sizes[:2] == [sizes[0]] * 2:
        return None
    return max(groups, key=len)[0]


# ---- validators
def _validator(row: Row, known: Known, verifier: Verifier, seed: int) -> Tested:
    """Asked first about one allowed input alone: one that hangs is not waited for again and again."""
    program = row["program"]
    if (defect := _unreadable(row)) is not None or program is None:
        return Tested(defect)
    if not known.allowed:
        return Tested(NOTHING_KNOWN)
    first = known.allowed[0]
    sound = [place for place, stdin in enumerate(known.stdins) if stdin is not None]
    (word,) = _words(program, [known.stdins[first] or ""], verifier)
    if word is None:
        return Tested(NO_WORD, len(known.allowed))
    said = dict(zip(sound, _words(program, [known.stdins[place] or "" for place in sound], verifier), strict=True))
    words = tuple(said.get(place) for place in range(len(known.stdins)))
    accepted = sum(words[place] == VALID for place in known.allowed)
    tested = Tested(None, len(known.allowed), accepted, words=words)
    if words[first] != word:
        return replace(tested, reason=NOT_ITSELF)
    if known.has_example and words[0] != VALID:
        return replace(tested, reason=REFUSES_EXAMPLE)
    if 2 * accepted <= len(known.allowed):
        return replace(tested, reason=REFUSES_RIGHT)
    broken = _words(program, broken_inputs(known.stdins[first] or "", seed), verifier)
    refused = broken.count(INVALID)
    enough = refused >= MIN_REFUSED * len(broken) and refused
    return replace(tested, broken=len(broken), refused=refused, reason=None if enough else REFUSES_LITTLE)


def _words(program: str, stdins: Sequence[str], verifier: Verifier) -> list[str | None]:
    words = list[str | None]()
    for at in range(0, len(stdins), AT_ONCE):
        if at and not any(words[-AT_ONCE:]):  # most often it hangs
            break
        (said,) = verifier.outputs([program], stdins[at : at + AT_ONCE])
        lowered = [one and one.strip().lower() for one in said]
        words += [one if one in (VALID, INVALID) else None for one in lowered]
    return words + [None] * (len(stdins) - len(words))


def allowed_by(proposals: Sequence[Row], judges: Sequence[Row]) -> list[Row]:
    """The proposals; those that more than half of the deciding validators call invalid with that as their reason."""
    believed = [row for row in judges if row["kind"] == "validator" and row["decides"]]
    if not believed:
        return list(proposals)
    against = [sum(row["says"][place] == INVALID for row in believed) for place in range(len(proposals))]
    return [
        row | {"drop_reason": NOT_ALLOWED} if row["drop_reason"] is None and 2 * count > len(believed) else row
        for row, count in zip(proposals, against, strict=True)
    ]


# ---- checkers
def checker_of(judges: Sequence[Row]) -> str | None:
    """The program that judges the problem's outputs, where one is believed."""
    return next((row["program"] for row in judges if row["kind"] == "checker" and row["decides"]), None)


def _checkers(rows: Sequence[Row], known: Known, verifier: Verifier, settings: Labels, seed: int) -> list[Tested]:
    """Every checker of a problem. At most one decides: of those believed the one that is most with their majority."""
    tries = _Tries.of(known, verifier, settings, seed) if any(row["program"] for row in rows) else None
    tested = [_checker(row, known, tries, verifier) for row in rows]
    believed = [at for at, one in enumerate(tested) if one.reason is None]
    if not believed:
        return tested
    votes = Counter(row["drop_reason"] == ONE_RIGHT_REASON for row in rows if _said_something(row))
    if votes[True] >= votes[False]:
        return [replace(one, reason=one.reason or ONE_IS_RIGHT) for one in tested]
    chosen = _most_with_the_majority({at: tested[at].verdicts for at in believed})
    return [one if at == chosen else replace(one, reason=one.reason or ANOTHER) for at, one in enumerate(tested)]


def _said_something(row: Row) -> bool:
    return row["program"] is not None or row["drop_reason"] == ONE_RIGHT_REASON


def _most_with_the_majority(verdicts: Mapping[int, Sequence[bool | None]]) -> int:
    """Whose verdicts agree most with those of more than half; of equals the first. A tie accepts nothing."""
    majority = [2 * sum(one is True for one in said) > len(said) for said in zip(*verdicts.values(), strict=True)]
    agree = {
        at: sum((one is True) == want for one, want in zip(said, majority, strict=True))
        for at, said in verdicts.items()
    }
    return max(agree, key=lambda at: agree[at])


@dataclass(frozen=True)
class _Tries:
    """What every checker of a problem is asked: right outputs, broken ones of six kinds, and what else is printed.

    empty: for every input, as they are, since a program that prints nothing does not even end a line. changed: those
    that only say something else, and what mutants of a right program print.
    """

    right: tuple[Checked, ...]
    empty: tuple[Checked, ...]
    garbage: tuple[Checked, ...]
    programs: tuple[Checked, ...]
    endless: tuple[Checked, ...]
    misshapen: tuple[Checked, ...]
    changed: tuple[Checked, ...]
    others: tuple[Checked, ...]

    @classmethod
    def of(cls, known: Known, verifier: Verifier, settings: Labels, seed: int) -> _Tries:
        right = [(known.stdins[place] or "", output) for place, output in known.right.items()]
        some = right[:CHANGED]
        from_mutants = [
            (stdin, output, other)
            for stdin, output in some
            for other in _of_mutants(known, stdin, output, verifier, settings, seed)
        ]
        return cls(
            _asked((stdin, output, output) for stdin, output in right),
            tuple((known.stdins[place] or "", output, other)
                  for place, output in known.printed.items() for other in nothing(output)),
            _asked((stdin, output, other) for stdin, output in some for other in garbage(output)),
            _asked((stdin, output, other) for stdin, output in some for other in programs(output)),
            _asked((stdin, output, other) for stdin, output in some for other in endless(output)),
            (
                *_asked((stdin, output, other) for stdin, output in some for other in misshapen_outputs(output, seed)),
                *((stdin, output, short) for stdin, output in some if (short := cut_off(output)) is not None),
            ),
            _asked([
                *((stdin, output, other) for stdin, output in some for other in changed_outputs(output, seed)),
                *from_mutants,
            ]),
            known.others,
        )  # fmt: skip

    @property
    def kinds(self) -> tuple[tuple[Checked, ...], ...]:
        return (
            self.right,
            self.empty, self.garbage, self.programs, self.endless,
            self.misshapen, self.changed, self.others,
        )  # fmt: skip

    @property
    def all(self) -> tuple[Checked, ...]:
        return tuple(one for kind in self.kinds for one in kind)


def _asked(outputs: Iterable[Checked]) -> tuple[Checked, ...]:
    return tuple(dict.fromkeys(as_printed(*one) for one in outputs))


def _of_mutants(known: Known, stdin: str, output: str, verifier: Verifier, settings: Labels, seed: int) -> list[str]:
    """What mutants of a right program print, where that is something else."""
    if known.program is None or not (copies := mutants(known.program, settings.mutants, seed)):
        return []
    printed = dict.fromkeys(said for (said,) in verifier.outputs(copies, [stdin]) if said)
    return [one for one in printed if not same_text(one, output)]


def _checker(row: Row, known: Known, tries: _Tries | None, verifier: Verifier) -> Tested:
    """Asked first about one right output alone, and at the end everything once more: verdicts must not be dice."""
    program = row["program"]
    if (defect := _unreadable(row)) is not None or program is None or tries is None:
        return Tested(defect)
    if not tries.right:
        return Tested(NOTHING_KNOWN)
    (first,) = verifier.accepted(program, tries.right[:1])
    if first is None:
        return Tested(NO_WORD, len(tries.right))
    said = verifier.accepted(program, tries.all, MOST_WORDLESS)
    if said.count(None) > MOST_WORDLESS:  # no counts: which of the others were asked about is chance
        return Tested(WORDLESS, len(tries.right))
    tested = _judged(said, tries, known.has_example)
    if tested.reason is None and verifier.accepted(program, tries.all, MOST_WORDLESS) != said:
        return replace(tested, reason=NOT_ITSELF)
    return tested


def _judged(said: Sequence[bool | None], tries: _Tries, has_example: bool) -> Tested:
    """A checker by its verdicts on all tries. Where it says no word it has neither accepted nor refused."""
    verdicts = iter(said)
    right, *never, misshapen, changed, _ = ([next(verdicts) for _ in kind] for kind in tries.kinds)
    broken = [one for kind in (*never, misshapen, changed) for one in kind]
    accepted, refused = right.count(True), broken.count(False)
    tested = Tested(None, len(right), accepted, len(broken), refused, verdicts=tuple(said))
    if has_example and right[0] is not True:
        return replace(tested, reason=REFUSES_EXAMPLE)
    if not accepted or 2 * accepted < len(right):
        return replace(tested, reason=REFUSES_RIGHT)
    for reason, kind in zip(NEVER_RIGHT, never, strict=True):
        if True in kind:
            return replace(tested, reason=reason)
    enough = all(kind.count(False) >= MIN_REFUSED * len(kind) for kind in (misshapen, changed)) and False in changed
    return tested if enough else replace(tested, reason=REFUSES_LITTLE)


def _unreadable(row: Row) -> str | None:
    """Why a row holds no program that can be run, also where the table was written by someone else."""
    if row["drop_reason"] is not None:
        return str(row["drop_reason"])
    return text_defect(row["program"]) if row["program"] is not None else "no program in what was written"


def figures(rows: Iterable[Row]) -> dict[str, int]:
    """What an asset's page says of the judges: how many of each kind decide."""
    kinds = [row["kind"] for row in rows if row["decides"]]
    return {"validators_believed": kinds.count("validator"), "checkers_believed": kinds.count("checker")}
