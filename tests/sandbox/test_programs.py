"""Every honest and hostile program gets the verdict it must, in each tier."""

from __future__ import annotations

import random
import socket
import struct
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from sandbox import Limits, Pool, Program, Test, Verdict
from tests.sandbox.programs import CASES, FILTER, OK, Case, denied

THREATS = {
    "network", "read files", "/proc", "write files", "environment", "open files", "signals", "fork bomb", "threads",
    "CPU", "memory", "output", "kernel surface", "shared memory", "expected output", "forged report", "forged value",
}  # fmt: skip
OPEN_FILTER = struct.pack("<HBBI", 6, 0, 0, 0x7FFF0000)  # one instruction: every call is allowed


def judge(pool: Pool, case: Case) -> Verdict:
    limits = Limits(cpu_s=case.cpu_s, wall_s=case.wall_s, memory=256 << 20, output=1 << 20)
    tests = [Test(case.stdin, case.expected)]
    return pool.run(Program(case.code, case.fn), tests, limits, profile=case.profile).verdict


def test_some_tier_runs(pools: dict[str, Pool | str]) -> None:
    assert any(isinstance(pool, Pool) for pool in pools.values()), pools


def test_the_table_covers_every_threat() -> None:
    assert len(CASES) >= 320
    assert len({case.name for case in CASES}) == len(CASES)
    assert {case.threat for case in CASES} - {""} == THREATS


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_verdict(pool: Pool, case: Case) -> None:
    assert judge(pool, case) in case.verdicts.split("|")


def test_hashes_are_those_of_seed_zero(pool: Pool) -> None:
    """A program that depends on the order of a set gets the same verdict every time."""
    asked = "print(hash('a'))"
    seeded = subprocess.check_output([pool.python.executable, "-c", asked], env={"PYTHONHASHSEED": "0"}, text=True)
    assert pool.outputs(Program(asked), [""])[0].stdout == seeded


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def connects(listener: socket.socket, errno: str = "") -> Case:
    attempt = f"import socket\nsocket.create_connection({listener.getsockname()}, 5)"
    return denied("connects to a port of the host", "network", attempt, errno)


def test_no_program_reaches_a_port_of_the_host(pool: Pool, listener: socket.socket) -> None:
    assert judge(pool, connects(listener, FILTER)) is Verdict.OK
    with pytest.raises(BlockingIOError):
        listener.accept()
    listener.settimeout(30)
    with socket.create_connection(listener.getsockname()):  # the port does answer: to its host
        listener.accept()[0].close()


def test_the_walls_hold_without_the_filter(pool: Pool, listener: socket.socket) -> None:
    """Namespaces or Landlock, alone: a call that the filter lets through by mistake still finds nothing."""
    attempts = [
        Case("no filter", OK, "import os\nprint(os.getpgid(0) >= 0)", expected="True"),
        denied("writes", "write files", "open('/tmp/mark', 'w')"),
        denied("writes the standard library", "write files", "open(os.__file__, 'r+')"),
        denied("reads", "read files", "open('/etc/passwd')"),
    ]
    with Pool(1, tier=pool.tier) as one:
        worker = one.slots[0].worker(False)
        if pool.tier == "bwrap" or worker.hello["landlock"] >= 4:  # older ones know no TCP
            attempts.append(connects(listener))
        worker.stop()
        worker.bpf = OPEN_FILTER
        assert [case.name for case in attempts if judge(one, case) is not Verdict.OK] == []
    with pytest.raises(BlockingIOError):
        listener.accept()


def group_size(group: int) -> int:
    """How many processes the process group has."""
    size = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):  # another one, which has just ended
            size += int(path.read_text().rpartition(")")[2].split()[2]) == group
    return size


def processes(pool: Pool) -> dict[int, int]:
    """Every guest of the pool, with the number of processes of its group, which nothing inside can leave."""
    guests = [worker.guest for slot in pool.slots for worker in slot.workers.values()]
    return {guest.pid: group_size(guest.pid) for guest in guests if guest is not None}


@pytest.mark.slow
def test_mixed_programs_never_flake(pool: Pool) -> None:
    """Five hundred tests in random order beside a CPU burner: the same verdicts, nothing left behind."""
    quick = [case for case in CASES if case.threat != "CPU" and "|" not in case.verdicts]
    mixed = random.Random(0).choices(quick, k=500)
    files, guests = len(list(Path("/proc/self/fd").iterdir())), processes(pool)
    burner = Program("while True: pass")
    with ThreadPoolExecutor(3) as threads:
        busy = threads.submit(pool.run, burner, [Test("", "")], Limits(cpu_s=5, wall_s=30))
        verdicts = list(threads.map(lambda case: judge(pool, case), mixed))
        assert busy.result().verdict is Verdict.TIME_LIMIT
    wrong = [(case.name, verdict) for case, verdict in zip(mixed, verdicts, strict=True) if verdict != case.verdicts]
    assert not wrong
    assert len(list(Path("/proc/self/fd").iterdir())) <= files + 2  # a second worker may have started
    assert guests.items() <= processes(pool).items()  # the same guests with as many processes
    assert set(processes(pool).values()) == set(guests.values())
