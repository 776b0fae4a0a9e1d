import random
from collections import Counter

import pytest

from promptcot_assets.domains import procedural_domain
from promptcot_assets.domains.layout import solution_text
from promptcot_assets.inference import completion_seed
from promptcot_assets.judging.verifier import extract
from promptcot_assets.lake import Row
from promptcot_assets.lake.ids import content_id, seed_from
from promptcot_assets.settings.profile import Corpus, ProcedureSizes, Sampling
from promptcot_assets.stages.labels.teacher import ModelTeacher, ProceduralTeacher
from tests.exact_models import one_of, solver

CORPUS = Corpus(procedural={name: ProcedureSizes(teacher_error=0.2) for name in ("mini_maths", "mini_code")})


def problems(name: str, count: int = 20) -> list[Row]:
    written = procedural_domain(name).write_seeds(count, 0, {"planner": 1}, seed=9).train
    return [
        {"problem_id": content_id(name, one.problem), "domain": name, "problem": one.problem, "answer": one.answer}
        for one in written
    ]


@pytest.mark.parametrize("name", ["mini_maths", "mini_code"])
def test_an_attempt_is_made_again_from_its_own_seed(name: str) -> None:
    rows = problems(name)
    for row, attempts in zip(rows, ProceduralTeacher(CORPUS).attempts(rows, 3, seed=1), strict=True):
        for attempt in attempts:
            again = procedural_domain(name).teach(row["problem"], 0.2, random.Random(attempt.seed))
            assert (again.completion, again.answer) == (attempt.completion, attempt.answer)
        assert len({attempt.seed for attempt in attempts}) == 3


def test_attempts_depend_on_the_problem_and_not_on_its_place() -> None:
    rows, teacher = problems("mini_maths"), ProceduralTeacher(CORPUS)
    assert teacher.attempts(rows[::-1], 4, 1) == teacher.attempts(rows, 4, 1)[::-1]
    assert teacher.attempts(rows, 4, 1) != teacher.attempts(rows, 4, 2)
    assert [few[:2] for few in teacher.attempts(rows, 4, 1)] == teacher.attempts(rows, 2, 1)


def test_the_teacher_errs_as_its_domain_is_told() -> None:
    rows = problems("mini_maths", 100)
    attempts = ProceduralTeacher(CORPUS).attempts(rows, 10, seed=3)
    wrong = sum(one.answer != row["answer"] for row, ten in zip(rows, attempts, strict=True) for one in ten)
    assert abs(wrong - 200) < 4 * (1000 * 0.2 * 0.8) ** 0.5


def test_there_is_no_procedural_teacher_for_a_domain_that_writes_nothing() -> None:
    with pytest.raises(ValueError, match="'maths' writes no problems by program"):
        ProceduralTeacher(CORPUS).attempts([{"problem_id": "p", "domain": "maths", "problem": "?"}], 1, 0)


@pytest.mark.parametrize("name", ["mini_maths", "mini_code"])
def test_a_models_attempts_are_its_completions_and_what_they_answer(name: str) -> None:
    rows = problems(name)
    teacher = ModelTeacher(solver(name, 0.3), Sampling(max_new_tokens=4), "voter/1")
    drawn = teacher.attempts(rows, 5, seed=2)
    assert teacher.name == "voter/1" and [len(attempts) for attempts in drawn] == [5] * len(rows)
    for row, attempts in zip(rows, drawn, strict=True):
        own = seed_from(2, row["problem_id"])
        assert [one.seed for one in attempts] == [completion_seed(own, k) for k in range(5)]
        assert [one.answer for one in attempts] == [extract(name, one.completion) for one in attempts]
    assert drawn == teacher.attempts(rows, 5, seed=2) != teacher.attempts(rows, 5, seed=3)


def test_an_unfinished_completion_has_no_answer() -> None:
    text = solution_text("so", "\\boxed{4}")
    model = one_of(lambda _: [text, text[:-1]], "\nSolution:")
    (attempts,) = ModelTeacher(model, Sampling(max_new_tokens=4), "m").attempts(problems("mini_maths", 1), 40, 0)
    assert set(Counter(one.answer for one in attempts)) == {"4", None}


def test_a_problem_that_is_misread_is_answered_wrongly_in_one_way() -> None:
    sizes = ProcedureSizes(teacher_error=0.0, misread=0.3)
    rows = problems("mini_maths", 200)
    attempts = ProceduralTeacher(Corpus(procedural={"mini_maths": sizes})).attempts(rows, 9, seed=3)
    wrong = [
        [one.answer for one in nine if one.answer != row["answer"]] for row, nine in zip(rows, attempts, strict=True)
    ]
    misread = [own for own in wrong if own]
    assert all(len(set(own)) == 1 for own in misread)  # they err together
    assert abs(len(misread) - 60) < 4 * (200 * 0.3 * 0.7) ** 0.5
    assert abs(sum(map(len, misread)) / len(misread) / 9 - 2 / 3) < 0.1
    again = ProceduralTeacher(Corpus(procedural={"mini_maths": sizes})).attempts(rows, 9, seed=4)
    theirs = [{one.answer for one in nine} for nine in again]
    assert all(set(own) <= other for own, other in zip(wrong, theirs, strict=True) if own)  # whoever asks, and when
