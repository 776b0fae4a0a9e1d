"""The judge over HTTP: batches of completions in, verdicts and rewards out. For trainers (docs/reward_server.md).

    python -m sandbox.server http 127.0.0.1:8000 --workers 4 --cache verdicts.sqlite
    python -m sandbox.server http /run/sandbox/rewards.sock

POST /v1/judge, GET /v1/health, GET /v1/schema. A fault of ours or of the question is a null reward with its reason,
never a zero; more work than `most_waiting` items is refused with 429 and a time to come back. Whoever may ask may use
this machine's CPUs: a port other than loopback needs a token (SANDBOX_TOKEN). Needs aiohttp.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import os
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from math import fsum
from pathlib import Path
from typing import Any

from aiohttp import web

from sandbox import protocol
from sandbox.extract import extract_program
from sandbox.model import Program, SandboxUnavailable, Verdict
from sandbox.pool import Pool
from sandbox.protocol import Item

TOKEN_VARIABLE = "SANDBOX_TOKEN"
LARGEST_REQUEST = 256 << 20  # bytes
WAITING_A_WORKER = 256  # items
COME_BACK_S = 1  # what a client is told to wait, at least

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class RewardServer:
    """Judges with `pool`, at most `most_waiting` items at a time, those that run among them.

    token: what callers must send as `Authorization: Bearer`; None: nobody is asked.
    """

    def __init__(self, pool: Pool, token: str | None = None, most_waiting: int | None = None) -> None:
        self.pool, self._token = pool, token
        self.most_waiting = most_waiting or WAITING_A_WORKER * len(pool.slots)
        self.waiting = 0
        self._graders = ThreadPoolExecutor(len(pool.slots), thread_name_prefix="maths")

    def application(self) -> web.Application:
        """Close it with `close` when the application has ended."""
        application = web.Application(middlewares=[self._guarded], client_max_size=LARGEST_REQUEST)
        application.add_routes(
            [
                web.post("/v1/judge", self._judge),
                web.get("/v1/health", self._health),
                web.get("/v1/schema", self._schema),
            ]
        )
        return application

    def close(self) -> None:
        self._graders.shutdown(cancel_futures=True)

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Every answer is JSON, errors too; without the token, where there is one, there is only the error."""
        sent = request.headers.get("Authorization", "").encode()
        if self._token is not None and not hmac.compare_digest(sent, f"Bearer {self._token}".encode()):
            return failed(401, "unauthorized", "send the server's token as `Authorization: Bearer TOKEN`")
        try:
            return await handler(request)
        except web.HTTPException as error:
            return failed(error.status, "bad request", f"{error.reason}; see docs/reward_server.md")

    async def _health(self, request: web.Request) -> web.Response:
        pool = self.pool
        said = {
            "status": "closed" if pool.closed else "ok",
            "version": protocol.VERSION,
            "tier": pool.tier,
            "workers": len(pool.slots),
            "cpu_factor": pool.cpu_factor,
            "waiting": self.waiting,
            "most_waiting": self.most_waiting,
        }
        return web.json_response(said, status=503 if pool.closed else 200)

    async def _schema(self, request: web.Request) -> web.Response:
        return web.json_response(protocol.SCHEMA)

    async def _judge(self, request: web.Request) -> web.Response:
        if request.content_type != "application/json":  # what a browser's form cannot send unasked
            return failed(415, "bad request", "send `Content-Type: application/json`")
        try:
            items = protocol.read_batch(await request.read())
        except ValueError as error:
            return failed(400, "bad question", str(error))
        if len(items) > self.most_waiting:
            return failed(413, "too many items", f"send at most {self.most_waiting} items a request")
        if self.waiting + len(items) > self.most_waiting:
            return self._busy(len(items))
        self.waiting += len(items)
        try:
            verdicts = await asyncio.gather(*map(self.judged, items))
        finally:
            self.waiting -= len(items)
        return web.json_response({"version": protocol.VERSION, "verdicts": verdicts})

    def _busy(self, items: int) -> web.Response:
        told = f"{self.waiting} items wait and {items} more would be over {self.most_waiting}; come back later"
        response = failed(429, "busy", told)
        response.headers["Retry-After"] = str(COME_BACK_S + self.waiting // (100 * len(self.pool.slots)))
        return response

    async def judged(self, raw: Any) -> dict[str, Any]:
        """The verdict on one item of the protocol, for a caller in this process too; never raises for the item."""
        try:
            item = protocol.read_item(raw)
            if item.answer is None:
                return await self._program(item)
            return await asyncio.get_running_loop().run_in_executor(self._graders, grade, item)
        except ValueError as error:
            return no_verdict("bad_question", str(error))
        except SandboxUnavailable as error:
            return no_verdict(Verdict.SYSTEM_ERROR.value, str(error))
        except Exception as error:  # noqa: BLE001  of this one item, whatever it is: its neighbours have verdicts
            return no_verdict(Verdict.SYSTEM_ERROR.value, f"{type(error).__name__}: {error}")

    async def _program(self, item: Item) -> dict[str, Any]:
        code = item.program if item.program is not None else extract_program(item.completion or "")
        if code is None:
            return verdict("no_program", "no block of Python after the thinking", None)
        result = await self.pool.arun(
            Program(code, item.fn_name), item.tests, item.limits, comparison=item.comparison, profile=item.profile
        )
        if result.verdict is Verdict.SYSTEM_ERROR:
            failures = [test.detail.get("exception", "") for test in result.tests]
            return no_verdict(
                result.verdict.value, f"the sandbox failed: {failures[-1] or 'the checker gave no verdict'}"
            )
        said = verdict(result.verdict.value, f"{result.passed} of {len(item.tests)} tests", code)
        cpu_s = fsum(test.cpu_s for test in result.tests)
        return said | {"cpu_s": round(cpu_s, 4), "cpu_factor": result.cpu_factor}


def grade(item: Item) -> dict[str, Any]:
    """The verdict on a maths answer. Raises: SandboxUnavailable."""
    from sandbox import maths

    graded = maths.grade(item.answer or "", item.completion or "", maths.REWARDS)
    if graded.verdict is Verdict.SYSTEM_ERROR:
        return no_verdict(graded.verdict.value, graded.rule)
    return verdict(graded.verdict.value, graded.rule, graded.answer, graded.reference)


def verdict(name: str, rule: str, answer: str | None, reference: str | None = None) -> dict[str, Any]:
    passed = name == Verdict.OK.value
    return {
        "verdict": name,
        "reward": float(passed),
        "passed": passed,
        "rule": rule,
        "answer": answer,
        "reference": reference,
    }


def no_verdict(name: str, why: str) -> dict[str, Any]:
    unknown = dict.fromkeys(("reward", "passed", "answer", "reference"))
    return {"verdict": name, **unknown, "rule": "no verdict", "error": why[:1000]}


def failed(status: int, kind: str, message: str) -> web.Response:
    return web.json_response({"error": {"kind": kind, "message": message}}, status=status)


def checked_place(place: str, token: str | None) -> tuple[str, int] | Path:
    """HOST:PORT, or the path of a socket file. Raises: ValueError for a port that others reach, without a token."""
    host, colon, port = place.rpartition(":")
    if not colon or "/" in place:
        return Path(place)
    if not port.isdigit() or int(port) >= 1 << 16:
        raise ValueError(f"{place!r} is neither HOST:PORT nor the path of a socket file")
    host = host.strip("[]")
    if token is None and not is_loopback(host):
        raise ValueError(
            f"{host} is reached from other machines: set {TOKEN_VARIABLE}, or serve on 127.0.0.1 or a socket file"
        )
    return host, int(port)


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def serve(place: str, pool: Pool, most_waiting: int | None = None) -> None:
    """Until SIGTERM or SIGINT. A caller that goes away ends what runs for it.

    Raises: ValueError (see checked_place), OSError when the place is taken.
    """
    token = os.environ.get(TOKEN_VARIABLE) or None
    listener, at = _listener(checked_place(place, token))
    server = RewardServer(pool, token, most_waiting)

    def said(*_: object) -> None:
        print(f"sandbox: tier {pool.tier}, {len(pool.slots)} workers, rewards at {at}", flush=True)

    try:
        web.run_app(server.application(), sock=listener, print=said, handler_cancellation=True, access_log=None)
    finally:
        server.close()


def _listener(place: tuple[str, int] | Path) -> tuple[socket.socket, str]:
    """A socket that listens, and its address as callers write it."""
    if isinstance(place, Path):
        place.unlink(missing_ok=True)  # what an earlier server left
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(place))
        listener.listen(128)
        return listener, str(place)
    listener = socket.create_server(place, family=socket.AF_INET6 if ":" in place[0] else socket.AF_INET)
    return listener, f"http://{f'[{place[0]}]' if ':' in place[0] else place[0]}:{listener.getsockname()[1]}"
