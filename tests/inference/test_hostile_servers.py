"""Servers that say anything: no message repeats the key, none steers a terminal, and no reply fills the memory."""

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from promptcot_assets.inference import EngineError, SamplingParams, endpoints, open_engine
from promptcot_assets.inference.chat_api import write_served
from promptcot_assets.settings.engines import ChatApi, Engine

PARAMS = SamplingParams(max_new_tokens=5)


@pytest.fixture
def served(tmp_path: Path) -> Path:
    write_served(tmp_path / "served", "m")
    return tmp_path / "served"


@contextmanager
def replies(
    status: int, body: bytes, headers: dict[str, str] | None = None, reason: str | None = None, models: Any = None
) -> Iterator[str]:
    """The address of a server that lists one model and answers every request with these bytes."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            self._send(200, json.dumps(models or {"data": [{"id": "m"}]}).encode(), {}, None)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            with suppress(ConnectionError):  # who hangs up has read enough
                self._send(status, body, headers or {}, reason)

        def _send(self, status: int, body: bytes, headers: dict[str, str], reason: str | None) -> None:
            self.send_response(status, reason)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def ask(url: str, served: Path) -> None:
    own = ChatApi(urls=[url], patience_s=0.5, api_key_variable="KEY_OF_TESTS")
    with open_engine(Engine(name="chat_api", chat_api=own), served) as engine:
        engine.generate(["let"], PARAMS)


REPEATED: dict[str, tuple[int, Any, str]] = {  # status, body, what is said of it
    "a gateway's error as a success": (200, {"error": {"message": "bad key sk-123456"}}, r"bad key \*\*\*"),
    "cut in the middle": (200, {"error": "." * 184 + "sk-123456"}, r"\*\*\*"),
    "a reason": (200, {"choices": [{"finish_reason": "sk-123456"}]}, r"finish_reason '\*\*\*'"),
    "a refusal": (400, {"error": {"message": "not for sk-123456"}}, r"not for \*\*\*"),
}


@pytest.mark.parametrize("case", REPEATED)
def test_nothing_that_a_server_says_repeats_the_key(case: str, served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status, body, says = REPEATED[case]
    monkeypatch.setenv("KEY_OF_TESTS", "sk-123456\n")  # as a file of it has it
    with replies(status, json.dumps(body).encode()) as url, pytest.raises(EngineError, match=says) as error:
        ask(url, served)
    assert "sk-1" not in str(error.value)


def test_the_line_beside_the_status_and_the_list_of_models_repeat_no_key(
    served: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY_OF_TESTS", "sk-123456")
    with (
        replies(401, b"{}", reason="No sk-123456") as url,
        pytest.raises(EngineError, match=r"HTTP 401 No \*\*\*"),
    ):
        ask(url, served)
    for models in ({"oops": "sk-123456"}, {"data": [{"id": "of sk-123456"}]}):
        with replies(200, b"{}", models=models) as url, pytest.raises(EngineError, match=r"\*\*\*") as error:
            ask(url, served)
        assert "sk-1" not in str(error.value)


def test_a_key_that_no_header_takes_is_one_sentence_without_it(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("sk\nX-Evil: 1", "schlüssel"):
        monkeypatch.setenv("KEY_OF_TESTS", key)
        with pytest.raises(EngineError, match="the API key holds characters that no key has") as error:
            ask("http://127.0.0.1:9/v1", served)
        assert key not in str(error.value)


def test_what_a_server_says_steers_no_terminal_and_fits_a_table(served: Path) -> None:
    said = b'{"error": "\\u001b[31mred\\ud800 \\r\\n end"}'
    with replies(401, said) as url, pytest.raises(EngineError, match=r"Unauthorized: \[31mred end$"):
        ask(url, served)


@pytest.mark.parametrize("status", [400, 429, 500])
def test_an_error_that_is_nested_without_end_is_an_error_of_the_server(status: int, served: Path) -> None:
    with replies(status, b"[" * 200_000) as url, pytest.raises(EngineError, match=rf"HTTP {status} .*\[\[\["):
        ask(url, served)


@pytest.mark.parametrize("packed", [True, False])
def test_a_reply_beyond_all_bounds_is_not_held_in_memory(
    packed: bool, served: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "LARGEST_REPLY", 1 << 20)
    body = gzip.compress(bytes(1 << 24)) if packed else bytes(1 << 24)
    headers = {"Content-Encoding": "gzip"} if packed else {}
    with replies(200, body, headers) as url, pytest.raises(EngineError, match="a reply of more than 1 MiB"):
        ask(url, served)
