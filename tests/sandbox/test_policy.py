"""The shipped system-call filter is what `policy.py` says."""

from __future__ import annotations

import pytest

from sandbox import policy


@pytest.mark.parametrize("architecture", policy.ARCHITECTURES)
def test_shipped_bytes_match_a_rebuild(architecture: str) -> None:
    pytest.importorskip("pyseccomp", exc_type=(ImportError, RuntimeError), reason="libseccomp is not installed")
    assert policy.path(architecture).read_bytes() == policy.build(architecture)


def test_the_list_stays_short() -> None:
    assert len(policy.ALLOWED) == len(set(policy.ALLOWED)) <= 100
    forbidden = {
        "fork",
        "vfork",
        "execve",
        "execveat",
        "kill",
        "tkill",
        "tgkill",
        "ptrace",
        "socket",
        "memfd_create",
        "setsid",
        "mount",
    }
    assert not forbidden & set(policy.ALLOWED)


def test_an_unknown_machine_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy.platform, "machine", lambda: "vax")
    with pytest.raises(OSError, match="no system-call filter for vax"):
        policy.load()
