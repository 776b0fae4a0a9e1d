"""Labels for synthetic problems: answers by majority vote, code tests by cross execution (method section 5)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from promptcot_assets.domains import ProceduralDomain, domain_named
from promptcot_assets.lake.ids import content_id, seed_from
from promptcot_assets.settings.profile import Labels
from promptcot_assets.stages import Row
from promptcot_assets.stages.teacher import Teacher
from promptcot_assets.stages.verification import Verifier


def of_kind(problems: Sequence[Row], answers: str) -> list[Row]:
    """The problems whose answers are `maths`, or `program`s."""
    return [row for row in problems if domain_named(row["domain"]).answers == answers]


def math_answers(problems: Sequence[Row], teacher: Teacher, settings: Labels, seed: int) -> list[Row]:
    """One row a maths problem: the answer most generations agree on, if enough do and it is strictly ahead."""
    from sandbox.maths import majority_vote

    own = of_kind(problems, "maths")
    rows = []
    for row, attempts in zip(own, teacher.attempts(own, settings.votes, seed_from(seed, "votes")), strict=True):
        answers = [attempt.answer or "" for attempt in attempts]
        vote = majority_vote([answer or None for answer in answers], min_votes=settings.min_votes)
        rows.append({
            "label_id": content_id(row["problem_id"], answers),
            "problem_id": row["problem_id"],
            "domain": row["domain"],
            "answer": vote.answer,
            "votes": vote.votes,
            "asked": settings.votes,
            "share": vote.votes / settings.votes,
            "answers": answers,
            "drop_reason": None if vote.answer is not None else vote.reason,
            "voter": teacher.name,
        })  # fmt: skip
    return rows


def code_tests(problems: Sequence[Row], teacher: Teacher, verifier: Verifier, settings: Labels, seed: int) -> list[Row]:
    """Tests a program problem: inputs, and the output that enough candidate programs agree on when really run.

    Where the statement carries a worked example, only programs that reproduce it vote, and it is a test itself; when
    none does, the statement contradicts its example and every test is dropped. Trust is the share of all candidate
    programs: one that reproduces a contradictory example by its own mistake is no agreement.
    """
    own = of_kind(problems, "program")
    rows = []
    drawn = teacher.attempts(own, settings.test_programs, seed_from(seed, "test programs"))
    for row, attempts in zip(own, drawn, strict=True):
        programs = [attempt.answer for attempt in attempts if attempt.answer is not None]
        domain = _writer_of_inputs(row["domain"])
        example = domain.worked_example(row["problem"])
        asked = _stdins(domain, row["problem_id"], settings.tests_per_problem, example, seed)
        outputs = verifier.outputs(programs, asked)
        if example:
            outputs = [said for said in outputs if said[0] == example["expected"]]
        for at, stdin in enumerate(asked):
            said = [one[at] for one in outputs]
            rows.append(_test(row, stdin, said, len(programs), settings, teacher.name, bool(example)))
    return rows


def _writer_of_inputs(name: str) -> ProceduralDomain:
    domain = domain_named(name)
    if not isinstance(domain, ProceduralDomain):
        raise ValueError(
            f"no test inputs for domain {name!r}: only procedural program domains write their own; "
            "leave the domain out of synthesis.concept_sets"
        )
    return domain


def _stdins(
    domain: ProceduralDomain, problem_id: str, count: int, example: dict[str, str] | None, seed: int
) -> list[str]:
    """The worked example's input, if there is one, then `count` others; all distinct."""
    inputs = [example["stdin"]] if example else []
    rng = random.Random(seed_from(seed, "stdin", problem_id))
    wanted = len(inputs) + count
    while len(inputs) < wanted:
        drawn = domain.write_stdin(rng)
        if drawn not in inputs:
            inputs.append(drawn)
    return inputs


def _test(
    problem: Row, stdin: str, outputs: list[str | None], programs: int, settings: Labels, writer: str, example: bool
) -> Row:
    counted = Counter(output for output in outputs if output is not None).most_common(2)
    expected, agree = counted[0] if counted else (None, 0)
    trust = agree / programs if programs else 0.0
    if not outputs and example:
        reason = "no candidate program reproduces the worked example"
    elif expected is None:
        reason = "no candidate program ends well on it"
    elif trust < settings.min_test_agreement:
        reason = "too few candidate programs agree"
    else:
        reason = None
    return {
        "test_id": content_id(problem["problem_id"], stdin),
        "problem_id": problem["problem_id"],
        "domain": problem["domain"],
        "stdin": stdin,
        "expected": None if reason else expected,
        "agree": agree,
        "programs": programs,
        "trust": trust,
        "drop_reason": reason,
        "writer": writer,
    }
