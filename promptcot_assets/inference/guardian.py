"""A process between us and a server that we start: however we end, the server and all that it started end.

    python guardian.py COMMAND ...        standard input: a pipe that the parent holds open

Run by path and with the standard library alone. It ends the command when its input is closed, on SIGTERM or SIGINT, and
when the thread that started it is gone (PR_SET_PDEATHSIG): the command's process group first gets SIGTERM and
`GRACE_S`; then every descendant, also one in a session of its own, is killed (orphans are handed to the guardian:
PR_SET_CHILD_SUBREAPER). Its exit code is the command's, as a shell gives it.

Not covered: a guardian that is itself killed by SIGKILL leaves what the command started and did not end by itself.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
ENDED_BY = (signal.SIGTERM, signal.SIGINT)
GRACE_S = 20.0
POLL_S = 0.2


class Ending(Exception):
    """A signal came: end the command."""


def main(command: list[str]) -> int:
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDED_BY)  # one that came while the command starts would lose it
    for number in ENDED_BY:
        signal.signal(number, _end)
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    parent = os.getppid()
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_begin,  # safe: we have one thread
    )
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDED_BY)
        while child.poll() is None and os.getppid() == parent:
            readable, _, _ = select.select([sys.stdin], [], [], POLL_S)
            if readable and not os.read(sys.stdin.fileno(), 1):
                break
            _reap_orphans(child.pid)
    except Ending:
        pass
    for number in ENDED_BY:
        signal.signal(number, signal.SIG_IGN)
    _end_all(child)
    code = child.returncode
    return code if code >= 0 else 128 - code


def _begin() -> None:
    """In the command's process, before it is the command."""
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDED_BY)


def _end(number: int, frame: object) -> None:
    raise Ending


def _end_all(child: subprocess.Popen[bytes]) -> None:
    """Return when no descendant is left."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
    patience = time.monotonic() + GRACE_S
    while time.monotonic() < patience and (child.poll() is None or any(_descendants())):
        _reap_orphans(child.pid)
        time.sleep(POLL_S)
    while child.poll() is None or any(_descendants()):
        for pid in _descendants():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _reap_orphans(child.pid)
        time.sleep(0.01)


def _reap_orphans(child: int) -> None:
    """Of the processes handed to us when their parent ended, those that ended; the command's own end `poll` sees."""
    with contextlib.suppress(ChildProcessError):  # none is left
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and ended.si_pid != child:
            os.waitpid(ended.si_pid, 0)


def _descendants() -> Iterator[int]:
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            state = (folder / "stat").read_text().rpartition(")")[2].split()
            children.setdefault(int(state[1]), []).append(int(folder.name))
    waiting = children.get(os.getpid(), [])
    while waiting:
        pid = waiting.pop()
        yield pid
        waiting += children.get(pid, [])


def prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
