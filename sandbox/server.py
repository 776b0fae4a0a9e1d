"""A pool behind a socket file, for who runs elsewhere: a container without a network shares a folder and nothing more.

    python -m sandbox.server serve /run/sandbox/pool.sock --workers 4
    python -m sandbox.server ask /run/sandbox/pool.sock         a health check: one program really judged

One JSON object a line each way, over a Unix socket; a connection has one question open at a time, `RemotePool`
(client.py) opens one a thread. A question is {"call": "run" | "outputs", ...}, its answer {"result": ...} or
{"error": ..., "kind": ...}. Not covered: a caller that goes away does not end the test that runs for it; it ends at its
own limits. Whoever can open the file may ask: keep the folder to those who may.
"""

from __future__ import annotations

import json
import signal
import socketserver
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sandbox.model import Comparison, Limits, Program, Test
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
        return {"result": _result(pool, json.loads(line))}
    except Cancelled as error:
        return {"error": str(error), "kind": "cancelled"}
    except (ValueError, KeyError, TypeError) as error:
        return {"error": str(error), "kind": "bad question"}


def _result(pool: Pool, question: dict[str, Any]) -> Any:
    program, limits = Program(**question["program"]), Limits(**question["limits"]) if question["limits"] else None
    if question["call"] == "about":
        return {"tier": pool.tier}
    if question["call"] == "outputs":
        return [list(output) for output in pool.outputs(program, question["stdins"], limits)]
    compared = question["comparison"]
    checker = Program(**compared["checker"]) if compared["checker"] else None
    result = pool.run(
        program,
        [Test(*test) for test in question["tests"]],
        limits,
        question["early_stop"],
        comparison=Comparison(**(compared | {"checker": checker})),
        profile=question["profile"],
    )
    return asdict(result)


def serve(path: Path, workers: int) -> None:
    """Until SIGTERM or SIGINT. Raises: SandboxUnavailable when no isolation holds here."""
    with Pool(workers) as pool, SandboxServer(path, pool) as server:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: sys.exit(0))
        print(f"sandbox: tier {pool.tier}, {workers} workers, at {path}", flush=True)
        try:
            server.serve_forever()
        finally:
            path.unlink(missing_ok=True)


def main(arguments: list[str]) -> int:
    match arguments:
        case ["serve", path, "--workers", workers]:
            serve(Path(path), int(workers))
            return 0
        case ["ask", path]:
            from sandbox.client import RemotePool

            with RemotePool(Path(path)) as pool:
                verdict = pool.run(Program("print(int(input()) + 1)"), [Test("1", "2")]).verdict
            print(f"tier {pool.tier}: {verdict}")
            return int(verdict != "ok")
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
