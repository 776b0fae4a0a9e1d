"""Files in the guest's own memory, below one folder that is on no disk: what `tempfile` writes.

Part of the guest: standard library only, its text is sent to the zygote. They end with their test, the memory limit
bounds them, and the system-call filter knows nothing of them: to everything else `open` and `os` are the real ones.
Not covered: links, permissions, locks, `mmap`, `os.dup`, descriptors in other calls than open, read, write and close.
"""

import errno
import io
import itertools
import os
import stat
from collections.abc import Callable, Iterator
from typing import Any

FOLDER = "/scratch"
numbers = itertools.count(1 << 16)  # of our descriptors, beyond all that RLIMIT_NOFILE allows

files: dict[str, bytearray] = {}
folders = {FOLDER}
opened: dict[int, "MemoryFile"] = {}


def inside(path: Any) -> str | None:
    """The normal form of a path below FOLDER; None for every other path and for numbers."""
    if isinstance(path, int):
        return None
    text = os.fspath(path)
    if not isinstance(text, str) or not text.startswith(FOLDER):
        return None
    text = os.path.normpath(text)
    return text if text == FOLDER or text.startswith(FOLDER + "/") else None


def failure(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)


class MemoryFile(io.RawIOBase):
    """One opening of a file: a position of its own over bytes that others may share."""

    def __init__(self, data: bytearray, flags: int) -> None:
        self.data, self.flags, self.at = data, flags, 0
        self.number = 0  # of its descriptor, if `os.open` gave one
        self.name: Any = None

    def readable(self) -> bool:
        return self.flags & os.O_ACCMODE != os.O_WRONLY

    def writable(self) -> bool:
        return self.flags & os.O_ACCMODE != os.O_RDONLY

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = self.data[self.at : self.at + len(buffer)]
        buffer[: len(part)] = part
        self.at += len(part)
        return len(part)

    def write(self, text: Any) -> int:
        if self.flags & os.O_APPEND:
            self.at = len(self.data)
        self.data.extend(bytes(max(0, self.at - len(self.data))))
        self.data[self.at : self.at + len(text)] = text
        self.at += len(text)
        return len(text)

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = max(0, offset + (0, self.at, len(self.data))[whence])
        return self.at

    def truncate(self, size: int | None = None) -> int:
        size = self.at if size is None else size
        self.data.extend(bytes(max(0, size - len(self.data))))
        del self.data[size:]
        return size

    def close(self) -> None:
        opened.pop(self.number, None)
        super().close()


def open_raw(path: str, flags: int) -> MemoryFile:
    if flags & os.O_TMPFILE == os.O_TMPFILE:
        return MemoryFile(bytearray(), flags)
    if path in folders:
        raise failure(errno.EISDIR, path)
    if path in files and flags & os.O_EXCL:
        raise failure(errno.EEXIST, path)
    if (path not in files and not flags & os.O_CREAT) or path.rpartition("/")[0] not in folders:
        raise failure(errno.ENOENT, path)
    data = files.setdefault(path, bytearray())
    if flags & os.O_TRUNC:
        data.clear()
    return MemoryFile(data, flags)


def open_stream(raw: MemoryFile, mode: str, buffering: int, encoding: Any, errors: Any, newline: Any) -> Any:
    """What `io.open` makes of a raw file."""
    if "b" in mode and buffering == 0:
        return raw
    kind = io.BufferedRandom if "+" in mode else io.BufferedReader if "r" in mode else io.BufferedWriter
    buffered = kind(raw)
    if "b" in mode:
        return buffered
    text = io.TextIOWrapper(buffered, encoding or "utf-8", errors, newline, line_buffering=buffering == 1)
    text.mode = mode  # type: ignore[misc]
    return text


def flags_of(mode: str) -> int:
    access = os.O_RDWR if "+" in mode else os.O_RDONLY if "r" in mode else os.O_WRONLY
    creation = {"w": os.O_CREAT | os.O_TRUNC, "x": os.O_CREAT | os.O_EXCL, "a": os.O_CREAT | os.O_APPEND}
    return access | next((creation[letter] for letter in mode if letter in creation), 0)


def opening(real: Callable[..., Any]) -> Callable[..., Any]:
    """`io.open`, with files of ours: by a path below FOLDER, or by a number that `os.open` gave for one."""

    def either(
        file: Any, mode: str = "r", buffering: int = -1, encoding: Any = None, errors: Any = None, newline: Any = None,
        closefd: bool = True, opener: Any = None,
    ) -> Any:  # fmt: skip
        path = inside(file)
        if path is not None and opener is not None:
            file = opener(path, flags_of(mode))
        if isinstance(file, int) and file in opened:
            raw = opened[file]
        elif path is not None:
            raw = open_raw(path, flags_of(mode))
            raw.name = file
        else:
            return real(file, mode, buffering, encoding, errors, newline, closefd=closefd, opener=opener)
        return open_stream(raw, mode, buffering, encoding, errors, newline)

    return either


class Entry:
    """What `os.scandir` tells of one name."""

    def __init__(self, path: str) -> None:
        self.path, self.name = path, path.rpartition("/")[2]

    def is_dir(self, **_: Any) -> bool:
        return self.path in folders

    def is_file(self, **_: Any) -> bool:
        return self.path in files

    def is_symlink(self) -> bool:
        return False

    def stat(self, **_: Any) -> os.stat_result:
        return status(self.path)

    def __fspath__(self) -> str:
        return self.path


class Entries(list[Entry]):
    def __enter__(self) -> "Entries":
        return self

    def __exit__(self, *_: object) -> None: ...

    def __next__(self) -> Entry:
        if not self:
            raise StopIteration
        return self.pop(0)

    def __iter__(self) -> Iterator[Entry]:
        return self

    def close(self) -> None: ...


def names(path: str = FOLDER) -> list[str]:
    if path not in folders:
        raise failure(errno.ENOTDIR if path in files else errno.ENOENT, path)
    return [one.rpartition("/")[2] for one in [*files, *folders] if one.rpartition("/")[0] == path]


def entries(path: str) -> Entries:
    return Entries(Entry(f"{path}/{name}") for name in names(path))


def status(path: str, **_: Any) -> os.stat_result:
    if path not in folders and path not in files:
        raise failure(errno.ENOENT, path)
    kind = stat.S_IFDIR | 0o700 if path in folders else stat.S_IFREG | 0o600
    return os.stat_result((kind, 1, 0, 1, os.getuid(), os.getgid(), len(files.get(path, b"")), 0, 0, 0))


def make_folder(path: str, mode: int = 0o777) -> None:
    if path in folders or path in files:
        raise failure(errno.EEXIST, path)
    if path.rpartition("/")[0] not in folders:
        raise failure(errno.ENOENT, path)
    folders.add(path)


def remove_folder(path: str) -> None:
    if names(path):
        raise failure(errno.ENOTEMPTY, path)
    folders.remove(path)


def remove_file(path: str) -> None:
    if files.pop(path, None) is None:
        raise failure(errno.EISDIR if path in folders else errno.ENOENT, path)


def rename(path: str, to: Any) -> None:
    """A file; a folder keeps its name."""
    place = inside(to)
    if path not in files or place is None:
        raise failure(errno.EXDEV if path in folders or path in files else errno.ENOENT, path)
    files[place] = files.pop(path)


def open_number(path: str, flags: int, mode: int = 0o777) -> int:
    raw = open_raw(path, flags)
    raw.number = next(numbers)
    opened[raw.number] = raw
    return raw.number


def change_mode(path: str, mode: int) -> None: ...


def read(file: MemoryFile, size: int) -> bytes:
    return file.read(size) or b""


OURS_BY_PATH: dict[str, Callable[..., Any]] = {
    "open": open_number, "stat": status, "lstat": status, "listdir": names, "scandir": entries,
    "mkdir": make_folder, "rmdir": remove_folder, "unlink": remove_file, "remove": remove_file, "chmod": change_mode,
    "rename": rename, "replace": rename,
}  # fmt: skip
OURS_BY_NUMBER: dict[str, Callable[..., Any]] = {"read": read, "write": MemoryFile.write, "close": MemoryFile.close}


def by_path(real: Callable[..., Any], ours: Callable[..., Any]) -> Callable[..., Any]:
    def either(path: Any = ".", *args: Any, **kwargs: Any) -> Any:
        place = inside(path)
        return real(path, *args, **kwargs) if place is None else ours(place, *args, **kwargs)

    return either


def by_number(real: Callable[..., Any], ours: Callable[..., Any]) -> Callable[..., Any]:
    def either(fd: int, *args: Any) -> Any:
        return ours(opened[fd], *args) if fd in opened else real(fd, *args)

    return either


def install() -> None:
    """In the zygote, before `shutil` and `tempfile` bind these functions."""
    for name, ours in OURS_BY_PATH.items():
        setattr(os, name, by_path(getattr(os, name), ours))
    for name, ours in OURS_BY_NUMBER.items():
        setattr(os, name, by_number(getattr(os, name), ours))
    io.open = opening(io.open)
    os.environ["TMPDIR"] = (
        FOLDER  # `tempfile` looks there first; it is not imported here, for those who never ask for it
    )
