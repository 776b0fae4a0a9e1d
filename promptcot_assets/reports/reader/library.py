"""What a page shows of one record: the row, what it comes from, and what became of it, in exact versions.

Joins follow the declared references (tables/references.py). Upwards a row refers to the versions that its own commit
was made from. Downwards every newest version is asked that was made from the record's table; rows that are about a
problem (its votes, rollouts, verdicts, candidates) are read on that problem's page.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from promptcot_assets.lake import LakeError, Ref, Row
from promptcot_assets.lake.data_version import identifier
from promptcot_assets.lake.log import Entry
from promptcot_assets.lineage import ancestry
from promptcot_assets.lineage.history import History, Rows
from promptcot_assets.tables import MODEL_ROLES, SCHEMAS, TABLES
from promptcot_assets.tables.references import (
    Reference,
    id_column,
    learned_rows,
    model_columns,
    references,
)

ABOUT = ("problem_id", "item_id")  # columns that name the problem a row is about: it is read on that problem's page
LEVELS_UP = 3  # a problem, its completion, the concept set, the seeds with these concepts
MOST_BELOW = 200  # rows of one table on one page; more are counted
SHARED_UP_TO = 20  # rows that are shared with others are shown up to these many
MODELS = "models"  # where the pages of models are, whatever their role

Key = tuple[str, str]  # table and id; of a model MODELS and its model id


@dataclass(frozen=True)
class Record:
    """One row of one exact version."""

    ref: Ref
    id: str
    values: Mapping[str, Any] = field(compare=False, hash=False)

    @property
    def table(self) -> str:
        return self.ref.asset

    @property
    def key(self) -> Key:
        return (MODELS if self.table in MODEL_ROLES else self.table), self.id

    @property
    def gist(self) -> str:
        """What shows best what the row is, as text."""
        if self.table in MODEL_ROLES:
            return self.id
        shown = self.values.get(TABLES[self.table].gist) if self.table in TABLES else None
        return ", ".join(map(str, shown)) if isinstance(shown, list) else "" if shown is None else str(shown)

    @property
    def models(self) -> dict[str, str]:
        """Column -> id of the model that wrote, judged or scored the row."""
        named = {column: self.values.get(column) for column in model_columns(self.table)}
        named["base"] = self.values.get("base") if self.table in MODEL_ROLES else None
        return {column: name for column, name in named.items() if name and name.partition("/")[0] in MODEL_ROLES}


@dataclass
class Joined:
    """A record with all that its page shows."""

    record: Record
    above: list[tuple[str, Record]] = field(default_factory=list)  # column of the reference, row there; nearest first
    below: dict[str, list[Record]] = field(default_factory=dict)  # table -> rows that refer to it
    more: dict[str, int] = field(default_factory=dict)  # table -> rows beyond those

    def rows(self) -> Iterator[Record]:
        """Every record that the page shows."""
        yield self.record
        yield from (record for _, record in self.above)
        for rows in self.below.values():
            yield from rows

    def up(self, *tables: str) -> list[Record]:
        return [record for _, record in self.above if record.table in tables]

    def characters(self, longest: int | None) -> int:
        """Characters of the texts on the page, of each `longest` at most."""
        rows = (self.record, *(row for rows in self.below.values() for row in rows))
        texts = (value for row in rows for value in row.values.values() if isinstance(value, str))
        return sum(len(text) if longest is None else min(len(text), longest) for text in texts)


class Library:
    """The records of one home. A context manager; not for several threads at once.

    Raises: LakeError when there is no lake, and on damaged files with version, file and mend.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.history = History(home)
        self._rows = Rows(self.history)
        self.near = cache(self.history.nearest)
        self._descends = cache(lambda entry: {(one.ref.asset, one.ref.partition) for one in self.near(entry)})

    def __enter__(self) -> Library:
        self._rows.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._rows.__exit__(*error)

    @cached_property
    def stale(self) -> dict[Ref, list[str]]:
        """Newest commits that are out of date, and why."""
        return ancestry.stale(self.history)

    def entries(self, table: str, partition: str | None = None) -> list[Entry]:
        """The newest commit of every partition (or one). Raises: LakeError naming what there is instead."""
        return ancestry.commits_named(self.history, table, partition)

    def load(self, entry: Entry, ids: Sequence[str]) -> list[Record]:
        """The rows with these ids, in their order; those that the version lacks are left out."""
        if not ids or not self._rows.has(entry, [id_column(entry.ref.asset)]):
            return []
        found = self._rows.records(entry, ids)
        return [Record(entry.ref, one, found[one]) for one in dict.fromkeys(ids) if one in found]

    def where(self, entry: Entry, condition: str, **parameters: Any) -> list[Record]:
        """The rows that fulfil an SQL condition of our own making."""
        if not self._rows.are_there(entry):
            return []
        column = id_column(entry.ref.asset)
        return [Record(entry.ref, row[column], row) for row in self._rows.where(entry, condition, **parameters)]

    def select(self, entry: Entry, columns: Sequence[str], condition: str = "true", **parameters: Any) -> list[Row]:
        """These columns of the rows that fulfil a condition; a column that the version lacks is null."""
        if not self._rows.are_there(entry):
            return []
        given = ", ".join(
            identifier(one) if self._rows.has(entry, [one]) else f"null as {identifier(one)}" for one in columns
        )
        return self._rows.where(entry, condition, given, **parameters)

    def find(self, table: str, row_id: str) -> Record:
        """The row in the newest version that has it, else in the last that had. Raises: LakeError when none has."""
        if table == MODELS:
            entry = self.history.models.get(row_id)
            found = self.load(entry, [row_id]) if entry else []
            if found:
                return found[0]
        for entry in sorted(
            self.history.of_asset(table),
            key=lambda one: (self.history.is_newest(one.ref), one.ref.version),
            reverse=True,
        ):
            if found := self.load(entry, [row_id]):
                return found[0]
        raise LakeError(f"{table} has no row {row_id!r} in {self.history.home}")

    def subjects(self, records: Sequence[Record]) -> dict[Record, Record]:
        """Of each record that is about a problem, the problem; the others are about themselves."""
        found: dict[Record, Record] = {}
        for ref, own in _by_ref(records).items():
            for reference in about(ref.asset):
                ((column, _),) = reference.columns
                named = {one.values[column] for one in own if one not in found and one.values.get(column)}
                there = {
                    one.id: one for other in self._nearest(ref, reference.to) for one in self.load(other, sorted(named))
                }
                found |= {one: there[one.values[column]] for one in own if one.values.get(column) in there}
        return {one: found.get(one, one) for one in records}

    def join(self, records: Sequence[Record]) -> list[Joined]:
        """Every record with what is above and below it; all at once, since a query answers for many."""
        pages = {record: Joined(record) for record in records}
        level = {record: [page] for record, page in pages.items()}
        for _ in range(LEVELS_UP):
            further: dict[Record, list[Joined]] = defaultdict(list)
            for record, via, other in self._above(list(level)):
                for page in level[record]:
                    if other not in [one for _, one in page.above] and other != page.record:
                        page.above.append((via, other))
                        further[other].append(page)
            level = further
        for record, other in self._below(records):
            below = pages[record].below.setdefault(other.table, [])
            if len(below) < MOST_BELOW:
                below.append(other)
            else:
                pages[record].more[other.table] = pages[record].more.get(other.table, 0) + 1
        return list(pages.values())

    def trained_on(self, entry: Entry, most: int) -> list[tuple[Entry, int, list[Record]]]:
        """The tables a model learned from: their commit, how many rows of it, and some of them from end to end."""
        found = []
        for given in self.history.inputs(entry):
            if given.record.checkpoint or given.ref.asset not in SCHEMAS or not self._rows.are_there(given):
                continue
            condition = learned_rows(given.ref.asset)
            ids = self._rows.ids(given, condition)
            spread = ids[:: max(1, -(-len(ids) // most))]
            found.append((given, len(ids), self.load(given, spread)))
        return found

    @staticmethod
    def model_columns_of(table: str) -> list[str]:
        return model_columns(table)

    def wrote(self, model: str) -> dict[str, int]:
        """Tables with rows that a model wrote, judged or scored, in the newest versions: how many."""
        counts: dict[str, int] = defaultdict(int)
        for (table, _), entry in self.history.newest.items():
            columns = [
                one for one in model_columns(table) if not entry.record.checkpoint and self._rows.has(entry, [one])
            ]
            if columns:
                named = " or ".join(f"{identifier(column)} = $model" for column in columns)
                counts[table] += len(self._rows.ids(entry, named, model=model))
        return {table: count for table, count in counts.items() if count}

    def behind(self, score: Record) -> list[Record]:
        """The judged answers that a score is the mean of: rows of the first table that it shares values with."""
        entry = self.history.entries[score.table, score.ref.version]
        for reference in (one for one in references(score.table) if one.shared):
            for other in self._nearest(score.ref, reference.to):
                if other.ref.partition != score.ref.partition:
                    continue
                pairs = self._rows.pairs(entry, reference, other)
                column = identifier(id_column(other.ref.asset))
                if pairs and (
                    rows := self.where(
                        other, f"{column} in (select other from ({pairs}) where own = $id) order by all", id=score.id
                    )
                ):
                    return rows
        return []

    def _nearest(self, ref: Ref, table: str) -> list[Entry]:
        return [one for one in self.near(self.history.entries[ref.asset, ref.version]) if one.ref.asset == table]

    def _above(self, records: Sequence[Record]) -> Iterator[tuple[Record, str, Record]]:
        for ref, own in _by_ref(records).items():
            entry = self.history.entries[ref.asset, ref.version]
            for reference in references(ref.asset):
                if reference.shared:
                    yield from self._shared_above(entry, reference, own)
                    continue
                ((column, _),) = reference.columns
                named = {one: _ids(one.values.get(column), column) for one in own}
                wanted = sorted({one for ids in named.values() for one in ids})
                there = {one.id: one for other in self._nearest(ref, reference.to) for one in self.load(other, wanted)}
                for record, ids in named.items():
                    yield from ((record, column, there[one]) for one in ids if one in there)

    def _shared_above(
        self, entry: Entry, reference: Reference, own: Sequence[Record]
    ) -> Iterator[tuple[Record, str, Record]]:
        if not reference.columns or about(reference.to):  # all rows of a table; or what the problem's page shows anyway
            return
        for other in self._nearest(entry.ref, reference.to):
            if (pairs := self._rows.pairs(entry, reference, other)) is None:
                continue
            ids = [one.id for one in own]
            grouped = (
                f"select own, list(other order by other) from ({pairs}) where own in (select unnest($ids)) group by own"
            )
            groups = dict(self._rows.database.execute(grouped, {"ids": ids}).fetchall())
            small = {one: group for one, group in groups.items() if len(group) <= SHARED_UP_TO}
            there = {
                one.id: one for one in self.load(other, sorted({one for group in small.values() for one in group}))
            }
            for record in own:
                yield from ((record, reference.name, there[one]) for one in small.get(record.id, []) if one in there)

    def _below(self, records: Sequence[Record]) -> Iterator[tuple[Record, Record]]:
        for (table, partition), own in _by_place(records).items():
            by_id = {one.id: one for one in own}
            for reference in referring_to(table):
                ((column, _),) = reference.columns
                for (asset, _), entry in self.history.newest.items():
                    if asset != reference.table or (table, partition) not in self._descends(entry):
                        continue
                    if not self._rows.has(entry, [column]):
                        continue
                    for row in self.where(entry, _refers(reference), ids=list(by_id)):
                        yield from ((by_id[one], row) for one in _ids(row.values[column], column) if one in by_id)


@cache
def about(table: str) -> tuple[Reference, ...]:
    """The references of a table that say which problem a row is about; none where a row has a page of its own."""
    return tuple(one for one in references(table) if not one.shared and one.name in ABOUT)


@cache
def referring_to(table: str) -> tuple[Reference, ...]:
    """References that name rows of `table` by their ids."""
    return tuple(one for other in SCHEMAS for one in references(other) if one.to == table and not one.shared)


def _refers(reference: Reference) -> str:
    ((column, _),) = reference.columns
    if not column.endswith("_ids"):
        return f"{identifier(column)} in (select unnest($ids))"
    return f"""list_has_any(from_json({identifier(column)}, '["VARCHAR"]'), $ids)"""


def _ids(value: Any, column: str) -> list[str]:
    """The ids that a column holds."""
    if value is None:
        return []
    return [str(one) for one in json.loads(value)] if column.endswith("_ids") else [value]


def _by_ref(records: Iterable[Record]) -> dict[Ref, list[Record]]:
    found: dict[Ref, list[Record]] = defaultdict(list)
    for record in records:
        found[record.ref].append(record)
    return found


def _by_place(records: Iterable[Record]) -> dict[tuple[str, str], list[Record]]:
    found: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        found[record.table, record.ref.partition].append(record)
    return found
