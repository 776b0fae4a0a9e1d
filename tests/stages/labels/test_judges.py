"""Validators and checkers that a model wrote: read, tested in the real sandbox, believed or not, and what follows."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from promptcot_assets.domains import Attempt, procedural_domain
from promptcot_assets.inference import Completion
from promptcot_assets.judging.opening import open_verifier
from promptcot_assets.judging.verifier import ProblemLabels, Question, Verifier
from promptcot_assets.lake import Row
from promptcot_assets.lake.ids import content_id
from promptcot_assets.reports.trainers import item_of
from promptcot_assets.settings.engines import Sandbox
from promptcot_assets.settings.profile import Corpus, Distillation, Labels, ProcedureSizes, Sampling
from promptcot_assets.stages.labels import broken, sameness, tested_judges
from promptcot_assets.stages.labels import written_judges as written
from promptcot_assets.stages.labels.cross_execution import quality
from promptcot_assets.stages.labels.teacher import ModelTeacher, ProceduralTeacher
from promptcot_assets.stages.labels.written_judges import (
    CHECKER_PROMPT,
    ONE_RIGHT,
    ONE_RIGHT_REASON,
    Kind,
    WrittenJudge,
    judge_prompt,
    read_judge,
)
from promptcot_assets.stages.labels.written_tests import WrittenTest
from promptcot_assets.stages.students import distillation, reward_service, self_play
from promptcot_assets.tables import SCHEMAS
from sandbox import Limits, Output, ProgramResult, Verdict, checker, pool
from tests.exact_models import one_of
from tests.stages.labelled import cross_checked, decided, judged, run
from tests.stages.labels.test_labelling import STATEMENT, Ballots, Writer, problem

PAIR = """Input: an integer s, 2 <= s <= 50.
Output: two positive integers whose sum is s. Any such pair is right.
Example
Input:
9
Output:
4 5
"""
FRONT = "s = int(input())\nprint(1, s - 1)"
BACK = "s = int(input())\nprint(s - 1, 1)"
HALVES = "s = int(input())\nprint(s // 2, s - s // 2)"
THIRDS = "s = int(input())\nprint(2, s - 2) if s > 2 else print(1, 1)"
ZERO = "s = int(input())\nprint(0, s)"  # a wrong one
DOUBLES = "s = int(input())\nprint(s, s)"
TESTS = (WrittenTest("9", "1 8"), WrittenTest("20", "7 13"), WrittenTest("0", "1 -1"), WrittenTest("6", "2 2"))

VALIDATOR = """import sys
w = sys.stdin.read().split()
print('valid' if len(w) == 1 and w[0].isdecimal() and 2 <= int(w[0]) <= 50 else 'invalid')"""
CHECKER = """import json, sys
told = json.load(sys.stdin)
try:
    a, b = map(int, told['output'].split())
    right = a > 0 and b > 0 and a + b == int(told['input'])
except ValueError:
    right = False
print('ok' if right else 'wrong')"""
READS = "import json, sys\ntold = json.load(sys.stdin)\n"
HANGS = "while True:\n    pass"
SLEEPS = "import time\ntime.sleep(100)"


class Judges(Writer):
    """A teacher whose programs, tests and judges are written down."""

    def __init__(
        self,
        programs: Sequence[str | None],
        tests: Sequence[WrittenTest] = TESTS,
        validators: Sequence[str | WrittenJudge] = (),
        checkers: Sequence[str | WrittenJudge] = (),
    ) -> None:
        super().__init__(programs, tests)
        self._judges: dict[Kind, Sequence[str | WrittenJudge]] = {"validator": validators, "checker": checkers}

    def judges(self, problems: Sequence[Row], kind: Kind, calls: int, seed: int) -> list[list[WrittenJudge]]:
        own = [one if isinstance(one, WrittenJudge) else WrittenJudge(one) for one in self._judges[kind]]
        assert calls == len(own)
        return [own for _ in problems]

    def settings(self, **changed: Any) -> Labels:
        counts = {"validators": len(self._judges["validator"]), "checkers": len(self._judges["checker"])}
        return Labels(test_programs=len(self._answers), tests_per_problem=len(self._tests), **counts, **changed)


RIGHT_PROGRAMS = (HALVES, FRONT, BACK, THIRDS, ZERO)  # no two print the same for 20, and one is wrong


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    short = Limits(cpu_s=1.0, wall_s=4.0, memory=256 << 20)
    with pytest.MonkeyPatch.context() as patched:  # a checker that hangs is not waited for as long as in earnest
        for module in (checker, pool):
            patched.setattr(module, "CHECKER_LIMITS", short)
        with open_verifier(Sandbox(workers=2, cpu_s=1.0, wall_s=4.0, memory_mb=256)) as verifier:
            yield verifier


def judges_of(verifier: Verifier, teacher: Judges, text: str = PAIR) -> list[Row]:
    """Rows of `tested_judges`."""
    own, settings = [problem("code", text)], teacher.settings()
    proposals, programs = run(own, teacher, verifier, settings, 0)
    rows = judged(own, proposals, programs, teacher, verifier, settings, 0)
    for name, made in zip(("written_judges", "tested_judges"), rows, strict=True):
        assert pa.Table.from_pylist(made, SCHEMAS[name]).num_rows == settings.judges
    return rows[1]


def labels(verifier: Verifier, teacher: Judges, text: str = PAIR, **changed: Any) -> list[Row]:
    """Rows of `code_tests`."""
    rows = cross_checked([problem("code", text)], teacher, verifier, teacher.settings(**changed), seed=0)
    assert pa.Table.from_pylist(rows, SCHEMAS["code_tests"]).num_rows == len(rows)
    return rows


def completion(text: str, finish_reason: str = "stop") -> Completion:
    return Completion(text, 3, finish_reason, -1.0, 7)


def fenced(program: str) -> str:
    return f"```python\n{program}\n```"


# ---- asked for and read
@pytest.mark.parametrize(
    ("text", "kind", "program", "reason"),
    [
        (fenced("print('ok')"), "checker", "print('ok')", None),
        (f"<think>{fenced('print(1)')}</think>{fenced('print(2)')}", "validator", "print(2)", None),
        (ONE_RIGHT, "checker", None, ONE_RIGHT_REASON),
        (f"So every input has one.\n{ONE_RIGHT}\n", "checker", None, ONE_RIGHT_REASON),
        (f"<think>{ONE_RIGHT}?</think>I cannot.", "checker", None, "no program in what was written"),
        (f"So:\n **{ONE_RIGHT}**.\n", "checker", None, ONE_RIGHT_REASON),
        (f"It is not so that there is {ONE_RIGHT}.", "checker", None, "no program in what was written"),
        (f"{ONE_RIGHT} is never asked for.", "checker", None, "no program in what was written"),
        (f"{ONE_RIGHT}\n{fenced('print(1)')}", "checker", "print(1)", None),
        (ONE_RIGHT, "validator", None, "no program in what was written"),
        ("", "checker", None, "no program in what was written"),
        (fenced("print('\ud800')"), "checker", None, "not valid Unicode"),
        (fenced("print('\0')"), "validator", None, "a null character in the program"),
        (f"<think>{fenced('print(1)')}", "checker", None, "the program was cut off at the token limit"),
    ],
)
def test_a_judge_is_the_program_of_its_completion(
    text: str, kind: Kind, program: str | None, reason: str | None
) -> None:
    found = read_judge(completion(text), kind)
    assert (found.program, found.defect) == (program, reason)
    assert (found.completion, found.seed) == (text, completion(text).seed)


def test_a_completion_that_was_cut_off_is_no_judge() -> None:
    assert read_judge(completion(fenced("print('ok')"), "length"), "checker").program is None


def test_a_model_is_asked_for_judges_with_their_prompts_and_each_call_with_its_own_seed(verifier: Verifier) -> None:
    kinds: tuple[Kind, ...] = ("validator", "checker")
    prompts = {judge_prompt(PAIR, kind): [fenced(f"print('{kind}')")] for kind in kinds}
    assert judge_prompt(PAIR, "checker").startswith(PAIR) and CHECKER_PROMPT.count(ONE_RIGHT) == 1
    model = ModelTeacher(one_of(lambda prompt: prompts[prompt], "\n"), Sampling(max_new_tokens=4), "model/1")
    rows = written.written_judges([problem("code", PAIR)], model, Labels(validators=2, checkers=1), 0)
    assert [(row["kind"], row["number"], row["program"]) for row in rows] == [
        ("validator", 0, "print('validator')"), ("validator", 1, "print('validator')"),
        ("checker", 0, "print('checker')"),
    ]  # fmt: skip
    assert len({row["judge_id"] for row in rows}) == len({row["seed"] for row in rows}) == 3
    assert {row["writer"] for row in rows} == {"model/1"} and all(row["tokens"] for row in rows)


def test_a_completion_that_no_table_can_hold_is_kept_as_far_as_it_can_be() -> None:
    writer = Judges([HALVES], checkers=[read_judge(completion(fenced("print('\ud800')")), "checker")])
    (row,) = written.written_judges([problem("code", PAIR)], writer, Labels(checkers=1), 0)
    assert row["drop_reason"] == "not valid Unicode" and row["completion"] == fenced("print('?')")
    assert pa.Table.from_pylist([row], SCHEMAS["written_judges"]).num_rows == 1


# ---- what is broken on purpose
@pytest.mark.parametrize("stdin", ["", "5", "-3", "a word", "3\n1 2 3", "3\n1 2 3\n", "1.5 2", f"{'9' * 5000}"])
def test_broken_texts_are_the_same_every_time_and_never_the_sound_one(stdin: str) -> None:
    for made in (broken.broken_inputs, broken.misshapen_outputs, broken.changed_outputs):
        found = made(stdin, 4)
        assert found == made(stdin, 4) and len(found) == len(set(found))
        assert all(one.strip() != stdin.strip() for one in found)
    assert "" in broken.broken_inputs("5 9", 0)
    assert broken.nothing("5 9")[:2] == ["", "\n"] and broken.nothing("\n") == []


def test_inputs_are_broken_in_every_way() -> None:
    found = broken.broken_inputs("3\n1 2 3", 0)
    assert found[:2] == ["", "3\n1 2"] and found[-2:] == ["3\n1 2 3\nqzx qzx", "3\n1 2 3 7"]
    assert len(found) == 7 and any("-" in one for one in found) and any("qzx" in one for one in found[2:5])


# ---- which validators are believed
NO_WORD, FEW = "says no word of its own on what is right", "refuses too little of what is broken"
EXAMPLE = "refuses the worked example"


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (VALIDATOR, None),
        (VALIDATOR.replace("'valid' if", "' VALID ' if"), None),  # a word is a word
        ("print('valid')", FEW),
        ("print('invalid')", EXAMPLE),
        (VALIDATOR.replace("<= 50", "<= 5"), EXAMPLE),
        ("raise SystemExit(1)", NO_WORD),
        ("print('valid'", NO_WORD),
        ("1 / 0", NO_WORD),
        ("print('yes')", NO_WORD),
        ("print('valid invalid')", NO_WORD),
        ("print('valid' * 10**8)", NO_WORD),
        (HANGS, NO_WORD),
        (SLEEPS, NO_WORD),
        ("import os\nos.kill(os.getppid(), 9)\nprint('ok')", NO_WORD),
        ("int(input())\nprint('valid')", FEW),  # it crashes on what is broken, which says nothing
        (WrittenJudge(None, "no program in what was written"), "no program in what was written"),
        (WrittenJudge("print('\0')"), "a null character in the program"),
    ],
)
def test_a_validator_is_believed_if_it_knows_allowed_from_broken_inputs(
    verifier: Verifier, program: str | WrittenJudge, reason: str | None
) -> None:
    (row,) = judges_of(verifier, Judges(RIGHT_PROGRAMS, validators=[program]))
    assert (row["drop_reason"], row["decides"]) == (reason, reason is None)
    if reason is None:
        assert row["says"] == ["valid", "valid", "valid", "invalid", "valid"]
        # the second proposal is the example once more, on which no program is run
        assert (row["sound"], row["accepted"], row["refused"]) == (4, 3, row["broken"])


def test_a_validator_that_refuses_most_of_what_programs_answer_is_not_believed(verifier: Verifier) -> None:
    only_nine = VALIDATOR.replace("2 <= int(w[0]) <= 50", "int(w[0]) == 9")
    (row,) = judges_of(verifier, Judges(RIGHT_PROGRAMS, validators=[only_nine]))
    assert (row["drop_reason"], row["accepted"]) == ("refuses what most programs agree on", 1)


def test_a_validator_that_throws_dice_is_not_believed(verifier: Verifier) -> None:
    dice = VALIDATOR.replace("import sys", "import random, sys").replace("len(w)", "random.random() < 0.5 and len(w)")
    rows = judges_of(verifier, Judges(RIGHT_PROGRAMS, validators=[dice] * 4))
    assert sum(row["decides"] for row in rows) <= 1


def test_where_nothing_is_known_no_judge_is_believed(verifier: Verifier) -> None:
    rows = judges_of(verifier, Judges([None, "1/0"], validators=[VALIDATOR], checkers=[CHECKER]), STATEMENT)
    assert {row["drop_reason"] for row in rows} == {"nothing is known to be right to test it on"}


def test_an_input_that_the_validators_refuse_is_no_test(verifier: Verifier) -> None:
    alike = Judges([HALVES, HALVES, HALVES], validators=[VALIDATOR])
    rows = labels(verifier, alike)
    assert rows[3]["stdin"] == "0" and rows[3]["expected"] is None
    assert rows[3]["drop_reason"] == "the statement does not allow the input, say its validators"
    assert [row["expected"] for row in rows if row is not rows[3]] == ["4 5", None, "10 10", "3 3"]
    before = labels(verifier, Judges([HALVES, HALVES, HALVES]))
    assert before[3]["expected"] == "0 0"
    assert before[:3] + before[4:] == rows[:3] + rows[4:]


@pytest.mark.parametrize(
    ("validators", "falls"),
    [
        (["lax", "strict"], False),  # two that disagree: no more than half refuse
        (["lax", "strict", "strict"], True),
        (["lax", "lax", "strict"], False),
        (["strict", "print('invalid')", "print('valid')"], True),  # who is not believed has no vote
        ([HANGS, "print('valid')"], False),
    ],
)
def test_of_several_validators_those_believed_decide_by_majority(
    verifier: Verifier, validators: list[str], falls: bool
) -> None:
    lax = VALIDATOR.replace("2 <= int(w[0])", "0 <= int(w[0])")
    known = {"lax": lax, "strict": VALIDATOR}
    rows = labels(verifier, Judges([HALVES] * 3, validators=[known.get(one, one) for one in validators]))
    assert (rows[3]["expected"] is None) == falls


# ---- which checkers are believed
ACCEPTS = "accepts an empty output or words without meaning"


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (CHECKER, None),
        (READS + "print('ok' if told['output'].split() == told['expected'].split() else 'wrong')", None),
        ("print('ok')", ACCEPTS),
        (READS + "print('ok' if told['output'].strip() else 'wrong')", ACCEPTS),
        ("print('wrong')", EXAMPLE),
        (READS + "print('ok' if told['output'] == told['expected'] else 'wrong')", EXAMPLE),  # the line break
        (CHECKER.replace("a + b", "a * b"), EXAMPLE),
        (CHECKER.replace("a > 0 and b > 0 and a + b == int(told['input'])", "True"), FEW),  # any two numbers
        (CHECKER.replace(" and a + b == int(told['input'])", ""), FEW),
        ("1 / 0", NO_WORD),
        ("print('ok'", NO_WORD),
        ("print('accepted')", NO_WORD),
        ("print('ok wrong')", NO_WORD),
        (READS + "print(told['expected'])", NO_WORD),  # the right output in place of a word
        (READS + "assert told['output'] == told['expected']\nprint('ok')", NO_WORD),
        ("print('ok' * 10**8)", NO_WORD),
        (HANGS, NO_WORD),
        (SLEEPS, NO_WORD),
        ("import os\nos.kill(os.getppid(), 9)\nprint('fine')", NO_WORD),
        (WrittenJudge("print('\0')"), "a null character in the program"),
        (WrittenJudge("print('\ud800')"), "not valid Unicode"),
    ],
)
def test_a_checker_is_believed_if_it_knows_right_from_broken_outputs(
    verifier: Verifier, program: str | WrittenJudge, reason: str | None
) -> None:
    teacher = Judges(RIGHT_PROGRAMS, checkers=[program])
    own, settings = [problem("code", PAIR)], teacher.settings()
    proposals, programs = run(own, teacher, verifier, settings, 0)
    _, (row,) = judged(own, proposals, programs, teacher, verifier, settings, 0)
    assert (row["drop_reason"], row["decides"], row["says"]) == (reason, reason is None, None)
    if reason is not None:  # all stays as it is without
        assert decided(proposals, programs, verifier, settings, 0, judges=[row]) == decided(
            proposals, programs, verifier, Labels(test_programs=5, tests_per_problem=4), 0
        )


DIVISORS = """Input: an integer s, 2 <= s <= 50.
Output: some divisors of s, one a line, at least one. Any are right.
Example
Input:
9
Output:
3
"""
LINES = """lines = told['output'].splitlines()
try:
    right = all(int(one) > 0 and int(told['input']) % int(one) == 0 for one in lines)
except ValueError:
    right = False
"""
SAYS = "print('ok' if right else 'wrong')"
DIVIDES = ("s = int(input())\nprint(1)", "s = int(input())\nprint(s)", "s = int(input())\nprint(1)\nprint(s)")
SPLIT = LINES.replace("splitlines", "split")


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (READS + SPLIT + "right = right and lines != []\n" + SAYS, None),
        (READS + SPLIT + "right = right and told['output'] != ''\n" + SAYS, ACCEPTS),  # blanks only
        (READS + LINES + SAYS, ACCEPTS),  # it refuses an empty line and accepts nothing at all
        (READS + LINES + "right = right and (lines != [] or told['input'] != '20')\n" + SAYS, ACCEPTS),
        # it accepts nothing only for an input that no two programs print the same for
        (READS + LINES + "right = right and (lines != [] or told['input'] == '20')\n" + SAYS, ACCEPTS),
        (READS + LINES + "right = right and told['output'] not in ('', '\\n')\n" + SAYS, None),
    ],
)
def test_a_checker_that_accepts_nothing_for_any_input_is_not_believed(
    verifier: Verifier, program: str, reason: str | None
) -> None:
    tests = (WrittenTest("9", "3"), WrittenTest("20", "5"), WrittenTest("6", "2"))
    (row,) = judges_of(verifier, Judges(DIVIDES, tests=tests, checkers=[program]), DIVISORS)
    assert (row["drop_reason"], row["decides"]) == (reason, reason is None)


ENDLESS, RUNS = "accepts nan or an infinity in place of a number", "runs what an output says"
SUM_IS = "a > 0 and b > 0 and a + b == int(told['input'])"
SUM_IS_NO_OTHER = "not (a + b < int(told['input']) or a + b > int(told['input']) or a <= 0 or b <= 0)"


def of_sum(form: str, rule: str = SUM_IS, caught: str = "Exception") -> str:
    """A checker of PAIR that reads numbers in a form of its own."""
    reads = f"a, b = {form}"
    return f"{READS}try:\n    {reads}\n    right = {rule}\nexcept {caught}:\n    right = False\n{SAYS}"


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (of_sum("map(int, told['output'].split())", SUM_IS_NO_OTHER), None),
        (of_sum("map(__import__('ast').literal_eval, told['output'].split())"), None),
        (of_sum("map(float, told['output'].split())"), None),
        (of_sum("map(float, told['output'].split())", SUM_IS_NO_OTHER), ENDLESS),  # nan is neither less nor more
        (of_sum("map(lambda form, one: form(one), (int, float), told['output'].split())", SUM_IS_NO_OTHER), ENDLESS),
        (of_sum("map(lambda form, one: form(one), (float, int), told['output'].split())", SUM_IS_NO_OTHER), ENDLESS),
        (of_sum("map(float, told['output'].split())", SUM_IS.replace("==", ">=")), ENDLESS),
        (of_sum("map(eval, told['output'].split())"), RUNS),
        (of_sum("map(eval, told['output'].split())", caught="BaseException"), RUNS),
        (of_sum("map(lambda form, one: form(one), (int, eval), told['output'].split())"), RUNS),
        (of_sum("eval(told['output'].strip().replace(' ', ','))"), RUNS),
        (of_sum("eval(told['output'].strip()) if '(' in told['output'] else map(int, told['output'].split())"), RUNS),
    ],
)
def test_a_checker_that_an_output_can_outwit_is_not_believed(
    verifier: Verifier, program: str, reason: str | None
) -> None:
    (row,) = judges_of(verifier, Judges(RIGHT_PROGRAMS, checkers=[program]))
    assert (row["drop_reason"], row["decides"]) == (reason, reason is None)


@pytest.mark.parametrize(
    ("expected", "some"),
    [
        ("4 5", {"nan nan", "4 inf", "-inf 5", "1e999 1e999"}),
        ("2\n1.5 -3e-7", {"nan\nnan nan", "2\n1.5 nan", "inf\n1.5 -3e-7"}),
        ("(3, 4)", {"(nan, nan)", "(3, inf)"}),
        ("x1 is 7.", {"x1 is nan."}),
        ("a word", set()),
    ],
)
def test_numbers_are_replaced_by_what_is_none(expected: str, some: set[str]) -> None:
    found = broken.endless(expected)
    assert some <= set(found) and bool(found) == bool(some)


WORDLESS = "says no word of its own on too many outputs"
TAKES_MORE = CHECKER.replace("told['output'].split())", "told['output'].split()[:2])")


def where(program: str, condition: str, happens: str) -> str:
    """The checker, with something that happens before its word."""
    return program.replace("print('ok'", f"if {condition}:\n    {happens}\nprint('ok'")


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        *((where(CHECKER, "not right", happens), WORDLESS)
          for happens in ("while True: pass", "bytearray(10**12)", "raise ValueError", "print('no')")),
        (where(CHECKER, "told['output'].split() != ['4', '5']", "while True: pass"), WORDLESS),
        # one output on which it has no word is not too many
        (where(CHECKER, "told['input'] == '9' and told['output'] == ' \\n'", "while True: pass"), None),
        # ending without a word on three of four misshapen outputs is no refusal of them
        (where(TAKES_MORE, "'qzx' in told['output'].split()[:2] and len(told['output']) < 7 "
               "or told['output'].split() == ['4']", "raise ValueError"), FEW),
    ],
)  # fmt: skip
def test_to_say_no_word_is_not_to_refuse(verifier: Verifier, program: str, reason: str | None) -> None:
    (row,) = judges_of(verifier, Judges(RIGHT_PROGRAMS, tests=TESTS[:1], checkers=[program]))
    assert (row["drop_reason"], row["decides"]) == (reason, reason is None)


class Counting:
    """A pool that counts what is asked of a judge."""

    def __init__(self, of: Any) -> None:
        self._of, self.asked = of, 0

    def outputs(self, program: Any, stdins: Sequence[str], limits: Any = None, /) -> list[Output]:
        self.asked += len(stdins)
        found: list[Output] = self._of.outputs(program, stdins, limits)
        return found


@pytest.mark.parametrize(
    ("kind", "sound", "silent", "at_most"),
    [
        ("checker", CHECKER, where(CHECKER, "told['output'].split() != ['4', '5']", "raise ValueError"), 20),
        ("validator", VALIDATOR, VALIDATOR.replace("'invalid'", "1 / 0"), 10),
    ],
)
def test_who_says_no_word_again_and_again_is_asked_no_more(
    verifier: Verifier, kind: Kind, sound: str, silent: str, at_most: int
) -> None:
    asked = []
    for program in (silent, sound):
        own, settings = [problem("code", PAIR)], Labels(test_programs=5, tests_per_problem=4)
        teacher = Judges(RIGHT_PROGRAMS, **{f"{kind}s": [program]})
        proposals, programs = run(own, teacher, verifier, settings, 0)
        rows = written.written_judges(own, teacher, teacher.settings(), 0)
        counting = Counting(verifier.pool)
        executed = list(tested_judges.executed(proposals, programs, rows))
        (row,) = tested_judges.tested_judges(executed, Verifier(counting, Sandbox(workers=2)), Labels(mutants=0), 0)  # type: ignore[arg-type]
        assert row["decides"] == (program == sound)
        asked.append(counting.asked)
    assert asked[0] <= at_most < asked[1]


def test_an_output_that_the_checker_has_no_word_on_is_held_against_no_other(verifier: Verifier) -> None:
    counting = Counting(verifier.pool)
    odd = where(CHECKER, "told['output'].split() == ['2', '7']", "raise ValueError")
    proposals, programs = run([problem("code", PAIR)], Judges(RIGHT_PROGRAMS), verifier,
                              Labels(test_programs=5, tests_per_problem=4), 0)  # fmt: skip
    judge = Verifier(counting, Sandbox(workers=2))  # type: ignore[arg-type]
    agreed = sameness.checked_by(odd, proposals[:1], programs, judge)
    assert counting.asked == 5 + 3 * 3  # of five outputs three are right, and four are held against them
    assert agreed.same(0, "8 1", "4 5") and not agreed.same(0, "2 7", "4 5") and not agreed.same(0, "0 9", "4 5")


def test_an_output_is_cut_off_with_its_line_break_and_without(verifier: Verifier) -> None:
    asked = list[tuple[str, str, str]]()

    class Listening(Verifier):
        def accepted(
            self, checker: str, outputs: Sequence[tuple[str, str, str]], patience: int | None = None
        ) -> list[bool | None]:
            asked.extend(outputs)
            return super().accepted(checker, outputs, patience)

    judges_of(Listening(verifier.pool, Sandbox(workers=2)), Judges(RIGHT_PROGRAMS, checkers=[CHECKER]))
    assert {("9", "4 5", "4"), ("9", "4 5", "4\n"), ("9", "4 5", ""), ("20", "10 10", "\n")} <= set(asked)


def test_a_checker_that_throws_dice_is_not_believed(verifier: Verifier) -> None:
    dice = CHECKER.replace("import json", "import random, json").replace(
        "right = a", "right = random.random() < 0.7 and a"
    )
    assert not any(row["decides"] for row in judges_of(verifier, Judges(RIGHT_PROGRAMS, checkers=[dice] * 3)))


def test_where_most_writers_say_that_one_output_is_right_outputs_are_compared(verifier: Verifier) -> None:
    one = WrittenJudge(None, ONE_RIGHT_REASON)
    for checkers, chosen in (([CHECKER, one], None), ([CHECKER, one, one], None), ([one, CHECKER, CHECKER], 1)):
        rows = judges_of(verifier, Judges(RIGHT_PROGRAMS, checkers=checkers))
        assert [at for at, row in enumerate(rows) if row["decides"]] == ([] if chosen is None else [chosen])
    assert [row["drop_reason"] for row in rows] == [ONE_RIGHT_REASON, None, "another checker decides"]


def test_of_several_checkers_the_one_that_is_most_with_the_majority_decides(verifier: Verifier) -> None:
    lax = CHECKER.replace("a > 0 and b > 0", "a >= 0 and b >= 0")  # takes what ZERO prints
    for checkers, chosen in (([lax, CHECKER, CHECKER], 1), ([lax, lax, CHECKER], 0), ([lax, CHECKER], 1)):
        rows = judges_of(verifier, Judges(RIGHT_PROGRAMS, checkers=checkers))
        assert [at for at, row in enumerate(rows) if row["decides"]] == [chosen], checkers


# ---- what a believed checker changes
class Solver(Ballots):
    """Writes its programs in completions."""

    def attempts(self, problems: Sequence[Row], n: int, seed: int) -> list[list[Attempt]]:
        return [[replace(one, completion=f"<think>so</think>{fenced(str(one.answer))}") for one in own]
                for own in super().attempts(problems, n, seed)]  # fmt: skip


def test_programs_agree_where_the_checker_accepts_their_outputs(verifier: Verifier) -> None:
    before = labels(verifier, Judges(RIGHT_PROGRAMS))
    assert {row["expected"] for row in before[2:]} == {None}  # the outputs all differ
    rows = labels(verifier, Judges(RIGHT_PROGRAMS, validators=[VALIDATOR], checkers=[CHECKER]))
    kept = [row for row in rows if row["expected"] is not None]
    assert [row["stdin"] for row in kept] == ["9", "20", "6"]
    assert {(row["agree"], row["programs"], row["trust"], row["checker"]) for row in kept} == {(4, 5, 0.8, CHECKER)}
    assert [row["repaired"] for row in kept] == [False, False, True]  # 7 13 is right, and 2 2 is no pair of 6
    assert [row["checker"] for row in rows if row["expected"] is None] == [None] * 2
    assert quality(rows)["problems_with_a_checker"] == 1 and "problems_with_a_checker" not in quality(before)


def test_the_share_of_agreeing_programs_is_still_asked_for(verifier: Verifier) -> None:
    programs = (HALVES, ZERO, DOUBLES, DOUBLES, "print(3)")
    rows = labels(verifier, Judges(programs, checkers=[CHECKER]))
    assert {row["expected"] for row in rows} == {None}
    assert labels(verifier, Judges(programs, checkers=[CHECKER]), min_test_agreement=0.2)[0]["expected"] == "4 5"


# with another constant it may print another right pair
NAMED = "s = int(input())\nfirst = 4\nother = s - first\nother += 1 * 0\nprint(first, other)"


def test_a_checker_judges_the_mutants_too(verifier: Verifier) -> None:
    by_text, by_checker = (
        labels(verifier, Judges(programs, checkers=checkers), mutants=8)[0]
        for programs, checkers in (((NAMED,) * 3, []), ((NAMED, HALVES, BACK), [CHECKER]))
    )
    assert by_text["mutants"] == by_checker["mutants"] > 2
    assert 0 < by_checker["mutation_score"] < by_text["mutation_score"]  # another pair is no bug


def test_a_judged_label_reaches_every_judge(verifier: Verifier) -> None:
    own = problem("code", PAIR)
    known = ProblemLabels([], labels(verifier, Judges(RIGHT_PROGRAMS, validators=[VALIDATOR], checkers=[CHECKER])))
    label = known.on(own)
    assert label and label["checker"] == CHECKER and len(json.loads(label["tests"])) == 3
    texts = [fenced(one) for one in (BACK, ZERO, DOUBLES)]
    assert [one.passed for one in verifier.judge([Question.on(label, one) for one in texts])] == [True, False, False]
    (row,) = self_play.labels([own], [], labels(verifier, Judges(RIGHT_PROGRAMS, checkers=[CHECKER])), [])
    assert row["checker"] == CHECKER and item_of(row)["checker"] == CHECKER

    thought = [f"<think>so</think>{one}" for one in texts]
    rewards = reward_service.judged([reward_service.label(row)] * 3, thought, verifier)
    assert [one["reward"] for one in rewards] == [1.0, 0.0, 0.0]
    drawn = [
        {"rollout_id": str(at), "problem_id": own["problem_id"], "domain": "code", "completion": one,
         "finish_reason": "stop"} for at, one in enumerate(thought)
    ]  # fmt: skip
    assert [one["passed"] for one in self_play.verdicts(drawn, {own["problem_id"]: row}, verifier)] == [
        True, False, False,
    ]  # fmt: skip
    asked = list(distillation.to_trace([own], known, Distillation()))
    for program, is_valid in ((BACK, True), (ZERO, False)):
        (trace,) = distillation.teacher_traces(asked, Solver(program), verifier, Distillation(), 0)
        assert (trace["valid"], trace["answer"]) == (is_valid, program)


def test_a_label_without_a_checker_says_nothing_of_one(verifier: Verifier) -> None:
    rows = labels(verifier, Judges([HALVES] * 3))
    known = ProblemLabels([], [{name: row[name] for name in row if name != "checker"} for row in rows])  # an old home
    label = known.on(problem("code", PAIR))
    assert label and "checker" not in label and label == ProblemLabels([], rows).on(problem("code", PAIR))


# ---- a checker is no way out of the walls, and a lost sandbox is no verdict
class Lost:
    """A pool that loses its workers."""

    def outputs(self, program: Any, stdins: Sequence[str], limits: Any = None, /) -> list[Output]:
        return [Output(Verdict.SYSTEM_ERROR, "") for _ in stdins]


def test_a_lost_sandbox_is_no_verdict_on_a_judge(verifier: Verifier) -> None:
    teacher = Judges(RIGHT_PROGRAMS, validators=[VALIDATOR], checkers=[CHECKER])
    own, settings = [problem("code", PAIR)], teacher.settings()
    proposals, programs = run(own, teacher, verifier, settings, 0)
    lost = Verifier(Lost(), Sandbox(workers=1))  # type: ignore[arg-type]
    for kind in ("validator", "checker"):
        asked = [row for row in written.written_judges(own, teacher, settings, 0) if row["kind"] == kind]
        executed = list(tested_judges.executed(proposals, programs, asked))
        with pytest.raises(RuntimeError, match="the sandbox lost a worker"):
            tested_judges.tested_judges(executed, lost, settings, 0)


@pytest.mark.parametrize(
    ("checker", "caught"),
    [(CHECKER, [True, False]), ("1 / 0", [False, False])],  # the checker's own failure catches nobody
)
def test_mutants_are_caught_by_a_checker_that_says_a_word(verifier: Verifier, checker: str, caught: list[bool]) -> None:
    assert verifier.caught([ZERO, BACK], [{"stdin": "9", "expected": "4 5"}], checker) == caught


@pytest.mark.parametrize(
    ("memory_mb", "needed_mb", "word"),
    [(64, 150, True), (2500, 1100, None)],  # a program may use less than a checker, or more
)
def test_a_checker_has_the_limits_of_a_verdict_whatever_a_program_may_use(
    memory_mb: int, needed_mb: int, word: bool | None
) -> None:
    needy = f"needed = bytearray({needed_mb} << 20)\n{CHECKER}"
    case = {"stdin": "9", "expected": "4 5"}
    question = Question("code", fenced(BACK), tests=json.dumps([case]), checker=needy)
    with open_verifier(Sandbox(workers=1, memory_mb=memory_mb)) as verifier:
        assert verifier.accepted(needy, [("9", "4 5", "8 1\n")]) == [word]
        assert [one.passed for one in verifier.judge([question])] == [word]
        assert verifier.caught([ZERO, BACK], [case], needy) == [word is not None, False]


class WordlessOnce:
    """A pool in which a checker has no word in the verdict and has one when it is asked again, as on a busy machine.

    lost: the solution's own guest is lost too, with a checker or without.
    """

    def __init__(self, lost: bool) -> None:
        self._lost = lost

    def run(
        self, program: Any, tests: Any, limits: Any = None, /, *, comparison: Any = None, **_: Any
    ) -> ProgramResult:
        fails = self._lost or comparison is not None
        return ProgramResult(Verdict.SYSTEM_ERROR if fails else Verdict.WRONG_ANSWER, 0, [])

    def outputs(self, program: Any, stdins: Sequence[str], limits: Any = None, /) -> list[Output]:
        return [Output(Verdict.OK, "ok") for _ in stdins]


def test_a_checker_that_has_no_word_in_a_verdict_is_no_lost_worker() -> None:
    case = {"stdin": "9", "expected": "4 5"}
    judge, broken_judge = (
        Verifier(WordlessOnce(lost), Sandbox(workers=1))  # type: ignore[arg-type]
        for lost in (False, True)
    )
    assert judge.caught([ZERO], [case], CHECKER) == [False]
    with pytest.raises(RuntimeError, match="the sandbox lost a worker"):
        broken_judge.caught([ZERO], [case], CHECKER)


def test_what_a_checker_says_of_many_outputs_is_in_their_order(verifier: Verifier) -> None:
    asked = [("40", "1 39", f"{n} {40 - n}") for n in range(40)]
    assert verifier.accepted(CHECKER, asked) == [False, *[True] * 39]
    assert verifier.accepted(READS + "print(told['output'])", [("", "", word) for word in ("ok", "0", "maybe")]) == [
        True, False, None,
    ]  # fmt: skip
    assert verifier.accepted(CHECKER, []) == []


# ---- nothing changes where none is asked for
def test_without_the_settings_no_judge_is_asked_for_and_rows_are_as_they_were(verifier: Verifier) -> None:
    """Writer has no `judges` at all."""
    programs = [HALVES, HALVES, ZERO]
    off = cross_checked([problem("code", PAIR)], Writer(programs, TESTS), verifier,
                        Labels(test_programs=3, tests_per_problem=4), 0)  # fmt: skip
    assert {row["checker"] for row in off} == {None}
    disbelieved = labels(verifier, Judges(programs, validators=["print('valid')"], checkers=["print('ok')"]))
    assert disbelieved == off


def test_completions_are_kept_until_a_checker_decides_which_programs_pass(verifier: Verifier) -> None:
    teacher = Judges([HALVES, FRONT, ZERO], checkers=[CHECKER])
    for judging, kept in ((True, [True] * 3), (False, [False] * 3)):
        settings = teacher.settings(keep="deciding")
        settings = settings if judging else settings.model_copy(update={"checkers": 0})
        _, programs = run([problem("code", PAIR)], teacher, verifier, settings, 0)
        assert [row["completion"] is not None for row in programs] == kept


def test_the_procedural_teacher_writes_validators_and_says_that_one_output_is_right(verifier: Verifier) -> None:
    seeds = procedural_domain("mini_code").write_seeds(12, 0, {"planner": 1}, seed=5).train
    own = [problem("mini_code", one.problem) for one in seeds]
    teacher = ProceduralTeacher(Corpus(procedural={"mini_code": ProcedureSizes(teacher_error=0.3)}))
    settings = Labels(validators=3, checkers=1)
    proposals, programs = run(own, teacher, verifier, settings, 0)
    made, rows = judged(own, proposals, programs, teacher, verifier, settings, 0)
    assert judged(own[3:5], *_of(own[3:5], proposals, programs), teacher, verifier, settings, 0)[1] == [
        row for row in rows if row["problem_id"] in {one["problem_id"] for one in own[3:5]}
    ]  # whatever shard a problem is in
    believed = [row for row in rows if row["decides"]]
    right = {row["program"] for row in made if row["program"] and "re.fullmatch" in row["program"]}
    assert len(believed) > 12 and {row["kind"] for row in believed} == {"validator"}
    assert {row["program"] for row in believed} < right
    assert {row["drop_reason"] for row in rows if row["kind"] == "checker"} == {ONE_RIGHT_REASON}
    plain = decided(proposals, programs, verifier, settings, 0)
    assert decided(proposals, programs, verifier, settings, 0, judges=rows) == plain  # they refuse no drawn input


def test_the_procedural_teacher_writes_no_judges_of_a_real_problem() -> None:
    teacher = ProceduralTeacher(Corpus(procedural={"mini_code": ProcedureSizes()}))
    with pytest.raises(ValueError, match=r"writes no validators and checkers; .* leave the domains code out of"):
        written.written_judges([problem("code", PAIR)], teacher, Labels(checkers=1), 0)


def _of(problems: Sequence[Row], *tables: Sequence[Row]) -> Iterator[list[Row]]:
    ids = {row["problem_id"] for row in problems}
    for table in tables:
        yield [row for row in table if row["problem_id"] in ids]


def test_ids_of_judges_follow_from_what_they_are(verifier: Verifier) -> None:
    (row,) = written.written_judges(
        [problem("code", PAIR)], Judges([HALVES], checkers=[CHECKER]), Labels(checkers=1), 0
    )
    assert row["judge_id"] == content_id("judge", row["problem_id"], "checker", 0, "ballots", None)
