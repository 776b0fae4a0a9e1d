"""Forcing files to disk, knowing them again by their bytes, and saying plainly why one cannot be written."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from promptcot_assets.lake.errors import LakeError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FULL_IN_WORDS = ("no space left", "disk quota", "file too large", "disk is full")  # of libraries without a number

_hashed: dict[tuple[Path, int, int, int, int], str] = {}


def sync(path: Path) -> None:
    """Return when `path`, a file's content or a folder's list of names, would survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_all(folder: Path) -> None:
    """The same for everything in a folder and for the folder itself."""
    for place, _, names in os.walk(folder):
        for name in names:
            sync(Path(place) / name)
        sync(Path(place))


def file_hash(path: Path, *, cached: bool = True) -> str:
    """The SHA-256 of a file's bytes.

    With `cached`, a file whose size and times have not changed since this process last read it is not read again.
    """
    stat = path.stat()
    key = (path, stat.st_ino, stat.st_ctime_ns, stat.st_mtime_ns, stat.st_size)
    if not cached or key not in _hashed:
        with path.open("rb") as file:
            _hashed[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _hashed[key]


@contextmanager
def complete(path: Path) -> Iterator[Path]:
    """A draft beside `path`, to be written as a file or as a folder; synced and renamed to `path` at the end.

    So `path` exists only when it is whole: neither a kill nor a full disk leaves half of it under its name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        yield draft
        (sync_all if draft.is_dir() else sync)(draft)
        draft.rename(path)
        sync(path.parent)
    finally:
        if draft.is_dir():
            shutil.rmtree(draft, ignore_errors=True)
        else:
            draft.unlink(missing_ok=True)


@contextmanager
def written(what: str, folder: Path) -> Iterator[None]:
    """What keeps `what` from being written in `folder` leaves as one sentence with the mend. Raises: LakeError."""
    try:
        yield
    except OSError as error:
        raise cannot_write(what, folder, error) from error


def draft_beside(out: Path) -> Path:
    """A new path beside a file that is to appear when it is complete. Raises: LakeError when `out` is a folder."""
    if out.is_dir():
        raise LakeError(f"{out} is a folder; name the file to write")
    return out.with_name(f".{out.name}.{uuid.uuid4().hex}")


def is_full(error: BaseException) -> bool:
    """Whether a disk (or a quota, or a limit on files) had no room for what was to be written."""
    if isinstance(error, OSError) and error.errno in FULL:
        return True
    if any(words in str(error).lower() for words in _FULL_IN_WORDS):
        return True
    return error.__cause__ is not None and is_full(error.__cause__)


def cannot_write(what: str, folder: Path, error: Exception) -> LakeError:
    """One sentence that names what was to be written, the place, the reason and the mend."""
    reason = " ".join(str(error).split())
    if is_full(error):
        mend = "free some space there (`promptcot gc --apply`, other files), or move PROMPTCOT_HOME to a larger disk"
        return LakeError(
            f"{what}: the disk of {folder} is full ({reason}); {mend}, and run the same command again: it goes on "
            "where it stopped"
        )
    return LakeError(f"{what}: cannot write in {folder}: {reason}; mend that, and run the same command again")
