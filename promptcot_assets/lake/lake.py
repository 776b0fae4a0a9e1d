"""`Lake`: every version of every table and checkpoint under one home folder.

    home/lake/<asset>/            one Delta table per asset, one commit per materialization of one partition
    home/models/<role>/<version>/ one folder per checkpoint, sealed by its manifest
    home/spool/<asset>/           shards of work in progress
    home/catalog.duckdb           all of it for plain DuckDB, rebuilt after every commit

A table's rows are addressed by `Ref` and never change; what a name or partition means now is its newest ref.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake.exceptions import DeltaError

from promptcot_assets.lake import catalogue, checkpoints, retention
from promptcot_assets.lake.data_version import content_hash
from promptcot_assets.lake.declared import Declared
from promptcot_assets.lake.disk import cannot_write, complete, file_hash, written
from promptcot_assets.lake.errors import LakeError
from promptcot_assets.lake.lineage import upstream
from promptcot_assets.lake.log import UNREADABLE, Entry, Log, Record, damage
from promptcot_assets.lake.ref import UNPARTITIONED, Commit, Provenance, Ref
from promptcot_assets.lake.rows import check_schema, checked, first_duplicate, read_rows, write_rows
from promptcot_assets.lake.spool import Spool
from promptcot_assets.lake.tables import check_table, overwrite_partition, schema_hash

_ASSET = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_PARTITION = re.compile(r"[A-Za-z0-9._-]+")  # without "=", which DuckDB takes for another partition column
_ODD_IN_PATHS = set("*?[]=%\\")  # patterns and partition marks to DuckDB, escapes to Delta


class Lake:
    """Versioned tables and checkpoints. Safe to use from several processes at once; methods raise `LakeError`.

    A home that is a read-only copy can be read; whatever writes says there that it cannot.
    """

    def __init__(self, home: Path, declared: Declared = Declared()) -> None:  # noqa: B008  (it is frozen)
        """declared: what is known of the tables; without it a lake keeps and gives back whatever it is given."""
        self._declared = declared
        self.home = _readable(Path(home))
        self.models = self.home / "models"
        self._log = Log(self.home / "lake")
        if not self._log.assets():
            self.prepare()

    def prepare(self) -> None:
        """Make the home's folders. Raises: LakeError naming the path and PROMPTCOT_HOME when one cannot write there."""
        try:
            for name in ("lake", "spool", "models"):
                (self.home / name).mkdir(parents=True, exist_ok=True)
                if not os.access(self.home / name, os.W_OK | os.X_OK):
                    raise PermissionError(f"no permission to write in {self.home / name}")
        except (OSError, ValueError) as error:
            raise LakeError(
                f"cannot keep data in {self.home}: {error}; set PROMPTCOT_HOME to a folder one can write in"
            ) from error

    # -- tables

    def commit(
        self,
        asset: str,
        batches: Iterable[pa.Table | pa.RecordBatch],
        schema: pa.Schema,
        provenance: Provenance,
        partition: str = UNPARTITIONED,
    ) -> Ref:
        """Make the rows of `batches` the content of one partition, in one atomic step, and publish the catalogue.

        Rows are validated before anything reaches the table. A column whose field metadata has `unique: true` must hold
        no value twice; `comment` in a field's or the schema's metadata becomes the catalogue's comment; with `ordered:
        true` in the schema's, the same rows in another order are another data version.

        Raises: LakeError naming asset, column and first bad row.
        """
        ref = self._commit(asset, batches, schema, provenance, partition)
        self._make_equals_whole(ref)
        self._publish_around_damage()
        return ref

    def newest(self, asset: str, partition: str = UNPARTITIONED) -> Ref | None:
        """The partition's newest commit, None when it never had one."""
        entry = self._newest(asset, partition)
        return entry.ref if entry else None

    def partitions(self, asset: str) -> list[str]:
        """Partitions that have rows in the newest version, sorted."""
        return [partition for partition, entry in self._log.current(asset).items() if entry.ref.rows]

    def assets(self) -> list[str]:
        """Tables and roles of models that have a log, damaged or not."""
        return self._log.assets()

    def current(self, asset: str) -> list[Ref]:
        """The newest commit of every partition of one table."""
        return [entry.ref for entry in self._log.current(asset).values()]

    def pinned(self) -> list[Ref]:
        """What models and scores rest on, themselves included: it is kept for good.

        Raises: LakeError when one of them does not resolve.
        """
        return [
            entry.ref
            for key in sorted(retention.pinned_versions(self._log, self._declared.pinning))
            if (entry := self._log.at(*key))
        ]

    def history(self, asset: str, partition: str | None = None) -> list[Commit]:
        """The commits of one table, or of one of its partitions, oldest first."""
        commits = [entry.commit for entry in self._log.entries(asset)]
        return [commit for commit in commits if partition in (None, commit.ref.partition)]

    def commit_of(self, ref: Ref) -> Commit:
        """Raises: LakeError when the ref does not resolve in this lake."""
        return self._entry(ref).commit

    def find(self, asset: str, fingerprint: str, partition: str = UNPARTITIONED) -> Ref | None:
        """The partition's newest ref if it was made with this fingerprint and is intact: then nothing is left to do.

        Damaged data is not found, so that materializing it again mends it.
        """
        entry = self._newest(asset, partition)
        is_it = entry is not None and entry.commit.fingerprint == fingerprint and self.verify(entry.ref)
        return entry.ref if entry and is_it else None

    def table(self, ref: Ref, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of exactly this ref in the order they were committed.

        A column that the code has declared since (schemas.py) is there, without a value.
        """
        path, stored, names = self._open(ref, columns)
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                return self._declared.completed(ref.asset, file.read(columns=stored), names)
        except UNREADABLE as error:
            raise _damaged(ref, path, error) from error

    def batches(self, ref: Ref, columns: Sequence[str] | None = None, rows: int = 2048) -> Iterator[pa.RecordBatch]:
        """The same rows in batches of at most `rows`, in bounded memory."""
        path, stored, names = self._open(ref, columns)
        try:
            for batch in read_rows(path, stored, rows):
                yield self._declared.completed(ref.asset, batch, names)
        except UNREADABLE as error:
            raise _damaged(ref, path, error) from error

    def check(self, ref: Ref) -> None:
        """Read every stored byte of a version, those of a checkpoint's files too, and compare with what was committed.

        Raises: LakeError naming version, file and mend when anything is altered or lost, or the ref does not resolve.
        """
        entry = self._entry(ref)
        self._log.check(entry, cached=False)
        if entry.record.checkpoint:
            checkpoints.verify(ref.asset, self.home / entry.record.checkpoint, ref.data_version, cached=False)

    def check_rows(self, ref: Ref) -> None:
        """The same of the rows alone, and once per process: `table` and `batches` do it by themselves."""
        self._log.check(self._entry(ref))

    def verify(self, ref: Ref) -> bool:
        """Whether the stored bytes still are what was committed: every row, and every file of a checkpoint.

        Raises: LakeError when the ref does not resolve; damage and loss are the answer False.
        """
        self._entry(ref)
        try:
            self.check(ref)
        except LakeError:
            return False
        return True

    def check_log(self, asset: str) -> None:
        """Hold a table's log files against each other, and what Delta makes of them against the commits.

        Raises: LakeError naming the file and the mend.
        """
        check_table(self._log, asset)

    # -- lineage

    def lineage(self) -> list[Commit]:
        """Every commit of every table, in the order of time."""
        commits = [entry.commit for asset in self._log.assets() for entry in self._log.entries(asset)]
        return sorted(commits, key=lambda commit: (commit.timestamp, commit.ref.asset, commit.ref.version))

    def ancestors(self, ref: Ref) -> list[Commit]:
        """Every commit `ref` was made from, directly or not, each once, nearest first.

        Raises: LakeError when an input does not resolve.
        """
        return upstream([ref], self.commit_of)

    # -- work in progress

    def spool(self, asset: str, partition: str, fingerprint: str) -> Spool:
        """The shards of the computation with this fingerprint, finished ones of a killed run included."""
        _check_names(asset, partition)
        self.prepare()
        return Spool(self.home / "spool" / asset / f"{partition}-{fingerprint[:16]}")

    def work_folder(self, asset: str, fingerprint: str) -> Path:
        """Where to make this checkpoint: the same folder after a kill, with what the killed run left in it.

        While another living process makes the same checkpoint, a second folder.
        """
        _check_names(asset, UNPARTITIONED)
        self.prepare()

        def committed() -> set[Path]:
            return {
                self.home / entry.record.checkpoint for entry in self._log.entries(asset) if entry.record.checkpoint
            }

        with written(f"a checkpoint of {asset}", self.models):
            return checkpoints.claim_work_folder(self.models, asset, fingerprint, committed)

    def hand_over(self, asset: str, fingerprint: str, names: Sequence[str], folder: Path) -> bool:
        """Move what was made in the work folder of `asset` to `folder`, another one, and let go of the first.

        The first of `names` is moved last: once it is there, all is. False where the first work folder has none.
        """
        work = self.work_folder(asset, fingerprint)
        is_there = (work / names[0]).exists()
        if is_there:
            for name in [*names[1:], names[0]]:
                if (work / name).exists():
                    (work / name).rename(folder / name)
        checkpoints.release_work_folder(self.models, work / names[0])
        return is_there

    # -- checkpoints

    def commit_checkpoint(
        self,
        asset: str,
        folder: Path,
        schema: pa.Schema,
        row: dict[str, Any],
        provenance: Provenance,
        partition: str = UNPARTITIONED,
    ) -> Ref:
        """Seal `folder` (in `work_folder()`), move it to its place in `models/` and commit `row` about it.

        The row gets `model_id` ("<asset>/<version>") and `path` (relative to the home). The data version is the hash of
        the manifest's file hashes: the same weights are the same checkpoint.

        Raises: LakeError when the row does not fit the schema or the folder is not a finished work folder.
        """
        _check_names(asset, partition)
        for name in ("model_id", "path"):
            if name not in schema.names:
                schema = schema.append(pa.field(name, pa.string(), nullable=False))
        _one_row(asset, row | {"model_id": "", "path": ""}, schema)  # a bad row must not cost the folder
        folder = Path(folder).absolute()
        with written(f"a checkpoint of {asset}", self.models):
            sealed = checkpoints.seal(self.models, asset, folder, provenance)
        path = sealed.folder.relative_to(self.home).as_posix()
        full = _one_row(asset, row | {"model_id": f"{asset}/{sealed.version}", "path": path}, schema)
        ref = self._commit(asset, [full], schema, provenance, partition, sealed)
        checkpoints.release_work_folder(self.models, folder)
        self._publish_around_damage()
        return ref

    def checkpoint(self, ref: Ref) -> Path:
        """The checkpoint's folder, its files verified (each once per process while size and time stay the same).

        Raises: LakeError naming the missing or altered file and the mend.
        """
        entry = self._entry(ref)
        if not entry.record.checkpoint:
            raise LakeError(f"{ref} is a table, not a checkpoint; read it with table()")
        folder = self.home / entry.record.checkpoint
        checkpoints.verify(ref.asset, folder, ref.data_version)
        return folder

    def copy_checkpoint(self, ref: Ref, folder: Path) -> None:
        """Put the files of a checkpoint into `folder` (in `work_folder()`), to be committed under another name.

        `folder` appears when it is whole; what a killed run left under its name is held against the checkpoint.
        """
        source = self.checkpoint(ref)
        with written(f"a copy of {ref}", folder.parent):
            checkpoints.copy(ref.asset, source, folder, ref.data_version)

    # -- catalogue and retention

    def publish(self) -> None:
        """Rebuild `home/catalog.duckdb`; also the mend after copying a home to another place.

        Raises: LakeError naming a damaged commit file, when the catalogue of all other tables is written.
        """
        self.prepare()
        if damaged := catalogue.publish(self.home, self._log, self._declared):
            raise damaged[0]

    def publish_if_stale(self) -> None:
        """The same when the catalogue misses commits: its publisher was killed, or had no room on the disk.

        A table whose log is damaged is warned of, and its view says so.
        """
        if not catalogue.is_current(self.home, self._log):
            self.prepare()
            self._publish_around_damage()

    def lost(self) -> list[LakeError]:
        """Tables whose newest commit the catalogue knows and the log does not: its commit file was lost."""
        return catalogue.lost(self.home, self._log)

    def current_catalogue(self, scratch: Path) -> Path:
        """A catalogue of this place that misses no commit: the home's, or one in `scratch` if none can be written."""
        try:
            self.publish_if_stale()
        except LakeError:
            catalogue.publish(self.home, self._log, self._declared, scratch / catalogue.CATALOGUE)
            return scratch / catalogue.CATALOGUE
        return self.home / catalogue.CATALOGUE

    def _publish_around_damage(self) -> None:
        for damaged in catalogue.publish(self.home, self._log, self._declared):
            warnings.warn(str(damaged), stacklevel=3)

    def gc(self, keep_last: int = 5, grace_hours: float = 24, dry_run: bool = True) -> list[retention.Garbage]:
        """What nobody needs any more, deleted unless `dry_run`; see `retention.collect` for what is kept."""
        if not dry_run:
            self.prepare()
        return retention.collect(self.home, self._log, self._declared.pinning, keep_last, grace_hours, dry_run)

    # -- inside

    def _commit(
        self,
        asset: str,
        batches: Iterable[pa.Table | pa.RecordBatch],
        schema: pa.Schema,
        provenance: Provenance,
        partition: str,
        sealed: checkpoints.Sealed | None = None,
    ) -> Ref:
        _check_names(asset, partition)
        check_schema(asset, schema)
        self.prepare()
        file = self.home / "spool" / asset / f".commit-{uuid.uuid4().hex}.parquet"
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_rows(file, _all_checked(asset, batches, schema), schema)
            _check_unique(asset, file, schema)
            content, rows = content_hash(file, (schema.metadata or {}).get(b"ordered") == b"true")
            record = Record(
                commit_id=uuid.uuid4().hex,
                partition=partition,
                rows=rows,
                data_version=sealed.data_version if sealed else content,
                content_hash=content,
                schema_hash=schema_hash(schema),
                fingerprint=provenance.fingerprint,
                provenance=provenance,
                checkpoint=sealed.folder.relative_to(self.home).as_posix() if sealed else "",
                file_hash=file_hash(file),
            )
            return overwrite_partition(self._log, asset, file, schema, record)
        except (OSError, DeltaError) as error:
            raise cannot_write(f"{asset}[{partition}]", self.home, error) from error
        finally:
            file.unlink(missing_ok=True)

    def _newest(self, asset: str, partition: str) -> Entry | None:
        return next((entry for entry in self._log.newest_first(asset) if entry.ref.partition == partition), None)

    def _entry(self, ref: Ref) -> Entry:
        entry = self._log.at(ref.asset, ref.version)
        if entry is None or entry.ref != ref:
            found = (
                f"that version is {entry.ref} with data version {entry.ref.data_version}"
                if entry
                else "it has no such commit"
            )
            raise LakeError(f"{ref} (data version {ref.data_version}) is not in the lake at {self.home}: {found}")
        return entry

    def _make_equals_whole(self, ref: Ref) -> None:
        """Earlier versions with the same rows, on which something rests and whose file is damaged or lost, get them."""
        new = self._entry(ref)
        equal = [
            one for one in self._log.entries(ref.asset)
            if one.ref.partition == ref.partition and one.ref.version != ref.version
            and (one.record.content_hash, one.ref.rows) == (new.record.content_hash, ref.rows)
        ]  # fmt: skip
        pinned = retention.pinned_versions(self._log, self._declared.pinning) if equal else set()
        for one in equal:
            if (one.ref.asset, one.ref.version) in pinned and not self.verify(one.ref):
                with written(f"{one.ref}, made whole", self.home), complete(self._log.path(one)) as draft:
                    shutil.copyfile(self._log.path(new), draft)

    def _open(self, ref: Ref, columns: Sequence[str] | None) -> tuple[Path, list[str], list[str]]:
        """The file of a ref, which of the wanted columns it has, and all that are wanted."""
        path = self._log.check(self._entry(ref))
        try:
            stored = pq.read_schema(path).names
        except UNREADABLE as error:
            raise _damaged(ref, path, error) from error
        names = stored + self._declared.since(ref.asset, stored)
        unknown = sorted(set(columns or []) - set(names))
        if unknown:
            raise LakeError(f"{ref} has no column {unknown[0]!r}; it has {', '.join(names)}")
        wanted = names if columns is None else list(columns)
        return path, [name for name in wanted if name in stored], wanted


def _readable(home: Path) -> Path:
    """The home as an absolute path. Raises: LakeError naming the path and PROMPTCOT_HOME when it can be no home."""
    try:
        home = home.expanduser().absolute()
    except RuntimeError as error:  # ~ of nobody
        raise LakeError(f"{str(home)!r} is no folder: {error}; set PROMPTCOT_HOME elsewhere") from error
    odd = sorted(one for one in set(str(home)) if one in _ODD_IN_PATHS or not one.isprintable())
    if odd:
        raise LakeError(
            f"the path {str(home)!r} has {odd[0]!r} in it, which DuckDB or Delta misread; set PROMPTCOT_HOME elsewhere"
        )
    return home


def _check_names(asset: str, partition: str) -> None:
    if not _ASSET.fullmatch(asset) or asset.lower() in catalogue.RESERVED:
        raise LakeError(f"{asset!r} cannot be a table: use letters, digits and _, and none of {catalogue.RESERVED}")
    if not _PARTITION.fullmatch(partition):
        raise LakeError(f"{asset}: {partition!r} cannot be a partition: use letters, digits and any of . _ -")


def _all_checked(asset: str, batches: Iterable[pa.Table | pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    row = 0
    for batch in batches:
        yield checked(asset, batch, schema, row)
        row += batch.num_rows


def _check_unique(asset: str, file: Path, schema: pa.Schema) -> None:
    for field in schema:
        if (field.metadata or {}).get(b"unique") == b"true" and (found := first_duplicate(file, field.name)):
            raise LakeError(f"{asset}: column {field.name!r} must be unique; row {found[0]} repeats {found[1]!r}")


def _one_row(asset: str, row: dict[str, Any], schema: pa.Schema) -> pa.Table:
    """Raises: LakeError when a key is missing or unknown or a value has the wrong type."""
    if differing := sorted(set(row) ^ set(schema.names)):
        state = "is missing from" if differing[0] in schema.names else "is unknown to the schema but in"
        raise LakeError(f"{asset}: column {differing[0]!r} {state} the checkpoint's row")
    columns = []
    for field in schema:
        try:
            columns.append(pa.array([row[field.name]], field.type))
        except (pa.ArrowException, TypeError) as error:
            raise LakeError(f"{asset}: column {field.name!r} cannot hold {row[field.name]!r}: {error}") from error
    return checked(asset, pa.table(columns, names=schema.names), schema)


def _damaged(ref: Ref, path: Path, error: Exception) -> LakeError:
    return LakeError(f"{ref}: {damage(ref.asset, path, error)}")
