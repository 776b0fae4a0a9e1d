"""EM made visible: the candidates of a seed side by side, a round's rewards, what it changed, and the drift of q."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from promptcot_assets.lake import Row
from promptcot_assets.lake.log import Entry
from promptcot_assets.reports.reader import listing
from promptcot_assets.reports.reader.library import Library, Record

CANDIDATES = "em_rationales"
NOT_TOLD = "not told"  # a style
LARGEST = 10  # gains, and losses, of a round


@dataclass(frozen=True)
class Candidate:
    """One rationale of the E-step. `weight` is its share of the posterior among the seed's scored candidates."""

    record: Record
    weight: float | None
    quote: str  # the longest run of the problem that it repeats

    @property
    def values(self) -> Any:
        return self.record.values


def by_round(records: Iterable[Record]) -> dict[int, list[Candidate]]:
    """The candidates of one seed by round, the best reward first."""
    rounds: dict[int, list[Record]] = {}
    for record in records:
        rounds.setdefault(record.values["round"], []).append(record)
    return {number: _weighed(own) for number, own in sorted(rounds.items())}


def _weighed(records: Sequence[Record]) -> list[Candidate]:
    logs = {one.id: _log_weight(one.values) for one in records}
    weights = softmax({one: value for one, value in logs.items() if value is not None})
    found = [Candidate(one, weights.get(one.id), _quote(one.values)) for one in records]
    return sorted(
        found, key=lambda one: (not one.values["selected"], one.values["rank"] or math.inf, one.values["candidate"])
    )


def _log_weight(row: Any) -> float | None:
    """log p(z,x|c) - log q(z|c,x): the importance weight of a rationale that was drawn from q, in nats."""
    terms = row["log_p_rationale"], row["log_p_problem"]
    return None if None in terms else sum(terms) - row["log_q"]


def softmax(logs: dict[str, float]) -> dict[str, float]:
    """Shares of exp(logs); of no logs none."""
    top = max(logs.values(), default=0.0)
    weights = {one: math.exp(value - top) for one, value in logs.items()}
    return {one: weight / sum(weights.values()) for one, weight in weights.items()}


def _quote(row: Any) -> str:
    return row["problem"][row["quoted_from"] : row["quoted_to"]].strip()


@dataclass(frozen=True)
class Change:
    """How much better the winner of a seed is than the winner of the round before; nats."""

    problem_id: str
    problem: str
    before: float
    now: float

    @property
    def gain(self) -> float:
        return self.now - self.before


@dataclass(frozen=True)
class Round:
    """What one round's E-step did, over its seeds."""

    partition: str
    entry: Entry
    rows: list[Row]  # of every candidate: problem_id, style, selected, reward, tokens, copy_ratio
    changes: list[Change]  # against the round before, of seeds with a winner in both

    @property
    def winners(self) -> list[Row]:
        return [row for row in self.rows if row["selected"]]

    def styles(self, winners: bool) -> dict[str, float]:
        """Style -> share of the candidates, or of the winners."""
        rows = [row["style"] or NOT_TOLD for row in (self.winners if winners else self.rows)]
        return {style: rows.count(style) / len(rows) for style in sorted(set(rows))}

    def asked(self, style: str, winners: bool) -> dict[str, str]:
        """What finds these candidates in their list."""
        chosen = {"is.style": listing.NULL if style == NOT_TOLD else style} | (
            {"is.selected": "true"} if winners else {}
        )
        return {"partition": self.partition, **chosen}

    def mean(self, column: str, winners: bool) -> float | None:
        known = [row[column] for row in (self.winners if winners else self.rows) if row[column] is not None]
        return sum(known) / len(known) if known else None

    @property
    def gains(self) -> list[Change]:
        return sorted((one for one in self.changes if one.gain > 0), key=lambda one: -one.gain)[:LARGEST]

    @property
    def losses(self) -> list[Change]:
        return sorted((one for one in self.changes if one.gain < 0), key=lambda one: one.gain)[:LARGEST]


def rounds(library: Library) -> list[Round]:
    """Every round of the newest versions, in order."""
    found: list[Round] = []
    best: dict[str, float] = {}
    for (asset, partition), entry in sorted(library.history.newest.items()):
        if asset != CANDIDATES or not entry.ref.rows:
            continue
        rows = library.select(
            entry, ("problem_id", "problem", "style", "selected", "reward", "tokens", "copy_ratio", "finish_reason")
        )
        won = {row["problem_id"]: row for row in rows if row["selected"] and row["reward"] is not None}
        changes = [Change(one, row["problem"], best[one], row["reward"]) for one, row in won.items() if one in best]
        best = {one: row["reward"] for one, row in won.items()}
        found.append(Round(partition, entry, rows, changes))
    return found
