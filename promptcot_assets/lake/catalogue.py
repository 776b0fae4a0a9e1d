"""`catalog.duckdb`: the lake as plain DuckDB sees it: a view for every table, and `lineage`, `runs` and `models`.

A declared table that nothing was committed to yet is an empty view, so that a query of a new home answers with no rows.

The file is a snapshot with absolute paths, written beside the old one and swapped in at once: who has the old one open
keeps reading it. Everything in it comes from the logs, so a lost, old or moved catalogue is healed by publishing again.
"""

from __future__ import annotations

import dataclasses
import fcntl
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from promptcot_assets.lake.data_version import identifier, quoted
from promptcot_assets.lake.errors import LakeError
from promptcot_assets.lake.log import UNREADABLE, Entry, Log, damage, newest_by_partition
from promptcot_assets.lake.schemas import SCHEMAS, declared_since
from promptcot_assets.lake.tables import PARTITION_COLUMN

if TYPE_CHECKING:
    import duckdb

CATALOGUE = "catalog.duckdb"
RESERVED = ("lineage", "runs", "models")  # names that no table may have


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
create view runs as
select run_id, list(distinct asset order by asset) as assets, count(*) as commits, sum(rows)::bigint as rows,
       sum(tokens)::bigint as tokens, sum(seconds) as seconds,
       min(committed_at) as first_commit, max(committed_at) as last_commit
from lineage where run_id <> '' group by run_id order by first_commit
"""


def publish(home: Path, log: Log) -> None:
    """Write `home/catalog.duckdb` anew from the logs. Publishers wait for each other, so the last one has seen all."""
    import duckdb

    path = home / CATALOGUE
    with _lock(home / ".publish.lock"):
        for stale in home.glob(f".{CATALOGUE}.*"):  # of a publisher that was killed
            stale.unlink(missing_ok=True)
        new = home / f".{CATALOGUE}.{uuid.uuid4().hex}"
        entries = _snapshot(log)
        with duckdb.connect(str(new), config={"threads": 1}) as con:
            con.execute("begin")
            _create_table(con, "lineage", [_lineage(entries)])
            _create_table(con, "models", _models(log.folder, entries))
            con.execute(_RUNS)
            _comment(
                con, "table lineage", "one row a commit: what was made, from what, how, at what cost", _says(_LINEAGE)
            )
            _comment(con, "table models", "one row a checkpoint and partition, superseded ones too", _says(_MODELS))
            _comment(con, "view runs", "one row a Dagster run that committed anything", _RUNS_SAY)
            for asset in sorted(SCHEMAS.keys() | entries.keys()):
                _create_view(con, log.folder / asset, asset, list(newest_by_partition(entries.get(asset, [])).values()))
            con.execute("commit")
        path.with_name(path.name + ".wal").unlink(missing_ok=True)  # of someone who opened the old file for writing
        new.replace(path)


def _snapshot(log: Log) -> dict[str, list[Entry]]:
    """The commits of all tables at one moment, while others commit: no input of a commit is missing from it.

    Tables are listed one after the other; when a second listing is as long as the first, nothing came in between.
    """
    entries, before = dict[str, list[Entry]](), None
    while before != (lengths := {asset: len(own) for asset, own in entries.items()}):
        before = lengths
        entries = {asset: log.entries(asset) for asset in log.assets()}
    return entries


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
    con.execute(f"create table {name} as {union}")
    for i in range(len(parts)):
        con.unregister(f"part_{i}")


def _create_view(con: duckdb.DuckDBPyConnection, table: Path, asset: str, current: list[Entry]) -> None:
    """The newest version of one table; one with a lost or damaged file gets a view that says so, others stay usable."""
    view = identifier(asset)
    files = [table / entry.file for entry in current]
    try:
        schema, rows = _stored(asset, current, files) if files else _nothing(asset)
    except LakeError as error:
        con.execute(f"create view {view} as select error({quoted(f'table {asset}: {error}')}) as error")
        return
    con.execute(f"create view {view} as {rows}")
    declared = SCHEMAS[asset].metadata if asset in SCHEMAS else None
    columns = _says(schema) | {PARTITION_COLUMN: "partition that the row is of; all: not partitioned"}
    _comment(con, f"view {view}", _text(schema.metadata or declared), columns)


def _columns(asset: str, file: Path) -> pa.Schema:
    """Those of a file, by name. Raises: LakeError when it is lost or damaged, with the mend."""
    try:
        schema = pq.read_schema(file)
        _ = schema.names  # decodes them
    except FileNotFoundError:
        raise LakeError(f"file {file} is missing; restore it from a copy or re-materialize {asset}") from None
    except UNREADABLE as error:
        raise LakeError(damage(asset, file, error)) from error
    return schema


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


def _stored(asset: str, current: list[Entry], files: list[Path]) -> tuple[pa.Schema, str]:
    """The columns of the newest files and the SQL of all rows; columns declared since they were written are null.

    Raises: LakeError when any of the files is lost or damaged: DuckDB itself opens only the first before a query.
    """
    union = ", union_by_name=true" if len({entry.record.schema_hash for entry in current}) > 1 else ""
    schemas = [_columns(asset, file) for file in files]
    schema = max(zip(current, schemas, strict=True), key=lambda pair: pair[0].ref.version)[1]
    new = [
        SCHEMAS[asset].field(name) for name in declared_since(asset, {name for one in schemas for name in one.names})
    ]
    return pa.schema([*schema, *new]).with_metadata(schema.metadata), (
        f"select *{''.join(f', {_null(field)}' for field in new)} from read_parquet("
        f"[{', '.join(quoted(str(file)) for file in files)}]{union}, "
        f"hive_partitioning=true, hive_types={{'{PARTITION_COLUMN}': VARCHAR}})"
    )


def _nothing(asset: str) -> tuple[pa.Schema, str]:
    """The declared columns and the SQL of no rows."""
    columns = [*SCHEMAS[asset], pa.field(PARTITION_COLUMN, pa.string())]
    return SCHEMAS[asset], f"select {', '.join(map(_null, columns))} where false"


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


def _models(tables: Path, entries: dict[str, list[Entry]]) -> list[pa.Table]:
    """One row per checkpoint and partition, superseded ones too, with the columns its asset recorded."""
    newest: dict[tuple[str, str, str], Entry] = {}  # the same weights committed again are the same model
    for commits in entries.values():
        for entry in commits:
            if entry.record.checkpoint:
                newest[entry.ref.asset, entry.ref.partition, entry.record.checkpoint] = entry
    alike: dict[str, list[pa.Table]] = {}
    for row in (_model(tables, entry) for entry in newest.values()):
        alike.setdefault(str(row.schema), []).append(row)
    return [_MODELS.empty_table(), *map(pa.concat_tables, alike.values())]


def _model(tables: Path, entry: Entry) -> pa.Table:
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
        with pq.ParquetFile(tables / ref.asset / entry.file) as parquet:
            own = parquet.read()
            names = own.column_names
    except UNREADABLE:  # lost or damaged: the table's own view says so; the checkpoint is still there
        return row
    for name in names:
        if name not in known:
            row = row.append_column(name, own.column(name))
    return row
