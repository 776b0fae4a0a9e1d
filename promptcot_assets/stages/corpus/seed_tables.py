"""Seed problems from procedural domains and files, the concepts in them, and the annotated triples (c, z, x)."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from promptcot_assets.domains import Seed, procedural_domain
from promptcot_assets.domains.layout import END_THINK, solution_text
from promptcot_assets.judging.verifier import JUDGED_BY
from promptcot_assets.lake import Row
from promptcot_assets.lake.ids import content_id, in_share
from promptcot_assets.settings.profile import Corpus, ProblemFile
from promptcot_assets.stages.corpus.reading import Reading, read
from promptcot_assets.stages.corpus.sources import SeedError
from promptcot_assets.stages.students.trace_formats import normal_trace


def seed_problems(
    corpus: Corpus, seed: int, warn: Callable[[str], None] = lambda text: None
) -> tuple[list[Row], list[Row]]:
    """Rows of `seed_problems`, and of `dropped_seed_rows`: the rows of the sources that are none, each with its reason.

    warn: is told of a source without a single answer or test that has a column which looks like one. A file's problem
    is held out by the hash of its text, so that adding rows moves no other row. Raises: SeedError naming the file
    when a source is absent, of no known shape, or gives not one row.
    """
    rows: list[Row] = []
    dropped: list[Row] = []
    fell: set[tuple[str, str, int]] = set()  # a file that is read under several domains has each fault once
    for name, sizes in corpus.procedural.items():
        written = procedural_domain(name).write_seeds(sizes.seeds, sizes.held_out, sizes.annotators, seed)
        for split, seeds in (("train", written.train), ("held_out", written.held_out)):
            rows += [_row(name, one, split, name, number) for number, one in enumerate(seeds, 1)]
    for name, file, only_played in corpus.problem_files():
        for reading, found in read_files(file, name):
            readers = corpus.domains_of(reading.source)
            refuse_empty(reading, len(found), "seed", everything=len(readers) == 1)
            for text in reading.warnings:
                warn(text)
            own = [row for row in found if row["domain"] or name == readers[0]]  # else it is read there
            rows += [_row_of_file(name, row, corpus.held_out_share, only_played) for row in own]
            for row in reading.dropped:
                place = (reading.source, row["source"], row["row"])
                if row.get("domain") not in readers and place not in fell:
                    fell.add(place)
                    dropped.append(dropped_row(row, domain=name))
    kept, doubles = without_doubles(rows, "problem_id", "seed")
    return kept, dropped + [dropped_row(row, domain=row["domain"]) for row in doubles]


def read_files(file: ProblemFile, domain: str) -> Iterator[tuple[Reading, list[Row]]]:
    """The rows of each source of a file setting, with what was learnt in reading it."""
    for source in file.sources:
        reading = Reading(source)
        found = read(reading, domain=domain, columns=file.columns or None, where=file.where)
        yield reading, list(itertools.islice(found, file.limit))


def refuse_empty(reading: Reading, rows: int, what: str, everything: bool = True) -> None:
    """Raises: SeedError naming the reasons when a source gives nothing. everything: it is read under no other domain,
    which may have all its rows."""
    if not rows and (everything or not reading.of_another_domain):
        why = ", ".join(f"{count} x {reason}" for reason, count in reading.reasons.most_common(5)) or "it is empty"
        raise SeedError(f"{reading.source}: no {what} is left ({why}); `promptcot inspect` shows what is read of it")


def dropped_row(row: Row, **of: str) -> Row:
    """A row of a source that fell, as a row of `dropped_seed_rows` or `dropped_benchmark_rows`."""
    return {
        "dropped_row_id": content_id(*of.values(), row["source"], row["row"], row["reason"], row["problem"]),
        **of,
        "source": row["source"],
        "source_row": row["row"],
        "reason": row["reason"],
        "detail": row.get("detail"),
        "problem": row["problem"],
    }


def without_doubles(rows: Sequence[Row], key: str, what: str) -> tuple[list[Row], list[Row]]:
    """The first of equal rows, and the others with the reason why they fall: another answer is said, not settled."""
    first: dict[str, Row] = {}
    doubles = []
    for row in rows:
        before = first.setdefault(row[key], row)
        if before is row:
            continue
        reason, detail = f"same text as an earlier {what}", f"{before['source']}, row {before['source_row']}"
        if row["answer"] is not None and before["answer"] is not None and row["answer"] != before["answer"]:
            reason += ", with another answer; keep the row that is right"
            detail += f" says {before['answer']}, this row {row['answer']}"
        problem = ascii(row["problem"])[:200]
        doubles.append(row | {"row": row["source_row"], "reason": reason, "detail": detail, "problem": problem})
    return list(first.values()), doubles


def _row(domain: str, seed: Seed, split: str, source: str, number: int) -> Row:
    return {
        "problem_id": content_id(domain, seed.problem),
        "domain": domain,
        "problem": seed.problem,
        "answer": seed.answer,
        "solution": seed.solution,
        "tests": json.dumps(seed.tests) if seed.tests else None,
        "concepts": seed.concepts,
        "level": seed.level,
        "rationale": seed.rationale,
        "annotator": seed.annotator,
        "split": split,
        "source": source,
        "source_row": number,
    } | dict.fromkeys(JUDGED_BY)


def _row_of_file(domain: str, row: Row, held_out_share: float, only_played: bool) -> Row:
    solution = row["solution"]
    if solution and END_THINK in solution:  # a model's trace has the form that students are taught
        solution = normal_trace(solution)
    elif solution and row["answer"]:  # put into that form; the answer is boxed where the source says it
        solution = solution_text(solution, f"\\boxed{{{row['answer']}}}")
    seed = Seed(
        problem=row["problem"],
        concepts=row["concepts"],
        level=row["level"] or "standard",
        answer=row["answer"],
        solution=solution,
        tests=cases_of(row),
        rationale=row["rationale"],
        annotator="source" if row["rationale"] else None,
    )
    held_out = in_share(held_out_share, "held out", seed.problem)
    split = "play" if only_played else "held_out" if held_out else "train"
    return _row(domain, seed, split, row["source"], row["row"]) | {name: row[name] for name in JUDGED_BY}


def cases_of(row: Row) -> list[dict[str, str]] | None:
    """The tests of a row of `read_seeds`; each names the function it calls, where the row names one."""
    if row["tests"] and row["fn_name"]:
        return [test | {"fn_name": row["fn_name"]} for test in row["tests"]]
    return row["tests"]


def concept_corpus(problems: list[Row]) -> list[Row]:
    """Every concept of the training seeds with its frequency (the sampler's unigram distribution)."""
    counts = Counter(
        (row["domain"], concept) for row in problems if row["split"] == "train" for concept in row["concepts"]
    )
    return [
        {"concept_id": content_id(domain, concept), "domain": domain, "concept": concept, "problems": count}
        for (domain, concept), count in sorted(counts.items())
    ]


def seed_triples(problems: list[Row]) -> tuple[list[Row], Counter[str]]:
    """The training seeds that have concepts and a rationale: what the cold start learns from (method section 2)."""
    rows, dropped = [], Counter[str]()
    for row in problems:
        if row["split"] != "train":
            continue
        if not row["concepts"] or not row["rationale"]:
            dropped["no concepts" if not row["concepts"] else "no rationale"] += 1
            continue
        rows.append(
            {
                "rationale_id": content_id(row["problem_id"], row["rationale"]),
                "problem_id": row["problem_id"],
                "concept_set_id": concept_set_id(row),
                "domain": row["domain"],
                "concepts": row["concepts"],
                "level": row["level"],
                "problem": row["problem"],
                "rationale": row["rationale"],
                "annotator": row["annotator"],
                "source": row["source"],
            }
        )
    return rows, dropped


def concept_set_id(row: Row) -> str:
    return content_id(row["domain"], row["concepts"], row["level"])
