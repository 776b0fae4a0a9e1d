"""The last screen of the arc: what came out, with errors, and where to look."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from promptcot_assets.lake import Lake
from promptcot_assets.stages import Row

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
    yield "\nHeld-out bound, nats a problem (importance-weighted; ± one standard error)"
    yield (
        f"  {'domain':<14}{'series':<16}{'round':>5}{'own q':>16}{'common pool':>16}{'ELBO':>9}"
        f"{'NLL of x':>10}{'well-posed':>12}"
    )
    for domain, series, round_ in sorted({(p["domain"], p["series"], p["round"]) for p in points}):
        own = {p["metric"]: p for p in points if (p["domain"], p["series"], p["round"]) == (domain, series, round_)}
        elbo, problem, well = (own.get(name) for name in ("elbo", "log_p_problem", "well_posed"))
        posed = f"{well['value']:.3f}" if well else "-"
        yield (
            f"  {domain:<14}{series:<16}{round_:>5}{_pm(own.get('iw_bound')):>16}{_pm(own.get('common_bound')):>16}"
            f"{elbo['value'] if elbo else float('nan'):>9.2f}{-problem['value'] if problem else float('nan'):>10.2f}"
            f"{posed:>12}"
        )
    for kind, title in (("gain over ", "own q's"), ("common gain over ", "the common pool's")):
        yield f"\nPaired difference of EM's bound under {title} proposals to ... (same held-out problems)"
        gains = [p for p in points if p["metric"].startswith(kind)]
        for p in sorted(gains, key=lambda p: (p["domain"], p["metric"], p["round"])):
            errors = p["value"] / p["standard_error"] if p["standard_error"] else float("inf")
            verdict = "significant" if abs(errors) > 2 else "NOT significant"
            yield (
                f"  {p['domain']:<14}round {p['round']}  {p['metric'].removeprefix(kind):<16}{_pm(p):>16}"
                f"   {errors:+.1f} standard errors, {verdict}"
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
    rows = _rows(lake, "benchmark_scores")
    yield "\nStudent on the benchmarks (95 % interval, clustered by question)"
    for row in rows:
        interval = f"[{row['low']:+.3f}, {row['high']:+.3f}]"
        if row["compared_with"] is None:
            yield f"  {row['benchmark']:<14}{row['stage']:<12}{row['metric']:<20}{row['value']:>7.3f}  {interval}"
        else:
            verdict = "significant" if row["significant"] else "NOT significant"
            against = f"minus {row['compared_with']}"
            yield f"  {row['benchmark']:<14}{row['stage']:<12}{against:<20}{row['value']:>+7.3f}  {interval}  {verdict}"
    failures = sum(row["infrastructure_failures"] for row in rows if row["compared_with"] is None)
    yield f"  generations without a verdict (our failure, left out): {failures}"


def _where(home: Path) -> Iterator[str]:
    yield "\nLook at it"
    if (activate := Path(sys.prefix) / "bin" / "activate").exists():
        yield f"  first:            source {activate}"
    yield "  the Dagster UI:   make ui"
    yield f"  the catalogue:    {home / 'catalog.duckdb'}  (plain DuckDB, or `promptcot sql`)"
    for query in QUERIES:
        yield f'  promptcot sql "{query}"'


def _pm(point: Row | None) -> str:
    return f"{point['value']:.2f} ± {point['standard_error']:.2f}" if point else "-"
