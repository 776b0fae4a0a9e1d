"""Model checkpoints: folders that never change, sealed by a manifest of their files' hashes.

A checkpoint grows in `models/.partial/<role>-<fingerprint>/` and moves to `models/<role>/<version>/` when its manifest
is written. The version is a hash of the files, so the same weights are the same checkpoint whoever trained them.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptcot_assets.lake.disk import complete, file_hash, sync
from promptcot_assets.lake.errors import LakeError
from promptcot_assets.lake.ref import Provenance, canonical_json

MANIFEST = "manifest.json"
PARTIAL = ".partial"
UNREADABLE_MANIFEST = (ValueError, KeyError, TypeError, AttributeError, RecursionError)

_claimed: dict[tuple[int, Path], int] = {}  # folders this process works in, by process: a forked child holds none


@dataclass(frozen=True)
class Sealed:
    """A finished checkpoint: its folder and the hash of its files."""

    folder: Path
    data_version: str

    @property
    def version(self) -> str:
        return self.folder.name


def claim_work_folder(models: Path, role: str, fingerprint: str, committed: Callable[[], set[Path]]) -> Path:
    """The folder to make this checkpoint in: the same after a kill, another one while a living process uses the first.

    A checkpoint that a killed process sealed but did not commit (it is not in `committed()`) is taken back into it. The
    claim is a lock on the folder, which dies with the process (and with children forked from it).
    """
    twin = 0
    while True:
        folder = models / PARTIAL / (_work_name(role, fingerprint) + (f".{twin}" if twin else ""))
        if (os.getpid(), folder) in _claimed and folder.is_dir():
            return folder
        folder.mkdir(parents=True, exist_ok=True)
        lock = try_lock(folder)
        if lock is None:
            twin += 1
        elif not is_same_folder(lock, folder):
            os.close(lock)  # its former owner finished and moved it away: look again
        else:
            _claimed[os.getpid(), folder] = lock
            if twin == 0 and not any(folder.iterdir()):
                _take_back(models, role, folder, committed)
            return folder


def is_claimed(folder: Path) -> bool:
    """Whether a living process works in this folder."""
    lock = try_lock(folder)
    if lock is not None:
        os.close(lock)
    return lock is None


def release_work_folder(models: Path, folder: Path) -> None:
    """Remove what is left of the work folder that `folder` was in, and let others use its name.

    Once the folder was moved away, its name may already be another process's work folder: that one stays.
    """
    work = models / PARTIAL / folder.relative_to(models / PARTIAL).parts[0]
    lock = _claimed.pop((os.getpid(), work), None) or try_lock(work)
    if lock is not None:
        if is_same_folder(lock, work):
            shutil.rmtree(work)
        os.close(lock)


def seal(models: Path, role: str, folder: Path, provenance: Provenance) -> Sealed:
    """Write the manifest and move `folder` to its final place; when the same files are there already, keep those.

    Raises: LakeError when the folder is not a work folder, is empty or holds links.
    """
    if not folder.is_relative_to(models / PARTIAL) or folder == models / PARTIAL:
        raise LakeError(
            f"{role}: checkpoint folder {folder} is not below {models / PARTIAL}; write it in work_folder()"
        )
    if not folder.is_dir():
        raise LakeError(f"{role}: there is no checkpoint folder {folder}; write it in work_folder()")
    for earlier in (folder / MANIFEST, *folder.glob(f".{MANIFEST}.*")):  # of a run that was killed while it sealed
        earlier.unlink(missing_ok=True)
    paths = list(_files(role, folder))
    if not paths:
        raise LakeError(f"{role}: checkpoint folder {folder} has no files; nothing was trained into it")
    for path in paths:
        sync(path)
    files = {path.relative_to(folder).as_posix(): file_hash(path, cached=False) for path in paths}
    data_version = _files_hash(files)
    manifest = {
        "files": files,
        "bytes": sum(path.stat().st_size for path in paths),
        "inputs": [json.loads(ref.json()) for ref in provenance.inputs],
        "provenance": {**provenance.to_dict(), "fingerprint": provenance.fingerprint},
        "work_folder": folder.relative_to(models / PARTIAL).as_posix(),
    }
    with complete(folder / MANIFEST) as draft:
        draft.write_text(json.dumps({**manifest, "sha256": _own_hash(manifest)}, indent=1, sort_keys=True))
    target = models / role / data_version[:12]
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.rename(target)
        sync(target.parent)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        _restore_damaged(role, folder, target, data_version)
    return Sealed(target, data_version)


def verify(role: str, folder: Path, data_version: str, *, cached: bool = True) -> None:
    """Check the folder against its manifest and the manifest against `data_version`.

    With `cached`, a file whose size and time have not changed since this process last read it is not read again.

    Raises: LakeError naming the file that is missing, altered or added, and the mend.
    """
    mend = f"restore {folder} from a copy or re-materialize {role}"
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        files = manifest["files"]
        is_whole, is_it = _is_whole(manifest), _files_hash(files) == data_version
    except FileNotFoundError:
        raise LakeError(f"{role}: checkpoint file {folder / MANIFEST} is missing; {mend}") from None
    except (OSError, *UNREADABLE_MANIFEST) as error:
        raise LakeError(f"{role}: checkpoint file {folder / MANIFEST} is damaged ({error}); {mend}") from error
    if not is_it:
        raise LakeError(f"{role}: checkpoint file {folder / MANIFEST} is not the one that was committed; {mend}")
    if not is_whole:
        raise LakeError(f"{role}: checkpoint file {folder / MANIFEST} is damaged (its checksum differs); {mend}")
    for name, expected in files.items():
        try:
            found = file_hash(folder / name, cached=cached)
        except FileNotFoundError:
            raise LakeError(f"{role}: checkpoint file {folder / name} is missing; {mend}") from None
        except OSError as error:
            raise LakeError(f"{role}: checkpoint file {folder / name} cannot be read ({error}); {mend}") from error
        if found != expected:
            raise LakeError(f"{role}: checkpoint file {folder / name} was altered (its hash differs); {mend}")
    for path in _files(role, folder):
        name = path.relative_to(folder).as_posix()
        if name not in files and not path.name.startswith(".") and name != MANIFEST:
            raise LakeError(f"{role}: file {path} was added to a finished checkpoint; remove it")


def copy(role: str, source: Path, folder: Path, data_version: str) -> None:
    """Copy a finished checkpoint's files to `folder`, unless the very same lie there already.

    Raises: LakeError when the copy is not what was committed.
    """
    if folder.is_dir():
        if _hash_of(role, folder) == data_version:
            return
        shutil.rmtree(folder)  # of a run that was killed while it copied in place, or damaged since
    with complete(folder) as draft:
        shutil.copytree(source, draft, ignore=shutil.ignore_patterns(MANIFEST))
        if _hash_of(role, draft) != data_version:
            raise LakeError(f"{role}: the copy of {source} differs from what was committed; run the same command again")


def _hash_of(role: str, folder: Path) -> str:
    """The data version that this folder would be sealed with."""
    paths = [path for path in _files(role, folder) if path != folder / MANIFEST]
    return _files_hash({path.relative_to(folder).as_posix(): file_hash(path, cached=False) for path in paths})


def _take_back(models: Path, role: str, work: Path, committed: Callable[[], set[Path]]) -> None:
    """Move a checkpoint made in `work`, sealed but never committed, back to where it was before it was sealed."""
    for manifest in (models / role).glob(f"*/{MANIFEST}"):
        made_in = _made_in(manifest)
        if made_in is None or made_in.parts[0].split(".")[0] != work.name:
            continue
        lock = try_lock(manifest.parent)
        if lock is None:  # a living process is about to commit it
            continue
        if manifest.parent in committed():  # asked only now: its maker commits before it lets go of the lock
            os.close(lock)
            continue
        place = work.joinpath(*made_in.parts[1:])
        place.parent.mkdir(parents=True, exist_ok=True)
        manifest.parent.rename(place)
        if place == work:  # the folder itself was replaced: hold the lock on the new one
            lock, _claimed[os.getpid(), work] = _claimed[os.getpid(), work], lock
        os.close(lock)
        return


def _made_in(manifest: Path) -> Path | None:
    """The work folder of a sealed checkpoint; None for a damaged manifest, which `verify` reports when it is needed."""
    try:
        content = json.loads(manifest.read_text())
        return Path(content["work_folder"]) if _is_whole(content) else None
    except (OSError, *UNREADABLE_MANIFEST):
        return None


def _is_whole(manifest: dict[str, Any]) -> bool:
    """Whether every bit of it is as it was written."""
    return bool(manifest["sha256"] == _own_hash({name: manifest[name] for name in manifest if name != "sha256"}))


def _own_hash(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(canonical_json(manifest).encode()).hexdigest()


def _restore_damaged(role: str, folder: Path, target: Path, data_version: str) -> None:
    """Put `folder`, the same checkpoint made again, in the place of `target` if `target` has been damaged since."""
    try:
        verify(role, target, data_version)
    except LakeError:
        discarded = folder.with_name(f"{folder.name}.damaged")
        target.rename(discarded)
        folder.rename(target)
        shutil.rmtree(discarded)


def _files(role: str, folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise LakeError(f"{role}: {path} is a link, which a copied home would lose; put the file itself there")
        if path.is_file():
            yield path


def _files_hash(files: dict[str, str]) -> str:
    return hashlib.sha256(canonical_json(files).encode()).hexdigest()[:32]


def _work_name(role: str, fingerprint: str) -> str:
    return f"{role}-{fingerprint[:16]}"


def try_lock(folder: Path) -> int | None:
    """A descriptor that holds the folder's lock until it is closed; None when another one holds it or it is gone."""
    try:
        lock = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def is_same_folder(descriptor: int, folder: Path) -> bool:
    """Whether an open folder is the one at this place now: it may have been moved away, and another one made."""
    try:
        return os.path.samestat(os.fstat(descriptor), folder.stat())
    except FileNotFoundError:
        return False
