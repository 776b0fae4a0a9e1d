"""The system calls that a test may make, compiled by libseccomp into the BPF bytes shipped beside this file.

Only a developer runs `python -m sandbox.policy` (needs pyseccomp); a test rebuilds the bytes and compares them.
Everything not named is refused with EPERM; a call of another ABI (int 0x80, x32) kills.
"""

from __future__ import annotations

import errno
import os
import platform
from pathlib import Path

ALLOWED = """
read write readv writev pread64 pwrite64 lseek close close_range fstat stat lstat newfstatat statx fstatfs
readlink readlinkat access faccessat faccessat2 getcwd getdents64 dup dup2 dup3 pipe pipe2 ftruncate fadvise64
poll ppoll select pselect6 mmap mprotect munmap mremap madvise brk membarrier
rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack rt_sigpending rt_sigtimedwait
futex futex_waitv set_robust_list get_robust_list rseq set_tid_address sched_yield sched_getaffinity
gettid getpid getppid getuid geteuid getgid getegid getresuid getresgid getgroups getpgrp
exit exit_group restart_syscall wait4 waitid
clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday time times getrusage getcpu
alarm setitimer getitimer getrandom uname sysinfo getrlimit setrlimit
""".split()  # noqa: SIM905

CLONE_THREAD = 0x10000
CLONE_NEW_ANYTHING = 0x7E020080
WRITING = 0o3 | 0o100 | 0o1000 | 0o20000000  # access mode, O_CREAT, O_TRUNC, O_TMPFILE: a second lock under the mounts
IOCTLS = {"TCGETS": 0x5401, "TIOCGWINSZ": 0x5413, "FIOCLEX": 0x5451, "FIONREAD": 0x541B, "FIONBIO": 0x5421}
AF_UNIX, SOCK_STREAM, SOCK_KIND = 1, 1, 0xF
# no F_SETOWN or F_SETSIG: with O_ASYNC they send any signal to any process of our user
FCNTLS = {"F_DUPFD": 0, "F_GETFD": 1, "F_SETFD": 2, "F_GETFL": 3, "F_SETFL": 4, "F_DUPFD_CLOEXEC": 1030}
PRCTLS = {"PR_SET_NAME": 15, "PR_GET_NAME": 16, "PR_SET_VMA": 0x53564D41}
ARCHITECTURES = ("x86_64", "aarch64")


def path(architecture: str) -> Path:
    return Path(__file__).with_name(f"policy_{architecture}.bpf")


def load() -> bytes:
    """The filter for this machine. Raises OSError when none is shipped for its architecture."""
    architecture = platform.machine()
    if architecture not in ARCHITECTURES:
        raise OSError(f"no system-call filter for {architecture}; there are filters for {', '.join(ARCHITECTURES)}")
    return path(architecture).read_bytes()


def build(architecture: str) -> bytes:
    """Compile the list above for `architecture`, whatever machine this is."""
    import pyseccomp as sc

    policy = sc.SyscallFilter(sc.ERRNO(errno.EPERM))
    wanted = getattr(sc.Arch, architecture.upper())
    if sc.system_arch() != wanted:
        policy.add_arch(wanted)
        policy.remove_arch(sc.Arch.NATIVE)
    policy.set_attr(sc.Attr.CTL_OPTIMIZE, 2)  # a binary tree: about eight comparisons a call
    for name in ALLOWED:
        if sc.resolve_syscall(wanted, name) >= 0:  # aarch64 never had stat, open, dup2, ...
            policy.add_rule(sc.ALLOW, name)
    policy.add_rule(sc.ERRNO(errno.ENOSYS), "clone3")  # its flags are behind a pointer; glibc falls back to clone
    threads_only = sc.Arg(0, sc.MASKED_EQ, CLONE_THREAD | CLONE_NEW_ANYTHING, CLONE_THREAD)
    policy.add_rule(sc.ALLOW, "clone", threads_only)
    policy.add_rule(sc.ALLOW, "prlimit64", sc.Arg(0, sc.EQ, 0))
    policy.add_rule(sc.ALLOW, "openat", sc.Arg(2, sc.MASKED_EQ, WRITING, 0))
    if sc.resolve_syscall(wanted, "open") >= 0:
        policy.add_rule(sc.ALLOW, "open", sc.Arg(1, sc.MASKED_EQ, WRITING, 0))
    # what wakes an asyncio loop: a connected pair whose ends are both inside, and no address to send to
    pair = sc.Arg(0, sc.EQ, AF_UNIX), sc.Arg(1, sc.MASKED_EQ, SOCK_KIND, SOCK_STREAM)
    policy.add_rule(sc.ALLOW, "socketpair", *pair)
    policy.add_rule(sc.ALLOW, "sendto", sc.Arg(4, sc.EQ, 0))
    policy.add_rule(sc.ALLOW, "recvfrom")
    for name, position, values in (("ioctl", 1, IOCTLS), ("fcntl", 1, FCNTLS), ("prctl", 0, PRCTLS)):
        for value in values.values():
            policy.add_rule(sc.ALLOW, name, sc.Arg(position, sc.EQ, value))
    with os.fdopen(os.memfd_create("bpf"), "w+b", buffering=0) as file:
        policy.export_bpf(file)
        return os.pread(file.fileno(), 1 << 16, 0)


if __name__ == "__main__":
    for name in ARCHITECTURES:
        path(name).write_bytes(build(name))
        print(f"{path(name).name}: {path(name).stat().st_size // 8} instructions")
