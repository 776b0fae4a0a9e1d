"""Rewards for a trainer that samples while it learns: `python -m ...students.reward_service LIMITS`.

A line in, {"labels": [JSON of what `Question.on` takes, ...], "completions": [...]}; a line out, an object of each: its
`reward`, 1 for a usable pass, 0 for anything else that was judged, null where the infrastructure failed; its verdict,
in the columns of `verdicts`; and the problem that it is of. The argument is the sandbox's
settings as JSON: a reward depends on nothing in the environment. It ends with its input.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TextIO

from promptcot_assets.judging.opening import open_verifier
from promptcot_assets.judging.verdicts import reference_of
from promptcot_assets.judging.verifier import JUDGED_BY, Judgement, Question, Verifier
from promptcot_assets.lake import Row
from promptcot_assets.settings.engines import Sandbox
from promptcot_assets.stages.students.self_play import unusable


def label(row: Row, think_block: bool = True) -> str:
    """What a completion of this problem is judged by, as the trainer's data carries it."""
    how = {name: row[name] for name in JUDGED_BY if row.get(name) is not None}
    how |= {} if think_block else {"think_block": False}
    return json.dumps({name: row[name] for name in ("problem_id", "domain", "answer", "tests")} | how)


def judged(labels: Sequence[str], completions: Sequence[str], verifier: Verifier) -> list[Row]:
    """One object a completion, in order."""
    known = [json.loads(one) for one in labels]
    questions = [  # opened: what the prompt's chat template begins, the head of the completion (training_examples.py)
        Question.on(one, one.get("opened", "") + completion) for one, completion in zip(known, completions, strict=True)
    ]
    return [
        _said(one, asked, judgement)
        for one, asked, judgement in zip(known, questions, verifier.judge(questions), strict=True)
    ]


def _said(problem: Row, asked: Question, judgement: Judgement) -> Row:
    broken = unusable(asked.domain, asked.completion, problem.get("think_block", True))
    return {
        "problem_id": problem.get("problem_id"),
        "domain": asked.domain,
        "opened": problem.get("opened", ""),
        "reward": None if judgement.passed is None else float(judgement.passed and not broken),
        "usable": broken is None,
        "unusable_because": broken,
        "reference": reference_of(asked),
        **judgement.columns(),
    }


def serve(requests: TextIO, answers: TextIO, verifier: Verifier) -> None:
    for line in requests:
        asked = json.loads(line)
        answers.write(json.dumps(judged(asked["labels"], asked["completions"], verifier)) + "\n")
        answers.flush()


if __name__ == "__main__":
    with open_verifier(Sandbox.model_validate_json(sys.argv[1])) as verifier:
        serve(sys.stdin, sys.stdout, verifier)
