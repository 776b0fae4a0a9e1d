"""A pool behind a socket file, for who runs elsewhere: a container without a network shares a folder and nothing more.

    python -m sandbox.server serve /run/sandbox/pool.sock --workers 4
    python -m sandbox.server ask /run/sandbox/pool.sock         a health check: one program really judged
    python -m sandbox.server http 127.0.0.1:8000 --workers 4    the reward server for trainers (reward_server.py)

One JSON object a line each way, over a Unix socket; a connection has one question open at a time, `RemotePool`
(client.py) opens one a thread. A question is {"call": "run" | "outputs", ...}, its answer {"result": ...} or
{"error": ..., "kind": ...}. Not covered: a caller that goes away does not end the test that runs for it; it ends at its
own limits. Whoever can open the file may ask: keep the folder to those who may.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socketserver
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sandbox import protocol
from sandbox.cache import VerdictCache
from sandbox.model import Program, SandboxUnavailable, Test
from sandbox.pool import Cancelled, Pool

ALL_MAY_ASK = 0o666  # the socket file; the folder's own mode is the fence


class SandboxServer(socketserver.ThreadingUnixStreamServer):
    """Serves `pool` at `path`; what an earlier server left at that place is replaced."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, path: Path, pool: Pool) -> None:
        self.pool = pool
        path.unlink(missing_ok=True)
        super().__init__(str(path), _Conversation)
        path.chmod(ALL_MAY_ASK)


class _Conversation(socketserver.StreamRequestHandler):
    server: SandboxServer

    def handle(self) -> None:
        for line in self.rfile:
            answer = _answered(self.server.pool, line)
            try:
                self.wfile.write(json.dumps(answer).encode() + b"\n")
            except BrokenPipeError:  # the caller has gone: nobody is left to tell
                return


def _answered(pool: Pool, line: bytes) -> dict[str, Any]:
    """The answer to one line. A bad question is the caller's error and is told to it; it ends nothing here."""
    try:
        return {"result": _result(pool, protocol.expect(protocol.read_json(line), dict, "the question"))}
    except Cancelled as error:
        return {"error": str(error), "kind": "cancelled"}
    except SandboxUnavailable as error:
        return {"error": str(error), "kind": "unavailable"}
    except ValueError as error:
        return {"error": str(error), "kind": "bad question"}


def _result(pool: Pool, question: dict[str, Any]) -> Any:
    if question.get("call") == "about":
        return {"tier": pool.tier, "cpu_factor": pool.cpu_factor}
    program, limits = protocol.read_program(question.get("program")), protocol.read_limits(question.get("limits"))
    if question.get("call") == "outputs":
        return [
            list(one) for one in pool.outputs(program, protocol.read_texts(question.get("stdins"), "stdins"), limits)
        ]
    if question.get("call") != "run":
        raise ValueError(f"`call` must be about, run or outputs, not {protocol.shown(question.get('call'))}")
    result = pool.run(
        program,
        protocol.read_tests(question.get("tests")),
        limits,
        question.get("early_stop") is not False,
        comparison=protocol.read_comparison(question.get("comparison") or {}),
        profile=protocol.read_profile(question.get("profile", "strict")),
    )
    return asdict(result)


def serve(path: Path, workers: int) -> None:
    """Until SIGTERM or SIGINT. Raises: SandboxUnavailable when no isolation holds here."""
    with Pool(workers, cpu_factor=None) as pool, SandboxServer(path, pool) as server:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: sys.exit(0))
        print(f"sandbox: tier {pool.tier}, {workers} workers, at {path}", flush=True)
        try:
            server.serve_forever()
        finally:
            path.unlink(missing_ok=True)


def ask(path: Path) -> int:
    from sandbox.client import RemotePool

    with RemotePool(path) as pool:
        verdict = pool.run(Program("print(int(input()) + 1)"), [Test("1", "2")]).verdict
    print(f"tier {pool.tier}: {verdict}")
    return int(verdict != "ok")


def serve_rewards(place: str, workers: int, cache: str | None, most_waiting: int | None) -> None:
    from sandbox import reward_server

    reward_server.checked_place(place, os.environ.get(reward_server.TOKEN_VARIABLE))  # before guests are started
    known = VerdictCache(cache) if cache else None
    with Pool(workers, cache=known, cpu_factor=None) as pool:
        reward_server.serve(place, pool, most_waiting)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "sandbox.server", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, place in (("serve", "PATH"), ("ask", "PATH"), ("http", "HOST:PORT or PATH")):
        commands.add_parser(name).add_argument("place", metavar=place)
    for name in ("serve", "http"):
        commands.choices[name].add_argument("--workers", type=int, default=2)
    commands.choices["http"].add_argument("--cache", help="SQLite file of the verdicts known from before")
    commands.choices["http"].add_argument("--most-waiting", type=int, help="items, before callers are told 429")
    asked = parser.parse_args(arguments)
    if asked.command == "ask":
        return ask(Path(asked.place))
    try:
        if asked.command == "serve":
            serve(Path(asked.place), asked.workers)
        else:
            serve_rewards(asked.place, asked.workers, asked.cache, asked.most_waiting)
    except (ValueError, OSError, SandboxUnavailable) as error:
        print(f"sandbox.server: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
