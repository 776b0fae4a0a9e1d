"""`promptcot diff`: rows gained, lost and changed between two versions or partitions of a table, and why.

Rows are the same row when they have the same id. Ids are hashes of what a row is made of, so a rollout of another model
has another id: what is left over on both sides is paired by what it is about (the rows that it names, its attempt,
stage, series ...), where that is one row on either side. Why is read from lineage: what differs between the commits
(settings, code, seed, inputs, and so on upwards), and for each row whether what it comes from differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from promptcot_assets.lake import LakeError, Ref
from promptcot_assets.lake.data_version import identifier, quoted
from promptcot_assets.lake.disk import draft_beside
from promptcot_assets.lake.lineage import levels
from promptcot_assets.lake.log import Entry
from promptcot_assets.lineage.ancestry import commits_named
from promptcot_assets.lineage.changes import changes, input_pairs
from promptcot_assets.lineage.history import History, Rows
from promptcot_assets.tables import TABLES, made_with
from promptcot_assets.tables.references import id_column, references
from promptcot_assets.text.printing import Branch, short, tree

ABOUT = ("domain", "attempt", "stage", "benchmark", "metric", "series", "round", "split", "step", "concept", "seed")
REASONS = ("drop_reason", "reason")  # columns that say why a row is not in another table of its step
SHOWN = 10  # rows of each kind in print and in the JSON document; --out has all


@dataclass(frozen=True)
class Cause:
    """One thing that differs between the commits that made the two sides, and below an input what differs there."""

    what: str
    before: str | None
    after: str | None
    because: tuple[Cause, ...] = ()


@dataclass(frozen=True)
class Difference:
    """What `after` has and has not that `before` had.

    columns: of changed rows, how many differ in each column; added, removed: columns of one side alone; why: of lost,
    gained and changed rows, how many of each reason; rows: some of them, `{change, id, id_before, why, values}`.
    """

    before: list[Ref]
    after: list[Ref]
    same: int
    gained: int
    lost: int
    changed: int
    paired_by: list[str]
    columns: dict[str, int]
    added: list[str]
    removed: list[str]
    why: dict[str, dict[str, int]]
    causes: list[Cause]
    rows: list[dict[str, Any]]


def difference(home: Path, before: str, after: str | None = None, out: Path | None = None) -> Difference:
    """Compare two versions, partitions or all newest partitions of one table, named as `promptcot lineage` prints them.

    after: left out, `before` is compared with the commit that it replaced. out: a Parquet file for every row that
    differs, `change, id, id_before, column, before, after, why`, a row a column; values are JSON.

    Raises: LakeError for names that are not there or are of two tables, for rows that garbage collection took, and
    when `out` cannot be written.
    """
    history = History(home)
    sides = _sides(history, before, after)
    with Rows(history) as rows:
        compared = _Compared(rows, *sides)
        if out is not None:
            compared.write(out)
        return compared.found()


def _sides(history: History, before: str, after: str | None) -> tuple[list[Entry], list[Entry]]:
    second = commits_named(history, before if after is None else after, None)
    if after is not None:
        first = commits_named(history, before, None)
    else:
        earlier: dict[str, list[Entry]] = {one.ref.partition: [] for one in second}
        for entry in history.of_asset(second[0].ref.asset):
            for one in second:
                if entry.ref.partition == one.ref.partition and entry.ref.version < one.ref.version:
                    earlier[one.ref.partition].append(entry)
        first = [own[-1] for own in earlier.values() if own]
        second = [one for one in second if earlier[one.ref.partition]]
        if not first:
            raise LakeError(f"{before} has replaced nothing: nothing of it has an earlier commit; name two")
    assets = {first[0].ref.asset, second[0].ref.asset}
    if len(assets) > 1:
        raise LakeError(f"{before} and {after} are of two tables; name versions or partitions of one")
    if assets - TABLES.keys():
        raise LakeError(f"{assets.pop()} is no table that this code declares; `promptcot sql` compares any two")
    return first, second


class _Compared:
    """The two sides as tables of a DuckDB of its own, and what is the same row in both."""

    def __init__(self, rows: Rows, before: Sequence[Entry], after: Sequence[Entry]) -> None:
        self.rows, self.base = rows, rows.database
        self.before, self.after = list(before), list(after)
        self.table = TABLES[before[0].ref.asset]
        self.id = identifier(id_column(self.table.name))
        self.names = {side: self._view(side, own) for side, own in (("a", before), ("b", after))}
        self.common = [name for name in self.names["a"] if name in self.names["b"]]
        if id_column(self.table.name) not in self.common:
            raise LakeError(f"{self.table.name}: a version without its id column cannot be compared row by row")
        self._match()
        self._reasons()

    def _view(self, side: str, entries: Sequence[Entry]) -> list[str]:
        for entry in entries:
            if not self.rows.are_there(entry):
                raise LakeError(f"{entry.ref}: its rows are gone (superseded, and taken by `promptcot gc`)")
        files = ", ".join(quoted(str(self.rows.history.file(entry))) for entry in entries)
        self.base.execute(
            f"create temp view {side} as select * from read_parquet([{files}], hive_partitioning=false, "
            "union_by_name=true)"
        )
        return [name for name, *_ in self.base.execute(f"describe {side}").fetchall()]

    def _match(self) -> None:
        """Table `pairs` (a, b): rows that are the same, by their ids or by what they are about; `lost`, `gained`."""
        self.base.execute(
            f"create temp table pairs as select a.{self.id} as a, b.{self.id} as b, true as by_id from a join b "
            f"on a.{self.id} = b.{self.id}"
        )
        declared = {column.name: column for column in self.table.columns}
        own = [name for name in self.common if (column := declared.get(name)) and not column.unique
               and (column.rows_of or name in ABOUT)]  # fmt: skip
        self.paired_by: list[str] = []
        if self.table.checkpoint:
            own = []
        if own or self.table.checkpoint:
            key = ", ".join(map(identifier, own)) or "1"
            for side in "ab":
                self.base.execute(
                    f"create temp table rest_{side} as select min({self.id}) as id, ({key},) as about from {side} "
                    f"where {self.id} not in (select {side} from pairs) group by about having count(*) = 1"
                    if own else
                    f"create temp table rest_{side} as select {self.id} as id, 1 as about from {side} "
                    f"where {self.id} not in (select {side} from pairs) and (select count(*) from {side}) = 1"
                )  # fmt: skip
            self.base.execute(
                "insert into pairs select rest_a.id, rest_b.id, false from rest_a join rest_b "
                "on rest_a.about is not distinct from rest_b.about"
            )
            if self._one("select count(*) from pairs where not by_id"):
                self.paired_by = own or ["model"]
        unequal = [f"a.{identifier(name)} is distinct from b.{identifier(name)}" for name in self._compared_columns()]
        listed = ", ".join(
            f"case when {test} then {quoted(name)} end"
            for name, test in zip(self._compared_columns(), unequal, strict=True)
        )
        self.base.execute(
            "create temp table changed as select pairs.a, pairs.b, "
            f"list_filter([{listed}], lambda x: x is not null)::varchar[] as columns from pairs "
            f"join a on a.{self.id} = pairs.a join b on b.{self.id} = pairs.b "
            f"where not by_id or {' or '.join(unequal) or 'false'}"
        )
        for name, side in (("lost", "a"), ("gained", "b")):
            self.base.execute(
                f"create temp table {name} as select {self.id} as id from {side} "
                f"where {self.id} not in (select {side} from pairs)"
            )

    def _compared_columns(self) -> list[str]:
        return [name for name in self.common if name != id_column(self.table.name)]

    def _reasons(self) -> None:
        """Table `whys` (change, id, why): of every row that differs one reason, the one that lies farthest up."""
        self.base.execute("create temp table whys (change varchar, id varchar, why varchar)")
        before, after = self.before, self.after
        self._differing("lost", "a", "select id from lost")
        self._sources("lost", before, after, "is no longer in what after was made of")
        self._fallen(after)
        self._differing("gained", "b", "select id from gained")
        self._sources("gained", after, before, "is not in what before was made of")
        self._differing("changed", "b", "select b from changed")
        self._sources("changed", after, before, "differs")
        self._verdicts()
        for change in ("lost", "gained", "changed"):
            self._differing(change, "a" if change == "lost" else "b",
                            f"select {'b' if change == 'changed' else 'id'} from {change}")  # fmt: skip
            own = "what it comes from is in both, so it is this step" if references(self.table.name) else "this step"
            self._say(change, "true", own)

    def _differing(self, change: str, side: str, ids: str) -> None:
        """View `these`: the rows of one kind, their id as `id`."""
        self.base.execute(
            f"create or replace temp view these as select {self.id} as id, * exclude ({self.id}) from {side} "
            f"where {self.id} in ({ids})"
        )

    def _sources(self, change: str, own: Sequence[Entry], other: Sequence[Entry], word: str) -> None:
        """Says it of rows that name a row which the other side was not made of, or was made of in another form."""
        for reference in references(self.table.name):
            if reference.shared or reference.columns[0][0].endswith("_ids"):
                continue
            ((column, key),), to = reference.columns, reference.to
            named = "id" if column == id_column(self.table.name) else column
            here, there = self._inputs(own, to), self._inputs(other, to)
            if here is None or there is None or named not in self._names("these"):
                continue
            column, key = identifier(named), identifier(key)
            if change == "changed":
                both = ", ".join(map(identifier, sorted(self._names(here) & self._names(there))))
                test = f"in (select {key} from (select {both} from {here} except select {both} from {there}))"
            else:
                test = f"in (select {key} from {here}) and {column} not in (select {key} from {there})"
            self._say(change, f"{column} {test}", f"the row of {to} that it comes from {word}")

    def _fallen(self, after: Sequence[Entry]) -> None:
        """Says it of lost rows that another table of the step has since, with its reason."""
        for name, reason, key in self._siblings():
            made = [entry for one in after if (entry := self._made_beside(one, name)) and self.rows.are_there(entry)]
            if made:
                self.base.execute(
                    f"insert into whys select 'lost', id, 'in {name} of after: ' || told.why from these join "
                    f"(select {identifier(key)} as key, min({identifier(reason)}) as why from {self._files(made)} "
                    f"group by 1) told on told.key = these.{identifier(key)} "
                    "where id not in (select id from whys where change = 'lost')"
                )

    def _verdicts(self) -> None:
        """Says it of changed rows whose own reason for not being used has come, gone or become another."""
        for column in REASONS:
            if column in self.common:
                name = identifier(column)
                self.base.execute(
                    f"insert into whys select 'changed', changed.b, coalesce('{column} is ' || y.{name}, "
                    f"'{column} is gone') from changed join a x on x.{self.id} = changed.a "
                    f"join b y on y.{self.id} = changed.b where x.{name} is distinct from y.{name} "
                    "and changed.b not in (select id from whys where change = 'changed')"
                )

    def _say(self, change: str, condition: str, why: str) -> None:
        self.base.execute(
            f"insert into whys select {quoted(change)}, id, {quoted(why)} from these where ({condition}) "
            f"and id not in (select id from whys where change = {quoted(change)})"
        )

    def _inputs(self, entries: Sequence[Entry], asset: str) -> str | None:
        """SQL of the nearest rows of `asset` that these commits were made from; None when none can be read."""
        nearest: dict[Ref, Entry] = {}
        for entry in entries:
            above = levels([entry], self.rows.history.inputs)
            of_asset = ({one.ref: one for one in level if one.ref.asset == asset} for level in above)
            nearest |= next(filter(None, of_asset), {})
        own = list(nearest.values())
        return self._files(own) if own and all(map(self.rows.are_there, own)) else None

    def _files(self, entries: Sequence[Entry]) -> str:
        files = ", ".join(quoted(str(self.rows.history.file(entry))) for entry in entries)
        return f"read_parquet([{files}], hive_partitioning=false, union_by_name=true)"

    def _names(self, source: str) -> set[str]:
        return {name for name, *_ in self.base.execute(f"describe from {source}").fetchall()}

    def _siblings(self) -> Iterator[tuple[str, str, str]]:
        """Tables of the same step that say why a row fell: name, column of the reason, and the column they share."""
        for name in made_with(self.table.name):
            if name != self.table.name:
                columns = [column.name for column in TABLES[name].columns]
                reason = next((one for one in REASONS if one in columns), None)
                key = id_column(name)
                if reason and key in self.common:
                    yield name, reason, key

    def _made_beside(self, entry: Entry, asset: str) -> Entry | None:
        """The commit of another table that the same computation made."""
        own = [one for one in self.rows.history.of_asset(asset) if one.ref.partition == entry.ref.partition
               and one.commit.fingerprint == entry.commit.fingerprint]  # fmt: skip
        return own[-1] if own else None

    def _one(self, sql: str) -> int:
        (value,) = self.base.execute(sql).fetchone() or (0,)
        return int(value)

    def found(self) -> Difference:
        counts = {name: self._one(f"select count(*) from {name}") for name in ("lost", "gained", "changed", "pairs")}
        columns = self.base.execute(
            "select name, count(*) from (select unnest(columns) as name from changed) group by name order by 2 desc, 1"
        ).fetchall()
        why: dict[str, dict[str, int]] = {}
        for change, reason, count in self.base.execute(
            "select change, why, count(*) from whys group by all order by 1, 3 desc, 2"
        ).fetchall():
            why.setdefault(change, {})[reason] = count
        a, b = self.names["a"], self.names["b"]
        return Difference(
            [one.ref for one in self.before], [one.ref for one in self.after], counts["pairs"] - counts["changed"],
            counts["gained"], counts["lost"], counts["changed"], self.paired_by, dict(columns),
            [name for name in b if name not in a], [name for name in a if name not in b], why,
            _causes(self.rows.history, self.before, self.after), list(self._some()),
        )  # fmt: skip

    def _some(self) -> Iterator[dict[str, Any]]:
        gist = identifier(self.table.gist)
        for change, side in (("lost", "a"), ("gained", "b")):
            shown = gist if self.table.gist in self.names[side] else self.id
            for row_id, value, why in self.base.execute(
                f"select {self.id}, {shown}, why from {side} join whys on change = {quoted(change)} and id = {self.id} "
                f"order by 1 limit {SHOWN}"
            ).fetchall():
                yield {"change": change, "id": row_id, "why": why, "values": {self.table.gist: value}}
        for before, after, columns, why in self.base.execute(
            "select a, b, columns, why from changed join whys on change = 'changed' and id = b "
            f"order by 2 limit {SHOWN}"
        ).fetchall():
            values = {name: (self._value("a", before, name), self._value("b", after, name)) for name in columns}
            yield {"change": "changed", "id": after, "id_before": before, "why": why,
                   "values": {name: {"before": one, "after": two} for name, (one, two) in values.items()}}  # fmt: skip

    def _value(self, side: str, row_id: str, name: str) -> Any:
        (value,) = self.base.execute(
            f"select {identifier(name)} from {side} where {self.id} = $id", {"id": row_id}
        ).fetchone() or (None,)
        return value

    def write(self, out: Path) -> None:
        """Every row that differs, a row a column; the file appears when it is complete."""
        json_of = "to_json({}.{})::varchar".format
        parts = [
            f"select {quoted(change)} as change, x.{self.id} as id, null::varchar as id_before, "
            f'{quoted(name)} as "column", '
            + (f"{json_of('x', identifier(name))} as before, null as after" if side == "a"
               else f"null::varchar as before, {json_of('x', identifier(name))} as after")
            + f", why from {side} x join whys on change = {quoted(change)} and whys.id = x.{self.id}"
            for change, side in (("lost", "a"), ("gained", "b"))
            for name in self.names[side] if name != id_column(self.table.name)
        ] + [
            f"select 'changed', changed.b, changed.a, {quoted(name)}, {json_of('a', identifier(name))}, "
            f"{json_of('b', identifier(name))}, why from changed join a on a.{self.id} = changed.a join b on "
            f"b.{self.id} = changed.b join whys on change = 'changed' and whys.id = changed.b "
            f"where list_contains(columns, {quoted(name)})"
            for name in self._compared_columns()
        ]  # fmt: skip
        part = draft_beside(out)
        try:
            self.base.execute(
                f"copy (select * from ({' union all '.join(parts)}) order by 1, 2, 4) "
                f"to {quoted(str(part))} (format parquet, compression zstd)"
            )
            part.rename(out)
        except (OSError, duckdb.IOException) as error:
            raise LakeError(f"cannot write {out}: {error}") from error
        finally:
            part.unlink(missing_ok=True)


# ---- why


def _causes(history: History, before: Sequence[Entry], after: Sequence[Entry]) -> list[Cause]:
    """What differs between the commits, partition by partition; of one partition and another what they are made of."""
    first, second = ({one.ref.partition: one for one in side} for side in (before, after))
    if len(first) == len(second) == 1:
        pairs = [(before[0], after[0])]
    else:
        pairs = [(first[name], second[name]) for name in first if name in second]
    seen: set[tuple[Ref, Ref]] = set()
    found = [cause for one, two in pairs for cause in _between(history, one, two, seen)]
    if len(pairs) == 1 and (len(first), len(second)) == (1, 1):
        return found
    found += [Cause(f"partition {name}", str(one.ref), None) for name, one in first.items() if name not in second]
    return found + [Cause(f"partition {name}", None, str(one.ref)) for name, one in second.items() if name not in first]


def _between(history: History, before: Entry, after: Entry, seen: set[tuple[Ref, Ref]]) -> list[Cause]:
    """What differs between two commits of one table, and upwards; a pair that was unfolded before is only named."""
    if before.ref == after.ref or (before.ref, after.ref) in seen:
        return []
    seen.add((before.ref, after.ref))
    one, two = before.commit.provenance, after.commit.provenance
    found = [Cause(*change) for change in changes(one, two)]
    for name, old, new in input_pairs(one.inputs, two.inputs, before.ref.partition, after.ref.partition):
        if old is None or new is None:
            found.append(Cause(f"input {name}", str(old) if old else None, str(new) if new else None))
        elif old.data_version != new.data_version:
            made = [history.entries.get((ref.asset, ref.version)) for ref in (old, new)]
            below = _between(history, made[0], made[1], seen) if made[0] and made[1] else []
            found.append(Cause(f"input {name}", str(old), str(new), tuple(below)))
    return found


def as_text(found: Difference) -> str:
    """The same for a terminal."""

    def named(refs: Sequence[Ref]) -> str:
        return f"{', '.join(map(str, refs))} ({sum(ref.rows for ref in refs):,} rows)"

    lines = [
        f"{named(found.before)} -> {named(found.after)}",
        f"gained {found.gained:,}, lost {found.lost:,}, changed {found.changed:,}, the same {found.same:,}"
        + (f"; rows with other ids are paired by {', '.join(found.paired_by)}" if found.paired_by else ""),
    ]
    if found.columns:
        lines.append(f"changed columns: {', '.join(f'{name} {count:,}' for name, count in found.columns.items())}")
    both = {"added": found.added, "removed": found.removed}
    lines += [f"columns {word}: {', '.join(names)}" for word, names in both.items() if names]
    lines.append("")
    if found.causes:
        lines.append(tree(Branch("what differs in how they were made", list(map(_branch, found.causes)))))
    else:
        lines.append("made of the same inputs by the same code, settings and seed")
    for change, reasons in found.why.items():
        lines += ["", *(f"{change} {count:,}: {reason}" for reason, count in reasons.items())]
        for row in (row for row in found.rows if row["change"] == change):
            lines.append(f"  {row['id']}  {_values(row['values'])}")
    return "\n".join(lines)


def _branch(cause: Cause) -> Branch:
    sides = [short(side, 40) if side is not None else "none" for side in (cause.before, cause.after)]
    return Branch(f"{cause.what}: {' -> '.join(sides)}", list(map(_branch, cause.because)))


def _values(values: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{name}: {short(value['before'], 40)} -> {short(value['after'], 40)}"
        if isinstance(value, dict) and value.keys() == {"before", "after"} else short(value, 80)
        for name, value in values.items()
    )  # fmt: skip
