import json
from collections import Counter
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pytest

from promptcot_assets.domains import Attempt, procedural_domain
from promptcot_assets.domains.mini_code import parse
from promptcot_assets.inference import Completion
from promptcot_assets.judging.opening import open_verifier
from promptcot_assets.judging.verifier import ProblemLabels, Verifier
from promptcot_assets.lake import LakeError, Row
from promptcot_assets.lake.ids import content_id
from promptcot_assets.settings.engines import Sandbox
from promptcot_assets.settings.profile import Corpus, Labels, ProcedureSizes, Sampling
from promptcot_assets.stages.labels.cross_execution import LONGEST_OUTPUT, candidate_programs, proposed_tests, quality
from promptcot_assets.stages.labels.labelling import beside, to_label
from promptcot_assets.stages.labels.teacher import ModelTeacher, ProceduralTeacher
from promptcot_assets.stages.labels.votes import math_answers, math_votes
from promptcot_assets.stages.labels.written_tests import WrittenTest, read_test
from promptcot_assets.tables import SCHEMAS
from tests.exact_models import one_of
from tests.stages.labelled import answered, cross_checked, decided, run

CODE = "Read integers a and b. Print the sum of a times 3 and b plus 2. Example: for 5 9 print 26."
RIGHT = "a, b = map(int, input().split())\nprint(a*3 + b+2)"
WRONG = "a, b = map(int, input().split())\nprint(a*3 + b+1)"
LUCKY = "print(26)"  # reproduces the example and knows nothing else
SILENT = "input()"
BROKEN = "print("


class Ballots:
    """A teacher whose every attempt is written down."""

    name = "ballots"

    def __init__(self, *answers: str | None) -> None:
        self._answers = answers

    def attempts(self, problems: Sequence[Row], n: int, seed: int) -> list[list[Attempt]]:
        assert n == len(self._answers)
        return [[Attempt("", answer, seed=seed + at) for at, answer in enumerate(self._answers)] for _ in problems]


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    with open_verifier(Sandbox(workers=2, cpu_s=1.0, wall_s=4.0, memory_mb=256)) as verifier:
        yield verifier


def problem(name: str, text: str = "What is it?") -> Row:
    return {"problem_id": content_id(name, text), "domain": name, "problem": text}


# (ballots, label, votes, reason)
VOTES: list[tuple[tuple[str | None, ...], str | None, int, str | None]] = [
    (("4", "4", "4", "4", "5", "6", "7", "8"), "4", 4, None),
    (("4",) * 8, "4", 8, None),
    (("0.5", "1/2", "\\frac12", "0.50", "1", "2", "3", None), "1/2", 4, None),
    (("4", "4", "4", "5", "6", "7", "8", "9"), None, 3, "too few votes"),
    (("4",) * 4 + ("5",) * 4, None, 4, "tie"),
    (("4", "4", "4", "4", None, None, "", ""), "4", 4, None),
    ((None,) * 8, None, 0, "no answers"),
]


@pytest.mark.parametrize(("ballots", "label", "votes", "reason"), VOTES)
def test_a_label_has_enough_votes_and_is_strictly_ahead(
    ballots: tuple[str | None, ...], label: str | None, votes: int, reason: str | None
) -> None:
    (row,) = answered([problem("maths")], Ballots(*ballots), Labels(votes=8, min_votes=4), seed=0)
    assert (row["votes"], row["drop_reason"]) == (votes, reason)
    assert row["answer"] == label or (label == "1/2" and row["answer"] in ballots)
    assert (row["asked"], row["share"], row["voter"]) == (8, votes / 8, "ballots")
    assert row["answers"] == [answer or "" for answer in ballots]
    assert len(set(row["seeds"])) == len(ballots)


@pytest.mark.parametrize(
    ("ballots", "label", "votes", "reason"),
    [
        (("5", "4", "4", "4", "4", "5", "5", "5"), "5", 4, None),
        (("1", "4", "4", "4", "\\frac{8}{2}", "5", "5.0", "5"), "4", 4, None),  # 4: four ballots, 5: three
        (("1", "1", "1", "4", "4", "4", "5", "6"), None, 3, "tie"),  # neither has enough
    ],
)
def test_a_tie_can_go_to_the_answer_given_first(
    ballots: tuple[str, ...], label: str | None, votes: int, reason: str | None
) -> None:
    settings = Labels(votes=8, min_votes=4, ties="first")
    (row,) = answered([problem("maths")], Ballots(*ballots), settings, seed=0)
    assert (row["answer"], row["votes"], row["drop_reason"]) == (label, votes, reason)


def test_programs_have_no_vote_and_answers_no_tests(verifier: Verifier) -> None:
    settings = Labels(votes=1, min_votes=1, test_programs=1)
    rows = [problem("mini_maths"), problem("mini_code", CODE)]
    assert [row["domain"] for row in answered(rows, Ballots("4"), settings, 0)] == ["mini_maths"]
    assert {row["domain"] for row in cross_checked(rows, Ballots(RIGHT), verifier, settings, 0)} == {"mini_code"}


def test_labels_of_a_noisy_teacher_are_nearly_all_right_and_ill_posed_texts_get_none() -> None:
    corpus = Corpus(procedural={"mini_maths": ProcedureSizes(teacher_error=0.15)})
    seeds = procedural_domain("mini_maths").write_seeds(150, 0, {"planner": 1}, seed=2).train
    posed = [problem("mini_maths", one.problem) for one in seeds]
    ill = [
        problem("mini_maths", f"Let A be {n} percent of 7. Let B be 50 percent of 9. Find A + B.") for n in range(60)
    ]
    rows = answered([*posed, *ill], ProceduralTeacher(corpus), Labels(votes=5, min_votes=3), seed=1)
    labels = {row["problem_id"]: row["answer"] for row in rows}
    kept = [
        (labels[row["problem_id"]], one.answer)
        for row, one in zip(posed, seeds, strict=True)
        if labels[row["problem_id"]]
    ]
    assert len(kept) > 130 and sum(label != answer for label, answer in kept) <= 2
    assert sum(labels[row["problem_id"]] is not None for row in ill) <= 3
    again = answered(posed[40:50], ProceduralTeacher(corpus), Labels(votes=5, min_votes=3), seed=1)
    assert again == rows[40:50]  # whatever shard a problem is in


# ---- tests of programs
def written(verifier: Verifier, programs: Sequence[str | None], text: str = CODE, **changed: object) -> list[Row]:
    settings = Labels(test_programs=len(programs), **changed)  # type: ignore[arg-type]
    return cross_checked([problem("mini_code", text)], Ballots(*programs), verifier, settings, seed=0)


def test_the_outputs_are_what_the_agreeing_programs_really_print(verifier: Verifier) -> None:
    rows = written(verifier, [RIGHT, RIGHT, RIGHT, WRONG, None])
    parsed = parse(CODE)
    assert parsed and len(rows) == 5
    assert (rows[0]["stdin"], rows[0]["expected"]) == ("5 9", "26")
    for row in rows:
        assert row["expected"] == str(parsed.output(*map(int, row["stdin"].split())))
        assert (row["agree"], row["programs"], row["trust"], row["drop_reason"]) == (
            3,
            4,
            0.75,
            None,
        )  # one attempt held no program


def test_a_program_that_only_repeats_the_example_lowers_the_trust(verifier: Verifier) -> None:
    rows = written(verifier, [RIGHT, LUCKY], min_test_agreement=0.6)
    assert [row["drop_reason"] for row in rows] == [None] + ["too few candidate programs agree"] * 4
    assert all(row["expected"] is None and row["trust"] == 0.5 for row in rows[1:])


def test_one_program_that_reproduces_the_example_among_many_is_no_agreement(verifier: Verifier) -> None:
    """On a contradictory statement a program can only be right by its own mistake."""
    rows = written(verifier, [LUCKY, WRONG, WRONG, WRONG], min_test_agreement=0.6)
    assert {(row["expected"], row["trust"]) for row in rows} == {(None, 0.25)}


@pytest.mark.parametrize("programs", [[WRONG] * 3, [BROKEN, SILENT], [None, None]])
def test_a_statement_whose_example_nobody_reproduces_has_no_tests(
    verifier: Verifier, programs: list[str | None]
) -> None:
    rows = written(verifier, programs)
    assert {(row["expected"], row["drop_reason"]) for row in rows} == {
        (None, "no candidate program reproduces the worked example")
    }


MISSTATED = CODE.replace("26", "27")


def test_a_contradictory_example_is_repaired_by_what_the_programs_agree_on(verifier: Verifier) -> None:
    rows = written(verifier, [RIGHT, RIGHT, RIGHT, WRONG], MISSTATED, repair_examples=True)
    assert rows[0]["statement"] == CODE and [row["statement"] for row in rows[1:]] == [None] * 4
    assert (rows[0]["proposed"], rows[0]["expected"], rows[0]["repaired"]) == ("27", "26", True)
    right = written(verifier, [RIGHT, RIGHT, RIGHT, WRONG])
    tests = ("expected", "agree", "programs", "trust", "drop_reason", "mutation_score")
    assert [[row[name] for name in tests] for row in rows[:1]] == [[row[name] for name in tests] for row in right[:1]]
    assert all(row["expected"] for row in rows)
    figures = quality(rows)
    assert (figures["statements_repaired"], figures["problems_with_tests"], figures["kept"]) == (1, 1, 5)


@pytest.mark.parametrize(
    ("programs", "text"),
    [
        ([RIGHT, RIGHT, WRONG, WRONG], MISSTATED),  # nothing that enough agree on
        ([RIGHT, WRONG, BROKEN, None], MISSTATED),
        ([BROKEN, SILENT], MISSTATED),
        ([None, None], MISSTATED),
    ],
)
def test_a_statement_is_repaired_by_agreement_alone(verifier: Verifier, programs: list[str | None], text: str) -> None:
    plain = written(verifier, programs, text)
    assert written(verifier, programs, text, repair_examples=True) == plain
    assert {row["drop_reason"] for row in plain} == {"no candidate program reproduces the worked example"}


def test_a_statement_that_is_right_is_never_repaired(verifier: Verifier) -> None:
    for programs in ([RIGHT] * 3, [RIGHT, WRONG, WRONG, WRONG], [LUCKY, WRONG, WRONG, WRONG]):
        assert written(verifier, programs, repair_examples=True) == written(verifier, programs)


def test_what_a_repaired_problem_is_asked_and_judged_by(verifier: Verifier) -> None:
    rows = written(verifier, [RIGHT] * 4, MISSTATED, repair_examples=True)
    own = problem("mini_code", MISSTATED)
    known = ProblemLabels([], rows).on(own)
    assert known and known["problem"] == CODE and known["problem_id"] == own["problem_id"]
    assert json.loads(known["tests"])[0] == {"stdin": "5 9", "expected": "26"}
    plain = ProblemLabels([], written(verifier, [RIGHT] * 4)).on(problem("mini_code", CODE))
    assert plain and plain["problem"] == CODE


def test_the_programs_that_pass_a_repaired_statement_decide_it(verifier: Verifier) -> None:
    settings = Labels(test_programs=3, tests_per_problem=2, keep="deciding", repair_examples=True)
    ballots, own = Ballots(RIGHT, RIGHT, WRONG), [problem("mini_code", MISSTATED)]
    proposals, rows = run(own, ballots, verifier, settings, 0)
    assert [row["completion"] is not None for row in rows] == [True, True, False]
    assert decided(proposals, rows, verifier, settings, 0, own)[0]["statement"] == CODE


def test_without_an_example_every_program_that_ends_well_has_a_vote(verifier: Verifier) -> None:
    rows = written(verifier, [LUCKY, LUCKY, BROKEN], text="Print a number.", min_test_agreement=0.6)
    assert len(rows) == 4
    assert {(row["expected"], row["agree"], row["programs"]) for row in rows} == {("26", 2, 3)}
    rows = written(verifier, [BROKEN], text="Print a number.")
    assert {row["drop_reason"] for row in rows} == {"no candidate program gives an output"}


def test_no_input_is_asked_twice_not_even_the_examples() -> None:
    """One problem in a hundred drew the example's input again: two tests with one id."""
    world = procedural_domain("mini_code")
    texts = [one.problem for one in world.write_seeds(400, 0, {"planner": 1}, seed=0).train]
    rows = proposed_tests([problem("mini_code", text) for text in texts], Ballots(), Labels(), 0)
    assert len(rows) == 5 * 400 == len({row["becomes"] for row in rows})
    assert set(Counter(row["problem_id"] for row in rows).values()) == {5}


def test_inputs_depend_on_the_problem_and_the_seed(verifier: Verifier) -> None:
    first, other = (
        [row["stdin"] for row in written(verifier, [RIGHT], text=text)] for text in (CODE, CODE.replace("3", "4"))
    )
    assert first == [row["stdin"] for row in written(verifier, [RIGHT])] != other


# ---- tests that a model writes
STATEMENT = "Input: an integer n.\nOutput: its double."
DOUBLE = "print(2 * int(input()))"
SUM = "n = int(input())\nprint(n + n)"
SQUARE = "print(int(input()) ** 2)"  # agrees with the double for 0 and 2


class Writer(Ballots):
    """Its programs and its tests are written down."""

    def __init__(self, programs: Sequence[str | None], tests: Sequence[WrittenTest]) -> None:
        super().__init__(*programs)
        self._tests = list(tests)

    def tests(self, problems: Sequence[Row], calls: int, seed: int) -> list[list[WrittenTest]]:
        assert calls == len(self._tests) and all(row["domain"] == "code" for row in problems)
        return [self._tests for _ in problems]


def cross_executed(
    verifier: Verifier,
    programs: Sequence[str | None],
    tests: Sequence[tuple[str, str] | WrittenTest],
    text: str = STATEMENT,
    **changed: object,
) -> list[Row]:
    wanted = [one if isinstance(one, WrittenTest) else WrittenTest(*one) for one in tests]
    settings = Labels(test_programs=len(programs), tests_per_problem=len(wanted), **changed)  # type: ignore[arg-type]
    return cross_checked([problem("code", text)], Writer(programs, wanted), verifier, settings, seed=0)


def test_a_wrong_output_is_repaired_and_a_right_one_is_not(verifier: Verifier) -> None:
    rows = cross_executed(verifier, [DOUBLE, SUM, SQUARE], [("3", "6"), ("4", "9"), ("5\n", "10.0"), ("2", "4")])
    assert [(row["expected"], row["repaired"], row["agree"]) for row in rows] == [
        ("6", False, 2), ("8", True, 2), ("10", False, 2), ("4", False, 3),  # 10.0 is 10 to the judge
    ]  # fmt: skip
    assert [row["proposed"] for row in rows] == ["6", "9", "10.0", "4"]
    assert {row["trust"] for row in rows} == {2 / 3, 1.0} and {row["drop_reason"] for row in rows} == {None}


def test_unreadable_repeated_and_impossible_tests_fall_with_their_reasons(verifier: Verifier) -> None:
    unread = WrittenTest(None, None, "no JSON object in what was written", "I cannot.", 7)
    rows = cross_executed(verifier, [DOUBLE, SUM], [unread, ("3", "6"), (" 3\n", "7"), ("three", "six"), unread])
    assert [row["drop_reason"] for row in rows] == [
        "no JSON object in what was written", None, "the input of an earlier test",
        "no candidate program gives an output", "no JSON object in what was written",
    ]  # fmt: skip
    assert (rows[0]["stdin"], rows[0]["completion"], rows[0]["seed"]) == (None, "I cannot.", 7)
    assert len({row["test_id"] for row in rows}) == len(rows)
    assert [row["expected"] for row in rows] == [None, "6", None, None, None]


def test_a_statements_example_outvotes_the_majority_of_programs(verifier: Verifier) -> None:
    text = f"{STATEMENT}\nExample\nInput: 3\nOutput: 6"
    rows = cross_executed(verifier, [DOUBLE, SQUARE, SQUARE], [("5", "10")], text, min_test_agreement=0.3)
    assert [(row["stdin"], row["expected"], row["agree"]) for row in rows] == [("3", "6", 1), ("5", "10", 1)]
    rows = cross_executed(verifier, [SQUARE, SQUARE], [("5", "10")], text)
    assert {row["drop_reason"] for row in rows} == {"no candidate program reproduces the worked example"}


def test_silence_is_no_agreement(verifier: Verifier) -> None:
    """Programs that define a function and never call it all print the same."""
    (row,) = cross_executed(verifier, [SILENT, SILENT, DOUBLE], [("3", "6")], min_test_agreement=0.5)
    assert (row["expected"], row["agree"], row["trust"]) == (None, 1, 1 / 3)
    (row,) = cross_executed(verifier, [SILENT], [("3", "6")])
    assert row["drop_reason"] == "no candidate program gives an output"


UNDECODABLE = "import sys\nsys.stdout.buffer.write(b'\\xff\\n')"


def test_output_that_is_no_unicode_is_no_vote(verifier: Verifier) -> None:
    """It would be expected as a lone surrogate, which no table holds: one test took the labels of its whole batch."""
    rows = cross_executed(verifier, [UNDECODABLE, UNDECODABLE, DOUBLE], [("3", "6")], min_test_agreement=0.3)
    assert [(row["expected"], row["agree"], row["programs"]) for row in rows] == [("6", 1, 3)]
    rows += cross_executed(verifier, [UNDECODABLE], [("3", "6")])
    assert rows[1]["drop_reason"] == "no candidate program gives an output"
    assert pa.Table.from_pylist(rows, SCHEMAS["code_tests"]).num_rows == 2


def test_an_output_that_is_too_long_to_keep_is_no_vote(verifier: Verifier) -> None:
    long = f"input()\nprint('7' * {LONGEST_OUTPUT + 1})"
    rows = cross_executed(verifier, [long, long, DOUBLE], [("3", "6")], min_test_agreement=0.3)
    assert [(row["expected"], row["agree"], row["programs"]) for row in rows] == [("6", 1, 3)]


def test_a_written_test_that_is_no_unicode_falls_alone(verifier: Verifier) -> None:
    text = '{"input": "1\\n\\ud83d\\n", "output": "1"}'
    unread = read_test(Completion(text, 7, "stop", -1.0, 42))
    rows = cross_executed(verifier, [DOUBLE], [unread, ("3", "6")])
    assert [(row["expected"], row["drop_reason"]) for row in rows] == [(None, "not valid Unicode"), ("6", None)]
    assert pa.Table.from_pylist(rows, SCHEMAS["code_tests"])["completion"][0].as_py() == text


def test_of_equal_votes_the_writers_output_wins(verifier: Verifier) -> None:
    for proposed in ("6", "9"):
        (row,) = cross_executed(verifier, [DOUBLE, SQUARE], [("3", proposed)], min_test_agreement=0.5)
        assert (row["expected"], row["repaired"], row["trust"]) == (proposed, False, 0.5)


def test_tests_that_no_program_passes_together_are_no_tests(verifier: Verifier) -> None:
    """Each output has its majority, but no two of them come from one reading of the statement."""
    programs = [
        f"n = int(input())\nprint(n if n != {odd} else -n)" for odd in (1, 2, 3)
    ]  # each program is alone with its own mistake
    rows = cross_executed(verifier, programs, [("1", "1"), ("2", "2"), ("3", "3")])
    assert {(row["expected"], row["drop_reason"], row["agree"]) for row in rows} == {
        (None, "no candidate program passes all tests together", 2)
    }


def test_the_mutation_score_tells_weak_tests_from_strong_ones(verifier: Verifier) -> None:
    bound = "n = int(input())\nprint('big' if n > 100 else 'small')"  # mutants: >=, 101
    (weak,) = cross_executed(verifier, [bound], [("5", "small")])
    strong = cross_executed(verifier, [bound], [("100", "small"), ("101", "big")])
    assert (weak["mutants"], weak["mutation_score"]) == (2, 0.0)
    assert {(row["mutants"], row["mutation_score"]) for row in strong} == {(2, 1.0)}
    (weak,) = cross_executed(verifier, [bound], [("5", "small")], min_mutation_score=0.5)
    assert (weak["expected"], weak["drop_reason"]) == (None, "the tests catch too few mutants")
    (unmeasured,) = cross_executed(verifier, [bound], [("5", "small")], mutants=0, min_mutation_score=0.5)
    assert (unmeasured["expected"], unmeasured["mutants"], unmeasured["mutation_score"]) == ("small", 0, None)
    none = {"repaired": 0, "statements_repaired": 0}
    of_both = {"kept": 2, "problems_with_tests": 1, "mean_trust": 1.0, "mean_mutation_score": 1.0}
    assert quality([*strong, weak]) == of_both | none
    assert quality([]) == {"kept": 0, "problems_with_tests": 0} | none


def test_tests_do_not_depend_on_the_shard_a_problem_is_in(verifier: Verifier) -> None:
    rows = [problem("code", f"{STATEMENT} Variant {n}.") for n in range(3)]
    rows.insert(1, problem("mini_code", CODE))
    settings = Labels(test_programs=1, tests_per_problem=1)
    writer = Writer([DOUBLE], [WrittenTest("3", "6")])
    together = cross_checked(rows, writer, verifier, settings, 0)
    assert together == [row for one in rows for row in cross_checked([one], writer, verifier, settings, 0)]
    assert Counter(row["domain"] for row in together) == {"code": 3, "mini_code": 2}


def test_a_model_writes_tests_and_programs(verifier: Verifier) -> None:
    """The whole way: prompts, completions, parsing, cross execution."""

    def texts(prompt: str) -> list[str]:
        if "Write one test" in prompt:
            return ['<think>2 * 3</think>```json\n{"input": "3", "output": "7"}\n```', "Let me see."]
        return [f"<think>so</think>```python\n{DOUBLE}\n```"]

    model = one_of(texts, "\n")
    teacher = ModelTeacher(model, Sampling(max_new_tokens=4), "coder/1")
    settings = Labels(test_programs=2, tests_per_problem=8)
    (solved, *_), rows = teacher.attempts([problem("code", STATEMENT)], 2, 0), []
    assert [attempt.answer for attempt in solved] == [DOUBLE, DOUBLE]
    rows = cross_checked([problem("code", STATEMENT)], teacher, verifier, settings, 0)
    assert len(rows) == 8 and {row["writer"] for row in rows} == {"coder/1"}
    assert Counter(row["drop_reason"] for row in rows).keys() == {
        None, "the input of an earlier test", "no JSON object in what was written",
    }  # fmt: skip
    (kept,) = [row for row in rows if row["expected"] is not None]
    assert (kept["expected"], kept["proposed"], kept["repaired"], kept["trust"]) == ("6", "7", True, 1.0)
    assert len({row["seed"] for row in rows}) == 8 and all(row["completion"] for row in rows)
    assert rows == cross_checked([problem("code", STATEMENT)], teacher, verifier, settings, 0)


def test_a_procedural_teacher_writes_no_tests_and_says_what_to_set(verifier: Verifier) -> None:
    with pytest.raises(ValueError, match=r"labels\.teacher: procedural writes no tests; set .* base_model.*code"):
        ProceduralTeacher(Corpus()).tests([problem("code")], 3, 0)


def test_a_share_of_the_problems_is_labelled_the_same_whatever_the_batch() -> None:
    problems = [{"problem_id": f"{n}", "domain": "maths" if n % 2 else "code"} for n in range(400)]
    assert len(list(to_label(problems, "maths", 1.0))) == 200 and not list(to_label(problems, "maths", 0.0))
    some = list(to_label(problems, "program", 0.25))
    assert 25 < len(some) < 75
    assert list(to_label(problems[:100], "program", 0.25)) == [one for one in some if one in problems[:100]]


# ---- what labels are decided from
def test_every_vote_is_a_row_and_the_label_is_made_of_the_rows() -> None:
    settings = Labels(votes=4, min_votes=2)
    voter = Ballots("1/2", "0.5", None, "7")
    votes = math_votes([problem("maths")], voter, settings, seed=3)
    assert [row["attempt"] for row in votes] == [0, 1, 2, 3] and len({row["vote_id"] for row in votes}) == 4
    assert [row["answer"] for row in votes] == ["1/2", "0.5", None, "7"]
    assert votes[0]["normal_form"] == votes[1]["normal_form"] != votes[3]["normal_form"]
    assert (votes[2]["normal_form"], votes[0]["finish_reason"], votes[0]["model"]) == (None, "stop", "ballots")
    assert pa.Table.from_pylist(votes, SCHEMAS["math_votes"]).num_rows == 4
    (label,) = math_answers(votes, settings)
    assert (label["answer"], label["votes"], label["seeds"]) == ("0.5", 2, [row["seed"] for row in votes])
    (other,) = math_answers(votes, settings.model_copy(update={"min_votes": 3}))  # nobody is asked again
    assert (other["answer"], other["drop_reason"]) == (None, "too few votes")


@pytest.mark.parametrize(
    ("keep", "kept"), [("all", [True] * 4), ("deciding", [True, True, False, False]), ("none", [False] * 4)]
)
def test_only_completions_are_thrown_away(keep: str, kept: list[bool]) -> None:
    settings = Labels(votes=4, min_votes=2)
    ballots = [problem("maths")], Ballots("1/2", "0.5", "7", None)
    rows = math_votes(*ballots, settings.model_copy(update={"keep": keep}), seed=0)
    assert [row["completion"] is not None for row in rows] == kept
    bare = [row | {"completion": None} for row in rows]
    assert bare == [row | {"completion": None} for row in math_votes(*ballots, settings, seed=0)]


def test_of_the_programs_that_pass_all_tests_the_completions_decide(verifier: Verifier) -> None:
    settings = Labels(test_programs=4, tests_per_problem=2, keep="deciding")
    writer = Writer([DOUBLE, SUM, SQUARE, None], [WrittenTest("3", "6"), WrittenTest("3", "7")])
    own = [problem("code", STATEMENT)]
    proposals = proposed_tests(own, writer, settings, 0)
    assert [(row["number"], row["origin"], row["stdin"]) for row in proposals] == [
        (0, "written", "3"), (1, "written", "3"),
    ]  # fmt: skip
    posed = list(beside([(own[0]["problem_id"], own[0])], proposed_tests=proposals))
    rows = candidate_programs(posed, writer, verifier, settings, 0)
    assert [row["outputs"] for row in rows] == [["6", None], ["6", None], ["9", None], None]  # no input is run twice
    assert [row["completion"] is not None for row in rows] == [True, True, False, False]
    assert [row["program"] for row in rows] == [DOUBLE, SUM, SQUARE, None]
    assert pa.Table.from_pylist(rows, SCHEMAS["candidate_programs"]).num_rows == 4


def test_tables_of_other_problems_are_named() -> None:
    with pytest.raises(LakeError, match=r"proposed_tests was made of other problems .* make proposed_tests of this"):
        list(beside([("a", {})], proposed_tests=[{"problem_id": "b"}]))
    with pytest.raises(LakeError, match="proposed_tests was made of other problems"):
        list(beside([], proposed_tests=[{"problem_id": "b"}]))
