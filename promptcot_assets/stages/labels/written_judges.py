"""Programs that a model writes to judge a program problem: validators of its inputs, checkers of its outputs.

Both are asked for with a prompt and read from one completion each. Nothing is run here, and nothing is believed yet:
tested_judges.py does both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from promptcot_assets.domains.layout import BEGIN_THINK, END_THINK
from promptcot_assets.inference import Completion
from promptcot_assets.lake import Row
from promptcot_assets.lake.ids import content_id, seed_from
from promptcot_assets.settings.profile import Labels
from promptcot_assets.stages.labels.labelling import of_kind
from promptcot_assets.stages.labels.written_tests import is_unicode

Kind = Literal["validator", "checker"]
KINDS: tuple[Kind, ...] = ("validator", "checker")
VALID, INVALID = "valid", "invalid"
ONE_RIGHT = "EXACTLY ONE RIGHT OUTPUT"  # what a writer says in place of a checker
MARKS = " \t*_`."  # that may stand around it
ONE_RIGHT_REASON = "its writer says that exactly one output is right"

VALIDATOR_PROMPT = f"""{{problem}}

Write a Python program that decides whether a text is an allowed input of this problem. It reads the whole text from
standard input and prints one word: `{VALID}` where the text has the format that the statement describes and keeps to
all its limits, `{INVALID}` where it does not.
The text may be anything: nothing at all, words in place of numbers, a line too few or too many. The program always
prints one of the two words and never ends with an error. It imports only the standard library.
Put the program in one ```python block.
"""
CHECKER_PROMPT = f"""{{problem}}

First decide whether several different outputs can be right for one and the same input of this problem. Spaces and line
breaks at the ends of lines never count. If every input has one right output, write only this line and no program:
{ONE_RIGHT}
Otherwise write a Python program that decides whether an output is right. It reads one JSON object from standard input,
whose keys are all text: "input" is what a solution read, "output" what it printed, "expected" one output that is right.
It prints one word: `ok` where the output is right, `wrong` where it is not.
The output may be anything: nothing at all, words in place of numbers, a correct beginning. The program always prints
one of the two words and never ends with an error. It imports only the standard library.
Put the program in one ```python block.
"""
PROMPTS: dict[Kind, str] = {"validator": VALIDATOR_PROMPT, "checker": CHECKER_PROMPT}


@dataclass(frozen=True)
class WrittenJudge:
    """What one call gave. `defect` says why it is no program; tokens: sampled, of what a model wrote."""

    program: str | None
    defect: str | None = None
    completion: str | None = None
    seed: int | None = None
    tokens: int | None = None


class Writer(Protocol):
    """What is asked of a teacher (teacher.py)."""

    @property
    def name(self) -> str:
        """The model or procedure that writes."""

    def judges(self, problems: Sequence[Row], kind: Kind, calls: int, seed: int) -> list[list[WrittenJudge]]:
        """`calls` judges for each problem, written one a call."""


def judge_prompt(problem: str, kind: Kind) -> str:
    return PROMPTS[kind].format(problem=problem)


def read_judge(completion: Completion, kind: Kind) -> WrittenJudge:
    """The program in one completion, or why there is none."""
    from sandbox.extract import extract_program

    text = completion.text

    def said(program: str | None, defect: str | None) -> WrittenJudge:
        return WrittenJudge(program, defect, text, completion.seed, completion.tokens)

    if completion.refusal:
        return said(None, completion.refusal.reason)
    if completion.finish_reason != "stop" or (BEGIN_THINK in text and END_THINK not in text):
        return said(None, "the program was cut off at the token limit")
    program = extract_program(text)
    if program is None:
        said_lines = [line.strip(MARKS) for line in text.rpartition(END_THINK)[2].splitlines()]
        says_one = kind == "checker" and ONE_RIGHT in said_lines
        return said(None, ONE_RIGHT_REASON if says_one else "no program in what was written")
    defect = text_defect(program)
    return said(None if defect else program, defect)


def text_defect(program: str) -> str | None:
    """Why no table and no interpreter could take this text for a program."""
    if not is_unicode(program):
        return "not valid Unicode"
    return "a null character in the program" if "\0" in program else None


def written_judges(problems: Sequence[Row], teacher: Writer, settings: Labels, seed: int) -> list[Row]:
    """Rows of `written_judges`: of each program problem its validators, then its checkers, in their order."""
    own = of_kind(problems, "program")
    counts: dict[Kind, int] = {"validator": settings.validators, "checker": settings.checkers}
    written = {
        kind: teacher.judges(own, kind, counts[kind], seed_from(seed, "written judges", kind))
        for kind in KINDS
        if own and counts[kind]
    }
    return list(_rows(own, written, teacher.name))


def _rows(problems: Sequence[Row], written: dict[Kind, list[list[WrittenJudge]]], writer: str) -> Iterator[Row]:
    for at, problem in enumerate(problems):
        for kind, judges in written.items():
            for number, judge in enumerate(judges[at]):
                yield {
                    "judge_id": content_id("judge", problem["problem_id"], kind, number, writer, judge.seed),
                    "problem_id": problem["problem_id"],
                    "domain": problem["domain"],
                    "kind": kind,
                    "number": number,
                    "completion": _storable(judge.completion),
                    "program": judge.program,
                    "drop_reason": judge.defect,
                    "tokens": judge.tokens,
                    "seed": judge.seed,
                    "writer": writer,
                }


def _storable(completion: str | None) -> str | None:
    """The completion as a table can hold it: what is no Unicode stands there as a question mark."""
    return None if completion is None else completion.encode(errors="replace").decode()
