from collections import Counter
from collections.abc import Iterator, Sequence

import pytest

from promptcot_assets.domains import Attempt, procedural_domain
from promptcot_assets.domains.mini_code import parse
from promptcot_assets.lake.ids import content_id
from promptcot_assets.settings.profile import Corpus, Labels, ProcedureSizes, Sandbox
from promptcot_assets.stages import Row
from promptcot_assets.stages.labels import code_tests, math_answers
from promptcot_assets.stages.teacher import ProceduralTeacher
from promptcot_assets.stages.verification import Verifier

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
        return [[Attempt("", answer) for answer in self._answers] for _ in problems]


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    with Verifier.open(Sandbox(workers=2, cpu_s=1.0, wall_s=4.0, memory_mb=256)) as verifier:
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
    (row,) = math_answers([problem("maths")], Ballots(*ballots), Labels(votes=8, min_votes=4), seed=0)
    assert (row["votes"], row["drop_reason"]) == (votes, reason)
    assert row["answer"] == label or (label == "1/2" and row["answer"] in ballots)
    assert (row["asked"], row["share"], row["voter"]) == (8, votes / 8, "ballots")
    assert row["answers"] == [answer or "" for answer in ballots]


def test_programs_have_no_vote_and_answers_no_tests(verifier: Verifier) -> None:
    settings = Labels(votes=1, min_votes=1, test_programs=1)
    rows = [problem("mini_maths"), problem("mini_code", CODE)]
    assert [row["domain"] for row in math_answers(rows, Ballots("4"), settings, 0)] == ["mini_maths"]
    assert {row["domain"] for row in code_tests(rows, Ballots(RIGHT), verifier, settings, 0)} == {"mini_code"}


def test_labels_of_a_noisy_teacher_are_nearly_all_right_and_ill_posed_texts_get_none() -> None:
    corpus = Corpus(procedural={"mini_maths": ProcedureSizes(teacher_error=0.15)})
    seeds = procedural_domain("mini_maths").write_seeds(150, 0, {"planner": 1}, seed=2).train
    posed = [problem("mini_maths", one.problem) for one in seeds]
    ill = [
        problem("mini_maths", f"Let A be {n} percent of 7. Let B be 50 percent of 9. Find A + B.") for n in range(60)
    ]
    rows = math_answers([*posed, *ill], ProceduralTeacher(corpus), Labels(votes=5, min_votes=3), seed=1)
    labels = {row["problem_id"]: row["answer"] for row in rows}
    kept = [
        (labels[row["problem_id"]], one.answer)
        for row, one in zip(posed, seeds, strict=True)
        if labels[row["problem_id"]]
    ]
    assert len(kept) > 130 and sum(label != answer for label, answer in kept) <= 2
    assert sum(labels[row["problem_id"]] is not None for row in ill) <= 3
    again = math_answers(posed[40:50], ProceduralTeacher(corpus), Labels(votes=5, min_votes=3), seed=1)
    assert again == rows[40:50]  # whatever shard a problem is in


# ---- tests of programs
def written(verifier: Verifier, programs: Sequence[str | None], text: str = CODE, **changed: object) -> list[Row]:
    settings = Labels(test_programs=len(programs), **changed)  # type: ignore[arg-type]
    return code_tests([problem("mini_code", text)], Ballots(*programs), verifier, settings, seed=0)


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


def test_without_an_example_every_program_that_ends_well_has_a_vote(verifier: Verifier) -> None:
    rows = written(verifier, [LUCKY, LUCKY, BROKEN], text="Print a number.", min_test_agreement=0.6)
    assert len(rows) == 4
    assert {(row["expected"], row["agree"], row["programs"]) for row in rows} == {("26", 2, 3)}
    rows = written(verifier, [BROKEN], text="Print a number.")
    assert {row["drop_reason"] for row in rows} == {"no candidate program ends well on it"}


def test_no_input_is_asked_twice_not_even_the_examples(verifier: Verifier) -> None:
    """One problem in a hundred drew the example's input again: two tests with one id."""
    world = procedural_domain("mini_code")
    texts = [one.problem for one in world.write_seeds(400, 0, {"planner": 1}, seed=0).train]
    rows = code_tests(
        [problem("mini_code", text) for text in texts], Ballots(), verifier, Labels.model_construct(test_programs=0), 0
    )
    assert len(rows) == 5 * 400 == len({row["test_id"] for row in rows})
    assert set(Counter(row["problem_id"] for row in rows).values()) == {5}


def test_inputs_depend_on_the_problem_and_the_seed(verifier: Verifier) -> None:
    first, other = (
        [row["stdin"] for row in written(verifier, [RIGHT], text=text)] for text in (CODE, CODE.replace("3", "4"))
    )
    assert first == [row["stdin"] for row in written(verifier, [RIGHT])] != other


def test_a_domain_that_writes_no_inputs_is_refused_with_the_mend(verifier: Verifier) -> None:
    with pytest.raises(ValueError, match=r"no test inputs for domain 'code'.*synthesis.concept_sets"):
        code_tests([problem("code")], Ballots(RIGHT), verifier, Labels(test_programs=1), 0)
