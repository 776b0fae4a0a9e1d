"""`promptcot score`: our intervals, paired tests and planner for anybody's results. Reads files and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from promptcot_assets.stages.evaluation.results_file import (
    ONE,
    ResultsError,
    generations_of,
    read_results,
    shared_questions,
)
from promptcot_assets.stages.statistics import (
    Interval,
    SpreadParts,
    clustered_interval,
    corrected_level,
    paired_difference,
    pass_at_k_interval,
    plan_generations,
    plan_questions,
    smallest_effect,
    spread_parts,
)
from promptcot_assets.text.printing import printable, table

GENERATIONS = (1, 2, 4, 8, 16, 32, 64)  # that the planner names
LARGEST_SPREAD = 1.0  # of differences between shares, as the planner takes it


@dataclass(frozen=True)
class Score:
    """One metric of one system; generations: of a question, the fewest and the most."""

    benchmark: str
    system: str
    metric: str
    value: float
    low: float
    high: float
    questions: int
    generations: tuple[int, int]


@dataclass(frozen=True)
class Difference:
    """What `system` has more than `than` on the questions that both have; significant: at 95 %, alone."""

    benchmark: str
    system: str
    than: str
    value: float
    low: float
    high: float
    questions: int
    only_one_has: int  # questions left out, because the other system has none
    significant: bool
    significant_among_all: bool


@dataclass(frozen=True)
class Plan:
    """What it takes to see `effect` between two systems four times in five, at 95 %."""

    benchmark: str
    system: str
    than: str
    effect: float
    spread: float
    questions: int  # there are
    smallest_effect: float  # that these show
    questions_needed: int  # with as many generations as there are
    questions_by_generations: dict[int, int] | None  # None: one generation a question does not tell
    generations_needed: int | None  # of the questions there are; None: no number is enough, or it cannot be told


@dataclass(frozen=True)
class Scored:
    columns: dict[str, dict[str, str]]
    rows: int
    not_judged: int
    scores: list[Score]
    differences: list[Difference]
    plans: list[Plan]
    notes: list[str]


def score(
    files: Sequence[str | Path],
    columns: Mapping[str, str] | None = None,
    baseline: str | None = None,
    effect: float = 0.02,
) -> Scored:
    """Scores, differences and plans of the results in `files`.

    columns: ours -> theirs, where names do not tell. baseline: the system that the others are compared with; by default
    every system is compared with each before it. effect: the difference that is planned for, a share of 1.

    Raises: ResultsError naming file, row and column; StatisticsError for an effect that is none.
    """
    plan_questions(effect)  # refuses what is no effect before anything is read
    found = read_results(files, columns)
    systems = list(dict.fromkeys(name for own in found.marks.values() for name in own))
    if baseline is not None and baseline not in systems:
        raise ResultsError(f"there is no system {baseline!r} to compare with; there are {', '.join(systems)}")
    scores: list[Score] = []
    notes: list[str] = []
    pairs = []
    for benchmark, own in found.marks.items():
        for system, questions in own.items():
            scores += list(_scores(benchmark, system, list(questions.values()), notes))
        for first, second in combinations(own, 2):
            if baseline in (None, first, second):
                than, system = (second, first) if second == baseline else (first, second)
                shared = shared_questions(own[than], own[system])
                if len(shared) > 1:
                    pairs.append((benchmark, system, than, shared))
                else:
                    notes.append(
                        f"{system} and {than} share {len(shared)} questions{_of(benchmark)}, so nothing is compared"
                    )
    level = corrected_level(max(1, len(pairs)))
    differences, plans = [], []
    for benchmark, system, than, shared in pairs:
        left, right = ([found.marks[benchmark][name][question] for question in shared] for name in (system, than))
        alone, strict = paired_difference(left, right), paired_difference(left, right, level=level)
        left_out = sum(len(found.marks[benchmark][name]) - len(shared) for name in (system, than))
        differences.append(
            Difference(benchmark, system, than, alone.estimate, alone.low, alone.high, alone.questions, left_out,
                       _excludes_0(alone), _excludes_0(strict))
        )  # fmt: skip
        plans.append(_plan(benchmark, system, than, spread_parts(left, right), alone, effect))
    return Scored(found.columns, found.rows, found.not_judged, scores, differences, plans, notes)


def _scores(benchmark: str, system: str, questions: list[list[float]], notes: list[str]) -> Iterator[Score]:
    counts = generations_of(questions)
    fewest, most = min(counts), max(counts)

    def one(metric: str, interval: Interval) -> Score:
        return Score(benchmark, system, metric, interval.estimate, interval.low, interval.high, interval.questions,
                     (fewest, most))  # fmt: skip

    yield one(f"avg@{most}" if fewest == most else "avg", clustered_interval(questions))
    if fewest < most:
        notes.append(
            f"{system}{_of(benchmark)} has {fewest} to {most} answers a question; each question weighs the same"
        )
    if fewest > 1 and all(mark in (0, 1) for marks in questions for mark in marks):
        for k in sorted({fewest // 2, fewest} - {1}):
            yield one(f"pass@{k}", pass_at_k_interval(questions, k))


def _excludes_0(interval: Interval) -> bool:
    return not interval.low <= 0 <= interval.high


def _plan(benchmark: str, system: str, than: str, parts: SpreadParts | None, alone: Interval, effect: float) -> Plan:
    spread = min(LARGEST_SPREAD, alone.spread) or 0.5  # 0.5: two models that agree throughout tell nothing
    by_generations = needed = None
    if parts is not None and parts.of(1) > 0:
        by_generations = {k: plan_questions(effect, min(LARGEST_SPREAD, parts.of(k))) for k in GENERATIONS}
        needed = plan_generations(effect, alone.questions, parts)
    return Plan(benchmark, system, than, effect, spread, alone.questions, smallest_effect(alone.questions, spread),
                plan_questions(effect, spread), by_generations, needed)  # fmt: skip


def _of(benchmark: str) -> str:
    return "" if benchmark == ONE else f" on {benchmark}"


def as_text(scored: Scored) -> str:
    """The same for a terminal; differences in percentage points."""
    lines = [f"{file}: {', '.join(f'{ours} <- {theirs}' for ours, theirs in used.items())}"
             for file, used in scored.columns.items()]  # fmt: skip
    lines += [f"{scored.rows:,} rows" + (f", {scored.not_judged:,} answers without a mark are left out"
                                        if scored.not_judged else ""), ""]  # fmt: skip
    names = ("benchmark", "system", "metric", "%", "95 % interval", "questions", "answers each")
    lines.append(table(names, [
        (one.benchmark, one.system, one.metric, f"{100 * one.value:.1f}",
         f"{100 * one.low:.1f} to {100 * one.high:.1f}", one.questions,
         "-".join(map(str, dict.fromkeys(one.generations))))
        for one in scored.scores
    ]))  # fmt: skip
    if scored.differences:
        several = len(scored.differences)
        among = f"all {several} at once" if several > 1 else "at once"
        lines += ["", "Differences, paired by question, in points", table(
            ("benchmark", "system", "minus", "points", "95 % interval", "questions", "alone", among),
            [(one.benchmark, one.system, one.than, f"{100 * one.value:+.1f}",
              f"{100 * one.low:+.1f} to {100 * one.high:+.1f}", one.questions, *map(_word, (
                  one.significant, one.significant_among_all))) for one in scored.differences],
        )]  # fmt: skip
        lines += ["", *_plan_lines(scored.plans)]
    lines += [*(f"note: {one}" for one in scored.notes),
              *(f"note: {one.only_one_has:,} questions{_of(one.benchmark)} that only one of {one.system} and "
                f"{one.than} has are left out" for one in scored.differences if one.only_one_has)]  # fmt: skip
    return printable("\n".join(lines))


def _word(significant: bool) -> str:
    return "significant" if significant else "not significant"


def _plan_lines(plans: Sequence[Plan]) -> Iterator[str]:
    yield f"To see a difference of {100 * plans[0].effect:g} points four times in five, at 95 %"
    for one in plans:
        yield (
            f"  {one.system} against {one.than}{_of(one.benchmark)}: {one.questions_needed:,} questions of this kind; "
            f"these {one.questions:,} show {100 * one.smallest_effect:.1f} points or more"
        )
        if one.questions_by_generations is None:
            yield "    what more answers to each question would save is not told by one answer each"
            continue
        counts = ", ".join(f"{k}: {needed:,}" for k, needed in one.questions_by_generations.items())
        yield f"    questions by answers to each: {counts}"
        yield (
            f"    with these questions {one.generations_needed:,} answers to each"
            if one.generations_needed is not None
            else "    with these questions no number of answers to each is enough"
        )
