"""A bad row is found: everything that came of it, and the runs that heal it.

Rows are followed along the ids they carry, as in trace.py, but in SQL, so that a table of millions is no trouble. What
a model trained on such a row wrote is counted apart: it is all the model ever wrote, and mostly none the worse for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from promptcot_assets.lake import Ref
from promptcot_assets.lake.data_version import identifier, quoted
from promptcot_assets.lake.log import Entry
from promptcot_assets.lineage.ancestry import stale
from promptcot_assets.lineage.backfill import Place, Run, environment, runs, with_what_lies_between
from promptcot_assets.lineage.history import History, Rows, model_id
from promptcot_assets.lineage.trace import Node, carriers, occurrences, starts_of
from promptcot_assets.tables import SCHEMAS
from promptcot_assets.tables.references import id_column, learned_rows, model_columns, references
from promptcot_assets.text.printing import short, table

EXAMPLES = 3


@dataclass(frozen=True)
class Affected:
    """Rows of one newest version: the first `named` of them along ids, the other `learned` only through a model."""

    ref: Ref
    named: int
    learned: int
    rows: tuple[str, ...]  # ids of all of them


@dataclass
class Recall:
    """Everything downstream of one row."""

    start: list[Node]
    text: str  # the bad row, for people
    tables: list[Affected] = field(default_factory=list)
    models: list[dict[str, Any]] = field(default_factory=list)
    scores: list[dict[str, Any]] = field(default_factory=list)
    unreadable: list[Ref] = field(default_factory=list)  # versions whose rows garbage collection took
    mend: str = ""
    seed: int = 0  # of the row's table, and so of the runs that heal
    places: list[Place] = field(default_factory=list)  # what has to be made anew
    backfill: list[str] = field(default_factory=list)  # the commands that do it, inputs first


def recall(home: Path, row_id: str) -> Recall:
    """Everything in the newest versions that came of a row, and the commands that make it anew.

    Raises: LakeError when no table has this row.
    """
    history = History(home)
    with Rows(history) as rows:
        starts = starts_of(rows, row_id)
        first = history.entries[starts[0].ref.asset, starts[0].ref.version]
        bad = [one for start in starts for one in occurrences(rows, start)]
        bad += [seed for start in starts for seed in carriers(rows, start)]
        record = {} if first.record.checkpoint else rows.records(first, [row_id])[row_id]
        found = Recall(starts, short(rows.gists(first, [row_id]).get(row_id, "")) if record else "")
        models = _spread(rows, bad, found)
        _count(rows, found)
        found.models = [_model_json(history, one) for one in models]
        found.mend = _mend(first, record)
        found.seed = history.newest[first.ref.asset, first.ref.partition].commit.provenance.seed
        found.places = sorted(_to_heal(history, found, bad))
        found.backfill = [run.command for run in runs(history, set(found.places))]
    return found


def current(home: Path, row_id: str) -> dict[Ref, dict[str, Any]]:
    """The row or model as the newest versions hold it; empty when it is only in superseded ones.

    Raises: LakeError when no table has ever had it.
    """
    history = History(home)
    with Rows(history) as rows:
        newest = [history.entries[node.ref.asset, node.ref.version] for node in _newest_starts(rows, row_id)]
        return {entry.ref: rows.records(entry, [row_id])[row_id] for entry in newest}


def made_in(home: Path, row_id: str) -> set[Place]:
    """Where a mended source comes in: the row's own table, for a concept also that of the seeds that carry it."""
    with Rows(History(home)) as rows:
        starts = _newest_starts(rows, row_id)
        nodes = [*starts, *(seed for start in starts for seed in carriers(rows, start))]
    return {(node.ref.asset, node.ref.partition) for node in nodes}


def left_to_heal(home: Path, row_id: str) -> list[Run]:
    """The runs that make what came of the row anew, once its own table has been: what is out of date now.

    A row that was corrected keeps its id; what was made of it since is up to date and is left alone.
    """
    history = History(home)
    outdated = {(ref.asset, ref.partition) for ref in stale(history)}
    return runs(history, outdated.intersection(recall(home, row_id).places))


def _newest_starts(rows: Rows, row_id: str) -> list[Node]:
    return [node for node in starts_of(rows, row_id) if rows.history.is_newest(node.ref)]


# ---- what came of it
def _spread(rows: Rows, bad: Iterable[Node], found: Recall) -> list[Entry]:
    """Fill the SQL table bad(asset, version, row, learned) for all versions in use; the models that learned from it."""
    sql, models = rows.database, dict[str, Entry]()
    sql.execute("create table bad(asset varchar, version bigint, row varchar, learned boolean)")
    for node in dict.fromkeys(bad):
        entry = rows.history.entries[node.ref.asset, node.ref.version]
        if entry.record.checkpoint:
            models[model_id(entry)] = entry
        else:
            sql.execute("insert into bad values (?, ?, ?, false)", [node.ref.asset, node.ref.version, node.row])
    for entry in rows.history.live:
        if entry.record.checkpoint:
            if any(model_id(one) in models or _trained(rows, one) for one in rows.history.inputs(entry)):
                models[model_id(entry)] = entry
        elif not rows.are_there(entry):
            found.unreadable.append(entry.ref)
        elif parts := [*_named(rows, entry), *_written(rows, entry, models)]:
            sql.execute(
                f"insert into bad select $asset, $version, own, bool_and(learned) from ({' union all '.join(parts)}) "
                "where own not in (select row from bad where asset = $asset and version = $version) group by own",
                {"asset": entry.ref.asset, "version": entry.ref.version},
            )
    return list(models.values())


def _rows(entry: Entry) -> str:
    return f"(select row, learned from bad where asset = {quoted(entry.ref.asset)} and version = {entry.ref.version})"


def _trained(rows: Rows, given: Entry) -> bool:
    """Whether a model trained on this table has seen a bad row."""
    if given.record.checkpoint or not rows.are_there(given):
        return False
    column, condition = identifier(id_column(given.ref.asset)), learned_rows(given.ref.asset)
    seen = f"select 1 from {rows.source(given)} where {column} in (select row from {_rows(given)}) and {condition}"
    return rows.database.execute(f"{seen} limit 1").fetchone() is not None


def _named(rows: Rows, entry: Entry) -> Iterable[str]:
    """SQL of the rows of `entry` that refer to bad rows."""
    for _, other, pairs in rows.joins(entry, references(entry.ref.asset)):
        if pairs:
            yield f"select own, learned from ({pairs}) join {_rows(other)} on row = other"


def _written(rows: Rows, entry: Entry, models: dict[str, Entry]) -> Iterable[str]:
    """SQL of the rows of `entry` that a bad model wrote, judged or shaped."""
    if not models or entry.ref.asset not in SCHEMAS:
        return
    own = identifier(id_column(entry.ref.asset))
    columns = [column for column in model_columns(entry.ref.asset) if rows.has(entry, [column])]
    names = ", ".join(map(quoted, models))
    if columns:
        condition = " or ".join(f"{identifier(column)} in ({names})" for column in columns)
        yield f"select {own} as own, true as learned from {rows.source(entry)} where {condition}"
    elif any(model_id(one) in models for one in rows.history.inputs(entry)):
        yield f"select {own} as own, true as learned from {rows.source(entry)}"


def _count(rows: Rows, found: Recall) -> None:
    counts = rows.database.execute(
        "select asset, version, count(*) filter (not learned), count(*) filter (learned), "
        "list(row order by learned, row) from bad group by all"
    )
    by_version = {(asset, version): counted for asset, version, *counted in counts.fetchall()}
    for entry in (one for one in rows.history.live if rows.history.is_newest(one.ref)):
        if counted := by_version.get((entry.ref.asset, entry.ref.version)):
            named, learned, ids = counted
            found.tables.append(Affected(entry.ref, named, learned, tuple(ids)))
            if entry.ref.asset == "benchmark_scores":
                records = rows.records(entry, ids)
                names = ("benchmark", "stage", "metric", "value", "model")
                found.scores += [
                    {"score_id": one, "partition": entry.ref.partition, "through_a_model": one not in ids[:named]}
                    | {name: record[name] for name in names}
                    for one, record in sorted(records.items())
                ]


def _model_json(history: History, entry: Entry) -> dict[str, Any]:
    return {"model_id": model_id(entry), "partition": entry.ref.partition, "newest": history.is_newest(entry.ref)}


# ---- how to heal it
def _mend(entry: Entry, record: dict[str, Any]) -> str:
    asset = entry.ref.asset
    if asset == "seed_problems":
        source = record["source"]
        return f"remove or correct row {record['source_row']} of {source}, or leave {source} out of the profile"
    if asset == "benchmark_items":
        return f"remove or correct the item in {record['source']}"
    if asset == "concept_corpus":
        return f"remove or correct the concept {record['concept']!r} in the sources of the seed problems that carry it"
    return (
        f"{asset} is computed: the same inputs, settings and seed give the same row again; "
        "mend what made it so (an input, a setting, the code and its code_version)"
    )


def _to_heal(history: History, found: Recall, bad: Iterable[Node]) -> set[Place]:
    """What holds bad rows or learned from them now, and what lies between, so that the repair gets through."""
    places = {(one.ref.asset, one.ref.partition) for one in found.tables}
    places |= {(node.ref.asset, node.ref.partition) for node in bad if history.is_newest(node.ref)}
    names = {one["model_id"] for one in found.models}
    places |= {place for place, entry in history.newest.items() if model_id(entry) in names}
    return with_what_lies_between(history, places)


# ---- what is printed
def as_text(home: Path, found: Recall) -> str:
    """Counts, models, scores, then what to do."""
    lines = [f"{found.start[0].ref} {found.start[0].row}  {found.text}".rstrip(), ""]
    if found.tables:
        rows = [
            (str(one.ref), one.ref.rows, one.named, one.learned, " ".join(one.rows[:EXAMPLES])) for one in found.tables
        ]
        lines += [table(("table", "rows", "name it", "through a model", "for example"), rows), ""]
    if found.models:
        models = [(one["model_id"], one["partition"], "" if one["newest"] else "superseded") for one in found.models]
        lines += [table(("model trained on it", "partition", ""), models), ""]
    if found.scores:
        names = ("benchmark", "stage", "metric", "value", "model")
        lines += ["scores that rest on it", table(names, [[one[name] for name in names] for one in found.scores]), ""]
    if found.unreadable:
        lines += [f"not looked into, their rows were garbage-collected: {', '.join(map(str, found.unreadable))}", ""]
    if found.backfill:
        commands = (environment(home, found.seed), *found.backfill)
        lines += [f"To heal it, {found.mend}; then:", *(f"  {line}" for line in commands)]
    else:
        lines += ["Nothing is left to heal: no newest version rests on it."]
    return "\n".join(lines)
