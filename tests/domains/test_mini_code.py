import itertools
import random
from collections.abc import Iterator

import pytest

from promptcot_assets.domains.layout import solution_text
from promptcot_assets.domains.mini_code import OPERATIONS, TASKS, MiniCode, parse
from promptcot_assets.judging.verifier import extract
from sandbox import Pool, Program, Verdict

WORLD = MiniCode()


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(workers=2) as pool:
        yield pool


def written(draws: int, seed: int) -> list[tuple[list[str], str]]:
    rng = random.Random(seed)
    return [(concepts, WORLD.write(concepts, rng)) for concepts in WORLD.concept_sets() for _ in range(draws)]


def test_every_written_statement_parses_to_its_concepts_and_keeps_its_example() -> None:
    problems = written(40, seed=1)
    assert len(problems) == (3 * 16 + 4) * 40
    for concepts, text in problems:
        parsed = parse(text)
        assert parsed is not None and parsed.concepts == concepts
        assert parsed.consistent() and WORLD.well_posed(text) and WORLD.defect(text) is None
        assert WORLD.worked_example(text) == {
            "stdin": f"{parsed.example[0]} {parsed.example[1]}",
            "expected": str(parsed.example[2]),
        }


def test_reference_outputs_are_what_the_reference_program_prints(pool: Pool) -> None:
    """Parsed meaning against Python itself, for every concept set."""
    inputs = [f"{a} {b}" for a, b in itertools.product((1, 5, 14), (2, 5, 20))]
    for concepts, text in written(1, seed=2):
        parsed = parse(text)
        assert parsed
        said = pool.outputs(Program(parsed.program()), inputs)
        assert {output.verdict for output in said} == {Verdict.OK}, concepts
        expected = [str(parsed.output(*map(int, line.split()))) for line in inputs]
        assert [output.stdout.strip() for output in said] == expected, text


def test_a_contradicted_example_parses_and_is_ill_posed() -> None:
    for _, text in written(5, seed=3):
        head, _, answer = text.rpartition(" ")
        contradicted = f"{head} {int(answer.rstrip('.')) + 1}."
        parsed = parse(contradicted)
        assert parsed is not None and not parsed.consistent() and not WORLD.well_posed(contradicted)


UNGRAMMATICAL = [
    "",
    "Print a times 3.",
    "Read integers a and b. Print the sum of a times 3 and b plus 2.",
    "Read integers a and b. Print the sum of a times 3. Example: for 5 9 print 15.",
    "Read integers a and b. Print the sum of c times 3 and b plus 2. Example: for 5 9 print 26.",
    "Read integers a and b. Print the sum of a times 0 and b plus 2. Example: for 5 9 print 11.",
    "Read integers a and b. Print the sum of a mod 0 and b plus 2. Example: for 5 9 print 11.",
    "Read integers a and b. Print the total of a times 3 for i from 1 to b. Example: for 5 9 print 15.",
    "Read integers a and b. Print the total of a times 3 for i from 1 to a. Example: for 5 9 print 75.",
    "Read integers a and b. Print the sum of a times 3 and b plus 2. Example: for 5 print 26.",
    "Read integers a and b. Print the sum of a times 3 and b plus 2. Example: for 5 9 print 26. Good luck.",
    "Read integers a and b. Print the sum of a times 3 and b plus 2. Example: for 5 9 print -26.",
]


@pytest.mark.parametrize("text", UNGRAMMATICAL)
def test_an_ungrammatical_statement_has_no_structure(text: str) -> None:
    assert parse(text) is None and not WORLD.well_posed(text)


def test_numbers_changed_without_a_plan_are_mostly_ill_posed() -> None:
    rng = random.Random(0)
    changed = []
    for _, text in written(10, seed=4):
        parsed = parse(text)
        assert parsed
        head = text.partition(" Example:")[0]
        changed.append(f"{head} Example: for {rng.randint(1, 9)} {rng.randint(1, 9)} print {parsed.example[2]}.")
    assert sum(map(WORLD.well_posed, changed)) / len(changed) < 0.25


def test_concept_sets_are_every_task_with_every_choice_of_operations() -> None:
    sets = [tuple(one) for one in WORLD.concept_sets()]
    assert len(sets) == len(set(sets)) == 3 * 16 + 4
    assert {one[0] for one in sets} == set(TASKS) and {name for one in sets for name in one[1:]} == set(OPERATIONS)


def test_the_plan_works_the_example() -> None:
    parsed = parse("Read integers a and b. Print the larger of a times 3 and b plus 2. Example: for 5 9 print 15.")
    assert parsed
    assert parsed.plan() == "maximum; with 5 9: a*3 is 15, b+2 is 11, so print 15."
    assert parsed.targets() == "maximum, print 15."
    assert parsed.program() == "a, b = map(int, input().split())\nprint(max(a*3, b+2))"


def test_a_seed_carries_tests_that_its_solution_passes(pool: Pool) -> None:
    for one in WORLD.write_seeds(12, 0, {"planner": 1}, seed=0).train:
        program = extract("mini_code", one.solution or "")
        assert program and one.tests and one.answer is None
        said = pool.outputs(Program(program), [test["stdin"] for test in one.tests])
        assert [output.stdout.strip() for output in said] == [test["expected"] for test in one.tests]


def test_the_teacher_errs_as_often_as_it_is_told_and_its_errors_are_other_programs() -> None:
    error, rng = 0.3, random.Random(1)
    problems = [(text, parse(text)) for _, text in written(40, seed=5)]
    attempts = [(parsed, WORLD.teach(text, error, rng)) for text, parsed in problems]
    wrong = sum(attempt.answer != parsed.program() for parsed, attempt in attempts if parsed)
    n = len(attempts)
    assert abs(wrong - error * n) < 4 * (n * error * (1 - error)) ** 0.5
    assert all(extract("mini_code", attempt.completion) == attempt.answer for _, attempt in attempts)


def test_on_a_text_that_says_nothing_the_teacher_guesses() -> None:
    rng = random.Random(0)
    attempts = [WORLD.teach("Print something.", 0.0, rng) for _ in range(100)]
    assert len({attempt.answer for attempt in attempts}) > 20
    assert attempts[0].completion == solution_text("I guess.", f"```python\n{attempts[0].answer}\n```")


def test_inputs_are_two_numbers() -> None:
    rng = random.Random(0)
    drawn = [WORLD.write_stdin(rng).split() for _ in range(500)]
    assert all(len(pair) == 2 and all(1 <= int(number) <= 20 for number in pair) for pair in drawn)
