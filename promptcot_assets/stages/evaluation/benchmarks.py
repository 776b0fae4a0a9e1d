"""Benchmarks: items, generations kept as rows, verdicts, scores with clustered intervals (method section 8)."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from promptcot_assets.domains import domain_named, procedural_domain
from promptcot_assets.inference import InferenceEngine
from promptcot_assets.judging.verdicts import judge
from promptcot_assets.judging.verifier import Verifier
from promptcot_assets.lake import Row
from promptcot_assets.lake.ids import content_id, seed_from
from promptcot_assets.settings.profile import Benchmarks, Corpus, Evaluation
from promptcot_assets.stages.asking import ask, completion_columns, solve_prompt
from promptcot_assets.stages.corpus.seed_tables import cases_of, dropped_row, without_doubles
from promptcot_assets.stages.evaluation.published_items import (
    EXTRA,
    function_prompt,
    judged_by,
    published_prompt,
    read_items,
)
from promptcot_assets.stages.statistics import (
    Interval,
    clustered_interval,
    majority_interval,
    paired_difference,
    pass_at_k_interval,
)

STAGES = ("base", "sft", "self_play")
IDENTITY = ("item_id", "benchmark", "domain", "stage", "attempt", "model")


def benchmark_items(corpus: Corpus, benchmarks: Benchmarks, seeds: Sequence[Row], seed: int) -> list[Row]:
    """Rows of `benchmark_items`: each procedural domain's own benchmark, and the files of the profile.

    Raises: SeedError naming the file and line when a file is malformed.
    """
    return procedural_items(corpus, seeds, seed) + published_items(benchmarks)[0]


def procedural_items(corpus: Corpus, seeds: Sequence[Row], seed: int) -> list[Row]:
    """Each procedural domain's own benchmark, on problems that are no seeds."""
    rows = []
    for name, sizes in corpus.procedural.items():
        known = {row["problem"] for row in seeds if row["domain"] == name}
        for item in procedural_domain(name).write_benchmark(sizes.benchmark, seed, known):
            written = {"problem": item.problem, "answer": item.answer, "source": name}
            rows.append(_item(name, name, written, item.tests))
    return _unique(rows)


def published_items(benchmarks: Benchmarks) -> tuple[list[Row], list[Row]]:
    """The items of the profile's files, and the rows of `dropped_benchmark_rows`: those that are no items, and why."""
    rows: list[Row] = []
    dropped: list[Row] = []
    for (domain, name), benchmark in benchmarks.published().items():
        read, bad = read_items(benchmark, domain)
        kept, doubles = without_doubles(
            [_item(name, domain, row, cases_of(row)) | {"source_row": row["row"]} for row in read], "item_id", "item"
        )
        rows += [{column: row[column] for column in row if column != "source_row"} for row in kept]
        dropped += [dropped_row(row, benchmark=name) for row in (*bad, *doubles)]
    return rows, dropped


def _item(benchmark: str, domain: str, row: Row, tests: object) -> Row:
    return {
        "item_id": content_id(benchmark, row["problem"]),
        "benchmark": benchmark,
        "domain": domain,
        "problem": row["problem"],
        "answer": row["answer"],
        "tests": json.dumps(tests) if tests else None,
        "source": row["source"],
    } | {name: row.get(name) for name in EXTRA}


def _unique(rows: Sequence[Row]) -> list[Row]:
    return list({row["item_id"]: row for row in rows}.values())


def evaluated(items: Sequence[Row], limit: int | None) -> list[Row]:
    """The items that models are asked: those with what their domain is judged by, at most `limit` a benchmark."""
    taken: dict[str, int] = defaultdict(int)
    rows = []
    for row in items:
        if judged_by(row, row["domain"]) is None or (limit is not None and taken[row["benchmark"]] >= limit):
            continue
        taken[row["benchmark"]] += 1
        rows.append(row)
    return rows


def asker(
    student: InferenceEngine, settings: Evaluation, stage: str, model: str, seed: int
) -> Callable[[Sequence[Row]], list[Row]]:
    """`generations` of one stage's model, as a function of the items alone."""
    return lambda items: generations(items, student, settings, stage, model, seed)


def generations(
    items: Sequence[Row], student: InferenceEngine, settings: Evaluation, stage: str, model: str, seed: int
) -> list[Row]:
    """Rows of `benchmark_generations`. Attempt k of an item has the same seed whatever the model."""
    by_attempts: dict[int, list[Row]] = defaultdict(list)
    for row in items:
        by_attempts[settings.attempts(row["benchmark"])].append(row)
    return [
        {
            "generation_id": content_id(row["item_id"], model, stage, attempt, completion.seed),
            "item_id": row["item_id"],
            "benchmark": row["benchmark"],
            "domain": row["domain"],
            "stage": stage,
        }
        | completion_columns(completion, attempt, model)
        for attempts, group in by_attempts.items()
        for row, completions in ask(
            group,
            student,
            settings.sampling,
            attempts,
            lambda row: seed_from(seed, "benchmark", row["item_id"]),
            lambda row: item_prompt(row, settings),
        )
        for attempt, completion in enumerate(completions)
    ]


def item_prompt(item: Row, settings: Evaluation) -> str:
    """What a model reads. Maths is asked as in the released files either way; a function is never asked for as a
    program that reads standard input."""
    if item["tests"] is not None and json.loads(item["tests"])[0].get("fn_name"):
        return function_prompt(item["problem"])
    is_program = domain_named(item["domain"]).answers == "program"
    return published_prompt(item["problem"]) if is_program and settings.prompts == "published" else solve_prompt(item)


def verdicts(drawn: Sequence[Row], items: dict[str, Row], verifier: Verifier) -> list[Row]:
    """Rows of `benchmark_verdicts`. Generations are kept, so a new grader needs no new ones."""
    return [
        {"generation_id": row["generation_id"]} | {name: row[name] for name in IDENTITY} | verdict
        for row, verdict in zip(drawn, judge(drawn, items, "item_id", verifier), strict=True)
    ]


def scores(judged: Sequence[Row], generations: int, generations_of: Mapping[str, int] | None = None) -> list[Row]:
    """Rows of `benchmark_scores`: every metric of every stage, and its paired difference to the stage before.

    generations: a question; generations_of: by benchmark, where there are others (`Evaluation`).
    """
    table: dict[tuple[str, str], dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    failures, exhausted = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for row in judged:
        if row["passed"] is None:
            failures[row["benchmark"], row["stage"]] += 1
        else:
            table[row["benchmark"], row["stage"]][row["item_id"]].append(row)
            exhausted[row["benchmark"], row["stage"]] += row["verdict"] == "time_limit"
    rows = []
    for benchmark in sorted({name for name, _ in table}):
        k = (generations_of or {}).get(benchmark, generations)
        present = [stage for stage in STAGES if (benchmark, stage) in table]
        for at, stage in enumerate(present):
            before, answers = present[at - 1] if at else None, table[benchmark, stage]
            common = {
                "benchmark": benchmark,
                "stage": stage,
                "model": next(iter(answers.values()))[0]["model"],
                "generations": k,
                "infrastructure_failures": failures[benchmark, stage],
                "time_limits": exhausted[benchmark, stage],
            }
            rows += [_score(common, metric, None, interval) for metric, interval in _metrics(list(answers.values()), k)]
            former = table[benchmark, before] if before else {}
            if shared := sorted(answers.keys() & former.keys()):  # none where the sandbox failed on all of them
                own, theirs = ([_marks(side[item]) for item in shared] for side in (answers, former))
                rows.append(_score(common, "paired difference", before, paired_difference(own, theirs)))
    return rows


def averages(rows: Iterable[Row]) -> list[Row]:
    """The rows of `benchmark_scores` that hold avg@k: one a benchmark and stage."""
    return [row for row in rows if row["metric"].startswith("avg@")]


def _metrics(questions: Sequence[list[Row]], k: int) -> Iterator[tuple[str, Interval]]:
    """avg@k of all questions; pass@k and majority@k of those with all k verdicts, maths only for the latter.

    Answers vote by the normal form that their verdict gave them.
    """
    yield f"avg@{k}", clustered_interval([_marks(group) for group in questions])
    whole = [group for group in questions if len(group) >= k]
    if k < 2 or not whole:
        return
    marks = [_marks(group) for group in whole]
    for fewer in sorted({k // 2, k} - {1}):
        yield f"pass@{fewer}", pass_at_k_interval(marks, fewer)
    if all(row.get("reference") is not None for group in whole for row in group):
        yield f"majority@{k}", majority_interval(marks, k, [[row["answer"] for row in group] for group in whole])


def _marks(verdicts: Sequence[Row]) -> list[int]:
    return [int(row["passed"]) for row in verdicts]


def _score(common: Row, metric: str, compared_with: str | None, interval: Interval) -> Row:
    significant = None if compared_with is None else not interval.low <= 0 <= interval.high
    return {
        "score_id": content_id(common["benchmark"], common["stage"], common["model"], metric),
        "metric": metric,
        "compared_with": compared_with,
        "value": interval.estimate,
        "low": interval.low,
        "high": interval.high,
        "standard_error": interval.standard_error if interval.questions > 1 else None,
        "questions": interval.questions,
        "significant": significant,
    } | common
