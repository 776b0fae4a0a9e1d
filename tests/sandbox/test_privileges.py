"""The same pool as another user, in a hardened container's conditions, and as a root that may do nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import sandbox
from sandbox import Pool

ROOT = str(Path(sandbox.__file__).parents[1])
ASK = """
from sandbox import *
try:
    with Pool(1) as pool:
        print(pool.tier, pool.run(Program("print(1)"), [Test("", "1")]).verdict.value)
except SandboxUnavailable as error:
    print("unavailable:", error)
"""
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user to show it")


def ask(pool: Pool, *wrapper: str) -> str:
    """What a fresh host process says, started through `wrapper` by the guest's Python, which every user can read."""
    if shutil.which(wrapper[0]) is None:
        pytest.skip(f"{wrapper[0]} is not installed")
    argv = [*wrapper, pool.python.executable, "-B", "-c", ASK]
    said = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert said.returncode == 0, said.stderr
    return said.stdout.strip()


@as_root
def test_an_unprivileged_user(any_pool: Pool) -> None:
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--no-new-privs"]
    assert ask(any_pool, *nobody) == f"{any_pool.tier} ok"


@as_root
def test_root_without_capabilities_is_refused(any_pool: Pool) -> None:
    """It could not leave user id 0, for which the kernel's process limits do not hold."""
    said = ask(any_pool, "setpriv", "--bounding-set=-all", "--inh-caps=-all")
    assert said.startswith("unavailable:")
    assert "CAP_SETUID" in said and "Mend: run as a non-root user" in said


def test_a_hardened_container(pools: dict[str, Pool | str], any_pool: Pool) -> None:
    """Read-only root, no capabilities, no root, no new namespaces, as under the documented `docker run`."""
    if isinstance(pools["landlock"], str):
        pytest.skip(pools["landlock"])
    container = ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--unshare-user", "--disable-userns", "--unshare-net"]
    user = ["--cap-drop", "ALL", "--uid", "65534", "--gid", "65534"]
    assert ask(any_pool, *container, *user) == "landlock ok"
