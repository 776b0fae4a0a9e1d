"""The zygote: a clean interpreter inside the sandbox that forks one child for every test.

Standard library only; the host passes this file's text with `python -c`, so nothing needs to be readable inside.
It never reads test data: the program and its stdin arrive as file descriptors that only the forked child opens, so no
test's data is in the memory that the next child inherits. It never learns an expected output.

Covered: CPU, wall clock, memory, output, threads; no file to write, no process to start or signal, no network.
Not covered: bugs of the kernel in the calls that `policy.py` allows; timing side channels.
"""

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
import selectors
import signal
import site
import socket
import struct
import sys
import threading
import traceback

# What a child calls around its program, and the zygote between two children, has names of our own: an attribute of a
# module is four more pages for a child to copy. A program that patches `os` does not patch these.
from atexit import _ncallbacks, _run_exitfuncs
from collections.abc import Callable
from ctypes import get_errno
from functools import partial
from gc import collect, get_objects
from gc import enable as enable_collector
from marshal import loads
from os import _exit, close, closerange, getppid, pidfd_open, pread, read, wait4, write
from resource import setrlimit
from select import POLLIN
from sys import modules
from threading import _active, _limbo, _shutdown  # type: ignore[attr-defined]
from time import clock_gettime, monotonic
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NoReturn

REPORT, PROGRAM = 3, 4  # a child's files, behind stdin, stdout and stderr
ARMED, CONTROL = 5, 6  # a pipe back from the child; the zygote's socket to the host, and beyond it what no child keeps
ARRIVING = [0, 1, REPORT, PROGRAM]  # what the host sends with a test, in this order; free in the zygote until then
ARRIVAL = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"{len(ARRIVING)}i", *ARRIVING))]
STACK = 256 << 20  # of the main thread, for recursion through C
THREAD_STACK = 8 << 20
ANSWER = struct.Struct("<iiidddq")  # wait status, timed out, armed, wall, user, system seconds, max rss in KiB

SIGKILL = int(signal.SIGKILL)
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
IMPORTED = (
    "solution"  # the module's name where a function of it is called: LiveCodeBench imports it, under another name
)

libc = ctypes.CDLL(None, use_errno=True)
# not os.fork: its hooks for other threads, of which there are none, touch two hundred pages that the child must copy
fork = ctypes.PyDLL(None, use_errno=True).fork
prctl, syscall = libc.prctl, libc.syscall
Filter = tuple[int, int, int, Any]


def check(result: int, what: str) -> int:
    if result < 0:
        number = get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


# ------------------------------------------------------------------------------------------------ the walls


class FilterProgram(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


class RulesetAttributes(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


class PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("access", ctypes.c_uint64), ("fd", ctypes.c_int32)]


def filter_of(bpf: bytes) -> Filter:
    """The arguments of the system call that installs these instructions. Made before the forks."""
    program = FilterProgram(len(bpf) // 8, bpf)  # 8 bytes each
    flags = SECCOMP_FILTER_FLAG_SPEC_ALLOW  # else kernels before 5.16 slow us down against speculative store bypass
    return SYS_SECCOMP, SECCOMP_SET_MODE_FILTER, flags, ctypes.pointer(program)


def install_seccomp(filter_program: Filter) -> None:
    check(syscall(*filter_program), "seccomp")


def install_landlock(rules: list[tuple[str, str]]) -> int:
    """Deny every file but `rules`: pairs (path, "read" | "list" | "write"). Returns the kernel's Landlock version."""
    version = check(syscall(LANDLOCK_CREATE, None, 0, 1), "landlock")
    files = (1 << 13) - 1
    files |= sum(1 << bit for bit, since in ((13, 2), (14, 3), (15, 5)) if version >= since)
    attributes = RulesetAttributes(files, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = check(syscall(LANDLOCK_CREATE, ctypes.byref(attributes), size, 0), "landlock_create_ruleset")
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
        check(syscall(LANDLOCK_ADD, ruleset, 1, ctypes.byref(rule), 0), "landlock_add_rule " + path)
        os.close(fd)
    check(syscall(LANDLOCK_RESTRICT, ruleset, 0), "landlock_restrict_self")
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


def report(kind: str, value: Any = None, **more: Any) -> None:
    """Tell the host, on one line, about a failure; or, on a second, the function's value. Never a reason to pass."""
    data = json.dumps({"kind": kind, **more}).encode() + b"\n"
    if kind == "value":
        data += json.dumps(value).encode()
    while data:
        data = data[write(REPORT, data) :]


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
    if len(_active) > 1 or _limbo:
        _shutdown()


def run_exit_functions() -> None:
    if _ncallbacks():
        _run_exitfuncs()


def flush(stream: Any) -> bool:
    """Whether it went well. What is closed, detached or cannot be flushed has nothing to lose."""
    try:
        if getattr(stream, "closed", False) or not hasattr(stream, "flush"):
            return True
    except BaseException:  # noqa: BLE001  detached, or an object of the program that fails when it is asked
        return True
    return quietly(stream.flush)


def give_back_streams() -> None:
    """What the program put in the place of a standard stream goes with its module."""
    for name in ("stdin", "stdout", "stderr"):
        setattr(sys, name, getattr(sys, f"__{name}__"))


def forget_program() -> None:
    """Nothing holds the program's module any more: its objects end, and `__del__` still finds its globals."""
    for name in ("__main__", IMPORTED):
        modules.pop(name, None)
    collect()


def flush_streams() -> None:
    """Of the program's own making, over a standard stream or not, wherever something holds them.

    Before they are forgotten: the collector may end a file before the buffer that writes to it.
    """
    for thing in get_objects():
        if issubclass(type(thing), WRITERS):
            flush(thing)


def left_nothing_to_end() -> bool:
    """Whether all that the program made is of types that do nothing when they end: no class, no generator, no stream.

    What the collector does not track has a `__del__` only by its class, which is tracked. The program's module is not
    among these if the program froze them, and then nothing is known.
    """
    left = set(map(type, get_objects()))
    return ModuleType in left and left <= INERT


def leave(code: int) -> NoReturn:
    """End as Py_FinalizeEx does and in its order: wait for threads, atexit, flush, forget the program, flush again.

    What has nothing to do is not called: a child has to copy every page that it touches. The modules that were loaded
    before the program are not forgotten: they hold nothing of it.
    """
    quietly(wait_for_threads)
    quietly(run_exit_functions)
    stdout = getattr(sys, "stdout", None)
    flushed = flush(stdout)
    if stdout is None or stdout is not getattr(sys, "__stdout__", None) or not left_nothing_to_end():
        for action in (flush_streams, collect, give_back_streams, forget_program):
            quietly(action)
        flushed = flush(getattr(sys, "stdout", None)) and flushed
    _exit(code & 0xFF if flushed else code & 0xFF or 120)


Bound = tuple[int, tuple[int, int]]


def bounds_of(limits: dict[str, Any], base: int) -> list[Bound]:
    """What `setrlimit` takes, soft and hard. base: the zygote's own address space."""
    bounds = {
        resource.RLIMIT_CPU: int(limits["cpu_s"] * 1.5) + 2,  # a backstop only: it counts timer ticks, up to 15 % early
        resource.RLIMIT_FSIZE: limits["output"] + 1,
        resource.RLIMIT_NOFILE: 32,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_AS: base + limits["memory"],
    }
    if limits["threads"]:
        bounds[resource.RLIMIT_NPROC] = limits["threads"]
    return [(which, (bound, bound)) for which, bound in bounds.items()]


def set_limits(bounds: list[Bound], zygote: int) -> None:
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
    if getppid() != zygote:
        _exit(1)
    for which, bound in bounds:
        setrlimit(which, bound)


def arm() -> None:
    """Tell the zygote, once and beyond recall, that our own part went well: what fails from now on is the program's."""
    write(ARMED, b"1")
    close(ARMED)


def compile_program(source: bytes) -> NoReturn:
    """Answer with the code object, marshalled; nothing of it runs."""
    arm()
    try:
        code = marshal.dumps(compile(source, "main.py", "exec", dont_inherit=True))
    except BaseException as error:  # noqa: BLE001  whatever the compiler raises is the program's fault
        report("compile", exception=type(error).__name__, traceback=str(error)[:300])
        _exit(1)
    while code:
        code = code[write(1, code) :]
    _exit(0)


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
        except (ValueError, RecursionError) as error:  # the test's fault, found before anything of the program ran
            report("arguments", code=number, exception=str(error)[:300])
            _exit(1)
    return arguments


def run_program(code: CodeType, fn: str | None) -> int:
    """Run as a real `__main__`, then report the function's value or how the program failed. Returns the exit status.

    Where a function is called the module is imported, so that what stands behind `if __name__ == "__main__"` stays out.
    """
    main = ModuleType("__main__" if fn is None else IMPORTED)
    modules["__main__"] = modules[main.__name__] = main
    namespace = main.__dict__
    namespace |= {"__builtins__": builtins, "__file__": "/main.py"}
    arguments = read_arguments() if fn is not None else []
    enable_collector()
    arm()
    try:
        exec(code, namespace)
        if fn is not None:
            report("value", picture(called(namespace, fn)(*arguments)))
        return 0
    except SystemExit as stop:
        status = 0 if stop.code is None else stop.code if isinstance(stop.code, int) else 1
        report("exit", code=status & 0xFF)
        return status
    except MemoryError:
        namespace.clear()
        report("memory")
    except BaseException as error:  # noqa: BLE001  every failure of the program is a verdict
        report("exception", exception=type(error).__name__, traceback=last_frames(error))
    return 1


def called(namespace: dict[str, Any], fn: str) -> Callable[..., Any]:
    """The method of `Solution`, if there is one of that name, else the function."""
    solution = namespace.get("Solution")
    if isinstance(solution, type) and (hasattr(solution, fn) or fn not in namespace):
        return getattr(solution(), fn)
    return namespace[fn]


def become_test(request: dict[str, Any], bounds: list[Bound], zygote: int, bpf: Filter, prelude: list[str]) -> NoReturn:
    """The forked child: its own files only, limits, filter; only then is the first untrusted byte read."""
    closerange(ARMED + 1, 1024)
    set_limits(bounds, zygote)
    install_seccomp(bpf)
    # from here on, nothing that the program does can undo what was done
    text = pread(PROGRAM, request["size"], 0)
    close(PROGRAM)
    if request["step"] == "compile":
        compile_program(text)
    if not request["prelude"]:
        for name in prelude:
            delattr(builtins, name)
    leave(run_program(loads(text), request["fn"]))  # by now no frame holds an object of the program


# ------------------------------------------------------------------------------------------------ the zygote


def wait_for(pid: int, limits: dict[str, Any], poll: select.poll, started: float) -> tuple[bool, bool]:
    """Wait until the child ends, its CPU or wall time is up, or the host is gone. Returns (timed out, host gone)."""
    pidfd = pidfd_open(pid)
    poll.register(pidfd, POLLIN)
    cpu_clock = (~pid << 3) | 2  # the scheduler's own count for that process
    end = started + limits["wall_s"]
    ready: list[tuple[int, int]] = []
    while not ready:
        left = min(end - monotonic(), limits["cpu_s"] - clock_gettime(cpu_clock))
        if left <= 0:
            break
        ready = poll.poll(left * 1000 + 1)
    poll.unregister(pidfd)
    close(pidfd)
    return not ready, CONTROL in dict(ready)


def make_room() -> int:
    """Put the zygote's files in their places, and leave free those of a test's. Returns the pipe that ARMED fills."""
    nowhere = os.open("/dev/null", os.O_WRONLY)
    for number in range(CONTROL):
        os.dup2(nowhere, number)  # taken: what is opened now has a number beyond
    was_armed, armed = os.pipe()
    os.set_blocking(was_armed, False)
    os.dup2(armed, ARMED)
    for number in ARRIVING:
        close(number)
    return was_armed


def serve(control: socket.socket, base: int, bpf: Filter, prelude: list[str]) -> None:
    zygote = os.getpid()
    poll = select.poll()
    poll.register(CONTROL, 0)  # hang-up only: the host is gone
    was_armed = make_room()
    room = socket.CMSG_SPACE(len(ARRIVAL[0][2]))
    asked = b""
    while True:
        request, files, _, _ = control.recvmsg(4096, room)
        if not request:
            return
        if files != ARRIVAL:  # the kernel gives the lowest numbers that are free
            raise OSError(f"files arrived as {files}")
        if request != asked:  # the tests of a program ask for the same
            asked, limits = request, loads(request)
            bounds = bounds_of(limits, base)
        started = monotonic()
        pid = check(fork(), "fork")
        if pid == 0:
            try:
                become_test(limits, bounds, zygote, bpf, prelude)
            except BaseException as error:  # noqa: BLE001  not armed yet: a failure of ours, for the host to tell
                quietly(partial(report, "guest", exception=repr(error)))
            finally:
                _exit(1)
        timed_out, host_gone = wait_for(pid, limits, poll, started)
        if timed_out or host_gone:
            os.kill(pid, signal.SIGKILL)
        _, status, usage = wait4(pid, 0)
        if host_gone:
            return
        for number in ARRIVING:
            close(number)
        try:
            ready = read(was_armed, 1)
        except BlockingIOError:
            ready = b""
        wall_s = monotonic() - started
        control.send(
            ANSWER.pack(status, timed_out, len(ready), wall_s, usage.ru_utime, usage.ru_stime, usage.ru_maxrss)
        )


def open_without_proc(file: Any, *args: Any, **kwargs: Any) -> Any:
    """`open`, for programs that name their standard streams by path: there is no /proc in here."""
    number = None if isinstance(file, int) else STREAMS.get(os.fspath(file))
    if number is None:
        return real_open(file, *args, **kwargs)
    return real_open(number, *args, **{**kwargs, "closefd": False})


def install_files(scratch: str) -> None:
    """`open` and `os` for what is on no disk: standard streams by their paths, temporary files (scratch.py)."""
    io.open = open_without_proc
    module = ModuleType("scratch")
    exec(scratch, module.__dict__)
    module.install()
    builtins.open = io.open


def install_prelude() -> list[str]:
    """Put what LiveCodeBench imports before every solution among the builtins, and return those names.

    A program's module then holds nothing but its own, which is quick to forget, and no child copies a thousand names.
    """
    for install in (site.setquit, site.setcopyright, site.sethelper):  # `quit`, `exit`: we start without `site`
        install()
    names: dict[str, Any] = {}
    exec(PRELUDE, names)
    added = [name for name in names if not name.startswith("__") and not hasattr(builtins, name)]
    for name in added:
        setattr(builtins, name, names[name])
    return added


STREAMS: dict[Any, int] = {"/dev/stdin": 0, "/dev/stdout": 1, "/proc/self/fd/0": 0, "/proc/self/fd/1": 1}
real_open = open
INERT = {dict, list, tuple, set, CellType, FunctionType, BuiltinFunctionType, MethodType, ModuleType}
WRITERS = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)


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
    instructions = control.recv(1 << 16)
    check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    sys.path += setup["sys_path"]
    install_files(setup["scratch"])  # before anything else keeps the real `open`
    for name in setup["preload"]:
        __import__(name)
    selectors.DefaultSelector = selectors.PollSelector  # type: ignore[misc,assignment]  # of the calls that wait for files, poll is allowed
    settle()
    prelude = install_prelude()
    base = address_space()
    landlock = install_landlock(setup["landlock"]) if setup["landlock"] else 0
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    bpf = filter_of(instructions)
    hello = {"python": sys.version.split()[0], "landlock": landlock, "uid": os.getuid()}
    gc.collect()
    gc.freeze()
    gc.disable()
    control.send(json.dumps(hello).encode())
    serve(control, base, bpf, prelude)


if __name__ == "__main__":
    main()
