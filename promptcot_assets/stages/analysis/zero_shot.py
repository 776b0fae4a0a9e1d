"""How hard problems are for a model that was never trained on them (method section 8, difficulty).

A strong reference model answers a sample of maths problems once, a solver answers them once: the solver's share of
agreement is one measure, the reference's mean length the other. A reference is no truth; where it gives no answer, or
is cut off, the problem does not count for the first. For the second all count: a reference is cut off where it is
longest, so that the mean with the limit in its place is a lower bound, and without it would be far too small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from promptcot_assets.inference import InferenceEngine
from promptcot_assets.judging.verifier import Question, Verifier, extract
from promptcot_assets.lake import Row
from promptcot_assets.lake.ids import content_id, seed_from
from promptcot_assets.settings.profile import Sampling
from promptcot_assets.stages.asking import ask
from promptcot_assets.stages.labels.labelling import of_kind
from promptcot_assets.stages.statistics import clustered_interval

NO_REFERENCE, NO_VERDICT = "the reference gives no answer", "the grader failed"
CUT_OFF = "the reference was cut off at its token limit"


def sampled(problems: Sequence[Row], count: int) -> list[Row]:
    """`count` maths problems (all, where there are fewer), drawn by their ids."""
    return sorted(of_kind(problems, "maths"), key=lambda row: content_id("zero shot", row["problem_id"]))[:count]


def references(problems: Sequence[Row], model: InferenceEngine, sampling: Sampling, name: str, seed: int) -> list[Row]:
    """The problems with the reference model's answers, which is `name`."""
    asked = ask(problems, model, sampling, 1, lambda row: seed_from(seed, "reference", row["problem_id"]))
    return [
        {
            **{column: row[column] for column in ("problem_id", "domain", "problem")},
            "reference": extract(row["domain"], one.text) if one.finish_reason == "stop" else None,
            "reference_tokens": one.tokens,
            "reference_cut_off": one.finish_reason == "length",
            "reference_seed": one.seed,
            "drop_reason": one.refusal and one.refusal.reason,
            "teacher": name,
        }
        for row, (one,) in asked
    ]


def solved(
    rows: Sequence[Row], model: InferenceEngine, sampling: Sampling, verifier: Verifier, name: str, seed: int
) -> list[Row]:
    """Rows of `zero_shot_difficulty`: `rows` of `references`, asked and judged."""
    asked = list(ask(rows, model, sampling, 1, lambda row: seed_from(seed, "solver", row["problem_id"])))
    known = [(row, one) for row, (one,) in asked if row["reference"] is not None and not one.refusal]
    judged = verifier.judge([Question(row["domain"], one.text, row["reference"]) for row, one in known])
    verdicts = {row["problem_id"]: verdict for (row, _), verdict in zip(known, judged, strict=True)}
    made = []
    for row, (one,) in asked:
        verdict = verdicts.get(row["problem_id"])
        passed = verdict.passed if verdict else None
        no_reference = CUT_OFF if row["reference_cut_off"] else NO_REFERENCE
        reason = row["drop_reason"] or (one.refusal and one.refusal.reason)
        reason = reason or (no_reference if verdict is None else NO_VERDICT if passed is None else None)
        made.append(
            {name: value for name, value in row.items() if name not in ("problem", "reference_cut_off")}
            | {"answer": verdict.answer if verdict else None, "passed": passed, "drop_reason": reason}
            | {"seed": one.seed, "model": name}
        )
    return made


def summary(rows: Sequence[Row]) -> dict[str, float]:
    """What the paper reports of 1,000 problems: the solver's accuracy (with its interval), the reference's tokens.

    `mean_reference_tokens` is over all references, those without an answer too, and a lower bound where some were cut
    off: `cut_off_references` is their share.
    """
    figures: dict[str, float] = {}
    counted = [int(row["passed"]) for row in rows if row["passed"] is not None]
    cut_off = sum(row["drop_reason"] == CUT_OFF for row in rows)
    if counted:
        accuracy = clustered_interval([[one] for one in counted])
        figures |= {
            "zero_shot_accuracy": accuracy.estimate,
            "accuracy_low": accuracy.low,
            "accuracy_high": accuracy.high,
            "counted": len(counted),
        }
    if counted or cut_off:
        figures["mean_reference_tokens"] = math.fsum(row["reference_tokens"] for row in rows) / len(rows)
        figures["cut_off_references"] = cut_off / len(rows)
    return figures
