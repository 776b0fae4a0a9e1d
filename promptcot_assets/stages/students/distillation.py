"""Teacher traces on labelled problems, and the SFT examples made of the valid ones (method section 7)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from promptcot_assets.domains import Attempt, domain_named
from promptcot_assets.inference.refusals import REASONS
from promptcot_assets.judging.verifier import Judgement, ProblemLabels, Question, Verifier, extract
from promptcot_assets.lake import LakeError, Row
from promptcot_assets.lake.ids import content_id, in_share, seed_from
from promptcot_assets.settings.profile import Distillation
from promptcot_assets.stages.labels.labelling import by_problem
from promptcot_assets.stages.labels.teacher import Teacher
from promptcot_assets.stages.students.trace_formats import normal_trace

TOO_LONG = "longer than max_trace_characters"


def teacher_traces(
    problems: Sequence[Row], teacher: Teacher, verifier: Verifier, settings: Distillation, seed: int
) -> list[Row]:
    """Rows of `teacher_traces`: valid when the answer is the label or the tests pass.

    Of a problem without a label (distillation.unlabelled) a trace is valid that has an answer, or a program, at all:
    the paper's own rule. What is judged and kept is the completion in the students' form (trace_formats.py), not longer
    than the settings allow. A trace is judged before it is measured: a wrong one is wrong at any length.

    Where a problem brings its `votes` (with_votes), of these as many as are asked for are traces if they are valid,
    and the teacher is asked for the rest.
    """
    found = _from_votes(problems, verifier, settings)
    missing = [settings.traces_per_problem - len(rows) for rows in found]
    for count in sorted(set(missing) - {0}):  # those of one shard that miss as many are asked together
        places = [at for at, own in enumerate(missing) if own == count]
        some = [problems[at] for at in places]
        attempts = teacher.attempts(some, count, seed_from(seed, "traces"))
        tries = [(row, one) for row, own in zip(some, attempts, strict=True) for one in own]
        rows = _traces(tries, [teacher.name] * len(tries), verifier, settings)
        for at, place in enumerate(places):
            found[place] += rows[at * count : (at + 1) * count]
    return [row for rows in found for row in rows]


def _from_votes(problems: Sequence[Row], verifier: Verifier, settings: Distillation) -> list[list[Row]]:
    """Of each problem's votes, in their order, the first valid ones, no text twice."""
    tries, writers = list[tuple[Row, Attempt]](), list[str]()
    for row in problems:
        for vote in row.get("votes", ()):
            tries.append((row, Attempt(vote["completion"], None, vote["seed"])))
            writers.append(vote["model"])
    traces: dict[str, dict[str, Row]] = {row["problem_id"]: {} for row in problems}
    for trace in _traces(tries, writers, verifier, settings):
        if trace["valid"]:
            traces[trace["problem_id"]].setdefault(trace["trace"], trace)
    return [list(traces[row["problem_id"]].values())[: settings.traces_per_problem] for row in problems]


def _traces(
    tries: Sequence[tuple[Row, Attempt]], writers: Sequence[str], verifier: Verifier, settings: Distillation
) -> list[Row]:
    asked = [(row, replace(one, completion=normal_trace(one.completion))) for row, one in tries]
    rows = []
    for (row, one), judgement, writer in zip(asked, _judged(asked, verifier), writers, strict=True):
        reason = None if judgement.passed else judgement.verdict
        if reason is None and len(one.completion) > (settings.max_trace_characters or len(one.completion)):
            reason = TOO_LONG
        rows.append({
            "trace_id": content_id(row["problem_id"], writer, one.seed),
            "problem_id": row["problem_id"],
            "domain": row["domain"],
            "problem": row["problem"],
            "trace": one.completion,
            "answer": judgement.answer,
            "valid": reason is None,
            "drop_reason": reason,
            "seed": one.seed,
            "teacher": writer,
        })  # fmt: skip
    return rows


def _judged(asked: Sequence[tuple[Row, Attempt]], verifier: Verifier) -> list[Judgement]:
    """By the label where there is one; else by form. What was never written is not judged."""
    labelled = [Question.on(row, one.completion) for row, one in asked if _has_label(row) and not one.refused]
    verdicts = iter(verifier.judge(labelled))
    return [
        Judgement(None, one.refused, None, "not answered", "none")
        if one.refused
        else next(verdicts)
        if _has_label(row)
        else _by_form(row["domain"], one.completion)
        for row, one in asked
    ]


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


def with_votes(problems: Iterable[Row], votes: Iterable[Row], programs: Iterable[Row]) -> Iterator[Row]:
    """The labelled ones with the `votes` behind their labels: rows of `math_votes` or `candidate_programs`.

    Only what was answered and is kept. All are in the order of the batch, of which one problem is in memory. Raises:
    LakeError for a labelled problem that nobody voted on.
    """
    groups = {"maths": by_problem(votes), "program": by_problem(programs)}
    for row in problems:
        if not _has_label(row):
            yield row
            continue
        own = groups[domain_named(row["domain"]).answers]
        cast = next((group for of, group in own if of == row["problem_id"]), None)
        if cast is None:
            raise LakeError(
                f"problem {row['problem_id']} has a label and no votes: math_votes or candidate_programs are of other "
                "problems than the labels; make the labels of this batch anew"
            )
        kept = [one for one in cast if one["completion"] is not None and one["finish_reason"] not in REASONS]
        yield row | {"votes": [{name: one[name] for name in ("completion", "seed", "model")} for one in kept]}


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
