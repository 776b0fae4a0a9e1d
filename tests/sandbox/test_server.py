"""A pool behind a socket file gives a pool's verdicts, outlives a restart, and makes no verdict of a fault."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import sandbox
from sandbox import Comparison, Limits, Pool, Program, SandboxUnavailable, Test
from sandbox.client import RemotePool, open_pool
from sandbox.server import SandboxServer

ROOT = str(Path(sandbox.__file__).parents[1])


@pytest.fixture
def remote(any_pool: Pool, tmp_path: Path) -> Iterator[RemotePool]:
    with SandboxServer(tmp_path / "pool.sock", any_pool) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with RemotePool(tmp_path / "pool.sock", patience_s=1) as pool:
            yield pool
        server.shutdown()


CHECKER = Program("import json; told = json.loads(input()); print('ok' if told['output'] == '7\\n' else 'wrong')")


@pytest.mark.parametrize(("program", "tests", "options"), [
    (Program("print(int(input()) + 1)"), [Test("1", "2"), Test("2", "4"), Test("3", "4")], {}),
    (Program("print(int(input()) + 1)"), [Test("1", "2"), Test("2", "4"), Test("3", "4")], {"early_stop": False}),
    (Program("def twice(x): return 2 * x", fn="twice"), [Test("[1]", "[1, 1]")], {}),
    (Program("print(1"), [Test("", "1")], {}),
    (Program("while True: pass"), [Test("", "1")], {"limits": Limits(cpu_s=0.2, wall_s=5)}),
    (Program("print(7)"), [Test("", "8")], {"comparison": Comparison(checker=CHECKER)}),
    (Program("import sys; print(1); sys.exit(3)"), [Test("", "1")], {"profile": "lcb"}),
    (Program("print(ascii(input()))"), [Test("\udce9 \u00e9", "'\\udce9 \\xe9'")], {}),
])  # fmt: skip
def test_verdicts_are_those_of_the_pool(any_pool: Pool, remote: RemotePool, program, tests, options) -> None:
    here, there = any_pool.run(program, tests, **options), remote.run(program, tests, **options)
    assert (there.verdict, there.passed) == (here.verdict, here.passed)
    assert [one.verdict for one in there.tests] == [one.verdict for one in here.tests]
    assert all(one.max_rss for one in there.tests if one.verdict == "ok")


def test_outputs_and_tier_are_those_of_the_pool(any_pool: Pool, remote: RemotePool) -> None:
    program = Program("print(1 / int(input()))")
    assert remote.outputs(program, ["2", "0"]) == any_pool.outputs(program, ["2", "0"])
    assert remote.tier == any_pool.tier


def test_a_bad_question_is_the_callers_error_and_the_connection_goes_on(remote: RemotePool) -> None:
    with pytest.raises(ValueError, match="no tests"):
        remote.run(Program("print(1)"), [])
    assert remote.run(Program("print(1)"), [Test("", "1")]).verdict == "ok"


def question(**changes: object) -> str:
    usual = {"call": "run", "program": {"code": "print(1)"}, "tests": [["", "1"]], "limits": None}
    return json.dumps(usual | changes)


BAD_QUESTIONS = {
    "nested without end": "[" * 100_000,
    "nested and closed": "[" * 100_000 + "]" * 100_000,
    "objects nested without end": '{"a":' * 100_000,
    "no JSON": "{",
    "no text": "\xff",
    "a list": "[]",
    "nothing": "",
    "a number of many digits": "1" * 10_000,
    "another call": question(call="exec"),
    "a call that is a list": question(call=["run"]),
    "no program": question(program=None),
    "a program that is text": question(program="print(1)"),
    "code that is a number": question(program={"code": 5}),
    "code that is a list": question(program={"code": [["x"]]}),
    "a function that is a number": question(program={"code": "", "fn": 5}),
    "a function of five thousand letters": question(program={"code": "", "fn": "f" * 5000}),
    "no tests": question(tests=[]),
    "tests that are text": question(tests="ab"),
    "a test of three": question(tests=[["", "1", "2"]]),
    "a test of numbers": question(tests=[[1, 2]]),
    "a test of null": question(tests=[None]),
    "limits that are text": question(limits={"cpu_s": "1"}),
    "limits without end": question(limits={"cpu_s": float("inf")}),
    "limits beyond the kernel's numbers": question(limits={"memory": 1 << 80}),
    "limits of truth": question(limits={"cpu_s": True}),
    "a tolerance that is text": question(comparison={"float_tolerance": "x"}),
    "a checker that is text": question(comparison={"checker": "print(1)"}),
    "a profile that is a list": question(profile=["lcb"]),
    "an unknown profile": question(profile="mild"),
    "inputs that are numbers": question(call="outputs", stdins=[1]),
    "inputs that are text": question(call="outputs", stdins="12"),
    "expected JSON, nested without end": question(program={"code": "", "fn": "f"}, tests=[["1", "[" * 100_000]]),
    "argument JSON, nested without end": question(program={"code": "", "fn": "f"}, tests=[["[" * 100_000, "1"]]),
}


def test_a_bad_question_is_told_and_ends_no_conversation(remote: RemotePool) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(str(remote.path))
        lines = connection.makefile("rb")
        for name, line in BAD_QUESTIONS.items():
            connection.sendall(line.encode("latin-1") + b"\n")
            assert json.loads(lines.readline()).get("kind") == "bad question", name
        connection.sendall(question().encode() + b"\n")
        assert json.loads(lines.readline())["result"]["verdict"] == "ok"


def test_a_forged_report_ends_no_conversation(remote: RemotePool) -> None:
    forged = "import os\ndef f(n):\n    os.write(3, b'{\"kind\": \"value\"}\\n' + b'[' * 200000)\n    os._exit(0)"
    assert remote.run(Program(forged, fn="f"), [Test("1", "1")]).verdict == "wrong_answer"
    assert remote.outputs(Program(forged, fn="f"), ["1"])[0].verdict == "runtime_error"
    assert remote.run(Program("print(1)"), [Test("", "1")]).verdict == "ok"


def test_threads_do_not_mix_up_their_answers(remote: RemotePool) -> None:
    with ThreadPoolExecutor(8) as threads:
        said = threads.map(lambda n: remote.outputs(Program(f"print({n})"), [""])[0].stdout, range(40))
        assert list(said) == [f"{n}\n" for n in range(40)]


def test_nobody_there_is_unavailable_and_not_a_verdict(tmp_path: Path) -> None:
    with pytest.raises(SandboxUnavailable, match=r"does not answer.*start it"):
        RemotePool(tmp_path / "nobody.sock", patience_s=0)


def test_the_environment_chooses_the_pool(remote: RemotePool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDBOX_SOCKET", str(remote.path))
    with open_pool(1) as pool:
        assert isinstance(pool, RemotePool)
        assert pool.run(Program("print(1)"), [Test("", "1")]).verdict == "ok"
    monkeypatch.delenv("SANDBOX_SOCKET")
    with open_pool(1) as pool:
        assert isinstance(pool, Pool)


def started(folder: Path, python: str, *wrapper: str) -> subprocess.Popen[str]:
    argv = [*wrapper, python, "-B", "-m", "sandbox.server", "serve", str(folder / "pool.sock"), "--workers", "1"]
    server = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    assert "sandbox: tier" in server.stdout.readline()
    return server


def ended(server: subprocess.Popen[str], how: signal.Signals) -> int:
    server.send_signal(how)
    assert server.stdout is not None
    server.stdout.close()
    return server.wait(30)


def test_a_server_that_is_killed_and_started_again_is_waited_for(tmp_path: Path) -> None:
    server = started(tmp_path, sys.executable)
    with RemotePool(tmp_path / "pool.sock") as pool:
        assert pool.run(Program("print(1)"), [Test("", "1")]).verdict == "ok"
        assert ended(server, signal.SIGKILL) == -signal.SIGKILL
        server = started(tmp_path, sys.executable)
        assert pool.run(Program("print(2)"), [Test("", "2")]).verdict == "ok"
    assert ended(server, signal.SIGTERM) == 0
    assert not (tmp_path / "pool.sock").exists()


def test_the_server_in_a_hardened_container(pools: dict[str, Pool | str], any_pool: Pool, tmp_path: Path) -> None:
    """Read-only root, no network, no capabilities, nobody: as docker/compose.yaml has it, with one writable folder."""
    if isinstance(pools["landlock"], str):
        pytest.skip(pools["landlock"])
    if shutil.which("bwrap") is None:
        pytest.skip("bwrap is not installed")
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o755)
    tmp_path.chmod(0o777)
    container = ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--bind", str(tmp_path), str(tmp_path),
                 "--unshare-user", "--disable-userns", "--unshare-net", "--die-with-parent",
                 "--cap-drop", "ALL", "--uid", "65534", "--gid", "65534"]  # fmt: skip
    server = started(tmp_path, any_pool.python.executable, *container)
    ask = [sys.executable, "-m", "sandbox.server", "ask", str(tmp_path / "pool.sock")]
    said = subprocess.run(ask, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (said.returncode, said.stdout) == (0, "tier landlock: ok\n"), said.stderr
    ended(server, signal.SIGKILL)  # bwrap may have SIGTERM ignored: Dagster handles it as SIGINT, which nohup ignores
