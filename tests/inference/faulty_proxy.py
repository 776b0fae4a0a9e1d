"""An HTTP proxy that does to requests what networks and overloaded servers do.

It stands before one endpoint. POST number k (from 0) suffers `faults[k]`; those after the last pass unharmed, and so do
GETs, unless `answering` is set to what a gateway says in place of a server that is away.
"""

import contextlib
import email.utils
import http.client
import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

FAULTS = (
    "reset",  # the connection breaks and the endpoint never saw the request
    "lost reply",  # it breaks after the endpoint did the work
    "429",
    "429 with Retry-After",
    "429 with a date",
    "500",
    "503",
    "truncated",  # half of the announced body
    "garbled",  # half of the body, announced as a whole
    "another's reply",  # the reply to the request before (of the first one: to itself, without its choices)
    "slow",  # a pause, then all is well
    "stalled",  # no reply until long after the client's patience
)


class FaultyProxy:
    """At `url` until closed. slow_s, stalled_s: how long those faults hold a request back."""

    def __init__(
        self, upstream: str, faults: Iterable[str | None] = (), slow_s: float = 0.2, stalled_s: float = 5.0
    ) -> None:
        address = urlsplit(upstream)
        assert address.hostname and address.port
        self.upstream = (address.hostname, address.port)
        self.slow_s, self.stalled_s = slow_s, stalled_s
        self.suffered: Counter[str] = Counter()
        self.posts = 0
        self.last_reply: bytes | None = None
        self.answering: tuple[int, bytes] | None = None
        self._faults = iter(faults)
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._http: ThreadingHTTPServer | None = None
        self.port = 0
        self._listen()
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def next_fault(self) -> str | None:
        with self._lock:
            self.posts += 1
            fault = next(self._faults, None)
            if fault:
                assert fault in FAULTS, fault
                self.suffered[fault] += 1
            return fault

    def go_down(self) -> None:
        """Nothing listens any more, and every open connection breaks."""
        assert self._http is not None
        self._http.shutdown()
        self._http.server_close()
        self._http = None
        for connection in list(self._connections):
            reset(connection)

    def come_back(self) -> None:
        self._listen()

    def down_for(self, seconds: float) -> threading.Thread:
        """Down now, back after `seconds`; the thread ends when it is back."""
        self.go_down()

        def later() -> None:
            time.sleep(seconds)
            self.come_back()

        thread = threading.Thread(target=later, daemon=True)
        thread.start()
        return thread

    def close(self) -> None:
        if self._http is not None:
            self.go_down()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _listen(self) -> None:
        self._http = _Server(("127.0.0.1", self.port), _handler(self))
        self.port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def connected(self, connection: socket.socket) -> None:
        self._connections.add(connection)

    def disconnected(self, connection: socket.socket) -> None:
        self._connections.discard(connection)


class _Server(ThreadingHTTPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up on us is no news here."""


def reset(connection: socket.socket) -> None:
    """Break it: the peer sees `connection reset`, not an orderly end."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RD)  # wakes a thread that reads from it
    with contextlib.suppress(OSError):
        connection.close()


def _handler(proxy: FaultyProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            proxy.connected(self.connection)

        def finish(self) -> None:
            proxy.disconnected(self.connection)
            with contextlib.suppress(OSError, ValueError):
                super().finish()

        def do_GET(self) -> None:
            self._send(*(proxy.answering or self._forward(b"")))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            fault = proxy.next_fault()
            if fault == "reset":
                self._reset()
            elif fault and fault[0] in "45":
                headers = {}
                if fault == "429 with Retry-After":
                    headers["Retry-After"] = "1"
                elif fault == "429 with a date":
                    headers["Retry-After"] = email.utils.formatdate(time.time() + 1, usegmt=True)
                self._send(int(fault[:3]), json.dumps({"error": {"message": f"injected {fault}"}}).encode(), headers)
            elif fault == "stalled":
                time.sleep(proxy.stalled_s)
                self._reset()
            else:
                if fault == "slow":
                    time.sleep(proxy.slow_s)
                before = proxy.last_reply
                status, reply = self._forward(body)
                proxy.last_reply = reply
                if fault == "lost reply":
                    self._reset()
                elif fault == "truncated":
                    self._send(status, reply[: len(reply) // 2], {}, announced=len(reply))
                    self.close_connection = True
                elif fault == "garbled":
                    self._send(status, reply[: len(reply) // 2])
                elif fault == "another's reply":
                    self._send(status, before or json.dumps(json.loads(reply) | {"choices": []}).encode())
                else:
                    self._send(status, reply)

        def _forward(self, body: bytes) -> tuple[int, bytes]:
            upstream = http.client.HTTPConnection(*proxy.upstream)
            headers = {"Content-Type": "application/json"}
            for name in ("Authorization", "X-Request-Id"):
                if self.headers[name]:
                    headers[name] = self.headers[name]
            upstream.request(self.command, self.path, body, headers)
            reply = upstream.getresponse()
            content = reply.read()
            upstream.close()
            return reply.status, content

        def _send(
            self, status: int, content: bytes, headers: dict[str, str] | None = None, announced: int | None = None
        ) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content) if announced is None else announced))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)
            self.wfile.flush()

        def _reset(self) -> None:
            self.close_connection = True
            reset(self.connection)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    return Handler
