"""Rollouts of the student on labelled problems, what of them is usable, and preference pairs (method section 6)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from promptcot_assets.domains.layout import BEGIN_THINK, END_THINK
from promptcot_assets.inference import InferenceEngine
from promptcot_assets.lake.ids import content_id, seed_from
from promptcot_assets.settings.profile import SelfPlay
from promptcot_assets.stages import Row
from promptcot_assets.stages.asking import ask, completion_columns, solve_prompt
from promptcot_assets.stages.verdicts import judge
from promptcot_assets.stages.verification import Verifier, extract

CJK = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]")


def rollouts(problems: Sequence[Row], student: InferenceEngine, settings: SelfPlay, model: str, seed: int) -> list[Row]:
    """`settings.rollouts` attempts a problem. Rows of `rollouts`."""
    asked = ask(
        problems,
        student,
        settings.sampling,
        settings.rollouts,
        lambda row: seed_from(seed, "rollout", row["problem_id"]),
    )
    return [
        {
            "rollout_id": content_id(row["problem_id"], model, attempt, completion.seed),
            "problem_id": row["problem_id"],
            "domain": row["domain"],
            "prompt": solve_prompt(row),
        }
        | completion_columns(completion, attempt, model)
        for row, completions in asked
        for attempt, completion in enumerate(completions)
    ]


def unusable(domain: str, completion: str) -> str | None:
    """First rule a completion breaks, or None: one non-empty think block, a remainder, an answer, no CJK after it."""
    if completion.count(BEGIN_THINK) != 1 or completion.count(END_THINK) != 1:
        return "not exactly one think block"
    thoughts, _, remainder = completion.partition(BEGIN_THINK)[2].partition(END_THINK)
    if not thoughts.strip():
        return "empty think block"
    if not remainder.strip():
        return "nothing after the think block"
    if CJK.search(remainder):
        return "CJK text after the think block"
    return "no answer" if extract(domain, completion) is None else None


def verdicts(drawn: Sequence[Row], labels: dict[str, Row], verifier: Verifier) -> list[Row]:
    """Rows of `verdicts`: every rollout judged by its problem's label, and whether a pair may use it."""
    rows = []
    for row, verdict in zip(drawn, judge(drawn, labels, "problem_id", verifier), strict=True):
        reason = unusable(row["domain"], row["completion"])
        identity = {name: row[name] for name in ("rollout_id", "problem_id", "domain")}
        rows.append(identity | {"usable": reason is None, "unusable_because": reason} | verdict)
    return rows


def pass_rates(judged: Iterable[Row]) -> dict[str, float]:
    """problem_id -> share of its judged rollouts that pass; infrastructure failures are not counted."""
    groups = defaultdict(list)
    for row in judged:
        if row["passed"] is not None:
            groups[row["problem_id"]].append(row["passed"])
    return {problem: sum(passed) / len(passed) for problem, passed in groups.items()}


def preference_pairs(drawn: Sequence[Row], judged: Sequence[Row], settings: SelfPlay, seed: int) -> list[Row]:
    """Pairs of a usable pass and a usable fail of the same problem; each completion in one pair at most.

    Problems never solved, or solved at least `max_pass_rate` of the time, give none; neither does a text that both
    passed and failed (a program at the edge of its time limit). Which completions are taken, and
    how they are matched, follows from their text and the seed alone.
    """
    verdict = {row["rollout_id"]: row for row in judged}
    rates = pass_rates(judged)
    groups: dict[str, tuple[dict[str, Row], dict[str, Row]]] = defaultdict(lambda: ({}, {}))
    for row in drawn:
        outcome = verdict[row["rollout_id"]]
        if outcome["usable"] and outcome["passed"] is not None:
            side = groups[row["problem_id"]][0 if outcome["passed"] else 1]
            side.setdefault(row["completion"], row)  # distinct texts
    rows = []
    for problem, (passes, fails) in groups.items():
        if not 0 < rates[problem] < settings.max_pass_rate:
            continue
        for undecided in passes.keys() & fails.keys():
            del passes[undecided], fails[undecided]
        count = min(len(passes), len(fails), settings.max_pairs_per_problem)
        for chosen, rejected in zip(_drawn(passes, seed, count), _drawn(fails, seed, count), strict=True):
            rows.append({
                "pair_id": content_id(chosen["rollout_id"], rejected["rollout_id"]),
                "problem_id": problem,
                "domain": chosen["domain"],
                "prompt": chosen["prompt"],
                "chosen": chosen["completion"],
                "rejected": rejected["completion"],
                "chosen_rollout_id": chosen["rollout_id"],
                "rejected_rollout_id": rejected["rollout_id"],
                "pass_rate": rates[problem],
            })  # fmt: skip
    return rows


def _drawn(side: dict[str, Row], seed: int, count: int) -> list[Row]:
    return sorted(side.values(), key=lambda row: seed_from(seed, "pair", row["completion"]))[:count]
