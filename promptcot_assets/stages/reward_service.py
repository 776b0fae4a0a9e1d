"""Rewards for a trainer that samples while it learns: `python -m promptcot_assets.stages.reward_service`.

A line in, {"labels": [JSON of {domain, answer, tests}, ...], "completions": [...]}; a line out, the rewards: 1 for a
usable pass, 0 for anything else that was judged, null where the infrastructure failed. Limits are the profile's. It
ends with its input.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TextIO

from promptcot_assets.settings import load_settings
from promptcot_assets.stages import Row
from promptcot_assets.stages.self_play import unusable
from promptcot_assets.stages.verification import Question, Verifier


def label(row: Row) -> str:
    """What a completion of this problem is judged by, as the trainer's data carries it."""
    return json.dumps({name: row[name] for name in ("domain", "answer", "tests")})


def rewards(labels: Sequence[str], completions: Sequence[str], verifier: Verifier) -> list[float | None]:
    """One reward a completion, in order."""
    known = [json.loads(one) for one in labels]
    questions = [  # opened: what the prompt's chat template begins, the head of the completion (training_examples.py)
        Question(one["domain"], one.get("opened", "") + completion, one["answer"], one["tests"])
        for one, completion in zip(known, completions, strict=True)
    ]
    return [
        None if judgement.passed is None else float(judgement.passed and not unusable(asked.domain, asked.completion))
        for asked, judgement in zip(questions, verifier.judge(questions), strict=True)
    ]


def serve(requests: TextIO, answers: TextIO, verifier: Verifier) -> None:
    for line in requests:
        asked = json.loads(line)
        answers.write(json.dumps(rewards(asked["labels"], asked["completions"], verifier)) + "\n")
        answers.flush()


if __name__ == "__main__":
    with Verifier.open(load_settings().sandbox) as verifier:
        serve(sys.stdin, sys.stdout, verifier)
