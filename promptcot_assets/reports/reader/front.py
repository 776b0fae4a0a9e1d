"""What a home is, at a glance: what is fresh, stale or failed, what came out, what it cost, what to do next."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from promptcot_assets.lake import Row
from promptcot_assets.lineage import ancestry
from promptcot_assets.reports.reader.library import Library, Record
from promptcot_assets.stages.analysis.economics import FELL_IN

POINTS = "avg@"  # the measure whose gain is paid for; pass@k and majority@k stand beside it
# of seed problems: those whose concepts a batch wrote a problem from that fell
LED_TO_FALLEN = (
    "problem_id in (select unnest(from_json(seed_problem_ids, '[\"VARCHAR\"]')) from concept_sets "
    "join raw_problems using (concept_set_id) join dropped_problems using (raw_problem_id))"
)
Points = dict[str, list[tuple[float, float, float | None]]]  # series -> (round, value, standard error)


@dataclass(frozen=True)
class Failure:
    """A run that failed and was not made good since; the door that knows of runs hands it in."""

    what: str  # assets and partition
    error: str
    command: str  # what to do next


@dataclass(frozen=True)
class Spent:
    """What something cost: its commits' computing, in all and for each of `units`."""

    of: str
    unit: str
    units: float
    tokens: int
    seconds: float

    @property
    def tokens_each(self) -> float | None:
        return self.tokens / self.units if self.units > 0 else None

    @property
    def seconds_each(self) -> float | None:
        return self.seconds / self.units if self.units > 0 else None


def newest_rows(library: Library, table: str) -> list[Record]:
    """All rows of the newest versions of a small table."""
    return [
        record for (asset, _), entry in library.history.newest.items() if asset == table
        for record in library.where(entry, "true order by all")
    ]  # fmt: skip


def edges(library: Library) -> dict[str, set[str]]:
    """Asset -> assets it is made from. A round is made from the one before it: an edge that would close a circle is
    left out, so that the graph shows one round."""
    found: dict[str, set[str]] = {asset: set() for asset in library.history.assets}
    for entry in library.history.live:  # inputs first
        own = entry.ref.asset
        for given in library.history.inputs(entry):
            above = given.ref.asset
            if above != own and not _reaches(found, above, own):
                found[own].add(above)
    return found


def _reaches(edges: dict[str, set[str]], start: str, end: str) -> bool:
    seen, waiting = set[str](), [start]
    while waiting:
        if (one := waiting.pop()) == end:
            return True
        if one not in seen:
            seen.add(one)
            waiting += edges[one]
    return False


def states(library: Library, failures: Sequence[Failure]) -> dict[str, str]:
    """Asset -> fresh, stale or failed; failed is the worst."""
    stale = {ref.asset for ref in library.stale}
    failed = {word.strip(",") for one in failures for word in one.what.replace("[", " ").split()}
    return {
        asset: "failed" if asset in failed else "stale" if asset in stale else "fresh"
        for asset in library.history.assets
    }


def scores(library: Library) -> list[tuple[tuple[str, str], list[Record]]]:
    """(student, benchmark) -> scores and differences, in the order base, sft, self_play; scores first."""
    order = ("base", "sft", "self_play")

    def place(one: Record) -> tuple[Any, ...]:
        stage = one.values["stage"]
        return (
            one.ref.partition, one.values["benchmark"], one.values["compared_with"] is not None,
            order.index(stage) if stage in order else len(order), stage, one.values["metric"],
        )  # fmt: skip

    rows = sorted(newest_rows(library, "benchmark_scores"), key=place)
    return [
        (key, list(own)) for key, own in groupby(rows, key=lambda one: (one.ref.partition, one.values["benchmark"]))
    ]


def curves(library: Library, metric: str) -> dict[str, Points]:
    """Domain -> a held-out measure of every series by round."""
    found: dict[str, Points] = defaultdict(lambda: defaultdict(list))
    for row in _points(library):
        if row["metric"] == metric:
            found[row["domain"]][row["series"]].append((row["round"], row["value"], row["standard_error"]))
    return found


def gains(library: Library) -> list[Record]:
    """EM against its controls in the last round, on the same held-out problems."""
    rows = [
        one for one in newest_rows(library, "em_curves")
        if " gain over " in f" {one.values['metric']}" and one.values["split"] == "held_out"
    ]  # fmt: skip
    last = max((one.values["round"] for one in rows), default=0)
    return sorted(
        (one for one in rows if one.values["round"] == last),
        key=lambda one: (one.values["domain"], one.values["metric"]),
    )


def funnel(library: Library) -> list[tuple[tuple[str, str], list[Record]]]:
    """(batch, domain) -> its steps in order."""

    def place(one: Record) -> tuple[str, str, int]:
        return one.values["batch"], one.values["domain"], one.values["position"]

    rows = sorted(newest_rows(library, "yield_report"), key=place)
    return [(key, list(own)) for key, own in groupby(rows, key=lambda one: place(one)[:2])]


@dataclass(frozen=True)
class Fell:
    """Rows that fell at a step of the funnel for one reason; `asked` is what finds them in the list of `table`."""

    reason: str
    rows: int
    table: str | None
    asked: dict[str, str]


def dropped(library: Library, step: Record) -> list[Fell]:
    """Why rows fell at a step of the funnel, how many, and where they are."""
    found = []
    for reason, rows in json.loads(step.values["dropped"] or "{}").items():
        table, column = next(
            (place for place in FELL_IN.get(step.values["step"], ()) if _holds(library, step, *place, reason)),
            (None, ""),
        )
        asked = {"partition": step.values["batch"], f"is.{column}": reason, "is.domain": step.values["domain"]}
        found.append(Fell(reason, rows, table, asked if table else {}))
    return found


def _holds(library: Library, step: Record, table: str, column: str, reason: str) -> bool:
    """Whether rows of the step's batch and domain fell for this reason there."""
    entry = library.history.newest.get((table, step.values["batch"]))
    named = f"{column} = $reason and domain = $domain limit 1"
    return bool(entry and library.select(entry, [column], named, reason=reason, domain=step.values["domain"]))


def costs(library: Library) -> list[Spent]:
    """A kept row of each batch, by the batch's own commits; a point of each student, by all that its models rest on."""
    newest, found = library.history.newest, list[Spent]()
    for batch, domains in groupby(funnel(library), key=lambda one: one[0][0]):
        kept = sum(steps[-1].values["rows"] for _, steps in domains)
        spent = ancestry.cost(entry for (_, partition), entry in newest.items() if partition == batch)
        found.append(Spent(f"batch {batch}", "problem with a valid trace", kept, spent.tokens, spent.seconds))
    for (student, benchmark), rows in scores(library):
        plain = [one.values for one in rows if one.values["compared_with"] is None]
        values = {row["stage"]: row["value"] for row in plain if row["metric"].startswith(POINTS)}
        entry = newest.get(("self_play_model", student)) or newest.get(("sft_model", student))
        last = next((values[stage] for stage in ("self_play", "sft") if stage in values), None)
        if entry and last is not None and "base" in values:
            points = 100 * (last - values["base"])
            spent = ancestry.cost(ancestry.with_ancestors(library.history, [entry]))
            found.append(Spent(f"{student} on {benchmark}", "point over its base", points, spent.tokens, spent.seconds))
    return found


def facts(library: Library) -> dict[str, str]:
    """What this home is, in a few lines."""
    entries = library.history.entries.values()
    last = max(entry.commit.timestamp for entry in entries)
    seeds = {entry.commit.provenance.seed for entry in library.history.newest.values()}
    return {
        "home": str(library.home),
        "newest commit": f"{last:%Y-%m-%d %H:%M} UTC",
        "commits": f"{len(entries):,}",
        "models": f"{len(library.history.models):,}",
        "seeds of its runs": ", ".join(map(str, sorted(seeds))),
        "out of date": f"{len(library.stale):,} of {len(library.history.newest):,} tables and models, by partition",
    }


def _points(library: Library) -> list[Row]:
    return [dict(one.values) for one in newest_rows(library, "em_curves") if one.values["split"] == "held_out"]
