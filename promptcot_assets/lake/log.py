"""The commits of the tables, read from their Delta logs.

A log file's NAME is the version: `DeltaTable.history()` counts back from the newest and is wrong as soon as somebody
else commits. Log files never change once they exist, so each is read once per process.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from promptcot_assets.lake.disk import file_hash
from promptcot_assets.lake.errors import LakeError
from promptcot_assets.lake.ref import Commit, Provenance, Ref, canonical_json

METADATA_KEY = "promptcot"  # our part of a log file's commitInfo
UNREADABLE = (pa.ArrowException, OSError, UnicodeError)  # what pyarrow raises on a damaged Parquet file
PARTITION_COLUMN = "_part"  # the Dagster partition key; not stored in the files, Delta and DuckDB read it from the path
_LOG_FILE = re.compile(r"\d{20}\.json")
_NO_COMMIT = (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError)  # not JSON, not all of a commit
RESTORE = "restore it from a copy of the home"


@dataclass(frozen=True)
class Record:
    """What a commit writes into its log file beside Delta's own actions: plain JSON, readable without us."""

    commit_id: str
    partition: str
    rows: int
    data_version: str
    content_hash: str  # of the rows; the data version too, except for checkpoints
    schema_hash: str
    fingerprint: str
    provenance: Provenance
    checkpoint: str = ""  # path of the checkpoint's folder relative to the home, "" for a plain table
    file_hash: str = ""  # SHA-256 of the Parquet file
    follows: str = ""  # SHA-256 of the table's log file before this one
    committed_at: int = 0  # milliseconds since the epoch

    @property
    def file(self) -> str:
        """The Parquet file that holds the whole partition, relative to the table's folder."""
        return f"{PARTITION_COLUMN}={self.partition}/{self.commit_id}.zstd.parquet"

    def to_dict(self) -> dict[str, Any]:
        fields = dataclasses.asdict(self)
        return {**fields, "checksum": _checksum(fields)}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Record:
        """Raises: ValueError, KeyError, TypeError or AttributeError when it is not what `to_dict` gave."""
        fields = {name: one for name, one in value.items() if name != "checksum"}
        record = cls(**{**fields, "provenance": Provenance.from_dict(fields["provenance"])})
        if value["checksum"] != _checksum(fields):
            raise ValueError("its checksum differs")
        return record


def _checksum(fields: dict[str, Any]) -> str:
    """Of a record's fields; of seconds only what every JSON library gives back alike."""
    made = fields["provenance"]
    text = canonical_json({**fields, "provenance": {**made, "seconds": f"{made['seconds']:.3f}"}})
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Entry:
    """One commit as its log file tells it."""

    commit: Commit
    record: Record

    @property
    def ref(self) -> Ref:
        return self.commit.ref

    @property
    def file(self) -> str:
        return self.record.file


class Log:
    """All logs under one lake folder, `<folder>/<asset>/_delta_log/<version>.json`.

    Methods that read commits raise LakeError when one's file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._entries: dict[tuple[str, int], Entry | None] = {}

    def assets(self) -> list[str]:
        return sorted(path.parent.name for path in self.folder.glob("*/_delta_log"))

    def newest_first(self, asset: str) -> Iterator[Entry]:
        """The table's commits, newest first, read only as far as the caller goes; nothing for an unknown table.

        Raises: LakeError when a commit between others is lost.
        """
        for version in reversed(self._versions(asset)):
            entry = self._entry(asset, version)
            if entry is not None:
                yield entry

    def _versions(self, asset: str) -> range:
        """Those that have a log file. Raises: LakeError when one is missing."""
        folder = self.folder / asset / "_delta_log"
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        found = {int(name.split(".")[0]) for name in names if _LOG_FILE.fullmatch(name)}
        versions = range(max(found, default=-1) + 1)
        if len(found) < len(versions):
            lost = next(version for version in versions if version not in found)
            raise LakeError(f"table {asset}: commit file {self.file(asset, lost)} is missing; {RESTORE}")
        return versions

    def entries(self, asset: str) -> list[Entry]:
        """The table's commits, oldest first."""
        return list(self.newest_first(asset))[::-1]

    def file(self, asset: str, version: int) -> Path:
        return self.folder / asset / "_delta_log" / f"{version:020d}.json"

    def at(self, asset: str, version: int) -> Entry | None:
        return self._entry(asset, version) if self.file(asset, version).is_file() else None

    def path(self, entry: Entry) -> Path:
        """The Parquet file of a commit."""
        return self.folder / entry.ref.asset / entry.file

    def check(self, entry: Entry, *, cached: bool = True) -> Path:
        """The Parquet file of a commit, its bytes held against the hash that was committed.

        With `cached`, a file is read once per process as long as its size and times stay the same. Raises: LakeError
        naming version, file and mend.
        """
        path = self.path(entry)
        try:
            found = file_hash(path, cached=cached)
        except FileNotFoundError:
            raise LakeError(f"{entry.ref}: {lost(entry.ref.asset, path)}") from None
        except OSError as error:
            raise LakeError(f"{entry.ref}: {damage(entry.ref.asset, path, error)}") from error
        if found != entry.record.file_hash and found not in self._hashes_of_equals(entry):
            raise LakeError(f"{entry.ref}: {damage(entry.ref.asset, path, 'its checksum differs')}")
        return path

    def _hashes_of_equals(self, entry: Entry) -> set[str]:
        """Of files with the same rows in the same order: one of them may have healed this one."""
        return {
            one.record.file_hash
            for one in self.entries(entry.ref.asset)
            if one.ref.rows == entry.ref.rows and one.record.content_hash == entry.record.content_hash
        }

    def check_sequence(self, asset: str) -> None:
        """Raises: LakeError when a log file of a table is not the one that the next commit followed."""
        for entry in self.entries(asset):
            before = self.file(asset, entry.ref.version - 1)
            if entry.record.follows != file_hash(before, cached=False):
                raise LakeError(f"table {asset}: commit file {before} is not the one that was written; {RESTORE}")

    def current(self, asset: str) -> dict[str, Entry]:
        """The newest commit of every partition: the newest version of the table, by sorted partition."""
        return newest_by_partition(self.entries(asset))

    def _entry(self, asset: str, version: int) -> Entry | None:
        key = (asset, version)
        if key not in self._entries:
            file = self.file(asset, version)
            try:
                self._entries[key] = _parse(asset, version, file.read_text())
            except _NO_COMMIT as error:
                raise LakeError(
                    f"table {asset}: commit file {file} is damaged ({type(error).__name__}: {error}); {RESTORE}"
                ) from error
        return self._entries[key]


def damage(asset: str, file: Path, error: Exception | str) -> str:
    """What is wrong with a Parquet file that cannot be read, and the mend."""
    return f"file {file} is damaged ({str(error).strip()}); restore it from a copy or re-materialize {asset}"


def lost(asset: str, file: Path) -> str:
    """What is to be said of a Parquet file that is not there."""
    return (
        f"its file {file} is gone (garbage collection keeps only recent and pinned versions); "
        f"restore it from a copy or re-materialize {asset}"
    )


def newest_by_partition(entries: list[Entry]) -> dict[str, Entry]:
    """Of commits in order of age, the last one of every partition, by sorted partition."""
    newest = {entry.ref.partition: entry for entry in entries}
    return dict(sorted(newest.items()))


def _parse(asset: str, version: int, text: str) -> Entry | None:
    """The commit in one log file; None for a file that is not one of ours (table creation, foreign maintenance).

    An empty file is none of ours either: a power cut leaves one for a commit that nobody was told of, and Delta goes
    over it too.
    """
    actions: dict[str, Any] = {}
    for line in text.splitlines():
        actions.update(json.loads(line))
    info = actions.get("commitInfo", {})
    if METADATA_KEY not in info:
        return None
    record = Record.from_dict(info[METADATA_KEY])
    if actions["add"]["path"] != record.file:
        raise ValueError(f"it adds {actions['add']['path']!r}, not {record.file!r}")
    ref = Ref(asset, version, record.partition, record.data_version, record.rows)
    timestamp = datetime.fromtimestamp(record.committed_at / 1000, UTC)
    return Entry(Commit(ref, record.provenance, record.fingerprint, timestamp), record)
