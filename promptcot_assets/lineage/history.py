"""Every commit of a home and what it was made from, read from the tables' logs: no catalogue and no writing needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache, cached_property
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

from promptcot_assets.lake import LakeError, Ref
from promptcot_assets.lake.data_version import identifier, quoted
from promptcot_assets.lake.lineage import levels, reached
from promptcot_assets.lake.log import Entry, Log, newest_by_partition
from promptcot_assets.tables import TABLES
from promptcot_assets.tables.references import Reference, id_column, owns_its_id, values

Key = tuple[str, int]  # asset and version


class History:
    """The commits of the lake in `home`.

    Raises: LakeError when there is no lake.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self._log = Log(home / "lake")
        self.assets = self._log.assets()
        if not self.assets:
            raise LakeError(f"there is no lake in {home} yet; run `promptcot run`, or set PROMPTCOT_HOME")

    @cached_property
    def entries(self) -> dict[Key, Entry]:
        """Every commit, those of one table oldest first."""
        every = [entry for asset in self.assets for entry in self._log.entries(asset)]
        return {(entry.ref.asset, entry.ref.version): entry for entry in every}

    @cached_property
    def newest(self) -> dict[tuple[str, str], Entry]:
        """(asset, partition) -> its newest commit."""
        current = {asset: newest_by_partition(self.of_asset(asset)) for asset in self.assets}
        return {(asset, partition): entry for asset, own in current.items() for partition, entry in own.items()}

    def of_asset(self, asset: str) -> list[Entry]:
        """The commits of one table, oldest first."""
        return [entry for entry in self.entries.values() if entry.ref.asset == asset]

    def is_newest(self, ref: Ref) -> bool:
        return self.newest[ref.asset, ref.partition].ref == ref

    def has_file(self, entry: Entry) -> bool:
        """False when garbage collection took the rows of this superseded version."""
        return self._log.path(entry).is_file()

    def file(self, entry: Entry) -> Path:
        """The rows of a version. Raises: LakeError when they are no longer what was committed."""
        return self._log.check(entry)

    def inputs(self, entry: Entry) -> list[Entry]:
        """What a commit names as its inputs, as far as it is in this lake."""
        keys = ((ref.asset, ref.version) for ref in entry.commit.provenance.inputs)
        return [self.entries[key] for key in keys if key in self.entries]

    def nearest(self, entry: Entry) -> list[Entry]:
        """What `entry` was made from, directly or not: of every table and partition the nearest version, nearest first.

        Farther versions are those that, say, a model it read was trained on: not the rows that its own rows name.
        """
        found: dict[tuple[str, str], list[Entry]] = {}
        for level in list(levels([entry], self.inputs))[1:]:
            first = {(one.ref.asset, one.ref.partition) for one in level} - found.keys()
            for one in level:
                if (one.ref.asset, one.ref.partition) in first:
                    found.setdefault((one.ref.asset, one.ref.partition), []).append(one)
        return [one for own in found.values() for one in own]

    @cached_property
    def live(self) -> list[Entry]:
        """The newest commit of every partition and all that these were made from, inputs before what they made."""
        used = reached(self.newest.values(), self.inputs)
        order = TopologicalSorter({entry.ref: [one.ref for one in self.inputs(entry)] for entry in used}).static_order()
        return [self.entries[ref.asset, ref.version] for ref in order]

    @cached_property
    def models(self) -> dict[str, Entry]:
        """Model id -> the newest commit of that checkpoint."""
        return {model_id(entry): entry for entry in self.entries.values() if entry.record.checkpoint}


def model_id(entry: Entry) -> str:
    """The id of the model that was committed, "" for a plain table."""
    return entry.record.checkpoint.removeprefix("models/")


class Rows:
    """Rows of exact versions, read by DuckDB straight from their files; a context manager.

    A file is held against the hash that was committed before anything reads it. Raises: LakeError naming version, file
    and mend.
    """

    def __init__(self, history: History) -> None:
        self.history = history
        self.database = duckdb.connect(config={"threads": 2})
        self._columns = cache(lambda path: frozenset(pq.read_schema(path).names))

    def __enter__(self) -> Rows:
        return self

    def __exit__(self, *_: object) -> None:
        self.database.close()

    def are_there(self, entry: Entry) -> bool:
        """False when garbage collection took the file of this superseded version."""
        return self.history.has_file(entry)

    def source(self, entry: Entry) -> str:
        """SQL of a commit's rows."""
        return f"read_parquet({quoted(str(self.history.file(entry)))}, hive_partitioning=false)"

    def has(self, entry: Entry, columns: Iterable[str]) -> bool:
        """Whether the rows are there and have these columns, which an old version may lack."""
        return self.are_there(entry) and set(columns) <= self._columns(self.history.file(entry))

    def pairs(self, own: Entry, reference: Reference, other: Entry) -> str | None:
        """SQL of (own, other): the ids of rows of two commits that `reference` connects. None: it cannot be told."""
        mine, theirs = [id_column(own.ref.asset)], [id_column(other.ref.asset)]
        mine += [column for column, _ in reference.columns]
        theirs += [column for _, column in reference.columns]
        if not (self.has(own, mine) and self.has(other, theirs)):
            return None
        on = " and ".join(f"mine.k{at} = theirs.k{at}" for at in range(1, len(mine))) or "true"
        left, right = self._keys(own, mine), self._keys(other, theirs)
        return f"select distinct mine.k0 as own, theirs.k0 as other from ({left}) mine join ({right}) theirs on {on}"

    def joins(self, own: Entry, references: Iterable[Reference]) -> Iterator[tuple[Reference, Entry, str | None]]:
        """Each reference with every version that `own` was made from and that it leads to, and their `pairs`."""
        nearest = self.history.nearest(own)
        for reference in references:
            for other in (one for one in nearest if one.ref.asset == reference.to):
                yield reference, other, self.pairs(own, reference, other)

    def ids(self, entry: Entry, condition: str, **parameters: object) -> list[str]:
        """The ids of the rows that fulfil an SQL condition."""
        sql = f"select {identifier(id_column(entry.ref.asset))} from {self.source(entry)} where {condition}"
        return [one for (one,) in self.database.execute(sql, parameters).fetchall()]

    def records(self, entry: Entry, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """id -> all columns."""
        column = id_column(entry.ref.asset)
        found = self.where(entry, f"{identifier(column)} in (select unnest($ids))", ids=list(ids))
        return {row[column]: row for row in found}

    def where(self, entry: Entry, condition: str, columns: str = "*", **parameters: object) -> list[dict[str, Any]]:
        """The rows that fulfil an SQL condition (which may go on: group by, order by), as dicts of these columns."""
        result = self.database.execute(f"select {columns} from {self.source(entry)} where {condition}", parameters)
        names = [name for name, *_ in result.description or []]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]

    def gists(self, entry: Entry, ids: Sequence[str]) -> dict[str, Any]:
        """id -> the column that shows best what the row is."""
        column = TABLES[entry.ref.asset].gist
        if not self.has(entry, [column]):
            return {}
        own = identifier(id_column(entry.ref.asset))
        found = self.database.execute(
            f"select {own}, {identifier(column)} from {self.source(entry)} where {own} in (select unnest($ids))",
            {"ids": list(ids)},
        )
        return dict(found.fetchall())

    def find(self, row_id: str) -> list[Entry]:
        """The newest commits that hold the row `row_id`, else the last superseded one that did.

        Raises: LakeError when no table has ever held it.
        """
        current = [entry for entry in self.history.newest.values() if self._holds(entry, row_id)]
        if current:
            return current
        for entry in sorted(self.history.entries.values(), key=lambda entry: entry.commit.timestamp, reverse=True):
            if self._holds(entry, row_id):
                return [entry]
        newest = self.history.newest.values()
        gone = [str(one.ref) for one in newest if one.ref.rows and _owns_ids(one) and not self.are_there(one)]
        raise LakeError(
            f"no table in {self.history.home} has a row {row_id!r}; a row id is the 16 hex digits in a table's id "
            'column, a model id is role/version (see `promptcot sql "select model_id from models"`)'
            + (f"; not looked in: {', '.join(gone)}, whose files are gone; restore them from a copy" if gone else "")
        )

    def _holds(self, entry: Entry, row_id: str) -> bool:
        if not _owns_ids(entry):
            return False
        column = id_column(entry.ref.asset)
        return self.has(entry, [column]) and bool(self.ids(entry, f"{identifier(column)} = {quoted(row_id)}"))

    def _keys(self, entry: Entry, columns: Sequence[str]) -> str:
        keys = ", ".join(f"{values(entry.ref.asset, column)} as k{at}" for at, column in enumerate(columns))
        return f"select {keys} from {self.source(entry)}"


def _owns_ids(entry: Entry) -> bool:
    """Whether the rows of a commit, which is no model's, are of a table that gives them their ids."""
    asset = entry.ref.asset
    return asset in TABLES and not entry.record.checkpoint and owns_its_id(asset)
