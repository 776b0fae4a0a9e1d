# ruff: noqa: E501
"""Honest and hostile programs with the verdicts they must get in every tier. A new bug adds a row.

threat: the row of the threat table (docs/architecture/sandbox.md) that the program stands for.
verdicts: usually one; several where the kernel may stop the same attack at different places.

An attack that would fail anyway proves no wall. So each would succeed without the wall that it is about, or fail by another
errno than the filter's: hence the folders that are not there, the calls on oneself and the arguments that make no sense.
"""

from __future__ import annotations

from typing import NamedTuple

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
    Case("async", OK, "import asyncio\nasync def f(): return 5\ntry:\n    print(asyncio.run(f()))\nexcept OSError:\n    print('no event loop: needs a socket')", "", "no event loop: needs a socket"),
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
    denied("socketpair", "network", "import socket\nsocket.socketpair()"),
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
    denied("temporary file", "write files", "import tempfile\ntempfile.TemporaryFile()"),
    denied("memfd_create", "shared memory", "os.memfd_create('x')", FILTER),
    denied("shared memory", "shared memory", "from multiprocessing import shared_memory\nshared_memory.SharedMemory(create=True, size=10)"),
    syscall("System V shared memory", "shared memory", "libc.shmget(1, 4096, 0o1000)"),
    syscall("a message queue", "shared memory", "libc.msgget(1, 0o1000)"),
    Case("environment is ours", OK, "import os\nprint(sorted(set(os.environ) - {'PYTHONHASHSEED', 'LC_ALL', 'LD_BIND_NOW', 'OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MALLOC_ARENA_MAX', 'PWD', 'LC_CTYPE'}))", expected="[]", threat="environment"),
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

CASES = [*HONEST, *BROKEN, *GREEDY, *HOSTILE, *FUNCTIONS, *REVIEWED]
