"""From raw completions to a clean problem set: deduplicated, decontaminated, askable; every drop with its reason."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from promptcot_assets.domains import domain_named
from promptcot_assets.lake.ids import content_id
from promptcot_assets.settings.profile import Deduplication
from promptcot_assets.stages import Row
from promptcot_assets.stages.decontamination import contaminated
from promptcot_assets.stages.deduplication import deduplicate

KEPT_COLUMNS = (
    "raw_problem_id", "concept_set_id", "domain", "concepts", "level", "rationale", "problem", "well_posed",
    "problem_generator", "batch",
)  # fmt: skip


def assemble(
    raw: Sequence[Row], former: Sequence[Row], benchmarks: Sequence[Row], settings: Deduplication
) -> tuple[list[Row], list[Row]]:
    """Rows of `problems` and rows of `dropped_problems`.

    `former`: seed problems and what earlier batches kept; they take precedence and none is withdrawn. A raw row
    without a problem is not here: it has its reason in `raw_problems`.
    """
    index = _index_of(former, settings.threshold)
    parsed = {row["raw_problem_id"]: row for row in raw if row["problem"] is not None}
    texts = [{"id": key, "text": row["problem"]} for key, row in parsed.items()]
    unique = deduplicate(texts, index, threshold=settings.threshold)
    dropped = [
        _dropped(parsed[row["id"]], row["reason"], row["survivor_id"], row["similarity"], row["shared_span"])
        for row in unique.dropped
    ]
    candidates = [parsed[row["id"]] for row in unique.kept]
    hits = contamination(candidates, benchmarks, settings.decontamination_ngram)
    kept = []
    for row in candidates:
        hit = hits.get(row["raw_problem_id"])
        defect = domain_named(row["domain"]).defect(row["problem"])
        if hit:
            dropped.append(_dropped(row, f"contaminated by {hit['benchmark']}", hit["item_id"], None, hit["span"]))
        elif defect:
            dropped.append(_dropped(row, defect, None, None, None))
        else:
            kept.append(_kept(row))
    return kept, dropped


def _index_of(former: Sequence[Row], threshold: float) -> pa.Table | None:
    """All former problems, also those that are near duplicates of one another: what is published is not withdrawn.

    One pass indexes what stays of it; the near duplicates that fell are indexed by the next.
    """
    texts = {row["problem_id"]: row["problem"] for row in former}
    passes = []
    while texts:
        result = deduplicate([{"id": key, "text": text} for key, text in texts.items()], threshold=threshold)
        passes.append(result.added)
        texts = {row["id"]: texts[row["id"]] for row in result.dropped if row["reason"] == "near"}
    return pa.concat_tables(passes) if passes else None


def contamination(rows: Sequence[Row], benchmarks: Sequence[Row], ngram: int) -> dict[str, Row]:
    """raw_problem_id -> first benchmark item the problem overlaps with."""
    problems = [{"id": row["raw_problem_id"], "text": row["problem"]} for row in rows]
    items = [{"benchmark": row["benchmark"], "id": row["item_id"], "text": row["problem"]} for row in benchmarks]
    found = contaminated(problems, items, ngram).to_pylist()
    return {hit["problem_id"]: hit | {"span": hit["matched_span"]} for hit in reversed(found)}


def _kept(row: Row) -> Row:
    return {"problem_id": content_id(row["domain"], row["problem"])} | {name: row[name] for name in KEPT_COLUMNS}


def _dropped(row: Row, reason: str, survivor: str | None, similarity: float | None, span: str | None) -> Row:
    return {
        "raw_problem_id": row["raw_problem_id"],
        "domain": row["domain"],
        "problem": row["problem"],
        "reason": reason,
        "survivor_id": survivor,
        "similarity": similarity,
        "matched_span": span,
        "batch": row["batch"],
    }
