"""Teacher traces on labelled problems, and the SFT examples made of the valid ones (method section 7)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from promptcot_assets.domains import Attempt, domain_named
from promptcot_assets.lake.ids import content_id, in_share, seed_from
from promptcot_assets.settings.profile import Distillation
from promptcot_assets.stages import Row
from promptcot_assets.stages.teacher import Teacher
from promptcot_assets.stages.trace_formats import normal_trace
from promptcot_assets.stages.verification import Judgement, ProblemLabels, Question, Verifier, extract

TOO_LONG = "longer than max_trace_characters"


def teacher_traces(
    problems: Sequence[Row], teacher: Teacher, verifier: Verifier, settings: Distillation, seed: int
) -> list[Row]:
    """Rows of `teacher_traces`: valid when the answer is the label or the tests pass.

    Of a problem without a label (distillation.unlabelled) a trace is valid that has an answer, or a program, at all:
    the paper's own rule. What is judged and kept is the completion in the students' form (trace_formats.py), not longer
    than the settings allow. A trace is judged before it is measured: a wrong one is wrong at any length.
    """
    attempts = teacher.attempts(problems, settings.traces_per_problem, seed_from(seed, "traces"))
    asked = [
        (row, replace(one, completion=normal_trace(one.completion)))
        for row, tries in zip(problems, attempts, strict=True)
        for one in tries
    ]
    judged = _judged(asked, verifier)
    rows = []
    for (row, one), judgement in zip(asked, judged, strict=True):
        reason = None if judgement.passed else judgement.verdict
        if reason is None and len(one.completion) > (settings.max_trace_characters or len(one.completion)):
            reason = TOO_LONG
        rows.append({
            "trace_id": content_id(row["problem_id"], teacher.name, one.seed),
            "problem_id": row["problem_id"],
            "domain": row["domain"],
            "problem": row["problem"],
            "trace": one.completion,
            "answer": judgement.answer,
            "valid": reason is None,
            "drop_reason": reason,
            "seed": one.seed,
            "teacher": teacher.name,
        })  # fmt: skip
    return rows


def _judged(asked: Sequence[tuple[Row, Attempt]], verifier: Verifier) -> list[Judgement]:
    """By the label where there is one; else by form."""
    labelled = [Question(row["domain"], one.completion, row["answer"], row["tests"])
                for row, one in asked if _has_label(row)]  # fmt: skip
    verdicts = iter(verifier.judge(labelled))
    return [next(verdicts) if _has_label(row) else _by_form(row["domain"], one.completion) for row, one in asked]


def _has_label(row: Row) -> bool:
    return row["answer"] is not None or row["tests"] is not None


def _by_form(domain: str, completion: str) -> Judgement:
    answer = extract(domain, completion)
    verdict = "no answer" if answer is None else "answered"
    return Judgement(answer, verdict, answer is not None, "no label", "none")


def to_trace(problems: Iterable[Row], labels: ProblemLabels, settings: Distillation) -> Iterator[Row]:
    """The problems that traces are written on: the labelled ones, and where the settings say so all others too."""
    for row in problems:
        known = labels.on(row)
        if known or settings.unlabelled:
            yield known or row | {"answer": None, "tests": None}


def played_on(problem_id: str, share: float) -> bool:
    """Whether a problem is kept out of SFT for self-play: by its hash, so that batches never move it."""
    return in_share(share, "self-play", problem_id)


def sft_examples(traces: Iterable[Row], seed_examples: Iterable[Row], pool_share: float) -> Iterator[Row]:
    """Valid traces of the problems not played on, and the seed problems' own solutions. No example twice."""
    taught = (
        _example(row, row["problem"], row["trace"], "synthetic", row["trace_id"])
        for row in traces
        if row["valid"] and not played_on(row["problem_id"], pool_share)
    )
    known = set[str]()
    for row in itertools.chain(taught, seed_examples):
        if row["example_id"] not in known:
            known.add(row["example_id"])
            yield row


def seed_examples(problems: Iterable[Row], limits: dict[str, int]) -> list[Row]:
    """Training seeds with a solution, at most `limits[domain]` a domain: what a tiny base model learns first."""
    rows, taken = [], dict.fromkeys(limits, 0)
    for row in problems:
        name = row["domain"]
        if row["split"] == "train" and row["solution"] and taken.get(name, 0) < limits.get(name, 0):
            taken[name] += 1
            rows.append(_example(row, row["problem"], row["solution"], "seed", None))
    return rows


def _example(row: Row, problem: str, completion: str, source: str, trace_id: str | None) -> Row:
    prompt = domain_named(row["domain"]).solve_prompt(problem)
    return {
        "example_id": content_id(prompt, completion),
        "problem_id": row["problem_id"],
        "domain": row["domain"],
        "source": source,
        "trace_id": trace_id,
        "prompt": prompt,
        "completion": completion,
    }
