"""One atomic overwrite of one partition of a Delta table.

The rows are already in a Parquet file when the transaction starts: the file is moved into the table's folder and a log
entry makes it the partition's only file. So a kill leaves the old or the new version, and at worst a file nobody names.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction

from promptcot_assets.lake.disk import file_hash, is_full, sync
from promptcot_assets.lake.errors import LakeError
from promptcot_assets.lake.log import METADATA_KEY, PARTITION_COLUMN, RESTORE, Log, Record, newest_by_partition
from promptcot_assets.lake.ref import Ref
from promptcot_assets.lake.rows import storage_schema

_CONFIGURATION = {
    "delta.logRetentionDuration": "interval 36500 days",  # the default deletes old versions after 30 days
    "delta.deletedFileRetentionDuration": "interval 36500 days",
    "delta.enableExpiredLogCleanup": "false",
    "delta.checkpointInterval": "50",
}
_ATTEMPTS = 200


def schema_hash(schema: pa.Schema) -> str:
    return hashlib.sha256(str(storage_schema(schema)).encode()).hexdigest()[:16]


def overwrite_partition(log: Log, asset: str, file: Path, schema: pa.Schema, record: Record) -> Ref:
    """Make `file` the content of the partition that `record` names, and write `record` into the log with it.

    `file` is moved. Writers of other partitions and of the same one may come at any moment: each attempt starts from
    the table as it is then, and the last one wins.

    Raises: LakeError when a column's type contradicts other partitions, or the table stays contended.
    """
    target = log.folder / asset / record.file
    target.parent.mkdir(parents=True, exist_ok=True)
    file.rename(target)
    sync(target.parent)
    add = AddAction(
        path=record.file,
        size=target.stat().st_size,
        partition_values={PARTITION_COLUMN: record.partition},
        modification_time=int(time.time() * 1000),
        data_change=True,
        stats=json.dumps({"numRecords": record.rows}),
    )
    for attempt in range(_ATTEMPTS):
        failure = _failure_of(lambda: _commit_once(log, asset, add, schema, record))
        # The version is the name of the log file with our id in it, never what a DeltaTable object says. It may be
        # there although Delta failed: a disk that is full only for the checkpoint of the log has taken the commit.
        ref = next((one.ref for one in log.newest_first(asset) if one.record.commit_id == record.commit_id), None)
        if ref is not None:
            sync(log.file(asset, ref.version))
            sync(log.file(asset, ref.version).parent)
            return ref
        if failure and (not isinstance(failure, CommitFailedError) or is_full(failure)):
            target.unlink()
            raise failure
        time.sleep(random.uniform(0, min(0.2, 0.005 * (attempt + 1))))  # somebody else committed since we looked
    raise LakeError(
        f"{asset}[{record.partition}]: other commits came first {_ATTEMPTS} times; run fewer writers at once"
    )


def _failure_of(attempt: Callable[[], None]) -> Exception | None:
    try:
        attempt()
    except (LakeError, DeltaError, OSError) as error:
        return error
    return None


def check_table(log: Log, asset: str) -> None:
    """Raises: LakeError when the table's log files are not those that were written, or Delta reads them otherwise."""
    log.check_sequence(asset)
    delta = _opened(log.folder / asset)
    known = newest_by_partition([entry for entry in log.entries(asset) if entry.ref.version <= delta.version()])
    if {uri.split("/")[-1] for uri in delta.file_uris()} != {entry.file.split("/")[-1] for entry in known.values()}:
        raise LakeError(
            f"table {asset}: {log.folder / asset / '_delta_log'} names other files than its commits; {RESTORE}"
        )


def _commit_once(log: Log, asset: str, add: AddAction, schema: pa.Schema, record: Record) -> None:
    """Raises: CommitFailedError when the table changed between reading and writing its log."""
    delta = _open_or_create(log.folder / asset, schema)
    record = dataclasses.replace(
        record,
        follows=file_hash(log.file(asset, delta.version())),
        committed_at=int(time.time() * 1000),
    )
    delta.create_write_transaction(
        [add],
        mode="overwrite",
        schema=_merged(asset, delta, log, record.partition, schema),
        partition_by=[PARTITION_COLUMN],
        partition_filters=[(PARTITION_COLUMN, "=", record.partition)],
        # No retry inside: rebasing would let two first commits of one partition both stay in it.
        commit_properties=CommitProperties({METADATA_KEY: record.to_dict()}, max_commit_retries=0),
        post_commithook_properties=PostCommitHookProperties(cleanup_expired_logs=False),
    )


def _open_or_create(table: Path, schema: pa.Schema) -> DeltaTable:
    uri = table.as_uri()
    if not DeltaTable.is_deltatable(uri):
        full = storage_schema(schema).append(pa.field(PARTITION_COLUMN, pa.string()))
        try:
            return DeltaTable.create(
                uri,
                full,
                mode="error",
                partition_by=[PARTITION_COLUMN],
                configuration=_CONFIGURATION,
                commit_properties=CommitProperties(max_commit_retries=0),  # else a table is created twice
            )
        except DeltaError:
            if not DeltaTable.is_deltatable(uri):  # else another process was first
                raise
    return _opened(table)


def _opened(table: Path) -> DeltaTable:
    """The table as Delta reads it; a damaged checkpoint of its log, which Delta can do without, is removed.

    Raises: LakeError when the log itself cannot be read.
    """
    try:
        return DeltaTable(table.as_uri())
    except (DeltaError, OSError):
        for derived in (table / "_delta_log").glob("*checkpoint*"):
            derived.unlink(missing_ok=True)
    try:
        return DeltaTable(table.as_uri())
    except (DeltaError, OSError) as error:
        raise LakeError(f"table {table.name}: Delta cannot read {table / '_delta_log'} ({error}); {RESTORE}") from error


def _merged(asset: str, delta: DeltaTable, log: Log, partition: str, schema: pa.Schema) -> pa.Schema:
    """The table's schema after this commit: new columns join the others' as long as other partitions hold data."""
    new = storage_schema(schema)
    if set(log.current(asset)) - {partition}:
        for old in storage_schema(pa.schema(delta.schema().to_arrow())):
            if old.name == PARTITION_COLUMN:
                continue
            if old.name not in new.names:
                new = new.append(old)
            elif new.field(old.name).type != old.type:
                raise LakeError(
                    f"{asset}[{partition}]: column {old.name!r} has type {new.field(old.name).type}, but other "
                    f"partitions hold it as {old.type}; name the new column differently"
                )
    return new.append(pa.field(PARTITION_COLUMN, pa.string()))
