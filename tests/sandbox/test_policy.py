"""The shipped system-call filter is what `policy.py` says."""

from __future__ import annotations

import pytest

from sandbox import policy

FORBIDDEN = set(
    """
fork vfork clone3 execve execveat kill tkill tgkill pidfd_open pidfd_send_signal pidfd_getfd setsid setpgid
ptrace process_vm_readv process_vm_writev process_madvise setpriority sched_setscheduler sched_setaffinity
socket socketpair connect bind memfd_create shmget msgget semget mq_open mlockall
mount umount2 pivot_root chroot unshare setns setuid setgid capset personality
openat2 creat truncate unlink unlinkat rename renameat2 mkdir symlink link mknod chmod fchmod chown
name_to_handle_at open_by_handle_at seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self
io_uring_setup io_uring_enter io_uring_register io_setup io_submit bpf perf_event_open userfaultfd
keyctl add_key request_key init_module finit_module kexec_load kexec_file_load reboot
sethostname swapon quotactl clock_settime settimeofday epoll_create1 eventfd2 signalfd4 inotify_init1
splice tee vmsplice sendfile set_mempolicy migrate_pages move_pages
""".split()  # noqa: SIM905
)


@pytest.mark.parametrize("architecture", policy.ARCHITECTURES)
def test_shipped_bytes_match_a_rebuild(architecture: str) -> None:
    pytest.importorskip("pyseccomp", exc_type=(ImportError, RuntimeError), reason="libseccomp is not installed")
    assert policy.path(architecture).read_bytes() == policy.build(architecture)


def test_the_list_stays_short() -> None:
    assert len(policy.ALLOWED) == len(set(policy.ALLOWED)) <= 100
    assert not FORBIDDEN & set(policy.ALLOWED)


def test_an_unknown_machine_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy.platform, "machine", lambda: "vax")
    with pytest.raises(OSError, match="no system-call filter for vax"):
        policy.load()
