"""What may be deleted: superseded data that nothing pinned descends from, and work that nobody will finish."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deltalake import DeltaTable

from promptcot_assets.lake.checkpoints import MANIFEST, PARTIAL, is_claimed
from promptcot_assets.lake.lineage import upstream
from promptcot_assets.lake.log import Entry, Log
from promptcot_assets.lake.ref import Commit, Ref

PINNING_TABLES = ("benchmark_scores",)  # besides every table of checkpoints


@dataclass(frozen=True)
class Garbage:
    """Files (or whole folders) of one asset that nobody needs, and their size."""

    asset: str
    files: tuple[Path, ...]
    bytes: int


def collect(home: Path, log: Log, keep_last: int, grace_hours: float, dry_run: bool) -> list[Garbage]:
    """Find what may go and, unless `dry_run`, delete it.

    Kept: each partition's newest `keep_last` commits; every commit of a checkpoint or of benchmark scores and all they
    descend from; and whatever is younger than the grace, which must be longer than the longest read or write.
    """
    before = time.time() - grace_hours * 3600
    pinned = _pinned(log)
    found: dict[str, list[Path]] = {}
    for asset in log.assets():
        found[asset] = _superseded_files(log, asset, pinned, keep_last, before)
    for path in [*home.glob("spool/*/*"), *home.glob(f"models/{PARTIAL}/*"), *_uncommitted_checkpoints(home, log)]:
        if _newest_change(path) < before and not (path.is_dir() and is_claimed(path)):
            found.setdefault(_asset_of(home, path), []).append(path)
    garbage = [Garbage(asset, tuple(paths), sum(map(_size, paths))) for asset, paths in sorted(found.items()) if paths]
    if not dry_run:
        for path in (path for one in garbage for path in one.files):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return garbage


def _pinned(log: Log) -> set[tuple[str, int]]:
    """(asset, version) of every commit that a model or a score rests on."""

    def commit_of(ref: Ref) -> Commit | None:
        entry = log.at(ref.asset, ref.version)
        return entry.commit if entry else None

    roots = [
        entry.ref
        for asset in log.assets()
        for entry in log.entries(asset)
        if entry.record.checkpoint or asset in PINNING_TABLES
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
    committed = {entry.record.checkpoint for asset in log.assets() for entry in log.entries(asset)}
    for manifest in home.glob(f"models/*/*/{MANIFEST}"):
        if manifest.parent.relative_to(home).as_posix() not in committed and manifest.parent.parent.name != PARTIAL:
            yield manifest.parent


def _asset_of(home: Path, path: Path) -> str:
    kind, asset, *_ = path.relative_to(home).parts
    return path.name.rsplit("-", 1)[0] if (kind, asset) == ("models", PARTIAL) else asset


def _newest_change(path: Path) -> float:
    """When anything in `path` last changed, in seconds since the epoch; a path that just went away is brand new."""
    try:
        return max(item.stat().st_mtime for item in [path, *(path.rglob("*") if path.is_dir() else [])])
    except FileNotFoundError:
        return time.time()


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
