"""What may be deleted: superseded data that nothing pinned descends from, and work that nobody will finish."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from deltalake import DeltaTable

from promptcot_assets.lake.checkpoints import MANIFEST, PARTIAL, is_claimed, is_same_folder, try_lock
from promptcot_assets.lake.derived import unfinished
from promptcot_assets.lake.errors import LakeError
from promptcot_assets.lake.lineage import upstream
from promptcot_assets.lake.log import RESTORE, Entry, Log
from promptcot_assets.lake.ref import Commit, Ref


@dataclass(frozen=True)
class Garbage:
    """Files (or whole folders) of one asset that nobody needs, and their size."""

    asset: str
    files: tuple[Path, ...]
    bytes: int


def collect(
    home: Path, log: Log, pinning: Sequence[str], keep_last: int, grace_hours: float, dry_run: bool
) -> list[Garbage]:
    """Find what may go and, unless `dry_run`, delete it.

    Kept: each partition's newest `keep_last` commits; every commit of a checkpoint, or of a table of `pinning`, and all
    they descend from; whatever is younger than the grace, which must be longer than the longest read or write; and
    folders that a living process works in. All of it holds at the moment of deletion: what was taken up since it was
    found stays, and is not in the result.
    """
    before = time.time() - grace_hours * 3600
    pinned = pinned_versions(log, pinning)
    found: dict[str, list[Path]] = {}
    for asset in log.assets():
        found[asset] = _superseded_files(log, asset, pinned, keep_last, before)
    for path in _left_behind(home, log):
        if _newest_change(path) < before and not (path.is_dir() and is_claimed(path)):
            found.setdefault(_asset_of(home, path), []).append(path)
    sizes = {path: _size(path) for paths in found.values() for path in paths}
    if not dry_run:
        for asset, paths in found.items():
            # Anew for each asset: sizing and deleting the others took a while, in which much may have been committed.
            superseded = (
                set(_superseded_files(log, asset, pinned_versions(log, pinning), keep_last, before)) if paths else set()
            )
            found[asset] = [path for path in paths if path in superseded or not path.is_relative_to(log.folder)]
            found[asset] = [path for path in found[asset] if _deleted(home, log, path, before)]
    return [
        Garbage(asset, tuple(paths), sum(sizes[path] for path in paths))
        for asset, paths in sorted(found.items())
        if paths
    ]


def _left_behind(home: Path, log: Log) -> Iterator[Path]:
    """What runs leave that end before they commit; also what runs that go on have made so far."""
    yield from home.glob("spool/*/*")
    yield from home.glob(f"models/{PARTIAL}/*")
    yield from _uncommitted_checkpoints(home, log)
    yield from unfinished(home)
    yield from home.glob("lake/*/*/.*.parquet.*")  # files that were being made whole
    yield from home.glob("lake/*/_delta_log/*.json#*")  # log files that Delta was writing


def _deleted(home: Path, log: Log, path: Path, before: float) -> bool:
    """Delete a file or folder, unless it was changed, claimed, committed or removed since it was found."""
    if not path.is_dir():
        if is_old := _newest_change(path) < before:
            path.unlink(missing_ok=True)
        return is_old
    lock = try_lock(path)
    if lock is None:
        return False
    try:  # as long as the lock is held, nobody resumes the work in it
        if not is_same_folder(lock, path) or _newest_change(path) >= before:
            return False
        if path.relative_to(home).as_posix() in _committed_checkpoints(log):
            return False
        aside = _aside(home, path)
        try:
            path.rename(aside)  # at once: a kill from here on leaves nothing that looks like resumable work
        except FileNotFoundError:  # somebody who needs no claim for it, as to clear a spool, removed it first
            return False
        shutil.rmtree(aside)
    finally:
        os.close(lock)
    return True


def _aside(home: Path, path: Path) -> Path:
    """A name that nobody looks for but a later collection, on the same disk."""
    folder = home / "models" / PARTIAL if path.is_relative_to(home / "models") else path.parent
    folder.mkdir(exist_ok=True)
    return folder / f".{_asset_of(home, path)}-{uuid.uuid4().hex}"


def pinned_versions(log: Log, pinning: Sequence[str]) -> set[tuple[str, int]]:
    """(asset, version) of every commit that a model or a score rests on.

    Raises: LakeError when one of them is not in the lake: what it rests on in turn cannot be told.
    """

    def commit_of(ref: Ref) -> Commit:
        entry = log.at(ref.asset, ref.version)
        if entry is None or entry.ref != ref:
            raise LakeError(
                f"{ref} (data version {ref.data_version}), which models or scores rest on, is not in the lake: its "
                f"commit file {log.file(ref.asset, ref.version)} is lost or another one; nothing is deleted; {RESTORE}"
            )
        return entry.commit

    roots = [
        entry.ref
        for asset in log.assets()
        for entry in log.entries(asset)
        if entry.record.checkpoint or asset in pinning
    ]
    return {(ref.asset, ref.version) for ref in [*roots, *(c.ref for c in upstream(roots, commit_of))]}


def _superseded_files(log: Log, asset: str, pinned: set[tuple[str, int]], keep_last: int, before: float) -> list[Path]:
    """Data files of one table that neither a kept commit nor the table's newest version names."""
    table = log.folder / asset
    if not DeltaTable.is_deltatable(table.as_uri()):  # a kill during its creation
        return []
    kept = {file.split("/")[-1] for file in DeltaTable(table.as_uri()).file_uris()}  # also after foreign maintenance
    commits: dict[str, list[Entry]] = {}
    for entry in log.newest_first(asset):
        newer = commits.setdefault(entry.ref.partition, [])
        is_recent = bool(newer) and newer[-1].commit.timestamp.timestamp() >= before  # when it was superseded
        if len(newer) < max(keep_last, 1) or is_recent or (asset, entry.ref.version) in pinned:
            kept.add(entry.file.split("/")[-1])
        newer.append(entry)
    files = sorted(table.glob("*/*.parquet"))
    return [
        file
        for file in files
        if file.name not in kept and file.parent.name != "_delta_log" and _newest_change(file) < before
    ]


def _uncommitted_checkpoints(home: Path, log: Log) -> Iterator[Path]:
    committed = _committed_checkpoints(log)
    for manifest in home.glob(f"models/*/*/{MANIFEST}"):
        if manifest.parent.relative_to(home).as_posix() not in committed and manifest.parent.parent.name != PARTIAL:
            yield manifest.parent


def _committed_checkpoints(log: Log) -> set[str]:
    """Their folders, relative to the home."""
    return {entry.record.checkpoint for asset in log.assets() for entry in log.entries(asset)}


def _asset_of(home: Path, path: Path) -> str:
    kind, asset, *_ = path.relative_to(home).parts
    if kind == "derived":
        return path.parent.name
    return path.name.lstrip(".").rsplit("-", 1)[0] if (kind, asset) == ("models", PARTIAL) else asset


def _newest_change(path: Path) -> float:
    """When anything in `path` last changed, in seconds since the epoch; a path that just went away is brand new."""
    try:
        return max(item.stat().st_mtime for item in [path, *(path.rglob("*") if path.is_dir() else [])])
    except FileNotFoundError:
        return time.time()


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    try:
        return sum(file.stat().st_size for file in files if file.is_file())
    except FileNotFoundError:  # its owner removes it just now
        return 0
