"""One guest process and its conversation: a step goes in, its ending comes out. No verdicts here (see `judge.py`)."""

from __future__ import annotations

import json
import marshal
import os
import signal
import socket
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox import policy
from sandbox.guest import ANSWER
from sandbox.model import Limits, Program, SandboxUnavailable
from sandbox.tiers import Start, as_user

START_S = 60.0  # a guest starts in 0.1 s; a machine on its knees may need longer
GRACE_S = 10.0  # beyond the wall limit, before we hold the zygote itself for stuck
PARTING_S = 5.0  # for a guest to notice that we hung up
STEPS_A_GUEST = 20_000  # then a fresh one
LONGEST_REPORT = 1 << 14  # bytes of its first line; ours are far shorter
KINDS = {"value", "exit", "memory", "exception", "compile", "arguments", "guest"}


class GuestLost(Exception):
    """The guest ended or stuck in the middle of a step: nothing is known about that step."""


@dataclass(frozen=True)
class Report:
    """What a child says of itself. It comes from behind the walls: any of it may be forged, none of it is of our shape
    until `read_report` has looked, and nothing else of it is kept.

    code: an exit status, or the line of an argument that is no JSON. value: what follows the first line, unread.
    """

    kind: str = ""
    exception: str = ""
    traceback: str = ""
    code: int | None = None
    value: bytes = b""

    def detail(self) -> dict[str, Any]:
        """For people: what is there, without the value."""
        told = {"kind": self.kind, "exception": self.exception, "traceback": self.traceback, "code": self.code}
        return {name: said for name, said in told.items() if said not in ("", None)}


@dataclass(frozen=True)
class Ending:
    """How one step ended, as the kernel and the guest tell it.

    armed: the guest's own part went well, so that a failure is the program's. report: never believed for a pass.
    stdout: at most the output limit and one byte.
    """

    armed: bool
    timed_out: bool
    signal: int
    exit_code: int
    cpu_s: float
    wall_s: float
    max_rss: int
    output_size: int
    stdout: bytes
    report: Report = Report()


class Worker:
    """A guest that restarts after a loss. One caller at a time."""

    def __init__(self, start: Start) -> None:
        self.description = start
        self.bpf = policy.load()
        self.guest: subprocess.Popen[bytes] | None = None
        self.hello: dict[str, Any] = {}
        self.socket: socket.socket | None = None
        self.steps = 0

    def start(self) -> None:
        """Raises SandboxUnavailable with what the guest said on stderr."""
        how = self.description
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket = ours
        complaints = os.memfd_create("stderr")
        try:
            self.guest = subprocess.Popen(
                [*how.argv, str(theirs.fileno())],
                env=how.environment,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=complaints,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                **as_user(how.uid),
            )
            theirs.close()
            ours.settimeout(START_S)
            ours.send(json.dumps(how.setup).encode())
            ours.send(self.bpf)
            hello = ours.recv(1 << 16)
            if not hello:
                raise OSError("the guest ended")
        except OSError as error:
            self.stop()
            said = os.pread(complaints, 1 << 16, 0).decode(errors="replace").strip()
            reason = said.splitlines()[-1] if said else str(error)
            raise SandboxUnavailable(f"{how.tier}: {reason}") from error
        finally:
            theirs.close()
            os.close(complaints)
        self.hello = json.loads(hello)
        self.steps = 0

    def hang_up(self) -> None:
        """Make the guest end whatever it does; from any thread. The one who waits for an answer gets GuestLost."""
        if self.socket is not None:
            with suppress(OSError):  # closed, or never connected: it has ended
                self.socket.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        """End the guest, reaped; for the one who uses the worker. The next step starts a fresh one."""
        if self.socket is not None:
            self.socket.close()
        if self.guest is not None:
            try:
                self.guest.wait(PARTING_S)
            except subprocess.TimeoutExpired:
                kill(self.guest)
            self.guest = None

    def step(self, kind: str, program: Program, text: bytes, stdin: bytes, limits: Limits) -> Ending:
        """Run one child: `compile` with the source as text, or `run` with the compiled code.

        Raises GuestLost; the next step then has a fresh guest.
        """
        if self.guest is not None and self.steps >= STEPS_A_GUEST:
            self.stop()
        if self.guest is None:
            self.start()
        self.steps += 1
        request = {
            "step": kind,
            "size": len(text),
            "fn": program.fn,
            "prelude": program.prelude,
            "cpu_s": limits.cpu_s,
            "wall_s": limits.wall_s,
            "memory": limits.memory,
            "output": limits.output,
            "threads": limits.threads if self.description.limits_threads else 0,
        }
        stdout, report = memory_file(), memory_file()
        files = [memory_file(stdin), stdout, report, memory_file(text)]  # in the order of `guest.ARRIVING`
        try:
            try:
                answer = self._ask(marshal.dumps(request, 2), files, limits.wall_s + GRACE_S)
            except OSError as error:
                raise GuestLost(str(error)) from error
            return ending(answer, stdout, report, limits, with_value=program.fn is not None)
        except GuestLost:
            self.stop()
            raise
        finally:
            for fd in files:
                os.close(fd)

    def _ask(self, request: bytes, files: list[int], patience_s: float) -> bytes:
        assert self.socket is not None
        self.socket.settimeout(patience_s)
        socket.send_fds(self.socket, [request], files)
        answer = self.socket.recv(4096)
        if not answer:
            raise OSError("the guest ended")
        return answer


def kill(guest: subprocess.Popen[bytes]) -> None:
    """End a stuck guest and all it started; nothing inside can leave its process group.

    Its child goes first: a process whose parent dies before it is left to PID 1, and not every container's reaps.
    """
    children = Path(f"/proc/{guest.pid}/task/{guest.pid}/children")
    with suppress(OSError):  # it has just ended, or this kernel does not list children
        for child in children.read_text().split():
            os.kill(int(child), signal.SIGKILL)
        os.killpg(guest.pid, signal.SIGCONT)
    try:
        guest.wait(PARTING_S)
    except subprocess.TimeoutExpired:
        os.killpg(guest.pid, signal.SIGKILL)
        guest.wait()


def memory_file(data: bytes = b"") -> int:
    """An anonymous file that holds `data`, read from its start."""
    fd = os.memfd_create("sandbox")
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def ending(answer: bytes, stdout: int, report: int, limits: Limits, with_value: bool) -> Ending:
    status, timed_out, armed, wall_s, user_s, system_s, max_rss_kib = ANSWER.unpack(answer)
    sizes = os.fstat(stdout).st_size, os.fstat(report).st_size
    most = limits.output + 1
    return Ending(
        armed=bool(armed),
        timed_out=bool(timed_out),
        signal=os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0,
        exit_code=os.WEXITSTATUS(status) if os.WIFEXITED(status) else 0,
        cpu_s=user_s + system_s,
        wall_s=wall_s,
        max_rss=max_rss_kib * 1024,
        output_size=max(sizes),
        stdout=os.pread(stdout, min(sizes[0], most), 0),
        report=read_report(os.pread(report, min(sizes[1], most if with_value else LONGEST_REPORT), 0)),
    )


def read_report(data: bytes) -> Report:
    """The child's report, each part of its type and cut to size; what is no report of ours says nothing."""
    line, _, value = data.partition(b"\n")
    try:
        told = json.loads(line[:LONGEST_REPORT])
    except (ValueError, RecursionError):
        return Report()
    if not isinstance(told, dict) or not isinstance(told.get("kind"), str) or told["kind"] not in KINDS:
        return Report()
    code = told.get("code")
    return Report(
        told["kind"],
        _text(told.get("exception"), 300),
        _text(told.get("traceback"), 2000),
        code if type(code) is int and 0 <= code < 1 << 31 else None,
        value,
    )


def _text(said: Any, longest: int) -> str:
    return said[:longest] if isinstance(said, str) else ""
