"""The commits of the tables, read from their Delta logs.

A log file's NAME is the version: `DeltaTable.history()` counts back from the newest and is wrong as soon as somebody
else commits. Log files never change once they exist, so each is read once per process.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from promptcot_assets.lake.errors import LakeError
from promptcot_assets.lake.ref import Commit, Provenance, Ref

METADATA_KEY = "promptcot"  # our part of a log file's commitInfo
UNREADABLE = (pa.ArrowException, OSError, UnicodeError)  # what pyarrow raises on a damaged Parquet file
_LOG_FILE = re.compile(r"\d{20}\.json")


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

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Record:
        return cls(**{**value, "provenance": Provenance.from_dict(value["provenance"])})


@dataclass(frozen=True)
class Entry:
    """One commit as its log file tells it."""

    commit: Commit
    record: Record
    file: str  # the Parquet file that holds the whole partition, relative to the table's folder

    @property
    def ref(self) -> Ref:
        return self.commit.ref


class Log:
    """All logs under one lake folder, `<folder>/<asset>/_delta_log/<version>.json`.

    Methods that read commits raise LakeError when one's file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._entries: dict[tuple[str, str], Entry | None] = {}

    def assets(self) -> list[str]:
        return sorted(path.parent.name for path in self.folder.glob("*/_delta_log"))

    def newest_first(self, asset: str) -> Iterator[Entry]:
        """The table's commits, newest first, read only as far as the caller goes; nothing for an unknown table."""
        folder = self.folder / asset / "_delta_log"
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        for name in sorted(filter(_LOG_FILE.fullmatch, names), reverse=True):
            entry = self._entry(asset, name)
            if entry is not None:
                yield entry

    def entries(self, asset: str) -> list[Entry]:
        """The table's commits, oldest first."""
        return list(self.newest_first(asset))[::-1]

    def file(self, asset: str, version: int) -> Path:
        return self.folder / asset / "_delta_log" / f"{version:020d}.json"

    def at(self, asset: str, version: int) -> Entry | None:
        file = self.file(asset, version)
        return self._entry(asset, file.name) if file.is_file() else None

    def current(self, asset: str) -> dict[str, Entry]:
        """The newest commit of every partition: the newest version of the table, by sorted partition."""
        return newest_by_partition(self.entries(asset))

    def _entry(self, asset: str, name: str) -> Entry | None:
        key = (asset, name)
        if key not in self._entries:
            version = int(name.split(".")[0])
            file = self.file(asset, version)
            try:
                self._entries[key] = _parse(asset, version, file.read_text())
            except (ValueError, KeyError, TypeError, AttributeError) as error:  # not JSON, or not all of a commit
                raise LakeError(
                    f"table {asset}: commit file {file} is damaged ({type(error).__name__}: {error}); "
                    "restore it from a copy of the home"
                ) from error
        return self._entries[key]


def damage(asset: str, file: Path, error: Exception) -> str:
    """What is wrong with a Parquet file that cannot be read, and the mend."""
    return f"file {file} is damaged ({str(error).strip()}); restore it from a copy or re-materialize {asset}"


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
    ref = Ref(asset, version, record.partition, record.data_version, record.rows)
    timestamp = datetime.fromtimestamp(info["timestamp"] / 1000, UTC)
    return Entry(Commit(ref, record.provenance, record.fingerprint, timestamp), record, actions["add"]["path"])
