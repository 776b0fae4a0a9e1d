import json
import random
from collections.abc import Iterator

import pytest

from promptcot_assets.domains import domain_named, procedural_domain
from promptcot_assets.domains.layout import solution_text
from promptcot_assets.judging.opening import open_verifier
from promptcot_assets.judging.verifier import ProblemLabels, Verifier
from promptcot_assets.lake import LakeError, Row
from promptcot_assets.lake.ids import content_id
from promptcot_assets.settings.engines import Sandbox
from promptcot_assets.settings.profile import Corpus, Distillation, Labels, ProcedureSizes, Sampling
from promptcot_assets.stages.labels.teacher import ModelTeacher, ProceduralTeacher
from promptcot_assets.stages.labels.votes import math_answers, math_votes
from promptcot_assets.stages.students.distillation import (
    played_on,
    seed_examples,
    sft_examples,
    teacher_traces,
    to_trace,
    with_votes,
)
from tests.exact_models import one_of

WORLDS = ("mini_maths", "mini_code")
CORPUS = Corpus(procedural={name: ProcedureSizes(teacher_error=0.4) for name in WORLDS})


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    with open_verifier(Sandbox(workers=2, cpu_s=1.0, wall_s=4.0, memory_mb=256)) as verifier:
        yield verifier


def labelled_problems(name: str, count: int) -> list[Row]:
    return [
        {"problem_id": content_id(name, one.problem), "domain": name, "problem": one.problem, "answer": one.answer,
         "tests": json.dumps(one.tests) if one.tests else None}
        for one in procedural_domain(name).write_seeds(count, 0, {"planner": 1}, seed=6).train
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "count"), [("mini_maths", 60), ("mini_code", 20)])
def test_a_trace_is_valid_exactly_when_it_agrees_with_the_label(verifier: Verifier, name: str, count: int) -> None:
    problems = labelled_problems(name, count)
    settings = Distillation(traces_per_problem=2)
    rows = teacher_traces(problems, ProceduralTeacher(CORPUS), verifier, settings, seed=1)
    assert len(rows) == 2 * count == len({row["trace_id"] for row in rows})
    by_id = {row["problem_id"]: row for row in problems}
    for row in rows:
        assert row["valid"] == (row["drop_reason"] is None)
        if name == "mini_maths":
            assert row["valid"] == (row["answer"] == by_id[row["problem_id"]]["answer"])
    valid = sum(row["valid"] for row in rows)
    assert 0.35 * len(rows) < valid < 0.95 * len(rows)
    assert {row["drop_reason"] for row in rows} == {None, "wrong_answer"}
    assert [row["problem_id"] for row in rows] == [row["problem_id"] for row in problems for _ in range(2)]


def test_a_traces_seed_is_the_one_it_was_drawn_with(verifier: Verifier) -> None:
    problems = labelled_problems("mini_maths", 10)
    for row in teacher_traces(problems, ProceduralTeacher(CORPUS), verifier, Distillation(), seed=1):
        again = procedural_domain("mini_maths").teach(row["problem"], 0.4, random.Random(row["seed"]))
        assert again.completion == row["trace"]


def test_traces_do_not_depend_on_the_shard(verifier: Verifier) -> None:
    problems, teacher = labelled_problems("mini_maths", 12), ProceduralTeacher(CORPUS)
    together = teacher_traces(problems, teacher, verifier, Distillation(), seed=1)
    halves = [problems[:5], problems[5:]]
    assert together == [
        row for half in halves for row in teacher_traces(half, teacher, verifier, Distillation(), seed=1)
    ]


HARMONY = "<|channel|>analysis<|message|>so<|end|><|start|>assistant<|channel|>final<|message|>\\boxed{4}<|return|>"


@pytest.mark.parametrize(
    ("limit", "reason"),
    [(None, None), (len("<think>so</think>\\boxed{4}"), None), (9, "longer than max_trace_characters")],
)
def test_a_trace_is_kept_in_the_students_form_and_not_beyond_the_limit(
    verifier: Verifier, limit: int | None, reason: str | None
) -> None:
    model = one_of(lambda _: [HARMONY], "\nSolution:")
    teacher = ModelTeacher(model, Sampling(max_new_tokens=4), "t")
    problem = labelled_problems("mini_maths", 1)[0] | {"answer": "4"}
    (row,) = teacher_traces([problem], teacher, verifier, Distillation(max_trace_characters=limit), seed=1)
    assert row["trace"] == "<think>so</think>\\boxed{4}" and row["answer"] == "4"
    assert (row["valid"], row["drop_reason"]) == (reason is None, reason)


def test_an_unfinished_trace_is_not_valid(verifier: Verifier) -> None:
    model = one_of(lambda _: ["<think>still \\boxed{4}"], "\nSolution:")
    (row,) = teacher_traces(
        labelled_problems("mini_maths", 1), ModelTeacher(model, Sampling(), "m"), verifier, Distillation(), 0
    )
    assert (row["valid"], row["answer"], row["drop_reason"]) == (False, None, "wrong_answer")


# ---- examples
def trace(number: int, **changed: object) -> Row:
    return {"problem_id": f"p{number}", "trace_id": f"t{number}", "domain": "mini_maths", "problem": f"{number}?",
            "trace": f"<think>a</think>\\boxed{{{number}}}", "valid": True, **changed}  # fmt: skip


def seed_row(number: int, **changed: object) -> Row:
    return {"problem_id": f"s{number}", "domain": "mini_maths", "problem": f"seed {number}?", "split": "train",
            "solution": solution_text("a", f"{number}"), **changed}  # fmt: skip


def test_only_valid_traces_of_problems_not_played_on_are_taught() -> None:
    traces = [trace(number, valid=number % 3 > 0) for number in range(200)]
    share = 0.3
    examples = list(sft_examples(traces, [], share))
    expected = {row["problem_id"] for row in traces if row["valid"] and not played_on(row["problem_id"], share)}
    assert {row["problem_id"] for row in examples} == expected
    assert 0 < len(expected) < sum(row["valid"] for row in traces)
    first = examples[0]
    number = first["problem_id"][1:]
    assert first["prompt"] == domain_named("mini_maths").solve_prompt(f"{number}?")
    assert (first["completion"], first["source"], first["trace_id"]) == (
        f"<think>a</think>\\boxed{{{number}}}", "synthetic", f"t{number}",
    )  # fmt: skip


def test_a_problem_is_played_on_by_its_own_hash() -> None:
    ids = [f"p{number}" for number in range(2000)]
    small, large = ({name for name in ids if played_on(name, share)} for share in (0.2, 0.5))
    assert small < large  # a larger share takes more and gives none back
    assert abs(len(small) - 400) < 4 * (2000 * 0.2 * 0.8) ** 0.5
    assert not any(played_on(name, 0.0) for name in ids) and all(played_on(name, 1.0) for name in ids)


def test_no_example_is_taught_twice() -> None:
    traces = [trace(1), trace(1, trace_id="t1b"), trace(1, trace_id="t1c", trace="<think>b</think>\\boxed{1}")]
    own = seed_examples([seed_row(0), seed_row(0)], {"mini_maths": 5})
    examples = list(sft_examples(traces, own, 0.0))
    assert len(examples) == 3 == len({row["example_id"] for row in examples})
    assert [row["source"] for row in examples] == ["synthetic", "synthetic", "seed"]


def test_seed_solutions_are_taken_from_training_seeds_up_to_their_limit() -> None:
    rows = [
        seed_row(0, split="held_out"), seed_row(1, solution=None), *(seed_row(n) for n in range(2, 6)),
        seed_row(6, domain="mini_code"), seed_row(7, domain="maths"),
    ]  # fmt: skip
    taken = seed_examples(rows, {"mini_maths": 3, "mini_code": 3})
    assert [row["problem_id"] for row in taken] == ["s2", "s3", "s4", "s6"]
    assert {(row["source"], row["trace_id"]) for row in taken} == {("seed", None)}
    assert seed_examples(rows, {}) == []


def test_without_a_label_a_trace_needs_an_answer_and_with_one_the_right_one(verifier: Verifier) -> None:
    problems = [row | {"problem_id": f"{at}"} for at, row in enumerate(labelled_problems("mini_maths", 3))]
    labels = ProblemLabels([{"problem_id": "0", "answer": "1000"}], [])
    assert list(to_trace(problems, labels, Distillation())) == [problems[0] | {"answer": "1000", "tests": None}]
    asked = list(to_trace(problems, labels, Distillation(unlabelled=True)))
    assert [(row["problem_id"], row["answer"]) for row in asked] == [("0", "1000"), ("1", None), ("2", None)]
    texts = iter(["<think>a</think>\\boxed{5}", "<think>a</think>\\boxed{5}", "<think>a</think> I do not know."])
    teacher = ModelTeacher(one_of(lambda _: [next(texts)], "\nSolution:"), Sampling(max_new_tokens=2), "t/1")
    rows = teacher_traces(asked, teacher, verifier, Distillation(unlabelled=True), seed=1)
    assert [(row["valid"], row["drop_reason"]) for row in rows] == [
        (False, "wrong_answer"), (True, None), (False, "no answer"),
    ]  # fmt: skip


# ---- traces that are paid already
class Silent:
    """A teacher that must not be asked."""

    name = "silent"

    def attempts(self, problems: list[Row], n: int, seed: int) -> list[list[object]]:
        raise AssertionError("asked")


def voted(problems: list[Row], settings: Labels, seed: int = 4) -> tuple[list[Row], list[Row]]:
    """Votes, and the problems with the labels made of them."""
    votes = math_votes(problems, ProceduralTeacher(CORPUS), settings, seed)
    known = ProblemLabels(math_answers(votes, settings), [])
    return votes, [row for row in map(known.on, problems) if row]


def test_right_votes_are_traces_and_nobody_is_asked_again(verifier: Verifier) -> None:
    problems, settings = labelled_problems("mini_maths", 20), Labels(votes=8, min_votes=4)
    votes, known = voted(problems, settings)
    assert len(known) > 10
    asked = list(with_votes(known, votes, []))
    rows = teacher_traces(asked, Silent(), verifier, Distillation(traces_per_problem=1, from_votes=True), seed=1)  # type: ignore[arg-type]
    assert [row["problem_id"] for row in rows] == [row["problem_id"] for row in known]
    assert all(row["valid"] and row["teacher"] == "procedural" for row in rows)
    by_seed = {(vote["problem_id"], vote["seed"], vote["model"]): vote for vote in votes}
    for row in rows:
        vote = by_seed[row["problem_id"], row["seed"], row["teacher"]]
        assert (row["trace"], row["answer"]) == (vote["completion"], vote["normal_form"])


def test_the_teacher_writes_what_the_votes_lack(verifier: Verifier) -> None:
    problems, settings = labelled_problems("mini_maths", 12), Labels(votes=4, min_votes=2)
    votes, known = voted(problems, settings)
    thrown_away = [vote | {"completion": None} if vote["attempt"] % 2 else vote for vote in votes]
    teacher, asked = ProceduralTeacher(CORPUS), Distillation(traces_per_problem=3, from_votes=True)
    rows = teacher_traces(list(with_votes(known, thrown_away, [])), teacher, verifier, asked, seed=1)
    assert len(rows) == 3 * len(known) == len({row["trace_id"] for row in rows})
    seeds = {vote["seed"] for vote in thrown_away if vote["completion"]}
    assert 0 < sum(row["seed"] in seeds for row in rows) < len(rows)
    alone = [row for one in known for row in teacher_traces(
        list(with_votes([one], [vote for vote in thrown_away if vote["problem_id"] == one["problem_id"]], [])),
        teacher, verifier, asked, seed=1)]  # fmt: skip
    assert rows == alone


def test_an_unlabelled_problem_has_no_votes_and_a_labelled_one_must() -> None:
    row = {"problem_id": "a", "domain": "maths", "answer": None, "tests": None}
    assert list(with_votes([row], [], [])) == [row]
    with pytest.raises(LakeError, match="problem a has a label and no votes"):
        list(with_votes([row | {"answer": "4"}], [], []))
