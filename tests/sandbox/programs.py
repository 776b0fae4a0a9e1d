# ruff: noqa: E501
"""Honest and hostile programs with the verdicts they must get in every tier. A new bug adds a row.

threat: the row of the threat table (docs/architecture/sandbox.md) that the program stands for.
verdicts: usually one; several where the kernel may stop the same attack at different places.

An attack that would fail anyway proves no wall. So each would succeed without the wall that it is about, or fail by another
errno than the filter's: hence the folders that are not there, the calls on oneself and the arguments that make no sense.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from sandbox.model import Profile

OK, WRONG, CRASH = "ok", "wrong_answer", "runtime_error"
TIME, MEMORY, OUTPUT, COMPILE = "time_limit", "memory_limit", "output_limit", "compile_error"


class Case(NamedTuple):
    name: str
    verdicts: str  # separated by |
    code: str
    stdin: str = ""
    expected: str = ""
    fn: str | None = None
    threat: str = ""
    cpu_s: float = 2.0
    wall_s: float = 5.0
    profile: Profile = "strict"


FILTER = "EPERM"  # what `sandbox/policy.py` answers to a call that is not allowed


def denied(name: str, threat: str, attempt: str, errno: str = "") -> Case:
    """A program that prints `done` when its attempt succeeds, and `denied` or the errno when it fails by OSError."""
    lines = "\n".join("    " + line for line in attempt.strip().splitlines())
    told = "errno.errorcode[error.errno]" if errno else "'denied'"
    code = f"import errno, os\ntry:\n{lines}\n    print('done')\nexcept OSError as error:\n    print({told})\n"
    return Case(name, OK, code, expected=errno or "denied", threat=threat)


def call(name: str, verdict: str, code: str, arguments: str, expected: str, threat: str = "") -> Case:
    return Case(name, verdict, code, arguments, expected, "f", threat)


CTYPES = """import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
def told(result): return errno.errorcode[ctypes.get_errno()] if result == -1 else result
"""


def syscall(name: str, threat: str, call: str, errno: str = FILTER) -> Case:
    """A raw system call through ctypes; prints its result, or the errno that it must fail by."""
    return Case(name, OK, f"{CTYPES}print(told({call}))", expected=errno, threat=threat)


def numbered(name: str, threat: str, *numbers: int) -> Case:
    """Raw calls by number, with zeros for arguments: each must fail by the filter's errno."""
    code = f"{CTYPES}print(*[told(libc.syscall(n, 0, 0, 0, 0, 0, 0)) for n in {numbers}])"
    return Case(name, OK, code, expected=" ".join(FILTER for _ in numbers), threat=threat)


HONEST = [
    Case("sum", OK, "a, b = map(int, input().split())\nprint(a + b)", "1 2", "3"),
    Case("wrong sum", WRONG, "print(4)", "1 2", "3"),
    Case("prints nothing", WRONG, "pass", "", "3"),
    Case("nothing is expected", OK, "pass", "", ""),
    Case("sys.stdin.buffer", OK, "import sys\nprint(sum(map(int, sys.stdin.buffer.read().split())))", "1 2 3", "6"),
    Case("open(0)", OK, "print(sum(map(int, open(0).read().split())))", "1 2 3", "6"),
    Case("/dev/stdin", OK, "print(open('/dev/stdin').read().strip())", "abc", "abc"),
    Case("Path of stdin", OK, "from pathlib import Path\nprint(Path('/dev/stdin').read_text())", "abc", "abc"),
    Case("os.read(0)", OK, "import os\nprint(int(os.read(0, 100)) + 1)", "41", "42"),
    Case("fileinput", OK, "import fileinput\nprint(sum(int(line) for line in fileinput.input()))", "1\n2\n", "3"),
    Case("stdin iterated", OK, "import sys\nprint(sum(int(line) for line in sys.stdin))", "1\n2\n", "3"),
    Case("stdout.buffer", OK, "import sys\nsys.stdout.buffer.write(b'hi\\n')", "", "hi"),
    Case("os.write(1)", OK, "import os\nos.write(1, b'hi')", "", "hi"),
    Case("/dev/stdout", OK, "open('/dev/stdout', 'w').write('hi')", "", "hi"),
    Case("end of input", CRASH, "input()\ninput()", "1", "1"),
    Case("end of input, caught", OK, "try:\n    input()\nexcept EOFError:\n    print('end')", "", "end"),
    Case("module-level global", OK, "n = 0\ndef f():\n    global n\n    n += 1\nf()\nf()\nprint(n)", "", "2"),
    Case("main guard", OK, "def main():\n    print(1)\nif __name__ == '__main__':\n    main()", "", "1"),
    Case("code after the main guard", OK, "if __name__ == '__main__':\n    print(1)\nprint(2)", "", "1\n2"),
    Case("output at exit", OK, "import atexit\natexit.register(print, 'bye')", "", "bye"),
    Case("thread never joined", OK, "import threading\nthreading.Thread(target=lambda: print('t')).start()", "", "t"),
    Case("big stack in a thread", OK, "import sys, threading\nthreading.stack_size(1 << 26)\nsys.setrecursionlimit(10**6)\n"
         "def f(n): return 0 if n == 0 else 1 + f(n - 1)\n"
         "t = threading.Thread(target=lambda: print(f(40000)))\nt.start()\nt.join()", "", "40000"),
    Case("deep recursion", OK, "def f(n): return 0 if n == 0 else 1 + f(n - 1)\nprint(f(30000))", "", "30000"),
    Case("deep lru_cache recursion", OK, "from functools import lru_cache\n@lru_cache(None)\ndef f(n): return 0 if n < 1 else 1 + f(n - 1)\n"
         "print(f(15000))", "", "15000"),
    Case("endless recursion", CRASH, "def f(): return f()\nf()", "", "1"),
    Case("no imports needed", OK, "print(gcd(12, 18), Counter('aab')['a'], math.pi > 3)", "", "6 2 True"),
    Case("bisect and heapq by star", OK, "h = [3, 1]\nheapify(h)\nprint(heappop(h), bisect_left([1, 2, 3], 2))", "", "1 1"),
    Case("typing names", OK, "def f(x: List[int]) -> Optional[int]: return x[0]\nprint(f([5]))", "", "5"),
    Case("huge integer printed", OK, "print(len(str(2 ** 100000)))", "", "30103"),
    Case("random is seeded", OK, "import random\nprint(random.random())", "", "0.8444218515250481"),
    Case("sys.exit after the output", OK, "import sys\nprint(3)\nsys.exit()", "", "3"),
    Case("exit(0)", OK, "print(3)\nexit(0)", "", "3"),
    Case("raise SystemExit with text", CRASH, "print(3)\nraise SystemExit('bad')", "", "3"),
    Case("sys.exit early", WRONG, "import sys\nsys.exit(0)\nprint(3)", "", "3"),
    Case("trailing spaces and lines", OK, "print('1 \\n2  \\n\\n')", "", "1\n2"),
    Case("inner blank line missing", WRONG, "print('1\\n2')", "", "1\n\n2"),
    Case("1.0 is 1", OK, "print(1.0)", "", "1"),
    Case("1e3 is 1000", OK, "print('1e3')", "", "1000"),
    Case("0.1 + 0.2 is not 0.3", WRONG, "print(0.1 + 0.2)", "", "0.3"),
    Case("case matters", WRONG, "print('Yes')", "", "YES"),
    Case("inner spaces matter in words", WRONG, "print('a  b')", "", "a b"),
    Case("inner spaces are free in numbers", OK, "print('1  2')", "", "1 2"),
    Case("a signalling NaN is nothing", WRONG, "print('sNaN 1.0')", "", "sNaN 1"),
    Case("a signalling NaN is no number", WRONG, "print('1')", "", "sNaN"),
    Case("nan is not nan beside a difference", WRONG, "print('nan 1.0')", "", "nan 1"),
    Case("CRLF input", OK, "print(input().strip() + input())", "a\r\nb", "ab"),
    Case("NUL bytes", OK, "print(len(input()))", "a\x00b", "3"),
    Case("Unicode", OK, "print(input()[::-1])", "åß∂", "∂ßå"),
    Case("a lone surrogate", OK, "import sys\nsys.stdout.write(input())", "x\udc80y", "x\udc80y"),
    Case("empty stdin", OK, "import sys\nprint(repr(sys.stdin.read()))", "", "''"),
    Case("big input and output", OK, "print(' '.join(input().split()[::-1]))", " ".join(map(str, range(60000))), " ".join(map(str, range(59999, -1, -1)))),
    Case("complex numbers, decimals, fractions", OK, "from fractions import Fraction\nfrom decimal import Decimal\nprint(abs(3 + 4j), Fraction(1, 3), Decimal('0.10'))", "", "5.0 1/3 0.10"),
    Case("dataclass and match", OK, "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\nmatch P(3):\n    case P(x=v): print(v)", "", "3"),
    Case("async", OK, "import asyncio\nasync def f(): return 5\nprint(asyncio.run(f()))", "", "5"),
    Case("eight threads", OK, "import threading\nn = []\nts = [threading.Thread(target=n.append, args=(i,)) for i in range(8)]\n"
         "[t.start() for t in ts]\n[t.join() for t in ts]\nprint(len(n))", "", "8"),
    Case("closes stdout at the end", OK, "import sys\nprint(3)\nsys.stdout.close()", "", "3"),
    Case("replaces stdin", OK, "import io, sys\nsys.stdin = io.StringIO('7')\nprint(input())", "1", "7"),
    Case("os.devnull is empty", OK, "import os\nprint(repr(open(os.devnull).read()))", "", "''"),
    Case("writes to stderr", OK, "import sys\nprint('log', file=sys.stderr)\nprint(3)", "", "3"),
    Case("reads its own argv", OK, "import sys\nprint(len(sys.argv))", "", "1"),
    Case("pickles its own class", OK, "import pickle\nclass A: pass\nprint(type(pickle.loads(pickle.dumps(A()))) is A)", "", "True"),
    Case("imports a rare module", OK, "import sqlite3, xml.etree.ElementTree, unicodedata\nprint(1)", "", "1"),
]  # fmt: skip

BROKEN = [
    Case("exception", CRASH, "1 / 0"),
    Case("syntax error", COMPILE, "def f(:"),
    Case("tabs and spaces", COMPILE, "if 1:\n\tx = 1\n        y = 2"),
    Case("NUL in the source", COMPILE, "print(1)\x00"),
    Case("invalid surrogate in the source", COMPILE, "print('\udc80')"),
    Case("too deeply nested", COMPILE, "x = " + "(" * 5000 + ")" * 5000),
    Case("empty program", WRONG, "", "", "3"),
    Case("right output, then a crash", CRASH, "print(3)\nraise ValueError", "", "3"),
    Case("right output, then exit 3", CRASH, "import sys\nprint(3)\nsys.exit(3)", "", "3"),
    Case("segmentation fault", CRASH, "import ctypes\nctypes.string_at(0)"),
    Case("abort", CRASH, "import os\nos.abort()"),
    Case("exception whose text fails", CRASH, "class E(Exception):\n    def __str__(self): raise E\nraise E"),
    Case("missing module", CRASH, "import no_such_module"),
    Case("missing file", CRASH, "open('input.txt')"),
    Case("crash in an atexit hook", OK, "import atexit\natexit.register(lambda: 1 / 0)\nprint(3)", "", "3"),
    Case(
        "crash in a thread", OK, "import threading\nthreading.Thread(target=lambda: 1 / 0).start()\nprint(3)", "", "3"
    ),
    Case("os._exit before the flush", WRONG, "import os\nprint(3)\nos._exit(0)", "", "3"),
]

GREEDY = [
    Case("endless loop", TIME, "while True: pass", threat="CPU", cpu_s=0.25),
    Case("endless loop that swallows all", TIME, "while True:\n    try:\n        while True: pass\n    except BaseException: pass", threat="CPU", cpu_s=0.25),
    Case("ignores signals", TIME, "import signal\nfor s in (signal.SIGINT, signal.SIGTERM, signal.SIGXCPU, signal.SIGALRM): signal.signal(s, signal.SIG_IGN)\nwhile True: pass", threat="CPU", cpu_s=0.25),
    Case("raises its own limits", TIME, "import resource\nfor r in (resource.RLIMIT_CPU,):\n    try: resource.setrlimit(r, (-1, -1))\n    except (ValueError, OSError): pass\nwhile True: pass", threat="CPU", cpu_s=0.25),
    Case("endless loop in C", TIME, "import re\nre.match('(a+)+$', 'a' * 64 + 'b')", threat="CPU", cpu_s=0.25),
    Case("endless loop in threads", TIME, "import threading\ndef f():\n    while True: pass\nfor _ in range(3): threading.Thread(target=f).start()", threat="CPU", cpu_s=0.25),
    Case("endless loop at exit", TIME, "import atexit\n@atexit.register\ndef f():\n    while True: pass", threat="CPU", cpu_s=0.25),
    Case("sleeps", TIME, "import time\ntime.sleep(60)", threat="CPU", wall_s=0.3),
    Case("waits for a lock for ever", TIME, "import threading\nl = threading.Lock()\nl.acquire()\nl.acquire()", threat="CPU", wall_s=0.3),
    Case("stops itself", "time_limit|runtime_error", "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)", threat="signals", wall_s=0.3),
    Case("one huge bytes", MEMORY, "x = bytearray(1 << 30)", threat="memory"),
    Case("a growing list", MEMORY, "x = []\nwhile True: x.append(' ' * 1000000)", threat="memory"),
    Case("a shared mapping", "memory_limit|runtime_error", "import mmap\nm = mmap.mmap(-1, 1 << 30)\nm.write(b'x' * 100)", threat="memory"),
    Case("swallows MemoryError", "memory_limit|runtime_error|time_limit", "x = []\nwhile True:\n    try:\n        while True: x.append(bytearray(1 << 20))\n    except MemoryError: pass", threat="memory", cpu_s=0.5),
    Case("large integer", "memory_limit|time_limit", "x = 1 << (1 << 33)", threat="memory"),
    Case("output flood", OUTPUT, "while True: print('x' * 10000)", threat="output", cpu_s=3.0),
    Case("output flood through os.write", OUTPUT, "import os\nwhile True: os.write(1, b'x' * 100000)", threat="output"),
    Case("output flood that swallows", "output_limit|time_limit", "import os\nwhile True:\n    try: os.write(1, b'x' * 100000)\n    except OSError: pass", threat="output", cpu_s=0.25),
    Case("report flood", "output_limit|runtime_error", "import os\nwhile True: os.write(3, b'x' * 100000)", threat="output"),
    Case("thread bomb", "runtime_error|time_limit|memory_limit", "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(9,)).start()", threat="threads", wall_s=0.5),
    Case("a file grown by ftruncate", CRASH, "import os\nos.ftruncate(1, 1 << 21)", threat="output"),
]  # fmt: skip

HOSTILE = [
    denied("fork", "fork bomb", "os.fork()"),
    denied("fork bomb", "fork bomb", "while True: os.fork()"),
    denied("forkpty", "fork bomb", "os.forkpty()"),
    denied("subprocess", "fork bomb", "import subprocess\nsubprocess.run(['true'])"),
    denied("posix_spawn", "fork bomb", "os.posix_spawn('/bin/true', ['true'], {})"),
    Case("os.system", OK, "import os\nprint(os.system('true') != 0)", expected="True", threat="fork bomb"),
    denied("exec of the interpreter", "fork bomb", "import sys\nos.execv(sys.executable, ['python'])"),
    denied("multiprocessing", "fork bomb", "import multiprocessing\np = multiprocessing.Process(target=print)\np.start()"),
    syscall("clone through ctypes", "fork bomb", "libc.syscall(56, 17, 0, 0, 0, 0)"),
    syscall("vfork through ctypes", "fork bomb", "libc.syscall(58)"),
    syscall("clone3 through ctypes", "fork bomb", "libc.syscall(435, 0, 0)", "ENOSYS"),
    syscall("a new user namespace", "kernel surface", "libc.unshare(0x10000000)"),
    denied("socket", "network", "import socket\nsocket.socket()"),
    denied("unix socket", "network", "import socket\nsocket.socket(socket.AF_UNIX)"),
    denied("a pair of datagram sockets", "network", "import socket\nsocket.socketpair(type=socket.SOCK_DGRAM)", FILTER),
    denied("a pair of Internet sockets", "network", "import socket\nsocket.socketpair(socket.AF_INET)", FILTER),
    denied("a pair that sends to an address", "network", "import socket\nsocket.socketpair()[0].sendto(b'x', '/dev/log')", FILTER),
    denied("a pair that sends a descriptor", "network", "import socket\nsocket.send_fds(socket.socketpair()[0], [b'x'], [0])", FILTER),
    denied("a pair that listens", "network", "import socket\nsocket.socketpair()[0].listen()", FILTER),
    denied("a pair that connects elsewhere", "network", "import socket\nsocket.socketpair()[0].connect('/dev/log')", FILTER),
    denied("asyncio opens a connection", "network", "import asyncio\nasyncio.run(asyncio.open_connection('127.0.0.1', 80))"),
    denied("reads /etc/passwd", "read files", "open('/etc/passwd').read()"),
    # a file that only root reads is denied to the guest's user anyway; the one above is everyone's
    denied("reads /etc/shadow", "read files", "open('/etc/shadow').read()"),
    denied("lists /", "read files", "import os\nassert not set(os.listdir('/')) & {'root', 'home', 'etc'}\nraise OSError"),
    denied("reads its environment through /proc", "/proc", "open('/proc/self/environ').read()"),
    denied("reads a command line through /proc", "/proc", "open('/proc/1/cmdline').read()"),
    denied("reads memory through /proc", "/proc", "memory = open('/proc/self/mem', 'rb', buffering=0)\nmemory.seek(id(memory))\nmemory.read(1)"),
    denied("lists processes", "/proc", "os.listdir('/proc')"),
    denied("writes /tmp", "write files", "open('/tmp/mark', 'w')", FILTER),
    denied("writes /dev/shm", "write files", "open('/dev/shm/mark', 'w')", FILTER),
    denied("appends to /tmp", "write files", "open('/tmp/mark', 'a')", FILTER),
    denied("writes the standard library", "write files", "open(os.__file__, 'r+')", FILTER),
    denied("truncates a file it may read", "write files", "os.open(os.__file__, os.O_RDONLY | os.O_TRUNC)", FILTER),
    denied("chmod", "write files", "os.chmod('/nowhere', 0o777)", FILTER),
    denied("symlink", "write files", "os.symlink('/etc', '/tmp/link')", FILTER),
    denied("mkdir", "write files", "os.mkdir('/tmp/folder')", FILTER),
    denied("unlink", "write files", "os.unlink(os.__file__)", FILTER),
    denied("rename", "write files", "os.rename(os.__file__, '/tmp/os.py')", FILTER),
    denied("mknod", "write files", "os.mknod('/tmp/node')", FILTER),
    denied("writes os.devnull", "write files", "open(os.devnull, 'w')", FILTER),
    denied("a temporary file on a disk", "write files", "import tempfile\ntempfile.TemporaryFile(dir='/tmp')"),
    denied("a path out of the scratch folder", "write files", "open('/scratch/../tmp/mark', 'w')", FILTER),
    denied("a folder beside the scratch folder", "write files", "open('/scratchy', 'w')", FILTER),
    denied("memfd_create", "shared memory", "os.memfd_create('x')", FILTER),
    denied("shared memory", "shared memory", "from multiprocessing import shared_memory\nshared_memory.SharedMemory(create=True, size=10)"),
    syscall("System V shared memory", "shared memory", "libc.shmget(1, 4096, 0o1000)"),
    syscall("a message queue", "shared memory", "libc.msgget(1, 0o1000)"),
    Case("environment is ours", OK, "import os\nprint(sorted(set(os.environ) - {'PYTHONHASHSEED', 'TMPDIR', 'LC_ALL', 'LD_BIND_NOW', 'OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MALLOC_ARENA_MAX', 'PWD', 'LC_CTYPE'}))", expected="[]", threat="environment"),
    Case("open files", OK, "import os\nopen_files = []\nfor fd in range(64):\n    try:\n        os.fstat(fd)\n        open_files.append(fd)\n    except OSError: pass\nprint(open_files)", expected="[0, 1, 2, 3]", threat="open files"),
    denied("kills its parent", "signals", "os.kill(os.getppid(), 9)"),
    denied("kills everything", "signals", "os.kill(-1, 9)"),
    denied("kills its group", "signals", "os.killpg(0, 9)"),
    denied("signals through a pidfd", "signals", "import signal\nsignal.pidfd_send_signal(os.pidfd_open(os.getppid()), 9)"),
    denied("owner of asynchronous I/O", "signals", "import fcntl\nr, w = os.pipe()\nfcntl.fcntl(r, fcntl.F_SETOWN, os.getppid())"),
    denied("signal of asynchronous I/O", "signals", "import fcntl\nr, w = os.pipe()\nfcntl.fcntl(r, 10, 9)"),
    denied("leaves the process group", "signals", "os.setsid()"),
    denied("changes its process group", "signals", "os.setpgid(0, 0)"),
    denied("priority of its parent", "signals", "os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)"),
    denied("affinity of its parent", "signals", "os.sched_setaffinity(os.getppid(), {0})"),
    denied("limits of its parent", "signals", "import resource\nresource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))"),
    syscall("ptrace", "signals", "libc.ptrace(0, 0, 0, 0)"),
    syscall("process_vm_readv", "signals", "libc.syscall(310, libc.getppid(), 0, 0, 0, 0, 0)"),
    # a kernel whose sysctl turns io_uring off says EPERM itself; test_policy holds it there
    syscall("io_uring", "kernel surface", "libc.syscall(425, 1, ctypes.create_string_buffer(120))"),
    syscall("bpf", "kernel surface", "libc.syscall(321, 1, ctypes.create_string_buffer(48), 48)"),
    syscall("keyctl", "kernel surface", "libc.syscall(250, 0, -1, 1)"),
    syscall("perf_event_open", "kernel surface", "libc.syscall(298, 0, 0, -1, -1, 0)"),
    syscall("userfaultfd", "kernel surface", "libc.syscall(323, 1)"),
    syscall("mount", "kernel surface", "libc.mount(b'none', b'/nowhere', b'tmpfs', 0, 0)"),
    syscall("setuid", "kernel surface", "libc.setuid(libc.getuid())"),
    syscall("personality", "kernel surface", "libc.personality(0x40000)"),
    syscall("seccomp again, looser", "kernel surface", "libc.prctl(22, 2, 0)"),
    syscall("dumpable again", "kernel surface", "libc.prctl(4, 1, 0, 0, 0)"),
    Case("int 0x80", CRASH, "import ctypes, mmap\nm = mmap.mmap(-1, 4096, prot=7)\nm.write(bytes.fromhex('b802000000cd80c3'))\n"
         "ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))()", threat="kernel surface"),
    Case("x32 call", CRASH, CTYPES + "libc.syscall(0x40000000 + 39)", threat="kernel surface"),
    Case("walks frames for the expected output", WRONG, "import re, sys\nframe, seen = sys._getframe(), ''\nwhile frame:\n    seen += str(frame.f_globals) + str(frame.f_locals)\n"
         "    frame = frame.f_back\nprint(*[n for n in re.findall(r'\\d{7}', seen) if int(n) * 2 == 17350618][:1])", "", "8675309", threat="expected output"),
    Case("walks the heap for the expected output", WRONG, "import gc, re\nseen = ' '.join(str(o) for o in gc.get_objects() if isinstance(o, (dict, list, tuple, set)))\n"
         "print(*[n for n in re.findall(r'\\d{7}', seen) if int(n) * 2 == 17350618][:1])", "", "8675309", threat="expected output"),
    Case("forged success report", WRONG, "import os, json\nos.pwrite(3, json.dumps({'kind': 'value', 'value': 3, 'verdict': 'ok'}).encode(), 0)", "", "3", threat="forged report"),
    Case("forged infrastructure failure", CRASH, "import os, json\nos.pwrite(3, json.dumps({'kind': 'guest'}).encode(), 0)\nos._exit(1)", "", "3", threat="forged report"),
    Case("a report that is no JSON", WRONG, "import os\nos.write(3, b'[' * 100000)", "", "3", threat="forged report"),
]  # fmt: skip

FUNCTIONS = [
    call("adds", OK, "def f(a, b): return a + b", "1\n2", "3"),
    call("wrong value", WRONG, "def f(a, b): return a - b", "1\n2", "3"),
    call("Solution class", OK, "class Solution:\n    def f(self, xs: List[int]) -> int: return max(xs)", "[1, 5, 2]", "5"),
    call("tuple for list at the top", OK, "def f(n): return (1, 2)", "0", "[1, 2]"),
    call("nested tuple is no list", WRONG, "def f(n): return [(1, 2)]", "0", "[[1, 2]]"),
    call("1 is 1.0 is True", OK, "def f(n): return [1, 1.0, True]", "0", "[1.0, true, 1]"),
    call("floats are exact", WRONG, "def f(n): return 0.1 + 0.2", "0", "0.3"),
    call("None", OK, "def f(n): pass", "0", "null"),
    call("dictionary", OK, "def f(n): return {'a': [1]}", "0", '{"a": [1]}'),
    call("integer keys are no strings", WRONG, "def f(n): return {1: 2}", "0", '{"1": 2}'),
    call("set is no list", WRONG, "def f(n): return {1, 2}", "0", "[1, 2]"),
    call("string", OK, "def f(s): return s[::-1]", '"ab"', '"ba"'),
    call("string is no number", WRONG, "def f(n): return '3'", "0", "3"),
    call("no arguments", OK, "def f(): return 1", "", "1"),
    call("too few arguments", CRASH, "def f(a, b): return 1", "1", "1"),
    call("no such function", CRASH, "def g(a): return 1", "1", "1"),
    call("prints beside the value", OK, "def f(a):\n    print('debug')\n    return a", "1", "1"),
    call("prints instead of returning", WRONG, "def f(a): print(a)", "1", "1"),
    call("an integer of 5000 digits", OK, "def f(n): return 10 ** 5000", "0", "1" + "0" * 5000),
    call("NaN is not NaN", WRONG, "def f(n): return float('nan')", "0", "NaN"),
    call("infinity", OK, "def f(n): return float('inf')", "0", "Infinity"),
    call("recursion in the value", CRASH, "def f(n):\n    x = []\n    x.append(x)\n    return x", "0", "[]"),
    call("deeply nested value", WRONG, "def f(n):\n    x = 1\n    for _ in range(700): x = [x]\n    return x", "0", "[" * 700 + "2" + "]" * 700),
    call("generator is no list", WRONG, "def f(n): return (i for i in range(2))", "0", "[0, 1]"),
    call("int that equals everything", WRONG, "class E(int):\n    __eq__ = lambda s, o: True\n    __hash__ = int.__hash__\ndef f(n): return E(0)", "0", "7", "forged value"),
    call("list that equals everything", WRONG, "class E(list):\n    __eq__ = lambda s, o: True\n    __len__ = lambda s: 3\ndef f(n): return E([1])", "0", "[1, 2, 3]", "forged value"),
    call("object that equals everything", WRONG, "class E:\n    __eq__ = lambda s, o: True\ndef f(n): return E()", "0", "7", "forged value"),
    call("value forged, then exit", CRASH, "import os\ndef f(n): os._exit(0)", "0", "7", "forged report"),
]  # fmt: skip


# attacks of a hostile review
REVIEWED = [
    numbered("landlock, again and looser", "kernel surface", 444, 445, 446),
    numbered("file handles past the walls", "read files", 303, 304),
    numbered("another process's files and memory", "signals", 438, 440, 310, 311),
    numbered("exec by descriptor", "fork bomb", 322),
    numbered("asynchronous I/O", "kernel surface", 206, 209),
    numbered("epoll, eventfd, timerfd, signalfd, inotify", "kernel surface", 291, 290, 283, 289, 253),
    numbered("splices without a copy", "kernel surface", 275, 276, 278, 40),
    numbered("memory policies of other processes", "signals", 238, 256, 279),
    # without capabilities the kernel itself says EPERM to most of the next two: test_policy holds those
    numbered("kernel modules, kexec, reboot", "kernel surface", 175, 313, 246, 320, 169),
    numbered("host name, chroot, swap, quota", "kernel surface", 170, 161, 167, 179),
    syscall("no death with its parent", "signals", "libc.prctl(1, 0, 0, 0, 0)"),
    syscall("locked memory", "memory", "libc.mlockall(3)"),
    syscall("creates a file by its old call", "write files", "libc.syscall(85, b'/tmp/mark', 0o600)"),
    syscall("opens for writing by openat2", "write files", "libc.syscall(437, -100, b'/tmp/mark', ctypes.byref((ctypes.c_uint64 * 3)(0o102, 0o600, 0)), 24)"),
    denied("priority of its own", "CPU", "os.setpriority(os.PRIO_PROCESS, 0, 19)", FILTER),
    denied("a scheduler of its own", "CPU", "os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))", FILTER),
    denied("sets the clock", "kernel surface", "import time\ntime.clock_settime(time.CLOCK_REALTIME, -1)", FILTER),
    denied("keystrokes for the terminal", "kernel surface", "import fcntl\nfcntl.ioctl(0, 0x5412, b'x')", FILTER),
    denied("a huge pipe", "memory", "import fcntl\nfcntl.fcntl(os.pipe()[1], 1031, 1 << 20)"),
    denied("locks on the host's file", "forged report", "import fcntl\nfcntl.lockf(1, fcntl.LOCK_EX)"),
    # F_GET_SEALS: to F_ADD_SEALS the kernel itself says EPERM, since the host forbids seals on its files
    denied("seals on the host's file", "forged report", "import fcntl\nfcntl.fcntl(1, 1034)", FILTER),
    Case("all limits raised", OK, "import resource as r\nseen = set()\nfor limit in (r.RLIMIT_AS, r.RLIMIT_FSIZE, r.RLIMIT_NOFILE, r.RLIMIT_CPU):\n"
         "    try: r.setrlimit(limit, (-1, -1)); seen.add('done')\n    except (ValueError, OSError): seen.add('denied')\nprint(*seen)", "", "denied", threat="memory"),
    Case("devices", OK, "read = []\nfor name in ('mem', 'kmsg', 'tty', 'zero', 'full', 'vda', 'sda', 'kvm', 'fuse'):\n"
         "    try: open('/dev/' + name, 'rb').read(1); read.append(name)\n    except OSError: pass\nprint(read)", "", "[]", threat="read files"),
    Case("files without end", OK, "import os\nn = 0\ntry:\n    while True: n += os.dup(0) > 0\nexcept OSError: print(n < 40)", "", "True", threat="open files"),
    Case("a far write makes a sparse file", CRASH, "import os\nos.lseek(1, 1 << 40, 0)\nos.write(1, b'3')", "", "3", threat="output"),
    Case("the answer behind zero bytes", WRONG, "import os\nos.lseek(1, 1000, 0)\nos.write(1, b'3')", "", "3", threat="output"),
    Case("overwrites its own output", OK, "import os\nos.write(1, b'4')\nos.lseek(1, 0, 0)\nos.write(1, b'3')", "", "3"),
    Case("one line of half a million tokens", WRONG, "print('3 ' * 500000)", "", "3", threat="output"),
    Case("one line of a million digits", WRONG, "print('1' * 1000000)", "", "3", threat="output"),
    Case("an exponent of twelve digits", WRONG, "print('7e999999999999')", "", "7", threat="forged value"),
    Case("a number that rounds to the answer", WRONG, "print('7.' + '0' * 400 + '1')", "", "7", threat="forged value"),
    Case("infinity for a number", WRONG, "print('Infinity')", "", "7", threat="forged value"),
    Case("the answer struck over", WRONG, "print('4\\b3')", "", "3", threat="forged value"),
    Case("the answer after a return", WRONG, "print('4\\r3')", "", "3", threat="forged value"),
    Case("the answer made visible by a terminal", WRONG, "print('\\x1b[8m4\\x1b[0m3')", "", "3", threat="forged value"),
    Case("answers between record separators", WRONG, "print('\\x1e'.join(map(str, range(10))))", "", "3", threat="forged value"),
    Case("a byte order mark", WRONG, "print('\\ufeff3')", "", "3"),
    Case("digits of another script, by LiveCodeBench's rule", OK, "print('٧')", "", "7"),
    Case("an underscore in a number, by LiveCodeBench's rule", OK, "print('1_0')", "", "10"),
    Case("an unknown encoding", COMPILE, "# coding: nonsense\nprint(3)", "", "3"),
    Case("a hundred thousand signs", COMPILE, "x = " + "-" * 100000 + "1", "", "3", threat="CPU"),
    Case("a constant without end", "memory_limit|time_limit", "x = (((1 << 100) ** 100) ** 100) ** 10000", "", "3", threat="memory", cpu_s=0.5),
    Case("stops by its own timer", CRASH, "import signal\nsignal.setitimer(signal.ITIMER_REAL, 0.01)\nwhile True: pass", "", "3", threat="CPU"),
    Case("hides a crash behind an excepthook", CRASH, "import os, sys\nsys.excepthook = lambda *a: os._exit(0)\nprint(3, flush=True)\n1 / 0", "", "3", threat="forged report"),
    Case("breaks what the end of a program looks at", OK, "import atexit, sys, threading\ndel threading._active, atexit._ncallbacks, sys.__stdout__\nprint(3)", "", "3"),
    Case("forgets all modules", OK, "import sys\nsys.modules.clear()\nprint(3)", "", "3"),
    Case("tampers with our functions", WRONG, "import gc\nfor o in gc.get_objects():\n    if getattr(o, '__name__', '') in ('report', 'leave', 'picture'): o.__code__ = (lambda *a, **k: None).__code__\nprint(4)", "", "3", threat="forged report"),
    call("one pair told again and again", WRONG, "class D(dict):\n    def items(s): return [('a', 1)] * 2\ndef f(n): return D()", "0", '{"a": 1, "b": 2}', "forged value"),
    call("a list that tells another story", WRONG, "class L(list):\n    __iter__ = lambda s: iter([1, 2])\ndef f(n): return L([9])", "0", "[1, 3]", "forged value"),
    call("a list without end", TIME, "import itertools\nclass L(list):\n    __iter__ = lambda s: itertools.repeat(1)\ndef f(n): return L()", "0", "[1]", "forged value")._replace(cpu_s=0.25, wall_s=9.0),
    call("an int that lies to int()", WRONG, "class I(int):\n    __int__ = lambda s: 8\ndef f(n): return I(7)", "0", "9", "forged value"),
    call("a float that equals everything", WRONG, "class F(float):\n    __eq__ = lambda s, o: True\ndef f(n): return F(7)", "0", "9", "forged value"),
    call("a float beyond all floats", WRONG, "def f(n): return 1e400", "0", "8", "forged value"),
    call("bytes are no string", WRONG, "def f(n): return b'7'", "0", '"7"', "forged value"),
    call("the test blamed for it", CRASH, "import json, os\ndef f(n):\n    os.pwrite(3, json.dumps({'kind': 'arguments', 'line': 1, 'error': ''}).encode(), 0)\n    os._exit(1)", "0", "8", "forged report"),
    call("a value too long for the report", OUTPUT, "def f(n): return 'x' * (1 << 21)", "0", '"x"', "output"),
]  # fmt: skip


# how a program ends: whatever real CPython would have written by its end counts
FAST_IO = """
import os, sys
from io import BytesIO, IOBase
class FastIO(IOBase):
    def __init__(self, file):
        self._fd = file.fileno(); self.buffer = BytesIO(); self.writable = 'x' in file.mode or 'r' not in file.mode
        self.write = self.buffer.write if self.writable else None
    def readline(self):
        if not self.buffer.tell(): self.buffer = BytesIO(os.read(self._fd, 1 << 16))
        return self.buffer.readline()
    def flush(self):
        if self.writable:
            os.write(self._fd, self.buffer.getvalue()); self.buffer.truncate(0); self.buffer.seek(0)
class IOWrapper(IOBase):
    def __init__(self, file):
        self.buffer = FastIO(file); self.flush = self.buffer.flush; self.writable = self.buffer.writable
        self.write = lambda s: self.buffer.write(s.encode('ascii')); self.readline = lambda: self.buffer.readline().decode('ascii')
sys.stdin, sys.stdout = IOWrapper(sys.stdin), IOWrapper(sys.stdout)
print(int(sys.stdin.readline()) + 1)
"""
ENDINGS = [
    Case("open(1) at module level", OK, "f = open(1, 'w')\nf.write('hi')", "", "hi"),
    Case("open(1) beside print", OK, "f = open(1, 'w')\nprint('a')\nf.write('b')\ndef g(): return f", "", "a\nb"),
    Case("open(1) in binary", OK, "f = open(1, 'wb')\nf.write(b'hi')\ndef g(): return f", "", "hi"),
    Case("open(1) closed by hand", OK, "f = open(1, 'w')\nf.write('hi')\nf.close()", "", "hi"),
    Case("open(1) in a with block", OK, "with open(1, 'w') as f: f.write('hi')", "", "hi"),
    Case("open(1) without its descriptor", OK, "f = open(1, 'w', closefd=False)\nf.write('hi')\ndef g(): return f", "", "hi"),
    Case("print after stdout was closed below it", CRASH, "open(1, 'w').close()\nprint('hi')", "", "hi"),
    Case("os.fdopen", OK, "import os\nout = os.fdopen(1, 'w')\ndef main(): out.write('hi')\nmain()", "", "hi"),
    Case("os.fdopen of a copy", OK, "import os\nout = os.fdopen(os.dup(1), 'w')\ndef main(): out.write('hi')\nmain()", "", "hi"),
    Case("/dev/stdout left open", OK, "out = open('/dev/stdout', 'w')\nout.write('hi')\ndef g(): return out", "", "hi"),
    Case("TextIOWrapper over stdout.buffer", OK, "import io, sys\nsys.stdout = io.TextIOWrapper(sys.stdout.buffer, 'utf-8')\nprint('hi')", "", "hi"),
    Case("TextIOWrapper over a raw file", OK, "import io\nout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, 'w')))\nout.write('hi')\ndef g(): return out", "", "hi"),
    Case("TextIOWrapper over a detached stdout", OK, "import io, sys\nsys.stdout = io.TextIOWrapper(sys.stdout.detach(), write_through=False)\nprint('hi')", "", "hi"),
    Case("BufferedWriter alone", OK, "import io\nout = io.BufferedWriter(io.FileIO(1, 'w'), 1 << 20)\nout.write(b'hi')\ndef g(): return out", "", "hi"),
    Case("a codec's writer", OK, "import codecs\nout = codecs.getwriter('utf-8')(open(1, 'wb'))\nout.write('hé')\ndef g(): return out", "", "hé"),
    Case("csv into an open stream", OK, "import csv\nout = csv.writer(open(1, 'w'))\nout.writerow([1, 2])\ndef g(): return out", "", "1,2"),
    Case("a stream in a cycle", OK, "class A:\n    def __init__(s): s.me, s.out = s, open(1, 'w')\nA().out.write('hi')", "", "hi"),
    Case("a stream of a class", OK, "class A: out = open(1, 'w')\nA.out.write('hi')\ndef g(): return A", "", "hi"),
    Case("a stream as a default argument", OK, "def f(text, out=open(1, 'w')): out.write(text)\nf('hi')", "", "hi"),
    Case("a stream in a closure", OK, "def make():\n    out = open(1, 'w')\n    return lambda text: out.write(text)\nsay = make()\nsay('hi')", "", "hi"),
    Case("a stream behind builtins.print", OK, "import builtins\nout = open(1, 'w')\nbuiltins.print = lambda *a: out.write(' '.join(map(str, a)) + '\\n')\nprint(1, 2)", "", "1 2"),
    Case("a stream behind partial", OK, "from functools import partial\nprint = partial(print, file=open(1, 'w'))\nprint('hi')", "", "hi"),
    Case("a local stream, then sys.exit", OK, "import sys\ndef main():\n    out = open(1, 'w')\n    out.write('hi')\n    sys.exit()\nmain()", "", "hi"),
    Case("a stream of a thread", OK, "import threading\nkept = []\ndef f():\n    out = open(1, 'w', closefd=False)\n    out.write('hi')\n    kept.append(out)\nthreading.Thread(target=f).start()", "", "hi"),
    Case("stdout is an object that flushes", OK, "import os, sys\nclass W:\n    def __init__(s): s.text = []\n    def write(s, t): s.text.append(t)\n    def flush(s): os.write(1, ''.join(s.text).encode()); s.text = []\nsys.stdout = W()\nprint('hi')", "", "hi"),
    Case("stdout is an object that cannot flush", OK, "import os, sys\nclass W:\n    def write(s, t): os.write(1, t.encode())\nsys.stdout = W()\nprint('hi')", "", "hi"),
    Case("stdout is a competitor's fast one", OK, FAST_IO, "41", "42"),
    Case("stdout is kept in a StringIO and given back", OK, "import io, sys\nold, sys.stdout = sys.stdout, io.StringIO()\nprint('hi')\ntext = sys.stdout.getvalue()\nsys.stdout = old\nprint(text)", "", "hi"),
    Case("stdout deleted", OK, "import sys\nprint('hi')\ndel sys.stdout", "", "hi"),
    Case("stdout set to None", OK, "import sys\nprint('hi')\nsys.stdout.flush()\nsys.stdout = None", "", "hi"),
    Case("every descriptor closed at the end", OK, "import os\nprint('hi', flush=True)\nos.closerange(0, 3)", "", "hi"),
    Case("stdout redirected to nowhere", WRONG, "import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()): print('hi')", "", "hi"),
    Case("the name stdout, not imported", OK, "stdout.write('hi')", "", "hi"),
    Case("the name stdin, not imported", OK, "print(int(stdin.readline()) + 1)", "41", "42"),
    Case("__del__ prints at the end", OK, "class A:\n    def __del__(self): print('bye', x)\na = A()\nx = 3", "", "bye 3"),
    Case("__del__ in a cycle", OK, "class A:\n    def __del__(self): print('bye')\na = A()\na.me = a\ndel a", "", "bye"),
    Case("__del__ after the prints", OK, "class A:\n    def __del__(self): print('b')\na = A()\nprint('a')", "", "a\nb"),
    Case("__del__ through a stream that ends before it, as in CPython", WRONG, "out = open(1, 'w')\nclass A:\n    def __del__(self, out=out): out.write('bye'); out.flush()\na = A()", "", "bye"),
    Case("__del__ imports", OK, "class A:\n    def __del__(self):\n        import fractions\n        print(fractions.Fraction(1, 3))\na = A()", "", "1/3"),
    Case("__del__ that fails", OK, "class A:\n    def __del__(self): 1 / 0\na = A()\nprint(3)", "", "3"),
    Case("__del__ that never ends", TIME, "class A:\n    def __del__(self):\n        while True: pass\na = A()\nprint(3)", "", "3", threat="CPU", cpu_s=0.25),
    Case("__del__ that exits with 3", CRASH, "import os\nclass A:\n    def __del__(self): os._exit(3)\na = A()\nprint(3)", "", "3"),
    Case("__del__ that floods", OUTPUT, "class A:\n    def __del__(self):\n        while True: print('x' * 10000)\na = A()", "", "3", threat="output"),
    Case("a generator's finally", OK, "def g():\n    try: yield\n    finally: print('end', x)\nit = g()\nnext(it)\nx = 3", "", "end 3"),
    Case("a context manager that is never left", OK, "import contextlib\n@contextlib.contextmanager\ndef c():\n    try: yield\n    finally: print('end')\nm = c()\nm.__enter__()", "", "end"),
    Case("weakref.finalize", OK, "import weakref\nclass A: pass\na = A()\nweakref.finalize(a, print, 'end')", "", "end"),
    Case("a weak reference's callback", OK, "import weakref\nclass A: pass\na = A()\na.me = a\nr = weakref.ref(a, lambda _: print('end'))\ndel a", "", "end"),
    Case("atexit, then __del__", OK, "import atexit\nclass A:\n    def __del__(self): print('b')\na = A()\natexit.register(print, 'a')", "", "a\nb"),
    Case("logging to stdout", OK, "import logging, sys\nlogging.basicConfig(stream=sys.stdout, format='%(message)s', level=20)\nlogging.info('hi')", "", "hi"),
    Case("a signal handler keeps the module", OK, "import signal\nout = open(1, 'w')\ndef f(*_): return out\nsignal.signal(signal.SIGALRM, f)\nout.write('hi')", "", "hi"),
    Case("a module patched with its function", OK, "import heapq\nout = open(1, 'w')\ndef f(*_): return out\nheapq.merge = f\nout.write('hi')", "", "hi"),
    Case("collection switched off", OK, "import gc\ngc.disable()\nout = open(1, 'w')\ndef f(): return out\nout.write('hi')", "", "hi"),
    Case("collection thawed", OK, "import gc\ngc.unfreeze()\nout = open(1, 'w')\ndef f(): return out\nout.write('hi')", "", "hi"),
    Case("two million objects at the end", OK, "x = [[i] for i in range(1000000)]\nprint(len(x))", "", "1000000"),
]  # fmt: skip

EVERYDAY = [
    Case("quit()", OK, "print(3)\nquit()\nprint(4)", "", "3"),
    Case("exit()", OK, "print(3)\nexit()\nprint(4)", "", "3"),
    Case("quit with a status", CRASH, "print(3)\nquit(2)", "", "3"),
    Case("exit with a text", CRASH, "print(3)\nexit('bad')", "", "3"),
    Case("__file__", OK, "import os\nprint(os.path.basename(__file__), os.path.isabs(__file__))", "", "main.py True"),
    Case("the folder of __file__ on the path", OK, "import os, sys\nsys.path.append(os.path.dirname(os.path.abspath(__file__)))\nprint(3)", "", "3"),
    Case("help and copyright", OK, "print(callable(help), 'Python' in str(copyright))", "", "True True"),
    Case("input replaced in builtins", OK, "import builtins, sys\nbuiltins.input = lambda: sys.stdin.readline().strip() + '!'\nprint(input())", "hi", "hi!"),
    Case("a class without slots ends", OK, "class A:\n    __slots__ = ()\n    def __del__(self): print('end')\na = A()", "", "end"),
    Case("a class from `type` ends", OK, "a = type('A', (), {'__slots__': (), '__del__': lambda self: print('end')})()", "", "end"),
    Case("a generator ends", OK, "def f():\n    try: yield\n    finally: print('end')\ng = f()\nnext(g)", "", "end"),
    Case("functions and lists only", OK, "import sys\nread = sys.stdin.readline\ndef f(n):\n    def g(): return n\n    return g\nkept = [f(1), {2}, read]\nprint(kept[0]())", "", "1"),
    Case("os and gc taken apart", OK, "import gc, os, sys\nos._exit = os.write = os.close = gc.collect = sys.modules = None\nprint(3)", "", "3"),
    call("os.write replaced behind a function", OK, "import os\nos.write = lambda fd, data: 0\ndef f(n): return n + 1", "1", "2"),
    call("os._exit replaced behind a function", OK, "import os\nos._exit = print\ndef f(n): return n + 1", "1", "2"),
    Case("input replaced by readline", OK, "import sys\ninput = sys.stdin.readline\nprint(int(input()) + 1)", "41", "42"),
    Case("its module by its name", OK, "import __main__\nx = 3\nprint(__main__.x, __main__ is sys.modules['__main__'])", "", "3 True"),
    Case("globals hold its own names only", OK, "x = 3\nprint([n for n in globals() if not n.startswith('__')])", "", "['x']"),
    Case("asyncio gathers", OK, "import asyncio\nasync def f(n):\n    await asyncio.sleep(0.001 * n)\n    return n\nasync def main(): print(sum(await asyncio.gather(*map(f, range(5)))))\nasyncio.run(main())", "", "10"),
    Case("asyncio and a thread", OK, "import asyncio\nasync def main(): print(await asyncio.to_thread(input))\nasyncio.run(main())", "hi", "hi"),
    Case("asyncio queue", OK, "import asyncio\nasync def main():\n    q = asyncio.Queue()\n    async def put():\n        for n in range(3): await q.put(n)\n    t = asyncio.create_task(put())\n    print([await q.get() for _ in range(3)])\n    await t\nasyncio.run(main())", "", "[0, 1, 2]"),
    Case("asyncio times out", OK, "import asyncio\nasync def main():\n    try: await asyncio.wait_for(asyncio.sleep(60), 0.01)\n    except asyncio.TimeoutError: print('late')\nasyncio.run(main())", "", "late"),
    Case("asyncio loop of its own", OK, "import asyncio\nloop = asyncio.new_event_loop()\nasync def f(): return 3\nprint(loop.run_until_complete(f()))\nloop.close()", "", "3"),
    Case("asyncio that never ends", TIME, "import asyncio\nasync def main():\n    while True: await asyncio.sleep(0)\nasyncio.run(main())", threat="CPU", cpu_s=0.5),
    Case("a pair of sockets", OK, "import socket\na, b = socket.socketpair()\na.sendall(b'hi')\na.close()\nprint(b.recv(9), b.recv(9))", "", "b'hi' b''"),
    Case("executors", OK, "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(3) as pool: print(list(pool.map(lambda n: n * n, range(4))))", "", "[0, 1, 4, 9]"),
    Case("TemporaryFile", OK, "import tempfile\nwith tempfile.TemporaryFile('w+') as f:\n    f.write('a\\nb\\n')\n    f.seek(0)\n    print([line.strip() for line in f])", "", "['a', 'b']"),
    Case("TemporaryFile in binary", OK, "import tempfile\nf = tempfile.TemporaryFile()\nf.write(b'abc')\nf.seek(1)\nf.write(b'X')\nf.seek(0)\nprint(f.read())", "", "b'aXc'"),
    Case("NamedTemporaryFile by its name", OK, "import os, tempfile\nwith tempfile.NamedTemporaryFile('w', suffix='.txt') as f:\n    f.write('hi')\n    f.flush()\n    print(open(f.name).read(), f.name.endswith('.txt'))\nprint(os.path.exists(f.name))", "", "hi True\nFalse"),
    Case("SpooledTemporaryFile", OK, "import tempfile\nf = tempfile.SpooledTemporaryFile(max_size=2, mode='w+')\nf.write('hello')\nf.seek(0)\nprint(f.read())", "", "hello"),
    Case("TemporaryDirectory", OK, "import os, tempfile\nwith tempfile.TemporaryDirectory() as d:\n    p = os.path.join(d, 'sub', 'a')\n    os.makedirs(os.path.dirname(p))\n    open(p, 'w').write('hi')\n    open(p, 'a').write('!')\n    print(open(p).read(), os.listdir(d), os.path.getsize(p))\nprint(os.path.isdir(d))", "", "hi! ['sub'] 3\nFalse"),
    Case("mkstemp", OK, "import os, tempfile\nfd, name = tempfile.mkstemp()\nos.write(fd, b'hi')\nos.close(fd)\nprint(open(name).read())\nos.remove(name)\nprint(os.path.exists(name))", "", "hi\nFalse"),
    Case("pathlib in a temporary folder", OK, "import pathlib, tempfile\np = pathlib.Path(tempfile.mkdtemp(), 'a.txt')\np.write_text('hi')\nprint(p.read_text(), [q.name for q in p.parent.iterdir()], p.exists())", "", "hi ['a.txt'] True"),
    Case("a temporary file gets another name", OK, "import os, tempfile\nd = tempfile.mkdtemp()\nopen(d + '/a', 'w').write('hi')\nos.replace(d + '/a', d + '/b')\nprint(os.listdir(d), open(d + '/b').read())", "", "['b'] hi"),
    denied("a temporary file leaves the scratch folder", "write files", "import tempfile\nf = tempfile.NamedTemporaryFile()\nos.rename(f.name, '/tmp/mark')"),
    Case("a temporary file, compressed", OK, "import gzip, tempfile\nname = tempfile.mktemp()\nwith gzip.open(name, 'wt') as f: f.write('hi')\nprint(gzip.open(name, 'rt').read())", "", "hi"),
    Case("a temporary file that is not there", CRASH, "import tempfile\nopen(tempfile.gettempdir() + '/no')", "", ""),
    Case("a temporary file without end", MEMORY, "import tempfile\nf = tempfile.TemporaryFile()\nwhile True: f.write(b'x' * 1000000)", threat="memory"),
    Case("many temporary files", "memory_limit|runtime_error", "import tempfile\nkept = []\nwhile True:\n    kept.append(tempfile.NamedTemporaryFile())\n    kept[-1].write(b'x' * 1000000)\n    kept[-1].flush()", threat="memory"),
    Case("a far write in a temporary file", MEMORY, "import tempfile\nf = tempfile.TemporaryFile()\nf.seek(1 << 40)\nf.write(b'x')\nf.flush()", threat="memory"),
    Case("zoneinfo", OK, "from datetime import datetime\nfrom zoneinfo import ZoneInfo\nprint(datetime(2024, 7, 1, 12, tzinfo=ZoneInfo('Europe/Paris')).utcoffset())", "", "2:00:00"),
    Case("zoneinfo between zones", OK, "from datetime import datetime\nfrom zoneinfo import ZoneInfo\nprint(datetime(2024, 1, 1, tzinfo=ZoneInfo('UTC')).astimezone(ZoneInfo('Asia/Tokyo')).hour)", "", "9"),
]  # fmt: skip

# digits that start with a needless zero are text, but for LiveCodeBench
DIGITS = [
    Case("0101 is not 101", WRONG, "print('0101')", "", "101"),
    Case("101 is not 0101", WRONG, "print(101)", "", "0101"),
    Case("0101 is 0101", OK, "print('0101')", "", "0101"),
    Case("0101 is 101, by LiveCodeBench's rule", OK, "print('0101')", "", "101", profile="lcb"),
    Case("007 among numbers", WRONG, "print(1, 7)", "", "1 007"),
    Case("00 is not 0", WRONG, "print('00')", "", "0"),
    Case("1e1 is not 010", WRONG, "print('1e1')", "", "010"),
    Case("-05 is not -5", WRONG, "print('-05')", "", "-5"),
    Case("0.50 is 0.5", OK, "print('0.50')", "", "0.5"),
    Case("0 is -0", OK, "print(0)", "", "-0"),
    Case("+7 is 7", OK, "print('+7')", "", "7"),
    Case("a bit string of two hundred", WRONG, "print('0' + '1' * 200)", "", "1" * 200),
]  # fmt: skip

IMPORTED = [
    call("main guard that reads", OK, "def f(a): return a + 1\nif __name__ == '__main__':\n    print(f(int(input())))", "1", "2"),
    call("main guard that exits", OK, "import sys\ndef f(a): return a + 1\ndef main(): return 1\nif __name__ == '__main__':\n    sys.exit(main())", "1", "2"),
    call("main guard that tests itself", OK, "import unittest\ndef f(a): return a + 1\nclass T(unittest.TestCase):\n    def test(self): self.assertEqual(f(1), 3)\nif __name__ == '__main__':\n    unittest.main()", "1", "2"),
    call("main guard without end", OK, "def f(a): return a + 1\nif __name__ == '__main__':\n    while True: f(1)", "1", "2"),
    call("main guard in double quotes, turned round", OK, "def f(a): return a + 1\nif \"__main__\" == __name__: 1 / 0", "1", "2"),
    call("a name that is not __main__", OK, "def f(): return __name__ == '__main__'", "", "false"),
    call("a name whose module is there", OK, "import sys\ndef f(): return sys.modules[__name__].f is f", "", "true"),
    call("dataclass where it is imported", OK, "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: 'int'\ndef f(n): return P(n).x", "3", "3"),
    call("pickles its own class where it is imported", OK, "import pickle\nclass A: pass\ndef f(): return type(pickle.loads(pickle.dumps(A()))) is A", "", "true"),
    call("a function beside a Solution without it", OK, "class Solution:\n    def g(self): return 1\ndef f(a): return a + 1", "1", "2"),
    call("a Solution whose method is made in __init__", OK, "class Solution:\n    def __init__(self): self.f = lambda a: a + 1", "1", "2"),
    call("a Solution before a function of its name", OK, "class Solution:\n    def f(self, a): return a + 1\ndef f(a): return 0", "1", "2"),
    call("crashes while it is imported", CRASH, "1 / 0\ndef f(a): return a", "1", "1"),
    call("reads what there is none of", CRASH, "n = input()\ndef f(a): return a", "1", "1"),
    call("exits while it is imported", CRASH, "import sys\ndef f(a): return a\nsys.exit(0)", "1", "1"),
]  # fmt: skip


def forged(name: str, verdict: str, *lines: Any) -> Case:
    """Writes these lines, JSON unless they are text, over its report and ends before ours is written."""
    told = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    code = f"import os\ndef f(n):\n    os.pwrite(3, {told!r}.encode(), 0)\n    os._exit(0)"
    return call(name, verdict, code, "0", '{"a": [1, 2]}', "forged report")


FORGED = [
    forged("a dictionary of no pairs", WRONG, {"kind": "value"}, {"dict": [1]}),
    forged("a dictionary of a number", WRONG, {"kind": "value"}, {"dict": 5}),
    forged("a dictionary of null", WRONG, {"kind": "value"}, {"dict": None}),
    forged("a dictionary of text", WRONG, {"kind": "value"}, {"dict": "ab"}),
    forged("pairs of three", WRONG, {"kind": "value"}, {"dict": [["a", [1, 2], 3]]}),
    forged("keys that are lists", WRONG, {"kind": "value"}, {"dict": [[["a"], [1, 2]]]}),
    forged("a tuple of a number", WRONG, {"kind": "value"}, {"tuple": 5}),
    forged("a tuple in a tuple", WRONG, {"kind": "value"}, {"tuple": [{"tuple": [1]}]}),
    forged("a picture of no kind", WRONG, {"kind": "value"}, {"list": [1]}),
    forged("a value of nothing", WRONG, {"kind": "value"}, ""),
    forged("a value that is nested without end", WRONG, {"kind": "value"}, "[" * 200000),
    forged("a value that is nested and closed", WRONG, {"kind": "value"}, "[" * 50000 + "]" * 50000),
    forged("dictionaries nested without end", WRONG, {"kind": "value"}, '{"dict":[["a",' * 30000),
    forged("a value cut short", WRONG, {"kind": "value"}, '{"dict": [["a", [1, '),
    forged("a value before its report", CRASH, [1, 2], {"kind": "value"}),
    forged("a kind that is a list", CRASH, {"kind": ["value"]}, {"dict": [["a", [1, 2]]]}),
    forged("a kind that is unknown", CRASH, {"kind": "ok", "verdict": "ok"}, {"dict": [["a", [1, 2]]]}),
    forged("a report that is a list", CRASH, [{"kind": "value"}], {"dict": [["a", [1, 2]]]}),
    forged("a report that is nested without end", CRASH, '{"kind": ' * 2000),
    forged("a code that is no number", CRASH, {"kind": "exit", "code": {"a": 1}}),
    forged("a traceback of lists", CRASH, {"kind": "exception", "exception": [1], "traceback": {"a": [1]}}),
    forged("a failure of the guest", CRASH, {"kind": "guest", "exception": "lost"}),
    forged("a report without an end", CRASH, '{"kind": "value", "junk": "' + "x" * 300000),
    forged("numbers of many digits", WRONG, {"kind": "value"}, "9" * 500000),
    forged("the right value", OK, {"kind": "value"}, {"dict": [["a", [1, 2]]]}),
]  # fmt: skip

CASES = [
    *HONEST, *BROKEN, *GREEDY, *HOSTILE, *FUNCTIONS, *REVIEWED,
    *ENDINGS, *EVERYDAY, *DIGITS, *IMPORTED, *FORGED,
]  # fmt: skip
