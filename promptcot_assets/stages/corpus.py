"""Seed problems from procedural domains and files, the concepts in them, and the annotated triples (c, z, x)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

from promptcot_assets.domains import Seed, procedural_domain
from promptcot_assets.domains.layout import solution_text
from promptcot_assets.lake.ids import content_id, in_share
from promptcot_assets.settings.profile import Corpus
from promptcot_assets.stages import Row
from promptcot_assets.stages.seeds import read_seeds


def seed_problems(corpus: Corpus, seed: int) -> tuple[list[Row], Counter[str]]:
    """Rows of `seed_problems` and the dropped ones counted by reason.

    A file's problem is held out by the hash of its text, so that adding rows moves no other row.
    Raises: SeedError naming file and line when a source is malformed.
    """
    rows, dropped = [], Counter[str]()
    for name, sizes in corpus.procedural.items():
        written = procedural_domain(name).write_seeds(sizes.seeds, sizes.held_out, sizes.annotators, seed)
        for split, seeds in (("train", written.train), ("held_out", written.held_out)):
            rows += [_row(name, one, split, name, number) for number, one in enumerate(seeds, 1)]
    for name, source, only_played in _sources(corpus):
        read, bad = read_seeds(source)
        dropped.update(row["reason"] for row in bad)
        rows += [_row_of_file(name, row, corpus.held_out_share, only_played) for row in read]
    unique = {row["problem_id"]: row for row in reversed(rows)}  # the first of equal texts stays
    dropped["same text as an earlier seed"] += len(rows) - len(unique)
    return [row for row in rows if unique.get(row["problem_id"]) is row], +dropped


def _sources(corpus: Corpus) -> Iterator[tuple[str, str, bool]]:
    """(domain, source, whether its problems are only played on); seeds first, so that a problem that is both is one."""
    for only_played, files in ((False, corpus.files), (True, corpus.play_files)):
        for domain, sources in files.items():
            for source in sources:
                yield domain, source, only_played


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
    }


def _row_of_file(domain: str, row: Row, held_out_share: float, only_played: bool) -> Row:
    solution = row["solution"]
    if solution and row["answer"]:  # in the form students are taught; the answer is boxed where the source says it
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
    return _row(domain, seed, split, row["source"], row["row"])


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
