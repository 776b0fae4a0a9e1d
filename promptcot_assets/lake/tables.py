"""One atomic overwrite of one partition of a Delta table.

The rows are already in a Parquet file when the transaction starts: the file is moved into the table's folder and a log
entry makes it the partition's only file. So a kill leaves the old or the new version, and at worst a file nobody names.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction

from promptcot_assets.lake.errors import LakeError
from promptcot_assets.lake.log import METADATA_KEY, Log
from promptcot_assets.lake.rows import storage_schema

PARTITION_COLUMN = "_part"  # the Dagster partition key; not stored in the files, Delta and DuckDB read it from the path
_CONFIGURATION = {
    "delta.logRetentionDuration": "interval 36500 days",  # the default deletes old versions after 30 days
    "delta.deletedFileRetentionDuration": "interval 36500 days",
    "delta.enableExpiredLogCleanup": "false",
    "delta.checkpointInterval": "50",
}
_ATTEMPTS = 200


def schema_hash(schema: pa.Schema) -> str:
    return hashlib.sha256(str(storage_schema(schema)).encode()).hexdigest()[:16]


def overwrite_partition(log: Log, asset: str, file: Path, schema: pa.Schema, metadata: dict[str, Any]) -> int:
    """Make `file` the content of partition `metadata["partition"]`; the version this made.

    `file` is moved. `metadata` goes into the log entry. Writers of other partitions and of the same one may come at any
    moment: each attempt starts from the table as it is then, and the last one wins.

    Raises: LakeError when a column's type contradicts other partitions, or the table stays contended.
    """
    partition = metadata["partition"]
    table = log.folder / asset
    relative = f"{PARTITION_COLUMN}={partition}/{metadata['commit_id']}.zstd.parquet"
    target = table / relative
    target.parent.mkdir(parents=True, exist_ok=True)
    size = file.stat().st_size
    stats = json.dumps({"numRecords": metadata["rows"]})
    file.rename(target)
    add = AddAction(relative, size, {PARTITION_COLUMN: partition}, int(time.time() * 1000), True, stats)
    for attempt in range(_ATTEMPTS):
        try:
            delta = _open_or_create(table, schema)
            delta.create_write_transaction(
                [add],
                mode="overwrite",
                schema=_merged(asset, delta, log, partition, schema),
                partition_by=[PARTITION_COLUMN],
                partition_filters=[(PARTITION_COLUMN, "=", partition)],
                # No retry inside: rebasing would let two first commits of one partition both stay in it.
                commit_properties=CommitProperties(custom_metadata={METADATA_KEY: metadata}, max_commit_retries=0),
                post_commithook_properties=PostCommitHookProperties(cleanup_expired_logs=False),
            )
        except CommitFailedError as error:
            if attempt + 1 == _ATTEMPTS:
                raise LakeError(
                    f"{asset}[{partition}]: {_ATTEMPTS} commits lost the race; write less at once"
                ) from error
            time.sleep(random.uniform(0, min(0.2, 0.005 * (attempt + 1))))
            continue
        except LakeError:
            target.unlink()
            raise
        break
    # The version is the name of the log file with our id in it, never what a DeltaTable object says.
    return next(entry.ref.version for entry in log.newest_first(asset) if entry.commit_id == metadata["commit_id"])


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
    return DeltaTable(uri)


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
