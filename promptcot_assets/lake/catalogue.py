"""`catalog.duckdb`: the lake as plain DuckDB sees it: a view for every table, and `lineage`, `runs` and `models`.

A declared table that nothing was committed to yet is an empty view, so that a query of a new home answers with no rows.

The file is a snapshot with absolute paths, written beside the old one and swapped in at once: who has the old one open
keeps reading it. Everything in it comes from the logs, so a lost, old or moved catalogue is healed by publishing again.
Views whose files and declaration are the old ones are copied with the old file, since a commit changes one of sixty.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import itertools
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from promptcot_assets.lake.data_version import identifier, quoted
from promptcot_assets.lake.declared import Declared
from promptcot_assets.lake.disk import sync, written
from promptcot_assets.lake.errors import LakeError
from promptcot_assets.lake.log import PARTITION_COLUMN, RESTORE, UNREADABLE, Entry, Log, damage, newest_by_partition

if TYPE_CHECKING:
    import duckdb

CATALOGUE = "catalog.duckdb"
RESERVED = ("lineage", "runs", "models")  # names that no table may have
# Hashes of the code that writes the views: a view of other code is written anew.
_CODE = [hashlib.sha256(one.read_bytes()).hexdigest() for one in sorted(Path(__file__).parent.glob("*.py"))]


def _schema(**columns: tuple[pa.DataType, str]) -> pa.Schema:
    """Columns with their types and what they mean."""
    return pa.schema([pa.field(name, type_, True, {"comment": says}) for name, (type_, says) in columns.items()])


_TEXT, _COUNT, _TIME = pa.string(), pa.int64(), pa.timestamp("us", tz="UTC")
_REF = ("asset", _TEXT), ("version", _COUNT), ("partition", _TEXT), ("data_version", _TEXT), ("rows", _COUNT)
_INPUTS = pa.list_(pa.struct([pa.field(*one) for one in _REF]))
_LINEAGE = _schema(
    asset=(_TEXT, "table or role of a model"),
    partition=(_TEXT, "EM round, batch, student, ...; all: not partitioned"),
    version=(_COUNT, "counts the commits of the asset"),
    data_version=(_TEXT, "hash of the content"),
    fingerprint=(_TEXT, "hash of what determines the content: code, settings, seed, content of the inputs"),
    rows=(_COUNT, "rows of this partition"),
    run_id=(_TEXT, "Dagster run that made it"),
    code_version=(_TEXT, "of the asset's code"),
    settings=(_TEXT, "JSON of the settings that the rows depend on"),
    settings_hash=(_TEXT, "equal for equal settings"),
    seed=(_COUNT, "what all seeds of the rows come from"),
    tokens=(_COUNT, "generated, scored and trained on"),
    seconds=(pa.float64(), "wall time of the step until the commit"),
    committed_at=(_TIME, "when"),
    inputs=(_INPUTS, "exact versions it was made from"),
)
_MODELS = _schema(
    model_id=(_TEXT, "role/version, as rows name the model that wrote them"),
    role=(_TEXT, "asset that it is a version of"),
    partition=(_TEXT, "EM round, student, ..."),
    path=(_TEXT, "folder of the checkpoint below the home"),
    version=(_COUNT, "newest commit of these weights"),
    data_version=(_TEXT, "hash of the content"),
    committed_at=(_TIME, "when"),
    inputs=(_INPUTS, "exact versions it was trained on"),
)
_VIEWS = _schema(
    name=(_TEXT, "view"),
    made_of=(_TEXT, "hash of all that it follows from; empty where it says what is wrong"),
    written_at=(_COUNT, "nanoseconds since the epoch: the time that the catalogue's file was given"),
)
_RUNS_SAY = {
    "run_id": "Dagster's id of the run",
    "assets": "what it made",
    "commits": "how many partitions of them",
    "rows": "of all of them",
    "tokens": "generated, scored and trained on",
    "seconds": "wall time of its steps",
    "first_commit": "when",
    "last_commit": "when",
}
_RUNS = """
create or replace view runs as
select run_id, list(distinct asset order by asset) as assets, count(*) as commits, sum(rows)::bigint as rows,
       sum(tokens)::bigint as tokens, sum(seconds) as seconds,
       min(committed_at) as first_commit, max(committed_at) as last_commit
from lineage where run_id <> '' group by run_id order by first_commit
"""


def publish(home: Path, log: Log, declared: Declared, path: Path | None = None) -> list[LakeError]:
    """Write the catalogue (`home/catalog.duckdb`) anew from the logs; what is wrong with tables of a damaged log.

    Such a table costs its own view and lineage only. Publishers wait for each other, so the last one has seen all.
    """
    path = path or home / CATALOGUE
    with written("the catalogue", path.parent), _lock(path.with_name(".publish.lock")):
        for stale in path.parent.glob(f".{path.name}.*"):  # of a publisher that was killed
            stale.unlink(missing_ok=True)
        new = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        entries, damaged = _snapshot(log)
        try:
            known, standing = _copied(path, new)
            damaged |= _lost(log, known, entries)
            last_known = known.filter(pc.is_in(known["asset"], pa.array(damaged, pa.string())))
            sound = {asset: own for asset, own in entries.items() if asset not in damaged}
            if not (standing and _changed(new, log, declared, sound, damaged, last_known, standing)):
                _remove(new)
                _write(new, log, declared, sound, damaged, last_known, {})
            sync(new)
            path.with_name(path.name + ".wal").unlink(missing_ok=True)  # of someone who opened the old file for writing
            new.replace(path)
        finally:
            _remove(new)
    return list(damaged.values())


def _remove(path: Path) -> None:
    for one in (path, path.with_name(path.name + ".wal")):
        one.unlink(missing_ok=True)


def _copied(path: Path, new: Path) -> tuple[pa.Table, dict[str, str]]:
    """Copy a catalogue to change it: the commits that it knows; its views, and what each was made of.

    Nothing of one that is missing or damaged. No view of one that somebody has written into: its file has another time
    than it was given, whatever was written.
    """
    import duckdb

    try:
        shutil.copyfile(path, new)
        written_at = path.stat().st_mtime_ns
    except OSError:  # there is none, or no room for it
        return _known_lineage(path), {}
    known, standing = _LINEAGE.empty_table(), dict[str, str]()
    with contextlib.suppress(duckdb.Error), duckdb.connect(str(new), read_only=True) as con:
        known = con.sql("from lineage").to_arrow_table()
        of_then = con.execute("select name, made_of from published.views where written_at = ?", [written_at])
        standing = dict(of_then.fetchall())
    return known, standing


def _changed(path: Path, *given: Any) -> bool:
    """Whether a copy could be made the new catalogue.

    It cannot be when it is damaged where only a writer reads, or when the disk has room for a smaller one only.
    """
    try:
        _write(path, *given)
    except OSError:
        return False
    return True


def _known_lineage(path: Path) -> pa.Table:
    """What a catalogue knows of commits; nothing when it is missing or damaged."""
    import duckdb

    try:
        with duckdb.connect(str(path), read_only=True) as con:
            return con.sql("from lineage").to_arrow_table()
    except duckdb.Error:
        return _LINEAGE.empty_table()


def lost(home: Path, log: Log) -> list[LakeError]:
    """What is wrong with tables whose newest commit is in the catalogue and no longer in the log."""
    entries, damaged = _snapshot(log)
    return [*damaged.values(), *_lost(log, _known_lineage(home / CATALOGUE), entries).values()]


def _lost(log: Log, known: pa.Table, entries: Mapping[str, list[Entry]]) -> dict[str, LakeError]:
    """Tables whose newest commit is in the catalogue and no longer in the log, which shows no gap then."""
    newest = {asset: own[-1].ref.version for asset, own in entries.items() if own}
    lost = dict[str, LakeError]()
    for row in known.select(["asset", "version"]).to_pylist():
        asset, version = row["asset"], row["version"]
        if asset in newest and version > newest[asset]:
            file = log.file(asset, version)
            lost[asset] = LakeError(
                f"table {asset}: commit file {file}, which the catalogue names, is missing; {RESTORE}, or "
                f"re-materialize {asset}"
            )
    return lost


def _write(
    path: Path,
    log: Log,
    declared: Declared,
    entries: dict[str, list[Entry]],
    damaged: Mapping[str, LakeError],
    last_known: pa.Table,
    standing: Mapping[str, str],
) -> None:
    """last_known: lineage of the damaged tables. standing: views that are there, and what of; others are written.

    Raises: OSError with DuckDB's words.
    """
    import duckdb

    tables = {
        asset: damaged.get(asset) or list(newest_by_partition(entries.get(asset, [])).values())
        for asset in sorted(declared.schemas.keys() | {one for one in entries if entries[one]} | damaged.keys())
    }
    made_of = {asset: _made_of(log, declared, asset, current) for asset, current in tables.items()}
    try:
        with duckdb.connect(str(path), config={"threads": 1}) as con:
            con.execute("begin")
            _create_table(con, "lineage", [_lineage(entries), last_known])
            _create_table(con, "models", _models(log, entries))
            con.execute(_RUNS)
            _comment(
                con, "table lineage", "one row a commit: what was made, from what, how, at what cost", _says(_LINEAGE)
            )
            _comment(con, "table models", "one row a checkpoint and partition, superseded ones too", _says(_MODELS))
            _comment(con, "view runs", "one row a Dagster run that committed anything", _RUNS_SAY)
            changed = [asset for asset in tables if standing.get(asset) != made_of[asset]]
            for asset in standing.keys() & changed | standing.keys() - tables.keys():
                con.execute(f"drop view {identifier(asset)}")
            files = _Files(log)
            for asset in changed:
                if not _create_view(con, files, declared, asset, tables[asset]):
                    made_of[asset] = ""  # what failed may go well the next time, with the same file
            written_at = time.time_ns() // 10**9 * 10**9  # whole seconds, which every copy of a file can keep
            _keep(con, made_of, written_at)
            con.execute("commit")
            con.execute("checkpoint")  # closing does it too, but says nothing when the disk is full
    except duckdb.Error as error:
        raise OSError(str(error)) from error
    with contextlib.suppress(OSError):  # a file system without it: nothing is copied from this one
        os.utime(path, ns=(written_at, written_at))


def _made_of(log: Log, declared: Declared, asset: str, current: list[Entry] | LakeError) -> str:
    """A hash of all that a view follows from: its files as they are on disk, the declaration, the code."""
    import duckdb

    if isinstance(current, LakeError):
        parts = [str(current)]
    else:
        parts = [f"{log.path(entry)} {_as_it_is(log.path(entry))}" for entry in current]
    if asset in declared.schemas:
        parts.append(declared.schemas[asset].serialize().to_pybytes().hex())
    return hashlib.sha256("\n".join([duckdb.__version__, *_CODE, *parts]).encode()).hexdigest()


def _as_it_is(file: Path) -> tuple[int, ...]:
    """What differs when a file has been written, replaced or lost."""
    try:
        found = file.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _keep(con: duckdb.DuckDBPyConnection, made_of: Mapping[str, str], written_at: int) -> None:
    """What the views were made of, and the time of the file, by which it shows when somebody else writes into it."""
    con.execute("create schema if not exists published")
    rows = [{"name": name, "made_of": of, "written_at": written_at} for name, of in made_of.items()]
    _create_table(con, "published.views", [pa.Table.from_pylist(rows, schema=_VIEWS)])


def is_current(home: Path, log: Log) -> bool:
    """Whether there is a catalogue, of this place, that knows every table's newest commit and is undamaged."""
    import duckdb

    here = quoted(str(home / "lake"))[:-1] + "/"
    try:
        with duckdb.connect(str(home / CATALOGUE), read_only=True) as con:
            views = con.execute("select sql from duckdb_views() where not internal").fetchall()
            known = dict(con.execute("select asset, max(version) from lineage group by asset").fetchall())
            for table in ("lineage", "models"):  # every column, so that DuckDB holds every block against its checksum
                con.execute(f"select max(hash(one)) from {table} one").fetchall()
    except duckdb.Error:  # missing, damaged, or opened by somebody for writing
        return False
    is_of_here = all(here in sql for (sql,) in views if "read_parquet(" in sql)
    return is_of_here and known == _newest_versions(log)


def _newest_versions(log: Log) -> dict[str, int]:
    """Of the tables with a commit and a sound log."""
    newest = dict[str, int]()
    for asset in log.assets():
        with contextlib.suppress(LakeError):  # which its view says
            newest.update((asset, entry.ref.version) for entry in itertools.islice(log.newest_first(asset), 1))
    return newest


def _snapshot(log: Log) -> tuple[dict[str, list[Entry]], dict[str, LakeError]]:
    """The commits of all tables at one moment, while others commit: no input of a commit is missing from it.

    Tables are listed one after the other; when a second listing is as long as the first, nothing came in between.
    Second: what is wrong with the tables whose log cannot be read.
    """
    entries, damaged, before = dict[str, list[Entry]](), dict[str, LakeError](), None
    while before != (lengths := {asset: len(own) for asset, own in entries.items()}):
        before, entries, damaged = lengths, {}, {}
        for asset in log.assets():
            try:
                entries[asset] = log.entries(asset)
            except LakeError as error:
                damaged[asset] = error
    return entries, damaged


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _create_table(con: duckdb.DuckDBPyConnection, name: str, parts: list[pa.Table]) -> None:
    """One table of all parts; columns are matched by name and may be missing from some."""
    for i, part in enumerate(parts):
        con.register(f"part_{i}", part)
    union = " union all by name ".join(f"select * from part_{i}" for i in range(len(parts)))
    con.execute(f"create or replace table {name} as {union}")
    for i in range(len(parts)):
        con.unregister(f"part_{i}")


def _create_view(
    con: duckdb.DuckDBPyConnection, files: _Files, declared: Declared, asset: str, current: list[Entry] | LakeError
) -> bool:
    """The newest version of one table; one with a lost or damaged file gets a view that says so, others stay usable.

    Says whether it is a view of rows.
    """
    view = identifier(asset)
    try:
        if isinstance(current, LakeError):
            raise current
        schema, rows = _stored(files, declared, asset, current) if current else _nothing(declared.schemas[asset])
    except LakeError as error:
        con.execute(f"create view {view} as select error({quoted(_of_table(asset, error))}) as error")
        return False
    con.execute(f"create view {view} as {rows}")
    said = declared.schemas[asset].metadata if asset in declared.schemas else None
    columns = _says(schema) | {PARTITION_COLUMN: "partition that the row is of; all: not partitioned"}
    _comment(con, f"view {view}", _text(schema.metadata or said), columns)
    return True


def _of_table(asset: str, error: LakeError) -> str:
    return str(error) if str(error).startswith("table ") else f"table {asset}: {error}"


class _Files:
    """Data files as DuckDB reads them, in a database apart, where a damaged one takes no catalogue down with it."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self._apart: duckdb.DuckDBPyConnection | None = None

    def columns(self, entry: Entry) -> pa.Schema:
        """Those of a file, by name, after DuckDB could read its footer too. Raises: LakeError with the mend."""
        import duckdb

        path, asset = self.log.path(entry), entry.ref.asset
        try:
            schema = pq.read_schema(path)
            _ = schema.names  # decodes them
            self._describe(path)
        except FileNotFoundError:
            raise LakeError(f"file {path} is missing; restore it from a copy or re-materialize {asset}") from None
        except (*UNREADABLE, duckdb.Error) as error:
            raise LakeError(damage(asset, path, error)) from error
        return schema

    def _describe(self, path: Path) -> None:
        import duckdb

        apart, self._apart = self._apart or duckdb.connect(config={"threads": 1}), None  # a damaged file may end it
        apart.execute(f"describe select * from read_parquet({quoted(str(path))})")
        self._apart = apart


def _comment(con: duckdb.DuckDBPyConnection, what: str, comment: str, columns: Mapping[str, str]) -> None:
    """Say of a table or view, and of its columns, what they are; of what has nothing said, nothing."""
    name = what.partition(" ")[2]
    targets = {what: comment} | {f"column {name}.{identifier(column)}": says for column, says in columns.items()}
    for target, says in targets.items():
        if says:
            con.execute(f"comment on {target} is {quoted(says)}")


def _says(schema: pa.Schema) -> dict[str, str]:
    return {field.name: _text(field.metadata) for field in schema}


def _text(metadata: Mapping[bytes, bytes] | None) -> str:
    return (metadata or {}).get(b"comment", b"").decode(errors="replace")


def _stored(files: _Files, declared: Declared, asset: str, current: list[Entry]) -> tuple[pa.Schema, str]:
    """The columns of the newest files and the SQL of all rows; columns declared since they were written are null.

    Raises: LakeError when any of the files is lost or damaged: DuckDB itself opens only the first before a query.
    """
    union = ", union_by_name=true" if len({entry.record.schema_hash for entry in current}) > 1 else ""
    schemas = [files.columns(entry) for entry in current]
    schema = max(zip(current, schemas, strict=True), key=lambda pair: pair[0].ref.version)[1]
    new = [
        declared.schemas[asset].field(name)
        for name in declared.since(asset, {name for one in schemas for name in one.names})
    ]
    return pa.schema([*schema, *new]).with_metadata(schema.metadata), (
        f"select *{''.join(f', {_null(field)}' for field in new)} from read_parquet("
        f"[{', '.join(quoted(str(files.log.path(entry))) for entry in current)}]{union}, "
        f"hive_partitioning=true, hive_types={{'{PARTITION_COLUMN}': VARCHAR}})"
    )


def _nothing(schema: pa.Schema) -> tuple[pa.Schema, str]:
    """The declared columns and the SQL of no rows."""
    columns = [*schema, pa.field(PARTITION_COLUMN, pa.string())]
    return schema, f"select {', '.join(map(_null, columns))} where false"


def _null(field: pa.Field) -> str:
    return f"cast(null as {_sql_type(field.type)}) as {identifier(field.name)}"


def _sql_type(type_: pa.DataType) -> str:
    if pa.types.is_list(type_):
        return f"{_sql_type(type_.value_type)}[]"
    return {"string": "varchar", "int64": "bigint", "double": "double", "bool": "boolean"}[str(type_)]


def _lineage(entries: dict[str, list[Entry]]) -> pa.Table:
    rows = [_lineage_row(entry) for commits in entries.values() for entry in commits]
    return pa.Table.from_pylist(sorted(rows, key=lambda row: row["committed_at"]), schema=_LINEAGE)


def _lineage_row(entry: Entry) -> dict[str, Any]:
    commit = entry.commit
    return {
        **dataclasses.asdict(commit.ref),
        **commit.provenance.to_dict(),
        "settings_hash": commit.provenance.settings_hash,
        "fingerprint": commit.fingerprint,
        "committed_at": commit.timestamp,
    }


def _models(log: Log, entries: dict[str, list[Entry]]) -> list[pa.Table]:
    """One row per checkpoint and partition, superseded ones too, with the columns its asset recorded."""
    newest: dict[tuple[str, str, str], Entry] = {}  # the same weights committed again are the same model
    for commits in entries.values():
        for entry in commits:
            if entry.record.checkpoint:
                newest[entry.ref.asset, entry.ref.partition, entry.record.checkpoint] = entry
    alike: dict[str, list[pa.Table]] = {}
    for row in (_model(log, entry) for entry in newest.values()):
        alike.setdefault(str(row.schema), []).append(row)
    return [_MODELS.empty_table(), *map(pa.concat_tables, alike.values())]


def _model(log: Log, entry: Entry) -> pa.Table:
    ref = entry.ref
    known = {
        "model_id": entry.record.checkpoint.removeprefix("models/"),
        "role": ref.asset,
        "partition": ref.partition,
        "path": entry.record.checkpoint,
        "version": ref.version,
        "data_version": ref.data_version,
        "committed_at": entry.commit.timestamp,
        "inputs": [dataclasses.asdict(given) for given in entry.commit.provenance.inputs],
    }
    row = pa.Table.from_pylist([known], schema=_MODELS)
    try:
        with pq.ParquetFile(log.path(entry)) as parquet:
            own = parquet.read()
            names = own.column_names
    except UNREADABLE:  # lost or damaged: the table's own view says so; the checkpoint is still there
        return row
    for name in names:
        if name not in known:
            row = row.append_column(name, own.column(name))
    return row
