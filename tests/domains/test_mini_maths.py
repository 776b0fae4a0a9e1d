import operator
import random
import re
from fractions import Fraction

import pytest

from promptcot_assets.domains.mini_maths import BY_CONCEPT, COMBINERS, MiniMaths, parse, solve
from sandbox.maths import extract_answer

WORLD = MiniMaths()
CALCULATE = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
DRAWS = 20  # problems a concept set; 84 sets


def written(draws: int, seed: int) -> list[tuple[list[str], str]]:
    rng = random.Random(seed)
    return [(concepts, WORLD.write(concepts, rng)) for concepts in WORLD.concept_sets() for _ in range(draws)]


# ---- an oracle of its own: trial of every candidate value, no formula of the solver
def only(values: list[int]) -> int:
    assert len(values) == 1, values
    return values[0]


ORACLE = {
    "linear equations": lambda a, b, c: only([t for t in range(c + 1) if a * t + b == c]),
    "arithmetic sequences": lambda a, b, c: only([n for n in range(1, c + 2) if a + (n - 1) * (b - a) == c]),
    "quadratic equations": lambda s, p: max(t for t in range(s + p + 1) if t * t - s * t + p == 0),
    "simultaneous equations": lambda s, d: only([u for u in range(s + 1) if u - (s - u) == d]),
    "ratios": lambda total, m, n: max(Fraction(total * m, m + n), Fraction(total * n, m + n)),
    "averages": lambda a, b, mean: only([w for w in range(3 * mean + 1) if Fraction(a + b + w, 3) == mean]),
    "rectangle area": lambda length, area: only([w for w in range(area + 1) if w * length == area]),
    "percentages": lambda percent, whole: Fraction(percent * whole, 100),
}
CLUES = {
    "linear equations": "the root of",
    "arithmetic sequences": "terms in",
    "quadratic equations": "t^2",
    "simultaneous equations": "u + v",
    "ratios": "split",
    "averages": "mean",
    "rectangle area": "rectangle",
    "percentages": "percent",
}


def answer_by_trial(text: str) -> int:
    first, second, question = re.fullmatch(r"Let A be (.*)\. Let B be (.*)\. (Find .*)", text).groups()  # type: ignore[union-attr]
    values = []
    for quantity in (first, second):
        (concept,) = [name for name, clue in CLUES.items() if clue in quantity]
        numbers = [int(n) for n in re.findall(r"\d+", re.sub(r"t\^2|= 0$", "", quantity))]
        values.append(ORACLE[concept](*numbers))
    total = sum(values)
    if "|A - B|" in question:
        total = abs(values[0] - values[1])
    elif "remainder" in question:
        total %= int(question.rstrip(".").split()[-1])
    assert total == int(total)
    return int(total)


def test_every_written_problem_parses_to_its_concepts_and_has_the_answer_that_trial_finds() -> None:
    problems = written(DRAWS, seed=3)
    assert len(problems) == 84 * DRAWS
    for concepts, text in problems:
        parsed, solved = parse(text), solve(text)
        assert parsed is not None and solved is not None
        assert parsed.concepts == concepts
        assert solved[0] == answer_by_trial(text)
        assert WORLD.well_posed(text) and WORLD.defect(text) is None


def test_every_step_of_every_solution_and_plan_is_a_true_equation() -> None:
    equation = re.compile(r"([\d+*/-]+)=(\d+)")
    checked = 0
    for _, text in written(3, seed=4):
        parsed, solved = parse(text), solve(text)
        assert parsed and solved
        for left, right in equation.findall(solved[1] + parsed.plan()):
            a, sign, b = re.fullmatch(r"(\d+)([+*/-])(\d+)", left).groups()  # type: ignore[union-attr]
            assert CALCULATE[sign](Fraction(a), Fraction(b)) == int(right), left
            checked += 1
    assert checked > 1000


ILL_POSED = [
    ("Let A be the root of 4t + 3 = 30. Let B be 50 percent of 8. Find A + B.", "27 is no multiple of 4"),
    ("Let A be the root of 0t + 3 = 31. Let B be 50 percent of 8. Find A + B.", "no t"),
    ("Let A be the root of 4t + 9 = 3. Let B be 50 percent of 8. Find A + B.", "negative"),
    ("Let A be the number of terms in 2, 5, ..., 12. Let B be 50 percent of 8. Find A + B.", "12 is no term"),
    ("Let A be the number of terms in 5, 5, ..., 5. Let B be 50 percent of 8. Find A + B.", "never ends"),
    ("Let A be the number of terms in 5, 3, ..., 1. Let B be 50 percent of 8. Find A + B.", "falls"),
    ("Let A be the larger root of t^2 - 5t + 5 = 0. Let B be 50 percent of 8. Find A + B.", "irrational"),
    ("Let A be the larger root of t^2 - 4t + 4 = 0. Let B be 50 percent of 8. Find A + B.", "one root"),
    ("Let A be the larger root of t^2 - 2t + 9 = 0. Let B be 50 percent of 8. Find A + B.", "complex"),
    ("Let A be the value of u if u + v = 8 and u - v = 3. Let B be 50 percent of 8. Find A + B.", "halves"),
    ("Let A be the value of u if u + v = 3 and u - v = 9. Let B be 50 percent of 8. Find A + B.", "v negative"),
    ("Let A be the larger share of 36 split 2:5. Let B be 50 percent of 8. Find A + B.", "sevenths"),
    ("Let A be the larger share of 35 split 5:2. Let B be 50 percent of 8. Find A + B.", "the smaller comes first"),
    ("Let A be the larger share of 35 split 0:5. Let B be 50 percent of 8. Find A + B.", "no share"),
    ("Let A be the w if 9, 9 and w have mean 2. Let B be 50 percent of 8. Find A + B.", "negative"),
    ("Let A be the width of a rectangle of length 4 and area 30. Let B be 50 percent of 8. Find A + B.", "not whole"),
    ("Let A be the width of a rectangle of length 0 and area 30. Let B be 50 percent of 8. Find A + B.", "flat"),
    ("Let A be 25 percent of 30. Let B be 50 percent of 8. Find A + B.", "not whole"),
    ("Let A be 30 percent of 30. Let B be 50 percent of 8. Find A + B.", "a share the world does not have"),
    ("Let A be 50 percent of 8. Let B be 50 percent of 8. Find the remainder when A + B is divided by 0.", "by zero"),
    ("Let A be 50 percent of 8. Let B be 50 percent of 8. Find the remainder when A + B is divided by 1.", "always 0"),
]
UNGRAMMATICAL = [
    "",
    "Find A + B.",
    "Let A be 50 percent of 8. Find A + B.",
    "Let A be 50 percent of 8. Let B be 50 percent of 8.",
    "Let A be 50 percent of 8. Let B be 50 percent of 8. Find A * B.",
    "Let A be 50 percent of 8. Let B be 50 percent of 8. Find A + B",
    "Let A be 50 percent of 8. Let B be 50 percent of 8. Find A + B. Thanks.",
    "Let A be 50 percent of eight. Let B be 50 percent of 8. Find A + B.",
    "Let A be 50 percent of -8. Let B be 50 percent of 8. Find A + B.",
    "Let A be 50 percent of 12345. Let B be 50 percent of 8. Find A + B.",
    "Let A be the root of 4t + 3 = 31 and 5. Let B be 50 percent of 8. Find A + B.",
    "let A be 50 percent of 8. Let B be 50 percent of 8. Find A + B.",
    "Let A be 50 percent of 8.\nLet B be 50 percent of 8.\nFind A + B.",
]


@pytest.mark.parametrize(("text", "why"), ILL_POSED)
def test_an_ill_posed_text_parses_and_has_no_answer(text: str, why: str) -> None:
    assert parse(text) is not None
    assert solve(text) is None and not WORLD.well_posed(text)


@pytest.mark.parametrize("text", UNGRAMMATICAL)
def test_an_ungrammatical_text_has_neither_structure_nor_answer(text: str) -> None:
    assert parse(text) is None and solve(text) is None and not WORLD.well_posed(text)


def test_an_ill_posed_problem_has_no_plan() -> None:
    parsed = parse(ILL_POSED[0][0])
    assert parsed
    with pytest.raises(ValueError, match="ill-posed"):
        parsed.plan()


@pytest.mark.parametrize(
    "text",
    [
        "Let A be 50 percent of 8. Let B be 50 percent of 8. Find A + B.",
        " Let A be 50 percent of 8. Let B be 50 percent of 8. Find A + B.\n",
        "Let A be 50 percent of 0008. Let B be 50 percent of 8. Find A + B.",
    ],
)
def test_spaces_around_and_leading_zeros_change_nothing(text: str) -> None:
    assert solve(text) == (8, "A: 100/50=2, 8/2=4. B: 100/50=2, 8/2=4. 4+4=8.")


def test_numbers_drawn_without_a_plan_are_mostly_ill_posed() -> None:
    """The hidden consistency: each number from its own marginal, independent of the others."""
    rng = random.Random(0)
    drawn = {name: [quantity.draw(rng) for _ in range(200)] for name, quantity in BY_CONCEPT.items()}
    posed = []
    for _ in range(2000):
        parts = []
        for name in rng.sample(list(BY_CONCEPT), 2):
            columns = zip(*drawn[name], strict=True)
            parts.append(BY_CONCEPT[name].text.format(*(rng.choice(column) for column in columns)))
        posed.append(WORLD.well_posed(f"Let A be {parts[0]}. Let B be {parts[1]}. Find A + B."))
    assert 0.08 < sum(posed) / len(posed) < 0.35


def test_concept_sets_are_all_pairs_with_and_without_a_combiner() -> None:
    sets = WORLD.concept_sets()
    assert len(sets) == 28 * 3 == len({tuple(one) for one in sets})
    assert {len(one) for one in sets} == {2, 3}
    assert {one[2] for one in sets if len(one) == 3} == set(COMBINERS)


def test_shuffling_swaps_the_quantities_and_leaves_the_combiner_last() -> None:
    rng = random.Random(0)
    seen = {tuple(WORLD.shuffled(["ratios", "averages", "remainders"], rng)) for _ in range(50)}
    assert seen == {("ratios", "averages", "remainders"), ("averages", "ratios", "remainders")}


def test_a_seed_carries_a_reference_that_its_solution_reaches() -> None:
    for one in WORLD.write_seeds(100, 0, {"planner": 1}, seed=0).train:
        assert one.answer == str(answer_by_trial(one.problem)) == extract_answer(one.solution or "")
        assert one.level == ("hard" if len(one.concepts) > 2 else "easy")
        assert one.tests is None


def test_the_teacher_is_wrong_as_often_as_it_is_told() -> None:
    error, rng = 0.15, random.Random(5)
    problems = [text for _, text in written(24, seed=6)]
    attempts = [(text, WORLD.teach(text, error, rng)) for text in problems]
    wrong = sum(int(attempt.answer or 0) != answer_by_trial(text) for text, attempt in attempts)
    n = len(problems)
    assert abs(wrong - error * n) < 4 * (n * error * (1 - error)) ** 0.5
    assert all(extract_answer(attempt.completion) == attempt.answer for _, attempt in attempts)
    assert all(int(WORLD.teach(text, 0.0, rng).answer or 0) == answer_by_trial(text) for text in problems[:200])


def test_on_an_ill_posed_text_the_teacher_scatters_and_teaches_nothing() -> None:
    rng = random.Random(0)
    attempts = [WORLD.teach(ILL_POSED[0][0], 0.0, rng) for _ in range(200)]
    assert len({attempt.answer for attempt in attempts}) > 25
    assert {attempt.completion.partition("</think>")[0] for attempt in attempts} == {"<think>I guess."}


def test_there_is_nothing_to_run() -> None:
    with pytest.raises(TypeError, match="nothing to run"):
        WORLD.write_stdin(random.Random(0))
    assert WORLD.worked_example(ILL_POSED[0][0]) is None
