"""Answers to maths problems by majority vote (method section 5): every vote is a row, and a label is made of them."""

from __future__ import annotations

from collections.abc import Sequence

from promptcot_assets.domains import Attempt
from promptcot_assets.judging.verifier import MATHS_GRADER
from promptcot_assets.lake import Row
from promptcot_assets.lake.ids import content_id, seed_from
from promptcot_assets.settings.profile import Labels
from promptcot_assets.stages.labels.labelling import by_problem, of_kind, unanswered, with_kept
from promptcot_assets.stages.labels.teacher import Teacher

# columns of math_votes that a label is made of
COUNTED = ("problem_id", "domain", "answer", "finish_reason", "seed", "model")


def math_votes(problems: Sequence[Row], teacher: Teacher, settings: Labels, seed: int) -> list[Row]:
    """`settings.votes` rows a maths problem. Their completions are kept as `labels.keep` says, their answers always."""
    own = of_kind(problems, "maths")
    rows = list[Row]()
    for row, attempts in zip(own, teacher.attempts(own, settings.votes, seed_from(seed, "votes")), strict=True):
        cast = [_vote_row(row, at, attempt, teacher.name) for at, attempt in enumerate(attempts)]
        rows += with_kept(cast, settings.keep, deciding(cast, settings))
    return rows


def _vote_row(problem: Row, at: int, attempt: Attempt, voter: str) -> Row:
    from sandbox.maths import normal_form

    return {
        "vote_id": content_id("vote", problem["problem_id"], voter, at, attempt.seed),
        "problem_id": problem["problem_id"],
        "domain": problem["domain"],
        "attempt": at,
        "completion": attempt.completion,
        "answer": attempt.answer,
        "normal_form": normal_form(attempt.answer) if attempt.answer else None,
        "grader": MATHS_GRADER,
        "finish_reason": attempt.refused or attempt.finish_reason,
        "tokens": attempt.tokens,
        "seed": attempt.seed,
        "model": voter,
    }


def math_answers(votes: Sequence[Row], settings: Labels) -> list[Row]:
    """One row a problem: the answer most generations agree on, if enough do and it is strictly ahead.

    votes: rows of `math_votes`, those of one problem together. With `ties: first`, of several answers with the most
    votes the one that was given first.
    """
    rows = []
    for problem_id, cast in by_problem(votes):
        answers = [vote["answer"] or "" for vote in cast]
        answer, count, reason = _vote(answers, settings)
        rows.append({
            "label_id": content_id(problem_id, answers),
            "problem_id": problem_id,
            "domain": cast[0]["domain"],
            "answer": answer,
            "votes": count,
            "asked": len(cast),
            "share": count / len(cast),
            "answers": answers,
            "seeds": [vote["seed"] for vote in cast],
            "drop_reason": None if answer is not None else unanswered(cast) or reason,
            "voter": cast[0]["model"],
        })  # fmt: skip
    return rows


def deciding(cast: Sequence[Row], settings: Labels) -> list[bool]:
    """Which of a problem's votes are for its label; none where it gets none."""
    if settings.keep != "deciding":  # then nobody asks, and no answer is compared
        return [False] * len(cast)
    answer, _, _ = _vote([vote["answer"] or "" for vote in cast], settings)
    return [answer is not None and same_answer(answer, vote["answer"]) for vote in cast]


def same_answer(answer: str, other: str | None) -> bool:
    """As votes are counted."""
    from sandbox.maths import equivalent

    return other is not None and other != "" and equivalent(answer, other)


def _vote(answers: Sequence[str], settings: Labels) -> tuple[str | None, int, str]:
    """The label or None, the votes for it or for the front runner, and why it came out so."""
    from sandbox.maths import majority_vote

    ballots = [answer or None for answer in answers]
    vote = majority_vote(ballots, min_votes=settings.min_votes)
    if vote.reason == "tie" and settings.ties == "first" and vote.votes >= settings.min_votes:
        for answer in filter(None, ballots):  # one ballot more puts a leader, and no other answer, ahead
            won = majority_vote([*ballots, answer], min_votes=vote.votes + 1)
            if won.answer is not None:
                return won.answer, vote.votes, "first of a tie"
    return vote.answer, vote.votes, vote.reason
