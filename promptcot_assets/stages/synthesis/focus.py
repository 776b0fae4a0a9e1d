"""What a student stably fails, as weights of the concepts that the next batch is drawn from.

Looked at are the problems that a regression gate held out: synthetic, never taught, never played on, and no benchmark's
items. A concept is stably failed when the whole interval of its problems' pass rate, clustered by problem, lies below
the mean of its domain; a single bad problem is none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum

from promptcot_assets.lake import Row
from promptcot_assets.stages.statistics import Interval, clustered_interval

FEWEST = 3  # held-out problems with a concept: fewer tell nothing about others

Weights = dict[str, dict[str, float]]
"""domain -> concept -> how many times as often it is drawn as by its seeds alone; concepts that are not named: once."""


@dataclass(frozen=True)
class Failure:
    """A concept that a student stably fails. mean: pass rate of its domain's held-out problems."""

    domain: str
    concept: str
    passed: Interval
    mean: float


def stable_failures(gate: Iterable[Row], concepts: Mapping[str, Sequence[str]]) -> list[Failure]:
    """The concepts whose held-out problems a student passes less often than the others, the worst first.

    gate: rows of `self_play_gate` (pass rates after the round); concepts: problem_id -> those of the problem.
    """
    of_domain: dict[str, list[Row]] = defaultdict(list)
    for row in gate:
        if row["problem_id"] in concepts:
            of_domain[row["domain"]].append(row)
    found = []
    for domain, rows in sorted(of_domain.items()):
        mean = fsum(row["pass_rate"] for row in rows) / len(rows)
        rates: dict[str, list[float]] = defaultdict(list)
        for row in rows:
            for concept in set(concepts[row["problem_id"]]):
                rates[concept].append(row["pass_rate"])
        for concept, own in sorted(rates.items()):
            if len(own) >= FEWEST:
                passed = clustered_interval([[rate] for rate in own])
                if passed.high < mean:
                    found.append(Failure(domain, concept, passed, mean))
    return sorted(found, key=lambda one: (one.passed.estimate - one.mean, one.domain, one.concept))


def weights(failures: Iterable[Failure], strength: float) -> Weights:
    """A concept that is failed throughout is drawn 1 + strength times as often, one at its domain's mean once."""
    found: Weights = defaultdict(dict)
    for one in failures:
        found[one.domain][one.concept] = 1 + strength * (1 - one.passed.estimate / one.mean)
    return dict(found)
