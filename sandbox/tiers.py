"""How a guest is started behind walls: which Python it runs, what that needs to read, and the two kinds of isolation.

`bwrap`: bubblewrap; namespaces of its own and a read-only root that holds Python only. `landlock`: the kernel's
Landlock; works in a container without extra privileges. In both, `policy.py` filters the system calls of every test.
Nothing here trusts a version number: the pool starts a guest for real and self-tests it before it believes a tier.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from sandbox.model import SandboxUnavailable

GUEST = Path(__file__).with_name("guest.py")
SCRATCH = Path(__file__).with_name("scratch.py")
OLDEST_PYTHON = (3, 11)
NOBODY = 65534
FIRST_UID = 60_000  # one user id a worker where we may choose: the kernel counts processes by user id
FLAGS = ["-s", "-P", "-S", "-B"]  # not -I: it would ignore PYTHONHASHSEED
ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "LC_ALL": "C.UTF-8",
    "LD_BIND_NOW": "1",  # symbols are looked up before the forks, not in every child
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",  # an arena a thread would eat the address space of the memory limit
}
LIBRARY_ROOTS = ("/usr/lib", "/usr/lib64", "/lib", "/lib64")
INSTALLED = {"site-packages", "dist-packages"}
TIME_ZONES = "/usr/share/zoneinfo"
PACKAGES = ("numpy", "numpy.libs", "sortedcontainers")  # what a program may import beside the standard library
DESCRIBE = """
import json, os, sys
print(json.dumps([sys.version_info[:3], os.__file__, f"{sys.base_prefix}/{sys.platlibdir}"]))
"""


@dataclass(frozen=True)
class GuestPython:
    """An interpreter that the guest's user can really start. stdlib: the folder of `os.py`."""

    executable: str
    version: tuple[int, int, int]
    stdlib: str
    libraries: str  # the folder that holds libpython, if it is shared


@dataclass(frozen=True)
class Start:
    """All that is needed to start one guest.

    argv: the number of the control socket follows. setup: the guest's first message. limits_threads: whether
    RLIMIT_NPROC counts this worker's tasks only.
    """

    tier: str
    python: GuestPython
    argv: list[str]
    environment: dict[str, str]
    uid: int | None
    setup: dict[str, Any] = field(default_factory=dict)
    limits_threads: bool = True


def guest_uid(worker: int = 0) -> int | None:
    """The user to become. None: stay the unprivileged user that we are."""
    return FIRST_UID + worker if os.geteuid() == 0 else None


def candidates() -> list[str]:
    """Interpreters to try, the likeliest first: ours, then the usual places, Python 3.11 before newer ones."""
    named = os.environ.get("SANDBOX_PYTHON")
    if named:
        return [named]
    ours = getattr(sys, "_base_executable", sys.executable)
    usual = [Path(folder, f"python3.{minor}") for minor in range(11, 15) for folder in ("/usr/local/bin", "/usr/bin")]
    return list(dict.fromkeys([ours, *(str(path) for path in usual if path.is_file()), "/usr/bin/python3"]))


@cache
def find_python(uid: int | None) -> GuestPython:
    """The first candidate that `uid` can start. Raises SandboxUnavailable naming every one tried and why not."""
    refused = {}
    for executable in candidates():
        found = describe(executable, uid)
        if isinstance(found, GuestPython):
            return found
        refused[executable] = found
    who = "this user" if uid is None else f"user id {uid}"
    tried = "; ".join(f"{executable}: {why}" for executable, why in refused.items())
    raise SandboxUnavailable(
        f"no Python for the sandbox that {who} can start. Tried {tried}. Mend: install a system Python >= 3.11 "
        "(Debian: apt-get install python3), or name one outside any mode-700 home in SANDBOX_PYTHON."
    )


def describe(executable: str, uid: int | None) -> GuestPython | str:
    """What `executable` says of itself when `uid` starts it, or why it cannot be used."""
    if not Path(executable).is_file():
        return "not there"
    try:
        argv = [executable, *FLAGS, "-c", DESCRIBE]
        said = subprocess.run(argv, capture_output=True, text=True, timeout=30, env={}, cwd="/", **as_user(uid))
    except (OSError, subprocess.SubprocessError) as error:
        if uid is not None and isinstance(error, OSError) and error.errno == errno.EPERM:
            raise SandboxUnavailable(
                "this is root, and it may not become another user (CAP_SETUID is dropped); kernel limits do not hold "
                "for root. Mend: run as a non-root user, in a container with `--user 65534:65534`."
            ) from error
        return str(error)
    if said.returncode:
        return said.stderr.strip().splitlines()[-1] if said.stderr.strip() else f"exit code {said.returncode}"
    version, os_file, libraries = json.loads(said.stdout)
    if tuple(version[:2]) < OLDEST_PYTHON:
        return f"Python {version[0]}.{version[1]} is older than 3.11"
    return GuestPython(executable, tuple(version), str(Path(os_file).parent), libraries)


def as_user(uid: int | None) -> dict[str, Any]:
    """Arguments for `subprocess` to become `uid`: no preexec_fn, the host may be full of threads."""
    return {} if uid is None else {"user": uid, "group": uid, "extra_groups": []}


def package_paths(python: GuestPython) -> list[str]:
    """The folders of PACKAGES in this process's site-packages, when they were built for the guest's Python."""
    if python.version[:2] != sys.version_info[:2]:
        return []
    site = Path(sysconfig.get_path("platlib"))
    found = [site / name for name in PACKAGES if (site / name).exists()]
    return [str(path) for path in found if any(path.name == "numpy" for path in found)]


def start(tier: str, worker: int = 0, packages: bool = False) -> Start:
    """How to start worker number `worker` in `tier`. packages: with numpy loaded beforehand.

    Raises SandboxUnavailable when this machine plainly cannot; whether the walls hold only a self-test can say.
    """
    uid = guest_uid(worker)
    python = find_python(uid)
    paths = package_paths(python) if packages else []
    if packages and not paths:
        raise SandboxUnavailable(f"numpy is not installed for Python {python.version[0]}.{python.version[1]}")
    return {"bwrap": _bwrap, "landlock": _landlock}[tier](python, uid, paths)


def _guest(python: GuestPython) -> list[str]:
    return [python.executable, *FLAGS, "-c", GUEST.read_text()]


def _bwrap(python: GuestPython, uid: int | None, packages: list[str]) -> Start:
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise SandboxUnavailable("bwrap is not installed (Debian: apt-get install bubblewrap)")
    # no --proc (a container's masked /proc forbids it), no --dev and no --tmpfs left writable, no --die-with-parent
    # (it fires when the *thread* that started us ends). --as-pid-1: else bwrap leaves an init of its own to our init
    argv = [bwrap, "--unshare-user", "--unshare-ipc", "--unshare-pid", "--as-pid-1", "--unshare-net", "--unshare-uts"]
    argv += ["--unshare-cgroup-try", "--cap-drop", "ALL", "--hostname", "sandbox", "--clearenv"]
    for name, value in ENVIRONMENT.items():
        argv += ["--setenv", name, value]
    for root in LIBRARY_ROOTS:
        if Path(root).is_symlink():
            argv += ["--symlink", str(Path(root).readlink()), root]
        elif Path(root).is_dir():
            argv += ["--ro-bind", root, root]
    for path in (python.executable, python.stdlib):
        if not path.startswith("/usr/lib"):
            argv += ["--ro-bind", path, path]
    argv += [part for path in [*_shared_python(python), *_time_zones()] for part in ("--ro-bind", path, path)]
    hidden = [str(Path(python.stdlib) / name) for name in INSTALLED if (Path(python.stdlib) / name).is_dir()]
    for path in hidden:
        argv += ["--tmpfs", path, "--remount-ro", path]
    for path in packages:
        argv += ["--ro-bind", path, f"/packages/{Path(path).name}"]
    argv += ["--dir", "/dev", "--dev-bind", "/dev/null", "/dev/null", "--dev-bind", "/dev/urandom", "/dev/urandom"]
    argv += ["--remount-ro", "/", "--chdir", "/", "--", *_guest(python)]
    setup = _setup("/packages" if packages else None, packages, [])
    return Start("bwrap", python, argv, {}, uid, setup, limits_threads=uid is not None or _counts_by_namespace())


def _counts_by_namespace() -> bool:
    """Whether RLIMIT_NPROC counts in each user namespace of its own (Linux 5.14), not all processes of our user."""
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int(re.match(r"\d+", minor)[0])) >= (5, 14)  # type: ignore[index]


def _landlock(python: GuestPython, uid: int | None, packages: list[str]) -> Start:
    roots = [path for path in LIBRARY_ROOTS if Path(path).is_dir()]
    stdlib = [str(path) for path in Path(python.stdlib).iterdir() if path.name not in INSTALLED]
    readable = [*roots, *stdlib, *_shared_python(python), *_time_zones(), "/dev/urandom", *packages]
    site = str(Path(packages[0]).parent) if packages else None
    listed = [python.stdlib, *([site] if site else [])]
    rules = [(p, "read") for p in readable] + [(p, "list") for p in listed] + [("/dev/null", "write")]
    setup = _setup(site, packages, rules)
    return Start("landlock", python, _guest(python), ENVIRONMENT, uid, setup, limits_threads=uid is not None)


def _shared_python(python: GuestPython) -> list[str]:
    return [str(path) for path in Path(python.libraries).glob("libpython3*.so*")]


def _time_zones() -> list[str]:
    return [TIME_ZONES] if Path(TIME_ZONES).is_dir() else []


def _setup(site: str | None, packages: list[str], landlock: list[tuple[str, str]]) -> dict[str, Any]:
    return {
        "sys_path": [site] if site else [],
        "preload": preload(packages),
        "landlock": landlock,
        "scratch": SCRATCH.read_text(),
    }


def preload(packages: list[str]) -> list[str]:
    """The packages to import in the zygote, once, rather than in every test."""
    return [Path(path).name for path in packages if "." not in Path(path).name]
