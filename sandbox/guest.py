"""The zygote: a clean interpreter inside the sandbox that forks one child for every test.

Standard library only; the host passes this file's text with `python -c`, so nothing needs to be readable inside.
It never reads test data: the program and its stdin arrive as file descriptors that only the forked child opens, so no
test's data is in the memory that the next child inherits. It never learns an expected output.

Covered: CPU, wall clock, memory, output, threads; no file to write, no process to start or signal, no network.
Not covered: bugs of the kernel in the calls that `policy.py` allows; timing side channels.
"""

import atexit
import builtins
import ctypes
import gc
import io
import json
import marshal
import os
import random
import resource
import select
import signal
import socket
import struct
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

CONTROL, NOWHERE, ARMED = 3, 4, 5  # the zygote's files: socket to the host, /dev/null, and a pipe back from the child
REPORT, PROGRAM = 3, 4  # the child's, in the place of the first two
STACK = 256 << 20  # of the main thread, for recursion through C
THREAD_STACK = 8 << 20
ANSWER = struct.Struct("<iiidddq")  # wait status, timed out, armed, wall, user, system seconds, max rss in KiB

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38
SYS_SECCOMP = {"x86_64": 317, "aarch64": 277}.get(os.uname().machine, -1)
SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW = 1, 4
LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446

# what LiveCodeBench puts before every solution
STARS = """
string re datetime collections heapq bisect copy math random statistics itertools functools operator io sys json
""".split()  # noqa: SIM905
PRELUDE = "".join(f"from {name} import *\n" for name in [*STARS, "builtins", "typing"])
PRELUDE += "".join(f"import {name}\n" for name in STARS)

libc = ctypes.CDLL(None, use_errno=True)
# not os.fork: its hooks for other threads, of which there are none, touch two hundred pages that the child must copy
fork = ctypes.PyDLL(None, use_errno=True).fork
Instructions = ctypes.Array[ctypes.c_char]
Filter = tuple[Instructions, int]  # instructions of 8 bytes, and how many


def check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


# ------------------------------------------------------------------------------------------------ the walls


class FilterProgram(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p)]


class RulesetAttributes(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


class PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("access", ctypes.c_uint64), ("fd", ctypes.c_int32)]


def install_seccomp(instructions: Instructions, count: int) -> None:
    program = FilterProgram(count, ctypes.addressof(instructions))
    flags = SECCOMP_FILTER_FLAG_SPEC_ALLOW  # else kernels before 5.16 slow us down against speculative store bypass
    check(libc.syscall(SYS_SECCOMP, SECCOMP_SET_MODE_FILTER, flags, ctypes.byref(program)), "seccomp")


def install_landlock(rules: list[tuple[str, str]]) -> int:
    """Deny every file but `rules`: pairs (path, "read" | "list" | "write"). Returns the kernel's Landlock version."""
    version = check(libc.syscall(LANDLOCK_CREATE, None, 0, 1), "landlock")
    files = (1 << 13) - 1
    files |= sum(1 << bit for bit, since in ((13, 2), (14, 3), (15, 5)) if version >= since)
    attributes = RulesetAttributes(files, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = check(libc.syscall(LANDLOCK_CREATE, ctypes.byref(attributes), size, 0), "landlock_create_ruleset")
    write_file, read_file, read_dir = 1 << 1, 1 << 2, 1 << 3
    for path, mode in rules:
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue  # nothing there: nothing to allow
        access = {"read": read_file | read_dir, "list": read_dir, "write": read_file | write_file}[mode]
        if not os.path.isdir(path):  # noqa: PTH112
            access &= ~read_dir
        rule = PathBeneath(access, fd)
        check(libc.syscall(LANDLOCK_ADD, ruleset, 1, ctypes.byref(rule), 0), "landlock_add_rule " + path)
        os.close(fd)
    check(libc.syscall(LANDLOCK_RESTRICT, ruleset, 0), "landlock_restrict_self")
    os.close(ruleset)
    return version


def address_space() -> int:
    """This process's virtual size in bytes, without /proc: the least RLIMIT_AS under which one more page maps."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        failed = ctypes.c_void_p(-1).value
        low, high = 0, 1 << 47
        while high - low > 1 << 16:
            middle = (low + high) // 2
            resource.setrlimit(resource.RLIMIT_AS, (middle, resource.RLIM_INFINITY))
            page = libc.mmap(None, 4096, 3, 0x22, -1, 0)  # private, anonymous, read and write
            if page in (None, failed):
                low = middle
            else:
                libc.munmap(ctypes.c_void_p(page), 4096)
                high = middle
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        os.write(writer, str(high).encode())
        os._exit(0)
    os.close(writer)
    size = int(os.read(reader, 64))
    os.close(reader)
    os.waitpid(pid, 0)
    return size


# ------------------------------------------------------------------------------------------------ one test


def picture(value: Any) -> Any:
    """A plain JSON picture of a return value. The host decides equality: an `__eq__` of the program is never asked."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, list):
        return [picture(x) for x in value]
    if isinstance(value, tuple):
        return {"tuple": [picture(x) for x in value]}
    if isinstance(value, dict):
        return {"dict": [[picture(k), picture(x)] for k, x in value.items()]}
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        return str.__str__(value)
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        return picture(value.item())
    return {"type": type(value).__name__}


def report(kind: str, **more: Any) -> None:
    """Tell the host about a failure, or the function's value. The host never takes a pass from here."""
    data = json.dumps({"kind": kind, **more}).encode()
    while data:
        data = data[os.write(REPORT, data) :]


def last_frames(error: BaseException) -> str:
    try:
        beyond_us = error.__traceback__ and error.__traceback__.tb_next
        return "".join(traceback.format_exception(type(error), error, beyond_us, limit=-4))[-1500:]
    except BaseException:  # noqa: BLE001  an exception of the program whose __str__ fails
        return type(error).__name__


def quietly(action: Callable[[], Any]) -> bool:
    """The interpreter, too, goes on to its end whatever a thread, an atexit hook or a closed stdout does."""
    try:
        action()
    except BaseException:  # noqa: BLE001
        return False
    return True


def wait_for_threads() -> None:
    if len(threading._active) > 1 or threading._limbo:  # type: ignore[attr-defined]
        threading._shutdown()  # type: ignore[attr-defined]


def run_exit_functions() -> None:
    if atexit._ncallbacks():
        atexit._run_exitfuncs()


def flush_first_stdout() -> None:
    if sys.__stdout__ is not sys.stdout:
        sys.__stdout__.flush()  # type: ignore[union-attr]


def leave(code: int) -> NoReturn:
    """End as Py_FinalizeEx does and in its order: wait for threads, atexit, flush.

    What has nothing to do is not called: a child has to copy every page that it touches.
    """
    quietly(wait_for_threads)
    quietly(run_exit_functions)
    if not getattr(sys.stdout, "closed", True) and not quietly(sys.stdout.flush):
        code = code or 120
    quietly(flush_first_stdout)
    os._exit(code & 0xFF)


def set_limits(limits: dict[str, Any], zygote: int, base: int) -> None:
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != zygote:
        os._exit(1)
    bounds = {
        resource.RLIMIT_CPU: int(limits["cpu_s"] * 1.5) + 2,  # a backstop only: it counts timer ticks, up to 15 % early
        resource.RLIMIT_FSIZE: limits["output"] + 1,
        resource.RLIMIT_NOFILE: 32,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_AS: base + limits["memory"],
    }
    if limits["threads"]:
        bounds[resource.RLIMIT_NPROC] = limits["threads"]
    for which, bound in bounds.items():
        resource.setrlimit(which, (bound, bound))


def arm() -> None:
    """Tell the zygote, once and beyond recall, that our own part went well: what fails from now on is the program's."""
    os.write(ARMED, b"1")
    os.close(ARMED)


def compile_program(source: bytes) -> NoReturn:
    """Answer with the code object, marshalled; nothing of it runs."""
    arm()
    try:
        code = marshal.dumps(compile(source, "main.py", "exec", dont_inherit=True))
    except BaseException as error:  # noqa: BLE001  whatever the compiler raises is the program's fault
        report("compile", exception=type(error).__name__, traceback=str(error)[:300])
        os._exit(1)
    while code:
        code = code[os.write(1, code) :]
    os._exit(0)


def settle() -> None:
    """What is the same for every program and is inherited: done once, it touches no page of a child.

    The standard streams are made over descriptors that every child replaces by its own.
    """
    random.seed(0)
    sys.setrecursionlimit(50_000)
    sys.set_int_max_str_digits(50_000)
    sys.argv = ["main.py"]
    for name, fd, mode, buffering, errors in (
        ("stdin", 0, "r", -1, "surrogateescape"),
        ("stdout", 1, "w", 1 << 16, "surrogateescape"),
        ("stderr", 2, "w", 1, "backslashreplace"),
    ):
        stream = open(fd, mode, buffering, encoding="utf-8", errors=errors, closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def read_arguments() -> list[Any]:
    arguments = []
    for number, line in enumerate(sys.stdin.read().split("\n"), 1):
        try:
            if line.strip():
                arguments.append(json.loads(line))
        except ValueError as error:  # the test's fault, found before anything of the program ran
            report("arguments", line=number, error=str(error))
            os._exit(1)
    return arguments


def run_program(compiled: bytes, fn: str | None, prelude: types.ModuleType | None) -> NoReturn:
    """Run as a real `__main__` would, then report the function's value or how the program failed."""
    code = marshal.loads(compiled)
    main = prelude or types.ModuleType("__main__")
    sys.modules["__main__"] = main
    namespace = main.__dict__  # used, not copied: touching a thousand reference counts costs 0.6 ms of page faults
    namespace["__builtins__"] = builtins
    arguments = read_arguments() if fn is not None else []
    gc.enable()
    arm()
    status = 0
    try:
        exec(code, namespace)
        if fn is not None:
            solution = namespace.get("Solution")
            owner = solution() if isinstance(solution, type) else None
            function = namespace[fn] if owner is None else getattr(owner, fn)
            report("value", value=picture(function(*arguments)))
    except SystemExit as stop:
        status = 0 if stop.code is None else stop.code if isinstance(stop.code, int) else 1
        report("exit", code=status & 0xFF)
    except MemoryError:
        namespace.clear()
        status = 1
        report("memory")
    except BaseException as error:  # noqa: BLE001  every failure of the program is a verdict
        status = 1
        report("exception", exception=type(error).__name__, traceback=last_frames(error))
    leave(status)


def become_test(
    fds: list[int], request: dict[str, Any], zygote: int, base: int, bpf: Filter, prelude: types.ModuleType
) -> NoReturn:
    """The forked child: fixed file numbers, limits, filter; only then is the first untrusted byte read."""
    program, stdin, stdout, told = fds
    for fd, number in ((stdin, 0), (stdout, 1), (NOWHERE, 2), (told, REPORT), (program, PROGRAM)):
        os.dup2(fd, number)
    os.closerange(ARMED + 1, 1024)
    set_limits(request, zygote, base)
    install_seccomp(*bpf)
    # from here on, nothing that the program does can undo what was done
    text = os.pread(PROGRAM, os.fstat(PROGRAM).st_size, 0)
    os.close(PROGRAM)
    if request["step"] == "compile":
        compile_program(text)
    run_program(text, request["fn"], prelude if request["prelude"] else None)


# ------------------------------------------------------------------------------------------------ the zygote


def wait_for(pid: int, limits: dict[str, Any], poll: select.poll, started: float) -> tuple[bool, bool]:
    """Wait until the child ends, its CPU or wall time is up, or the host is gone. Returns (timed out, host gone)."""
    pidfd = os.pidfd_open(pid)
    poll.register(pidfd, select.POLLIN)
    cpu_clock = (~pid << 3) | 2  # the scheduler's own count for that process
    end = started + limits["wall_s"]
    ready: list[tuple[int, int]] = []
    while not ready:
        left = min(end - time.monotonic(), limits["cpu_s"] - time.clock_gettime(cpu_clock))
        if left <= 0:
            break
        ready = poll.poll(left * 1000 + 1)
    poll.unregister(pidfd)
    os.close(pidfd)
    return not ready, any(fd == CONTROL for fd, _ in ready)


def serve(control: socket.socket, base: int, bpf: Filter, prelude: types.ModuleType) -> None:
    zygote = os.getpid()
    poll = select.poll()
    poll.register(CONTROL, 0)  # hang-up only: the host is gone
    nowhere = os.open("/dev/null", os.O_WRONLY)
    for number in (NOWHERE, ARMED):
        os.dup2(nowhere, number)  # taken: every file that is opened or arrives from now on has a number beyond
    was_armed, armed = os.pipe()
    os.set_blocking(was_armed, False)
    os.dup2(armed, ARMED)
    while True:
        request, fds, _, _ = socket.recv_fds(control, 4096, 4)
        if not request:
            return
        limits = marshal.loads(request)
        started = time.monotonic()
        pid = check(fork(), "fork")
        if pid == 0:
            try:
                become_test(fds, limits, zygote, base, bpf, prelude)
            except BaseException as error:  # noqa: BLE001  not armed yet: a failure of ours, for the host to tell
                quietly(partial(report, "guest", exception=repr(error)))
            finally:
                os._exit(1)
        for fd in fds:
            os.close(fd)
        timed_out, host_gone = wait_for(pid, limits, poll, started)
        if timed_out or host_gone:
            os.kill(pid, signal.SIGKILL)
        _, status, usage = os.wait4(pid, 0)
        if host_gone:
            return
        try:
            ready = os.read(was_armed, 1)
        except BlockingIOError:
            ready = b""
        wall_s = time.monotonic() - started
        control.send(
            ANSWER.pack(status, timed_out, len(ready), wall_s, usage.ru_utime, usage.ru_stime, usage.ru_maxrss)
        )


def open_without_proc(file: Any, *args: Any, **kwargs: Any) -> Any:
    """`open`, for programs that name their standard streams by path: there is no /proc in here."""
    number = None if isinstance(file, int) else STREAMS.get(os.fspath(file))
    if number is None:
        return real_open(file, *args, **kwargs)
    return real_open(number, *args, **{**kwargs, "closefd": False})


STREAMS: dict[Any, int] = {"/dev/stdin": 0, "/dev/stdout": 1, "/proc/self/fd/0": 0, "/proc/self/fd/1": 1}
real_open = open


def main() -> None:
    fd = int(sys.argv[1])
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    stack = STACK if hard == resource.RLIM_INFINITY else min(STACK, hard)
    if soft != stack:  # the kernel lays memory out for it at exec
        resource.setrlimit(resource.RLIMIT_STACK, (stack, hard))
        os.set_inheritable(fd, True)
        os.execv(sys.executable, sys.orig_argv)
    threading.stack_size(THREAD_STACK)  # else glibc gives every thread RLIMIT_STACK, out of RLIMIT_AS
    if fd != CONTROL:
        os.dup2(fd, CONTROL, inheritable=False)
        os.close(fd)
    control = socket.socket(fileno=CONTROL)
    setup = json.loads(control.recv(1 << 16))
    bpf = control.recv(1 << 16)
    check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    sys.path += setup["sys_path"]
    for name in setup["preload"]:
        __import__(name)
    builtins.open = io.open = open_without_proc  # before the prelude copies it
    prelude = types.ModuleType("__main__")
    exec(PRELUDE, prelude.__dict__)
    settle()
    base = address_space()
    landlock = install_landlock(setup["landlock"]) if setup["landlock"] else 0
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    gc.collect()
    gc.freeze()
    gc.disable()
    control.send(json.dumps({"python": sys.version.split()[0], "landlock": landlock, "uid": os.getuid()}).encode())
    serve(control, base, (ctypes.create_string_buffer(bpf, len(bpf)), len(bpf) // 8), prelude)


if __name__ == "__main__":
    main()
