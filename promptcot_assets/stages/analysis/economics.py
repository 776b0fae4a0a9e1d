"""What a synthesis batch yields and what it costs: the funnel of its rows, and a ledger of its steps.

The funnel is a table. The ledger is not: seconds differ from run to run (and tokens, when a killed run was resumed: a
commit records what its own run spent), while equal inputs must give a table equal rows and so the same data version.
Both costs stand in the commits of the steps, for ever; the ledger reads them there.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from promptcot_assets.inference.refusals import REASONS
from promptcot_assets.lake import Row
from promptcot_assets.lake.ids import content_id
from promptcot_assets.settings.profile import Prices

_DROPPED = (("dropped_problems", "reason"),)
FELL_IN = {  # step of the funnel -> tables and columns that hold why a row fell there
    "parsed": (("raw_problems", "drop_reason"),),
    "unique": _DROPPED, "uncontaminated": _DROPPED, "askable": _DROPPED,
    "labelled": (("math_answers", "drop_reason"), ("code_tests", "drop_reason")),
    "with a valid trace": (("teacher_traces", "drop_reason"),),
}  # fmt: skip


# ---- rows
def funnel(
    batch: str,
    raw: Sequence[Row],
    dropped: Sequence[Row],
    problems: Sequence[Row],
    answers: Sequence[Row],
    tests: Sequence[Row],
    traces: Sequence[Row],
) -> list[Row]:
    """Rows left after every step of one batch, by domain, with the reasons of those that fell."""
    rows = []
    for domain in sorted({row["domain"] for row in raw}):
        own = [
            [row for row in table if row["domain"] == domain]
            for table in (raw, dropped, problems, answers, tests, traces)
        ]
        total = len(own[0])
        for at, (step, left, reasons) in enumerate(_steps(*own)):
            rows.append({
                "step_id": content_id(batch, domain, step),
                "batch": batch,
                "domain": domain,
                "position": at,
                "step": step,
                "rows": left,
                "share_of_raw": left / total if total else 0.0,
                "dropped": json.dumps(dict(sorted(reasons.items()))),
            })  # fmt: skip
    return rows


def _steps(
    raw: list[Row], dropped: list[Row], problems: list[Row], answers: list[Row], tests: list[Row], traces: list[Row]
) -> Iterable[tuple[str, int, Counter[str]]]:
    parsed = sum(row["problem"] is not None for row in raw)
    duplicates = Counter(row["reason"] for row in dropped if row["reason"] in ("exact", "near"))
    hits = Counter(row["reason"] for row in dropped if row["reason"].startswith("contaminated"))
    defects = Counter(row["reason"] for row in dropped) - duplicates - hits
    unlabelled = Counter(row["drop_reason"] for row in answers if row["answer"] is None)
    for group in _by_problem(tests).values():
        if all(row["expected"] is None for row in group):
            ((reason, _),) = Counter(row["drop_reason"] for row in group).most_common(1)
            unlabelled[reason] += 1
    labelled = len(problems) - unlabelled.total()
    tried = _by_problem(traces).values()
    untaught = Counter(group[0]["drop_reason"] for group in tried if not any(row["valid"] for row in group))
    yield "completions", len(raw), Counter()
    yield "parsed", parsed, Counter(row["drop_reason"] for row in raw if row["drop_reason"])
    yield "unique", parsed - duplicates.total(), duplicates
    yield "uncontaminated", parsed - duplicates.total() - hits.total(), hits
    yield "askable", len(problems), defects
    yield "labelled", labelled, unlabelled
    yield "with a valid trace", labelled - untaught.total(), untaught


def _by_problem(rows: Iterable[Row]) -> dict[str, list[Row]]:
    groups = defaultdict(list)
    for row in rows:
        groups[row["problem_id"]].append(row)
    return groups


# ---- costs
@dataclass(frozen=True)
class Cost:
    """What the run that committed a step spent: tokens generated and scored, seconds of wall clock."""

    tokens: int
    seconds: float


@dataclass(frozen=True)
class Entry:
    """A step of a batch. `money` is None without prices; the last three are shares of `rows_out`, None when it is 0."""

    step: str
    rows_in: int
    rows_out: int
    tokens: int
    seconds: float
    money: float | None
    tokens_a_row: float | None
    seconds_a_row: float | None
    money_a_row: float | None


def ledger(tables: Mapping[str, Sequence[Row]], costs: Mapping[str, Cost], prices: Prices) -> list[Entry]:
    """What every step took in, gave and cost, and last the whole batch: what a problem with a valid trace costs.

    tables: the rows of each step by its asset's name, as in `flow`; costs: by the same names.
    """
    entries = [
        _entry(step, rows_in, rows_out, costs[step], _money(step, costs[step], prices))
        for step, (rows_in, rows_out) in flow(tables).items()
    ]
    money = None if entries[0].money is None else sum(entry.money or 0 for entry in entries)
    total = Cost(sum(cost.tokens for cost in costs.values()), sum(cost.seconds for cost in costs.values()))
    return [*entries, _entry("the batch", entries[0].rows_out, entries[-1].rows_out, total, money)]


def flow(tables: Mapping[str, Sequence[Row]]) -> dict[str, tuple[int, int]]:
    """step -> rows in and out: concept sets, then completions, then problems."""
    sets, raw, problems = (tables[name] for name in ("concept_sets", "raw_problems", "problems"))
    answers, tests, traces = (tables[name] for name in ("math_answers", "code_tests", "teacher_traces"))
    parsed = sum(row["problem"] is not None for row in raw)
    return {
        "concept_sets": (0, len(sets)),
        "raw_problems": (len(sets), parsed),
        "problems": (parsed, len(problems)),
        "math_votes": _counted(tables["math_votes"], lambda row: row["answer"] is not None),
        "math_answers": (len(answers), sum(row["answer"] is not None for row in answers)),
        "proposed_tests": _counted(tables["proposed_tests"], lambda row: row["drop_reason"] is None),
        "candidate_programs": _counted(tables["candidate_programs"], lambda row: row["finish_reason"] not in REASONS),
        **_judges(tables),
        "code_tests": _distinct(tests, "expected"),
        "teacher_traces": _distinct(traces, "valid"),
    }


def _judges(tables: Mapping[str, Sequence[Row]]) -> dict[str, tuple[int, int]]:
    """Of a batch whose validators or checkers are written."""
    good: dict[str, Callable[[Row], bool]] = {
        "written_judges": lambda row: row["drop_reason"] is None,
        "tested_judges": lambda row: bool(row["decides"]),
    }
    return {name: _counted(tables[name], is_good) for name, is_good in good.items() if name in tables}


def _counted(rows: Sequence[Row], good: Callable[[Row], bool]) -> tuple[int, int]:
    """What was asked for, and what there is of it."""
    return len(rows), sum(map(good, rows))


def _distinct(rows: Sequence[Row], good: str) -> tuple[int, int]:
    """Problems that the rows are about, and those with a good row."""
    kept = {row["problem_id"] for row in rows if row[good] not in (None, False)}
    return len({row["problem_id"] for row in rows}), len(kept)


def _money(step: str, cost: Cost, prices: Prices) -> float | None:
    if not prices.machine_hour and not prices.million_tokens:
        return None
    a_million = sum(price for name, price in prices.million_tokens.items() if name == step)
    return cost.seconds / 3600 * prices.machine_hour + cost.tokens / 1e6 * a_million


def _entry(step: str, rows_in: int, rows_out: int, cost: Cost, money: float | None) -> Entry:
    def a_row(amount: float | None) -> float | None:
        return None if amount is None or not rows_out else amount / rows_out

    return Entry(
        step, rows_in, rows_out, cost.tokens, cost.seconds, money, a_row(cost.tokens), a_row(cost.seconds), a_row(money)
    )


def a_kept_row(entries: Sequence[Entry]) -> dict[str, Any]:
    """What one problem with a valid trace cost, as far as it is known."""
    total = entries[-1]
    known = {"tokens": total.tokens_a_row, "seconds": total.seconds_a_row, "money": total.money_a_row}
    return {f"{name}_a_kept_row": value for name, value in known.items() if value is not None}
