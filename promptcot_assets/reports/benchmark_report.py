"""`promptcot benchmark-report`: our scores beside the paper's tables, and what it takes to see a difference.

Every number of ours stands in `benchmark_scores` or `codeforces_ratings`. The report names the versions it was made
from, with intervals clustered by question, questions, generations, sampling and model. Differences between stages are
read twice: each alone at 95 %, and all of them at once (Bonferroni), because of ten comparisons one looks real by
chance in every other report.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path
from typing import Any

from promptcot_assets.lake import Lake, LakeError, Ref, Row
from promptcot_assets.reports.paper_results import ABLATIONS, BENCHMARKS, METRICS, RESULTS
from promptcot_assets.stages.statistics import corrected_level, difference_interval, plan_questions, smallest_effect
from promptcot_assets.tables import open_lake


@dataclass(frozen=True)
class Score:
    """One metric of one model on one benchmark, a share of 1 (Elo: a rating). compared_with: the stage it is less."""

    student: str
    benchmark: str
    stage: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    questions: int
    generations: int
    model: str
    compared_with: str | None = None
    significant: bool | None = None  # the 95 % interval of this difference excludes 0
    significant_among_all: bool | None = None  # and so does the one that allows for all differences of the report
    note: str | None = None


SHOWN = (
    "benchmark", "stage", "metric", "value", "low", "high", "questions", "generations", "model", "compared_with",
    "significant",
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What a benchmark can show of the difference between two stages, from how much their questions differ."""

    student: str
    benchmark: str
    spread: float
    questions: int
    smallest_effect: float  # seen four times in five with the questions there are
    questions_needed: int  # for the effect asked about


@dataclass(frozen=True)
class Report:
    scores: list[Score]
    scaling: list[Row]
    versions: dict[str, dict[str, Any]]  # student -> refs, sampling, graders


def benchmark_report(home: Path) -> Report:
    """All students' scores. Raises: LakeError when nothing has been scored yet."""
    lake = open_lake(home)
    scored = _newest(lake, "benchmark_scores")
    if not scored:
        raise LakeError(f"no benchmark has been judged in {home} yet: materialize benchmark_scores")
    rows = {student: lake.table(ref).to_pylist() for student, ref in scored.items()}
    comparisons = sum(row["compared_with"] is not None for own in rows.values() for row in own)
    level = corrected_level(max(1, comparisons))
    scores = [_score(student, row, level) for student, own in rows.items() for row in own]
    scores += [rating for student in scored for rating in _ratings(lake, student)]
    scaling = [row for ref in _newest(lake, "scaling").values() for row in lake.table(ref).to_pylist()]
    return Report(scores, scaling, {student: _versions(lake, ref) for student, ref in scored.items()})


def plan(home: Path, effect: float) -> list[Plan]:
    """For every benchmark and student: how many questions it takes to see `effect` between its last two stages.

    Raises: LakeError when no two stages have been scored yet; StatisticsError when `effect` is no difference of shares.
    """
    plan_questions(effect)  # refuses what is no effect before anything is read
    lake, plans = open_lake(home), []
    for student, ref in _newest(lake, "benchmark_scores").items():
        differences = [row for row in lake.table(ref).to_pylist() if row["compared_with"] is not None]
        for row in {row["benchmark"]: row for row in differences}.values():  # the last of each
            spread = min(1.0, (row["standard_error"] or 0) * sqrt(row["questions"])) or 0.5  # 0.5: nothing known
            needed = plan_questions(effect, spread)
            least = smallest_effect(max(2, row["questions"]), spread)
            plans.append(Plan(student, row["benchmark"], spread, row["questions"], least, needed))
    if not plans:
        raise LakeError(f"no two stages have been judged in {home} yet: materialize benchmark_scores")
    return plans


# ---- numbers
def _newest(lake: Lake, asset: str) -> dict[str, Ref]:
    """partition -> its newest version."""
    found = {partition: lake.newest(asset, partition) for partition in lake.partitions(asset)}
    return {partition: ref for partition, ref in found.items() if ref}


def _score(student: str, row: Row, level: float) -> Score:
    """A row of `benchmark_scores`; level: that of a difference's interval which allows for all of the report."""
    shown = {name: row[name] for name in SHOWN}
    if row["compared_with"] is None:
        return Score(student, **shown)
    among_all = difference_interval(row["value"], row["standard_error"] or 0, row["questions"], level)
    excludes_zero = not (row["low"] <= 0 <= row["high"] or among_all.low <= 0 <= among_all.high)
    return Score(student, **shown, significant_among_all=excludes_zero)


def _ratings(lake: Lake, student: str) -> Iterator[Score]:
    ref = lake.newest("codeforces_ratings", student)
    for row in lake.table(ref).to_pylist() if ref else []:
        note = f"refused: {row['refused']}" if row["refused"] else f"over {row['contests']} contests"
        yield Score(
            student, row["benchmark"], row["stage"], "Elo", row["rating"], row["low"], row["high"],
            row["problems"], 0, row["model"], note=note,
        )  # fmt: skip


def _versions(lake: Lake, scored: Ref) -> dict[str, Any]:
    """The exact data behind a student's scores, and how its generations were sampled."""
    (judged,) = (ref for ref in lake.commit_of(scored).provenance.inputs if ref.asset == "benchmark_verdicts")
    inputs = {ref.asset: ref for ref in lake.commit_of(judged).provenance.inputs}
    refs = [scored, judged, *(inputs[name] for name in ("benchmark_generations", "benchmark_items") if name in inputs)]
    graders = sorted({str(one) for one in lake.table(judged, ["grader"])["grader"].to_pylist()})
    asked = inputs.get("benchmark_generations")
    settings = lake.commit_of(asked).provenance.settings if asked else "[]"
    return {
        "data": {str(ref): ref.data_version for ref in refs},
        "graders": graders,
        "sampling": next((one["sampling"] for one in _sections(settings) if "sampling" in one), None),
    }


def _sections(settings: str) -> list[dict[str, Any]]:
    found = json.loads(settings)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


# ---- text
def as_json(report: Report) -> dict[str, Any]:
    paper = {
        setting: {
            "before": dict(zip(BENCHMARKS, before, strict=True)),
            "after": dict(zip(BENCHMARKS, after, strict=True)),
        }
        for setting, (before, after) in RESULTS.items()
    }
    return {"scores": [asdict(one) for one in report.scores], "scaling": report.scaling, "versions": report.versions,
            "paper": paper}  # fmt: skip


def as_markdown(report: Report) -> str:
    """The whole report; the paper's rows stand under ours for benchmarks of the same name."""
    return "\n".join([*_score_table(report), *_difference_table(report), *_paper_table(report), *_scaling_table(report),
                      *_version_list(report)])  # fmt: skip


def _score_table(report: Report) -> Iterator[str]:
    yield "# Benchmarks\n\n## Scores\n"
    yield "| student | benchmark | stage | metric | value | 95 % interval | questions | generations | model |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for one in report.scores:
        if one.compared_with is None:
            interval = "-" if one.value is None else f"{_number(one, one.low)} to {_number(one, one.high)}"
            value = one.note if one.value is None else _number(one, one.value)
            yield (f"| {one.student} | {one.benchmark} | {one.stage} | {one.metric} | {value} | {interval} | "
                   f"{one.questions} | {one.generations or '-'} | {one.model} |")  # fmt: skip


def _number(one: Score, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if one.metric == "Elo" else f"{100 * value:.1f}"


def _difference_table(report: Report) -> Iterator[str]:
    differences = [one for one in report.scores if one.compared_with is not None]
    if not differences:
        return
    yield "\n## Differences between stages, paired by question\n"
    yield (f"Of {len(differences)} comparisons at 95 % each, one in twenty looks real by chance; the last column holds "
           "for all of them at once.\n")  # fmt: skip
    yield "| student | benchmark | stage | minus | points | 95 % interval | questions | alone | among all |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for one in differences:
        value, low, high = (f"{100 * (share or 0):+.1f}" for share in (one.value, one.low, one.high))
        words = ["significant" if flag else "not significant" for flag in (one.significant, one.significant_among_all)]
        yield (f"| {one.student} | {one.benchmark} | {one.stage} | {one.compared_with} | {value} | {low} to {high} | "
               f"{one.questions} | {' | '.join(words)} |")  # fmt: skip


def _paper_table(report: Report) -> Iterator[str]:
    yield ("\n## Beside the paper\n\nOurs with 95 % interval, questions and generations, where a benchmark of that "
           "name was run; the paper gives no intervals.\n")  # fmt: skip
    yield f"| setting | {' | '.join(f'{name} ({METRICS[name]})' for name in BENCHMARKS)} |"
    yield "|---" * (len(BENCHMARKS) + 1) + "|"
    for student, stage in dict.fromkeys((one.student, one.stage) for one in report.scores):
        cells = [_ours(report, student, stage, name) for name in BENCHMARKS]
        if any(cell != "-" for cell in cells):
            yield f"| **{student}, {stage}** | {' | '.join(cells)} |"
    rows = [(f"{setting}, {word}", side) for setting, sides in RESULTS.items()
            for word, side in zip(("before", "after"), sides, strict=True)]  # fmt: skip
    rows += [(f"SFT 7B, {arm}", side) for arm, side in ABLATIONS.items() if arm != "full"]
    for name, side in rows:
        yield f"| {name} | {' | '.join('-' if value is None else f'{value:g}' for value in side)} |"


def _ours(report: Report, student: str, stage: str, benchmark: str) -> str:
    """Our score in the paper's metric (avg@k for its pass@1 as well: of one generation they are the same)."""
    wanted = "Elo" if METRICS[benchmark] == "Elo" else "avg@"
    for one in report.scores:
        if (one.student, one.stage, one.benchmark) == (student, stage, benchmark) and one.metric.startswith(wanted):
            if one.value is None:
                return one.note or "-"
            of = f"n={one.questions}" + (f", k={one.generations}" if one.generations else "")
            return f"{_number(one, one.value)} ({_number(one, one.low)} to {_number(one, one.high)}; {of})"
    return "-"


def _scaling_table(report: Report) -> Iterator[str]:
    if not report.scaling:
        return
    yield "\n## Score against training examples\n"
    yield "| student | benchmark | stage | examples | value | 95 % interval |\n|---|---|---|---|---|---|"
    for row in sorted(report.scaling, key=lambda row: (row["benchmark"], row["student"], row["examples"])):
        yield (f"| {row['student']} | {row['benchmark']} | {row['stage']} | {row['examples']:,} | "
               f"{100 * row['value']:.1f} | {100 * row['low']:.1f} to {100 * row['high']:.1f} |")  # fmt: skip


def _version_list(report: Report) -> Iterator[str]:
    yield "\n## Versions\n"
    for student, known in report.versions.items():
        yield f"* {student}: {', '.join(f'{ref} ({version})' for ref, version in known['data'].items())}"
        sampling = known["sampling"]
        words = ", ".join(f"{name} {value}" for name, value in sampling.items()) if sampling else "unknown"
        yield f"  sampling: {words}; graders: {', '.join(known['graders'])}"


def scaling_figure(rows: Sequence[Row], path: Path) -> None:
    """Score against training examples, a line a benchmark and student, with its intervals; a PNG file.

    Raises: LakeError when there is nothing to draw.
    """
    if not rows:
        raise LakeError("no scaling to draw: materialize scaling")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    lines: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        lines[row["student"], row["benchmark"]].append(row)
    for (student, benchmark), points in sorted(lines.items()):
        points.sort(key=lambda row: row["examples"])
        values = [row["value"] for row in points]
        errors = [[row["value"] - row["low"] for row in points], [row["high"] - row["value"] for row in points]]
        axes.errorbar([row["examples"] for row in points], values, yerr=errors, marker="o", capsize=3,
                      label=f"{benchmark}, {student}")  # fmt: skip
    axes.set(xlabel="training examples, ancestors included", ylabel="avg@k", xscale="symlog")
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=150, metadata={"Software": None})


def plan_as_text(plans: Sequence[Plan], effect: float) -> str:
    lines = [f"to see a difference of {100 * effect:g} points four times in five, at 95 %:"]
    for one in plans:
        lines.append(
            f"  {one.benchmark} ({one.student}): {one.questions_needed:,} questions at a spread of {one.spread:.2f}; "
            f"with its {one.questions:,} it shows {100 * one.smallest_effect:.1f} points or more"
        )
    return "\n".join(lines)
