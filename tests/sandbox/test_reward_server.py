"""The reward server over HTTP, as trainers ask it; and every example of docs/reward_server.md, run against it."""

from __future__ import annotations

import asyncio
import http.client
import importlib
import inspect
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest

import sandbox
from sandbox import Pool, Program, protocol, reward_server
from sandbox.maths import workers as maths_workers

ROOT = Path(sandbox.__file__).parents[1]
PAGE = (ROOT / "docs" / "reward_server.md").read_text()
CODE = "```python\nprint(int(input()) + 1)\n```"
TESTS = [{"stdin": "1", "expected": "2"}, {"stdin": "2", "expected": "3"}]
JSON = {"Content-Type": "application/json"}
CHECKER = "import json\nq = json.loads(input())\nprint('ok' if int(q['output']) > int(q['expected']) else 'wrong')"


@contextmanager
def served(place: str, *options: str, token: str | None = None) -> Iterator[str]:
    """A real server in a process of its own; gives its address."""
    environment = {name: value for name, value in os.environ.items() if name != reward_server.TOKEN_VARIABLE}
    environment |= {reward_server.TOKEN_VARIABLE: token} if token else {}
    argv = [sys.executable, "-m", "sandbox.server", "http", place, "--workers", "2", *options]
    with subprocess.Popen(argv, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        said = server.stdout.readline()
        assert "rewards at" in said
        try:
            yield said.rsplit(" ", 1)[1].strip()
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(30)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served("127.0.0.1:0") as address:
        yield address


def ask(url: str, path: str, body: Any = None, headers: dict[str, str] = JSON) -> tuple[int, Any, dict[str, str]]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=120)
    text = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    connection.request("GET" if body is None else "POST", path, text, headers)
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    return response.status, answer, dict(response.headers)


def posted(body: bytes) -> bytes:
    """A request as it goes over the wire."""
    head = ["POST /v1/judge HTTP/1.1", "Host: x", "Connection: close", "Content-Type: application/json"]
    return "\r\n".join([*head, f"Content-Length: {len(body)}", "", ""]).encode() + body


def judged(url: str, *items: Any) -> list[dict[str, Any]]:
    status, answer, _ = ask(url, "/v1/judge", {"version": 1, "items": list(items)})
    assert status == 200, answer
    jsonschema.validate(answer, protocol.SCHEMA["response"])
    verdicts: list[dict[str, Any]] = answer["verdicts"]
    assert len(verdicts) == len(items)
    return verdicts


VERDICTS: list[tuple[dict[str, Any], str, float | None]] = [
    ({"completion": r"<think>x</think>\boxed{\frac{8}{2}}", "answer": "4"}, "ok", 1.0),
    ({"completion": r"\boxed{5}", "answer": "4"}, "wrong_answer", 0.0),
    ({"completion": "It is 4.", "answer": "4"}, "wrong_answer", 0.0),
    ({"completion": CODE, "tests": TESTS}, "ok", 1.0),
    ({"completion": CODE, "tests": [["1", "2"]]}, "ok", 1.0),
    ({"completion": CODE.replace("1", "2"), "tests": TESTS}, "wrong_answer", 0.0),
    ({"completion": "no code", "tests": TESTS}, "no_program", 0.0),
    ({"completion": "```python\n1 / 0\n```", "tests": TESTS}, "runtime_error", 0.0),
    ({"completion": "```python\nprint(\n```", "tests": TESTS}, "compile_error", 0.0),
    ({"completion": "```\nwhile True: print\n```", "tests": TESTS, "cpu_s": 0.3}, "no_program", 0.0),
    ({"program": "while True: pass", "tests": TESTS, "cpu_s": 0.2}, "time_limit", 0.0),
    ({"program": "x = bytearray(1 << 29)", "tests": TESTS, "memory_mb": 128}, "memory_limit", 0.0),
    ({"program": "def f(x): return x + 1", "fn_name": "f", "tests": [["1", "2"]]}, "ok", 1.0),
    ({"program": "print('0101')", "tests": [["", "101"]]}, "wrong_answer", 0.0),
    ({"program": "print('0101')", "tests": [["", "101"]], "profile": "lcb"}, "ok", 1.0),
    ({"program": "print(0.30001)", "tests": [["", "0.3"]], "float_tolerance": 1e-3}, "ok", 1.0),
    ({"program": "print('Yes')", "tests": [["", "YES"]], "ignore_case": True}, "ok", 1.0),
    ({"program": "print(9)", "tests": [["", "3"]], "checker": CHECKER}, "ok", 1.0),
    ({"program": "print('?')", "tests": [["", "3"]], "checker": CHECKER}, "wrong_answer", 0.0),
    ({"program": "print(9)", "tests": [["", "3"]], "checker": "1 / 0"}, "system_error", None),
]
BAD_ITEMS: list[tuple[Any, str]] = [
    (5, "an item must be an object"),
    ([], "an item must be an object"),
    ({}, "either an `answer`"),
    ({"completion": "x"}, "either an `answer`"),
    ({"completion": "x", "answer": "1", "tests": TESTS}, "either an `answer`"),
    ({"answer": "1"}, "needs the `completion`"),
    ({"program": "x", "answer": "1"}, "needs the `completion`"),
    ({"completion": "x", "answer": 4}, "`answer` must be text"),
    ({"completion": 4, "answer": "4"}, "`completion` must be text"),
    ({"completion": "x", "answr": "4"}, "unknown fields: 'answr'"),
    ({"completion": "x", "tests": []}, "`tests` is empty"),
    ({"completion": "x", "tests": "[]"}, "`tests` must be a list"),
    ({"completion": "x", "tests": [{"stdin": "1"}]}, r"`tests\[0\]` must have"),
    ({"completion": "x", "tests": [["1", "2"], {"stdin": 1, "expected": "2"}]}, r"`tests\[1\]` must have"),
    ({"completion": CODE, "tests": TESTS, "profile": "mild"}, "`profile` must be one of strict, lcb"),
    ({"completion": CODE, "tests": TESTS, "cpu_s": 0}, "cpu_s must be positive"),
    ({"completion": CODE, "tests": TESTS, "cpu_s": "2"}, "`cpu_s` must be a number"),
    ({"completion": CODE, "tests": TESTS, "memory_mb": 1e30}, "memory must be positive and below"),
    ({"completion": CODE, "tests": TESTS, "float_tolerance": -1}, "float_tolerance must be"),
    ({"completion": CODE, "tests": TESTS, "fn_name": "not a name"}, "must be a name of Python"),
    ({"completion": CODE, "tests": [["1", "no JSON"]], "fn_name": "f"}, "`expected` must be JSON"),
]


def test_a_batch_has_a_verdict_an_item_in_order(url: str) -> None:
    verdicts = judged(url, *(item for item, _, _ in VERDICTS))
    assert [(one["verdict"], one["reward"]) for one in verdicts] == [case[1:] for case in VERDICTS]
    assert all(one["passed"] is (None if one["reward"] is None else one["reward"] == 1.0) for one in verdicts)
    assert (verdicts[0]["rule"], verdicts[0]["answer"], verdicts[0]["reference"]) == ("exact number", "4", "4")
    assert (verdicts[3]["rule"], verdicts[3]["answer"]) == ("2 of 2 tests", "print(int(input()) + 1)")
    assert verdicts[3]["cpu_s"] > 0 and verdicts[3]["cpu_factor"] > 0
    jsonschema.validate({"items": [item for item, _, _ in VERDICTS]}, protocol.SCHEMA["request"])


def test_a_bad_item_is_no_zero_and_costs_its_neighbours_nothing(url: str) -> None:
    good = {"completion": CODE, "tests": TESTS}
    verdicts = judged(url, *(one for item, _ in BAD_ITEMS for one in (item, good)))
    for (item, message), verdict, neighbour in zip(BAD_ITEMS, verdicts[::2], verdicts[1::2], strict=True):
        assert (verdict["verdict"], verdict["reward"], verdict["passed"]) == ("bad_question", None, None), item
        assert re.search(message, verdict["error"]), (item, verdict["error"])
        assert neighbour["verdict"] == "ok"


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("/v1/judge", b"{", JSON, 400),
        ("/v1/judge", b"\xff", JSON, 400),
        ("/v1/judge", b"[" * 100_000, JSON, 400),
        ("/v1/judge", b'{"items":' * 50_000, JSON, 400),
        ("/v1/judge", [], JSON, 400),
        ("/v1/judge", {}, JSON, 400),
        ("/v1/judge", {"items": {}}, JSON, 400),
        ("/v1/judge", {"items": [], "version": 2}, JSON, 400),
        ("/v1/judge", {"items": [], "extra": 1}, JSON, 400),
        ("/v1/judge", {"items": []}, {"Content-Type": "text/plain"}, 415),
        ("/v1/judge", {"items": [{}] * 10_000}, JSON, 413),
        ("/v1/judge", None, JSON, 405),
        ("/v2/judge", {"items": []}, JSON, 404),
    ],
)
def test_a_bad_request_is_told_in_json(url: str, path: str, body: Any, headers: dict[str, str], status: int) -> None:
    told, answer, _ = ask(url, path, body, headers)
    assert told == status
    assert answer["error"]["message"]
    assert judged(url) == []  # it goes on


def test_health_and_schema(url: str) -> None:
    status, health, _ = ask(url, "/v1/health")
    assert status == 200
    assert (health["status"], health["version"], health["workers"], health["waiting"]) == ("ok", 1, 2, 0)
    assert health["tier"] in ("bwrap", "landlock") and health["cpu_factor"] > 0
    status, schema, _ = ask(url, "/v1/schema")
    assert status == 200 and schema == json.loads(json.dumps(protocol.SCHEMA))
    jsonschema.Draft202012Validator.check_schema(schema["request"])
    jsonschema.Draft202012Validator.check_schema(schema["response"])


def test_more_work_than_may_wait_is_refused_with_a_time_to_come_back() -> None:
    slow = {"program": "import time\ntime.sleep(1.5)", "tests": [["", ""]]}
    with served("127.0.0.1:0", "--most-waiting", "3") as url, ThreadPoolExecutor(1) as threads:
        first = threads.submit(judged, url, slow, slow)
        while ask(url, "/v1/health")[1]["waiting"] < 2:
            time.sleep(0.02)
        status, answer, headers = ask(url, "/v1/judge", {"items": [slow, slow]})
        assert (status, answer["error"]["kind"]) == (429, "busy")
        assert int(headers["Retry-After"]) >= 1
        assert [one["verdict"] for one in first.result()] == ["ok", "ok"]
        assert judged(url, slow)[0]["verdict"] == "ok"


def test_a_token_is_asked_for() -> None:
    with served("127.0.0.1:0", token="let-me-in") as url:
        for headers in (JSON, JSON | {"Authorization": "Bearer let-me"}, JSON | {"Authorization": "let-me-in"}):
            for path, body in (("/v1/judge", {"items": []}), ("/v1/health", None), ("/none", None)):
                assert ask(url, path, body, headers)[0] == 401
        assert ask(url, "/v1/judge", {"items": []}, JSON | {"Authorization": "Bearer let-me-in"})[0] == 200


@pytest.mark.parametrize("place", ["0.0.0.0:0", "[::]:0", "192.0.2.1:80", "example.org:80", ":8000"])
def test_a_port_that_others_reach_needs_a_token(place: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != reward_server.TOKEN_VARIABLE}
    argv = [sys.executable, "-m", "sandbox.server", "http", place]
    said = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert said.returncode == 1
    assert "set SANDBOX_TOKEN" in said.stderr


@pytest.mark.parametrize(
    ("place", "read"),
    [("127.0.0.1:80", ("127.0.0.1", 80)), ("localhost:80", ("localhost", 80)), ("[::1]:80", ("::1", 80)),
     ("/run/a.sock", Path("/run/a.sock")), ("a.sock", Path("a.sock")), ("./a:80", Path("./a:80"))],
)  # fmt: skip
def test_places(place: str, read: tuple[str, int] | Path) -> None:
    assert reward_server.checked_place(place, None) == read


def test_a_socket_file_and_a_cache_that_outlives_the_server(tmp_path: Path) -> None:
    path, cache = tmp_path / "rewards.sock", tmp_path / "verdicts.sqlite"
    body = json.dumps({"items": [{"program": "import time\nprint(time.time_ns())", "tests": [["", "0"]]}]}).encode()

    def cost() -> float:
        with served(str(path), "--cache", str(cache)), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            connection.connect(str(path))
            connection.sendall(posted(body))
            answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
        (verdict,) = json.loads(answer.split(b"\r\n\r\n")[1])["verdicts"]
        assert verdict["verdict"] == "wrong_answer"
        return float(verdict["cpu_s"])

    assert cost() == cost()  # the very same: it was not run again


def test_a_caller_that_hangs_up_ends_what_runs_for_it(any_pool: Pool) -> None:
    async def talk() -> int:
        server = reward_server.RewardServer(any_pool)
        runner = reward_server.web.AppRunner(server.application(), handler_cancellation=True)
        await runner.setup()
        site = reward_server.web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        body = json.dumps({"items": [{"program": "while True: pass", "tests": [["", ""]], "cpu_s": 500}]}).encode()
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(posted(body))
        await writer.drain()
        while not any_pool.calls:
            await asyncio.sleep(0.01)
        writer.close()
        for _ in range(1000):
            if not any_pool.calls and not server.waiting:
                break
            await asyncio.sleep(0.01)
        await runner.cleanup()
        server.close()
        return len(any_pool.calls) + server.waiting

    assert asyncio.run(asyncio.wait_for(talk(), 60)) == 0


def test_a_fault_is_no_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool that is gone, and a maths worker that does not start, while the server runs."""
    pool = Pool(1)
    server = reward_server.RewardServer(pool)
    pool.close()
    monkeypatch.setattr(maths_workers, "START", "raise SystemExit('no sympy here')")
    with maths_workers.shared()._worker() as worker:
        worker.stop()

    async def verdicts() -> list[dict[str, Any]]:
        items = [
            {"completion": CODE, "tests": TESTS},
            {"completion": r"\boxed{\sin(1)^2+\cos(1)^2}", "answer": r"\ln e"},
        ]
        return [await server.judged(item) for item in items]

    for verdict in asyncio.run(verdicts()):
        assert (verdict["verdict"], verdict["reward"], verdict["passed"]) == ("system_error", None, None)
        assert verdict["error"]
    server.close()


# ---- the page
SNIPPETS = dict(re.findall(r"^```python\n# (\w+)\.py\n(.*?)^```$", PAGE, re.DOTALL | re.M))


@pytest.fixture
def clients(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The page's modules as files beside each other, for the server that runs."""
    for name, code in SNIPPETS.items():
        (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.setenv("JUDGE_URL", url)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in SNIPPETS:
        sys.modules.pop(name, None)


def imported(name: str) -> ModuleType:
    return importlib.import_module(name)


def test_the_page_shows_a_client_for_each_trainer() -> None:
    assert set(SNIPPETS) == {"judge_client", "trl_reward", "verl_reward", "prime_reward"}


def test_the_pages_curl(url: str) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    command = next(one for one in re.findall(r"```sh\n(.*?)\n```$", PAGE, re.DOTALL | re.M) if one.startswith("curl"))
    said = subprocess.check_output(["sh", "-c", command.replace("http://127.0.0.1:8000", url)], text=True, timeout=60)
    assert [one["reward"] for one in json.loads(said)["verdicts"]] == [1.0, 1.0]


def test_the_pages_table_is_the_schema() -> None:
    told = " ".join(re.findall(r"^\| (`.*?) \|", PAGE.split("| field of a verdict |")[1].split("\n\n")[0], re.M))
    assert set(re.findall(r"`(\w+)`", told)) == set(protocol.VERDICT_SCHEMA["properties"])
    request = PAGE.split("An item has")[1].split("| field of a verdict |")[0]
    assert set(protocol.ITEM_SCHEMA["properties"]) <= set(re.findall(r"`(\w+)`", request))


def test_trl(clients: Path) -> None:
    """Called as GRPOTrainer calls it: columns as lists, completions as texts or as messages."""
    judged = imported("trl_reward").judged
    prompts, cases = ["p", "p", "q", "q"], [None, None, json.dumps(TESTS), json.dumps(TESTS)]
    answers = ["4", "4", None, None]
    texts = [r"\boxed{4}", r"\boxed{5}", CODE, "none"]
    extra = {"completion_ids": [[1]] * 4, "trainer_state": None, "log_metric": print}
    assert judged(prompts=prompts, completions=texts, answer=answers, tests=cases, **extra) == [1.0, 0.0, 1.0, 0.0]
    messages = [[{"role": "assistant", "content": text}] for text in texts]
    assert judged(prompts=prompts, completions=messages, answer=answers, tests=cases) == [1.0, 0.0, 1.0, 0.0]


def test_trl_puts_what_has_no_verdict_at_the_mean_of_its_group(clients: Path) -> None:
    judged, bad = imported("trl_reward").judged, json.dumps([{"stdin": "1"}])
    told = judged(["p"] * 3, [r"\boxed{4}", r"\boxed{5}", CODE], answer=["4"] * 3, tests=[None, None, bad])
    assert told == [1.0, 0.0, 0.5]
    with pytest.raises(imported("judge_client").NoVerdict):
        judged(["p"], [CODE], tests=[bad])


def test_verl(clients: Path) -> None:
    """Called as verl's reward managers call it."""
    score = imported("verl_reward").compute_score

    def asked(truth: str, text: str, **extra: Any) -> dict[str, Any]:
        told = score(
            data_source="x", solution_str=text, ground_truth=truth, extra_info=extra, reward_router_address=None
        )
        return asyncio.run(told)

    assert asked("4", r"\boxed{4}", num_turns=2) == {"score": 1.0, "verdict": "ok", "rule": "exact number"}
    assert asked(json.dumps(TESTS), CODE)["score"] == 1.0
    assert asked(json.dumps(TESTS), "none", profile="lcb")["verdict"] == "no_program"
    function = "```python\ndef f(x): return x + 1\n```"
    assert asked(json.dumps([{"stdin": "1", "expected": "2"}]), function, fn_name="f")["score"] == 1.0
    with pytest.raises(imported("judge_client").NoVerdict, match="`profile` must be"):
        asked(json.dumps(TESTS), CODE, profile="mild")


@dataclass
class Of:
    """What verifiers hands to a plugged reward: the task's data, and the rollout's trace."""

    item: dict[str, Any] = field(default_factory=dict)
    last_reply: str = ""


def test_prime_rl(clients: Path) -> None:
    """Called as verifiers calls a plugged reward, by the names of its arguments."""
    judged = imported("prime_reward").judged
    assert list(inspect.signature(judged).parameters) == ["task", "trace"]
    assert asyncio.run(judged(task=Of(item={"answer": "4"}), trace=Of(last_reply=r"\boxed{4}"))) == 1.0
    assert asyncio.run(judged(task=Of(item={"tests": TESTS}), trace=Of(last_reply="none"))) == 0.0
    with pytest.raises(imported("judge_client").NoVerdict):
        asyncio.run(judged(task=Of(item={}), trace=Of(last_reply="x")))


def test_a_client_waits_for_a_busy_server_and_gives_up_on_a_dead_one(
    clients: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = imported("judge_client")
    slow = {"program": "import time\ntime.sleep(1)", "tests": [["", ""]]}
    with served("127.0.0.1:0", "--most-waiting", "2") as url:
        monkeypatch.setattr(client, "URL", url)
        results: list[float] = []
        threads = [threading.Thread(target=lambda: results.append(client.reward(slow))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert results == [1.0] * 4
    monkeypatch.setattr(client.time, "sleep", lambda seconds: None)
    with pytest.raises(client.NoVerdict, match="no judge answers"):
        client.judge([slow])


def test_one_schema_for_programs_of_both_servers() -> None:
    assert protocol.read_program({"code": "x", "fn": "f"}) == Program("x", "f")
