"""From raw completions to a clean problem set: askable, decontaminated, deduplicated; every drop with its reason.

The filters go in that order, so that whoever a duplicate falls to is itself in the set: a good problem is never lost to
a truncated or contaminated one like it. Rows are handled in Arrow and the completions streamed past: in memory are the
texts of the batch, not its rationales.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from promptcot_assets.domains import domain_named
from promptcot_assets.lake import Lake, Ref, Row
from promptcot_assets.lake.derived import derived
from promptcot_assets.lake.ids import content_id
from promptcot_assets.settings.profile import Deduplication
from promptcot_assets.stages.decontamination import contaminated
from promptcot_assets.stages.deduplication import deduplicate, indexed
from promptcot_assets.tables import SCHEMAS
from promptcot_assets.text.duplicate_index import INDEX_VERSION, as_table
from promptcot_assets.text.semantic_duplicates import MEANING_SCHEMA, Embed, meanings, semantic_duplicates

READ = ["raw_problem_id", "domain", "problem", "batch"]  # columns of `raw_problems` that decide a row's fate
_ROWS_AT_ONCE = 1 << 20  # larger batches are deduplicated in parts, each about 3 GB


@dataclass(frozen=True)
class Encoder:
    """A sentence model, and what tells it from every other one."""

    embed: Embed
    version: str


@dataclass(frozen=True)
class Published:
    """What is in place already, ready to be compared with. It takes precedence, and none of it is withdrawn."""

    index: Any  # of stages/deduplication.py
    meanings: Any = None  # of text/semantic_duplicates.py; None: meaning is not compared


@dataclass(frozen=True)
class Fates:
    """What became of the raw problems of one batch."""

    kept: NDArray[np.bool_]  # for each raw row, in the order read
    dropped: Any  # pa.Table of `dropped_problems`: every parsed problem that is not kept


def settle(
    raw: Iterable[Any],
    before: Published,
    benchmarks: Sequence[Row],
    settings: Deduplication,
    scratch: Path,
    workers: int = 1,
    encoder: Encoder | None = None,
) -> Fates:
    """Decide which raw problems are kept. A raw row without a problem has its reason already and is in neither part.

    `raw`: Arrow batches with the columns `READ`. `scratch`: a folder for what a very large batch spills. `workers`
    threads share the work. `encoder`: the settings' sentence model, when meaning is compared.
    """
    parsed, count = _parsed(raw)
    askable = pc.is_null(parsed["reason"])
    hits = _first_hits(parsed.select(["id", "text"]), benchmarks, settings.decontamination_ngram, workers)
    hits = hits.filter(pc.is_in(hits["id"], parsed["id"].filter(askable)))
    clean = parsed.filter(pc.and_not(askable, pc.is_in(parsed["id"], hits["id"])))
    unique = deduplicate(
        clean,
        before.index,
        threshold=settings.threshold,
        workers=workers,
        rows_at_once=_ROWS_AT_ONCE,
        spill=scratch / "runs",
    )
    defective = parsed.filter(pc.invert(askable)).select(["id", "reason"])
    fell = [defective, hits, unique.dropped.rename_columns({"shared_span": "matched_span"})]
    rows = clean["row"].to_numpy()[unique.staying]
    if encoder:
        twins = _same_meaning(unique.kept, before, benchmarks, encoder, settings.semantic_threshold)
        rows = rows[~pc.is_in(unique.kept["id"], twins["id"]).to_numpy(zero_copy_only=False)]
        fell.append(twins)
    kept = np.zeros(count, bool)
    kept[rows] = True
    return Fates(kept, _dropped_rows(parsed, pa.concat_tables(fell, promote_options="permissive")))


def kept_rows(raw: Iterable[Any], kept: NDArray[np.bool_]) -> Iterator[Any]:
    """Tables of `problems`: the kept rows of the same Arrow batches of `raw_problems`, with all their columns."""
    start = 0
    for batch in raw:
        rows = pa.Table.from_batches([batch]).filter(pa.array(kept[start : start + len(batch)]))
        start += len(batch)
        texts = zip(rows["domain"].to_pylist(), rows["problem"].to_pylist(), strict=True)
        ids = pa.array([content_id(domain, problem) for domain, problem in texts], pa.string())
        yield rows.append_column("problem_id", ids).select(SCHEMAS["problems"].names)


def published(
    lake: Lake, refs: Sequence[Ref], settings: Deduplication, workers: int = 1, encoder: Encoder | None = None
) -> Published:
    """All problems that these refs hold. Each ref is indexed once; later its index is mapped from the lake."""

    def of_each(kind: str, make: Callable[[Any], Any]) -> Iterator[Any]:
        for ref in refs:
            yield derived(lake.home, kind, ref, partial(of_one, ref, make))

    def of_one(ref: Ref, make: Callable[[Any], Any]) -> Any:
        return make(lake.table(ref, ["problem_id", "problem"]).rename_columns({"problem_id": "id", "problem": "text"}))

    def index_of(texts: Any) -> Any:
        return indexed(texts, threshold=settings.threshold, workers=workers)

    index = as_table(of_each(f"duplicates-v{INDEX_VERSION}-{settings.threshold}", index_of))
    if encoder is None:
        return Published(index)
    known = of_each(f"meanings-{content_id(encoder.version)}", lambda texts: meanings(texts, encoder.embed))
    return Published(index, pa.concat_tables([MEANING_SCHEMA.empty_table(), *known]))


def contamination(rows: Sequence[Row], benchmarks: Sequence[Row], ngram: int) -> dict[str, Row]:
    """raw_problem_id -> first benchmark item the problem overlaps with."""
    problems = [{"id": row["raw_problem_id"], "text": row["problem"]} for row in rows]
    return {hit["problem_id"]: hit for hit in reversed(contaminated(problems, _items(benchmarks), ngram).to_pylist())}


def _items(benchmarks: Sequence[Row]) -> list[Row]:
    return [{"benchmark": row["benchmark"], "id": row["item_id"], "text": row["problem"]} for row in benchmarks]


def _first_hits(problems: Any, benchmarks: Sequence[Row], ngram: int, workers: int) -> Any:
    """The first benchmark item that each contaminated problem overlaps with: id, reason, survivor_id, matched_span."""
    found = contaminated(problems, _items(benchmarks), ngram, workers=workers)
    _, places = np.unique(found["problem_id"].to_numpy(), return_index=True)
    first = found.take(places)
    return pa.table({
        "id": first["problem_id"].cast(pa.large_string()),
        "reason": pc.binary_join_element_wise("contaminated by ", first["benchmark"], ""),
        "survivor_id": first["item_id"],
        "matched_span": first["matched_span"],
    })  # fmt: skip


def _same_meaning(
    problems: Any, before: Published, benchmarks: Sequence[Row], encoder: Encoder, threshold: float
) -> Any:
    """Problems that say what a benchmark item, a published problem or an earlier one says: id, reason and evidence."""
    items = {f"item {number}": row for number, row in enumerate(benchmarks)}
    texts = pa.table({"id": list(items), "text": [row["problem"] for row in items.values()]})
    former = pa.concat_tables([meanings(texts, encoder.embed), before.meanings])
    falls = semantic_duplicates(meanings(problems, encoder.embed), former, threshold).to_pylist()
    for fall in falls:
        item = items.get(fall["survivor_id"])
        fall["reason"] = f"contaminated by {item['benchmark']}" if item else "semantic"
        fall["survivor_id"] = item["item_id"] if item else fall["survivor_id"]
    names: dict[str, Any] = {"id": pa.large_string(), "reason": pa.string(), "survivor_id": pa.string()}
    return pa.Table.from_pylist(falls, pa.schema(names | {"similarity": pa.float64()}))


def _parsed(raw: Iterable[Any]) -> tuple[Any, int]:
    """The rows with a problem, and how many rows there were; `reason` says what is wrong with a problem."""
    tables = []
    count = 0
    for batch in raw:
        rows = pa.table({
            "row": pa.array(np.arange(count, count + len(batch))),
            "id": batch["raw_problem_id"].cast(pa.large_string()),
            "domain": batch["domain"],
            "text": batch["problem"].cast(pa.large_string()),
            "batch": batch["batch"],
        })  # fmt: skip
        count += len(batch)
        rows = rows.filter(pc.is_valid(rows["text"]))
        texts: Any = zip(rows["domain"].to_pylist(), rows["text"].to_pylist(), strict=True)
        defects = [domain_named(domain).defect(text) for domain, text in texts]
        tables.append(rows.append_column("reason", pa.array(defects, pa.string())))
    names: dict[str, Any] = {
        "row": pa.int64(),
        "id": pa.large_string(),
        "domain": pa.string(),
        "text": pa.large_string(),
    }
    schema = pa.schema(names | {"batch": pa.string(), "reason": pa.string()})
    tables = [schema.empty_table(), *(table.cast(schema) for table in tables)]
    return pa.concat_tables(tables).combine_chunks(), count


def _dropped_rows(parsed: Any, fell: Any) -> Any:
    """Rows of `dropped_problems` for what fell: its id, reason and evidence."""
    of = parsed.take(pc.index_in(fell["id"].cast(pa.large_string()), parsed["id"].combine_chunks()))
    schema = SCHEMAS["dropped_problems"]
    columns = {"raw_problem_id": fell["id"], "domain": of["domain"], "problem": of["text"], "batch": of["batch"]}
    evidence = {name: fell[name] for name in ("reason", "survivor_id", "similarity", "matched_span")}
    return pa.table(columns | evidence).select(schema.names).cast(schema)
