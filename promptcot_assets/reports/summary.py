"""The last screen of the arc: what came out, with errors, and where to look."""

from __future__ import annotations

import json
import math
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from promptcot_assets.lake import Lake, Row
from promptcot_assets.stages.em.curves import BOUND_AT, CARRIED_ON, EFFECTIVE_AT, GAIN_AT, OTHERS, SIGNIFICANT, holds

QUERIES = (
    "select concept, count(*) as problems from (select unnest(concepts) as concept from problems) "
    "group by all order by all",
    "select round, style, selected, count(*) as candidates, round(avg(reward), 2) as reward "
    "from em_rationales group by all order by all",
    "select * from benchmark_scores order by benchmark, metric, stage",
)


def summary(lake: Lake, home: Path) -> str:
    """The score table of a finished arc, as text."""
    return "\n".join([*_bounds(lake), *_funnel(lake), *_scores(lake), *_where(home)])


def _rows(lake: Lake, asset: str, columns: Sequence[str] | None = None) -> list[Row]:
    refs = [lake.newest(asset, partition) for partition in lake.partitions(asset)]
    return [row for ref in refs if ref for row in lake.table(ref, columns).to_pylist()]


def _bounds(lake: Lake) -> Iterator[str]:
    points = [point for point in _rows(lake, "em_curves") if point["split"] == "held_out"]
    of: dict[tuple[str, str, int], dict[str, Row]] = defaultdict(dict)
    for point in points:
        of[point["domain"], point["series"], point["round"]][point["metric"]] = point
    yield "\nHeld-out bound, nats a problem (importance-weighted; ± one standard error); information: what z tells of x"
    yield (
        f"  {'domain':<12}{'series':<15}{'round':>5}{'own q':>16}{'common pool':>16}{'ELBO':>8}"
        f"{'NLL of x':>9}{'information':>14}{'well-posed':>11}{'as asked':>9}"
    )
    for (domain, series, round_), own in sorted(of.items()):
        yield (
            f"  {domain:<12}{series:<15}{round_:>5}{_pm(own.get('iw_bound')):>16}{_pm(own.get('common_bound')):>16}"
            f"{_value(own, 'elbo', 2):>8}{_value(own, 'log_p_problem', 2, -1):>9}{_pm(own.get('information')):>14}"
            f"{_value(own, 'well_posed', 3):>11}{_value(own, 'well_posed_on_concepts', 3):>9}"
        )
    lost = [own["without_usable_proposal"] for own in of.values() if "without_usable_proposal" in own]
    if lost:
        none, every = round(math.fsum(p["value"] * p["problems"] for p in lost)), sum(p["problems"] for p in lost)
        yield f"  measured without a usable proposal, by log p(x|c) with no rationale: {none} of {every}"
    if any(point["metric"].startswith(CARRIED_ON) for point in points):
        yield from _pool_gains(of)
        return
    yield from _gains(points, "gain over ", "own q's proposals")
    yield from _gains(points, "common gain over ", "the common pool's proposals")


def _gains(points: Sequence[Row], kind: str, whose: str) -> Iterator[str]:
    yield f"\nPaired difference of EM's bound under {whose} to ... (same held-out problems)"
    gains = [p for p in points if p["metric"].startswith(kind)]
    for p in sorted(gains, key=lambda p: (p["domain"], p["metric"], p["round"])):
        line = f"  {p['domain']:<12}round {p['round']}  {p['metric'].removeprefix(kind):<16}{_pm(p):>16}"
        if not p["standard_error"]:
            said = "a single problem says nothing about others" if p["problems"] < 2 else "the same on every problem"
            yield f"{line}   {said}"
            continue
        errors = p["value"] / p["standard_error"]
        verdict = "significant" if abs(errors) > SIGNIFICANT else "NOT significant"
        yield f"{line}   {errors:+.1f} standard errors, {verdict}"


def _pool_gains(of: Mapping[tuple[str, str, int], Mapping[str, Row]]) -> Iterator[str]:
    """Gains as the pool grows. One counts that is significant on the largest pool and would outlive a larger one.

    Gains under few proposals, a pair's own or a small pool's, flatter p's with a narrow posterior: they get no verdict.
    """
    sizes = sorted(
        {int(name.removeprefix(BOUND_AT)) for own in of.values() for name in own if name.startswith(BOUND_AT)}
    )
    named = ", ".join(map(str, sizes))
    yield f"\nPaired difference of EM's bound to ..., on common pools of {named} proposals, and what holds of it"
    for (domain, series, round_), own in sorted(of.items()):
        for other in OTHERS if series == "em" else ():
            gains = [own.get(f"{GAIN_AT}{size} over {other}") for size in sizes]
            carried_on, last = own.get(f"{CARRIED_ON} over {other}"), gains[-1]
            if last is None or carried_on is None:
                continue
            yield (
                f"  {domain:<12}round {round_}  {other:<16}{'  '.join(map(_pm, gains))}   {holds(last, carried_on)}"
                f" ({last['problems']} problems, effective {_value(own, f'{EFFECTIVE_AT}{sizes[-1]}', 0)})"
            )


def _funnel(lake: Lake) -> Iterator[str]:
    yield "\nFunnel of the synthesis batch"
    for row in sorted(_rows(lake, "yield_report"), key=lambda row: (row["domain"], row["position"])):
        dropped = ", ".join(f"{count} {reason}" for reason, count in json.loads(row["dropped"]).items())
        yield f"  {row['domain']:<14}{row['step']:<20}{row['rows']:>7}{row['share_of_raw']:>8.1%}   {dropped}".rstrip()
    raw = _rows(lake, "raw_problems", ("domain", "well_posed"))
    for domain in sorted({row["domain"] for row in raw}):
        told = [row for row in raw if row["domain"] == domain]
        if any(row["well_posed"] is not None for row in told):
            rate = sum(bool(row["well_posed"]) for row in told) / len(told)
            yield f"  {domain}: well-posed rate of completions {rate:.3f}"


def _scores(lake: Lake) -> Iterator[str]:
    students = [
        (name, ref) for name in lake.partitions("benchmark_scores") if (ref := lake.newest("benchmark_scores", name))
    ]
    judged = list[Row]()
    for name, ref in students:
        rows = lake.table(ref).to_pylist()
        which = f"Student {name}" if len(students) > 1 else "Student"
        yield f"\n{which} on the benchmarks (95 % interval, clustered by question)"
        yield from (line for row in rows if (line := _score(row)))
        judged += [row for row in rows if row["metric"].startswith("avg@")]
    if not students:
        return
    failures = sum(row["infrastructure_failures"] for row in judged)
    exhausted = sum(row["time_limits"] for row in judged)
    yield f"  generations without a verdict (our failure, left out): {failures}; over a time limit (wrong): {exhausted}"


def _score(row: Row) -> str | None:
    """Of the averages and of their differences between stages; nothing of other measures."""
    interval = f"[{row['low']:+.3f}, {row['high']:+.3f}]"
    if row["metric"].startswith("paired difference"):
        verdict = "significant" if row["significant"] else "NOT significant"
        against = f"minus {row['compared_with']}"
        return f"  {row['benchmark']:<14}{row['stage']:<12}{against:<20}{row['value']:>+7.3f}  {interval}  {verdict}"
    if row["metric"].startswith("avg@"):
        return f"  {row['benchmark']:<14}{row['stage']:<12}{row['metric']:<20}{row['value']:>7.3f}  {interval}"
    return None


def _where(home: Path) -> Iterator[str]:
    yield "\nLook at it"
    if (activate := Path(sys.prefix) / "bin" / "activate").exists():
        yield f"  first:            source {activate}"
    yield "  the Dagster UI:   make ui"
    yield f"  the catalogue:    {home / 'catalog.duckdb'}  (plain DuckDB, or `promptcot sql`)"
    for query in QUERIES:
        yield f'  promptcot sql "{query}"'


def _pm(point: Row | None) -> str:
    if not point:
        return "-"
    error = point["standard_error"]
    return f"{point['value']:.2f}" if error is None else f"{point['value']:.2f} ± {error:.2f}"


def _value(own: Mapping[str, Row], metric: str, digits: int, sign: int = 1) -> str:
    return f"{sign * own[metric]['value']:.{digits}f}" if metric in own else "-"
