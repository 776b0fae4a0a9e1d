"""A running `dagster dev` of a home: webserver, daemon and code server, as `make ui` starts them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.assets.arc_runs import DAGSTER, ROOT, environment

START_S = 180.0
POLL_S = 0.5


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class DagsterDev:
    """`dagster dev` on loopback. `stop` ends it gently; `kill` ends it and all it started, runs and trainers too."""

    def __init__(self, home: Path, port: int | None = None, **more: str) -> None:
        """`more`: further environment variables, such as another PROMPTCOT_PROFILE."""
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = home / "dev.log"
        with self.log.open("a") as log:
            # not through a shell's `&`: a background job ignores SIGINT, and Dagster stops on nothing else
            self._process = subprocess.Popen(
                [*DAGSTER, "dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(self.port)],
                cwd=ROOT, env=environment(home, **more), stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip

    def ask(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """The data of a GraphQL answer."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["data"]

    def wait_until_up(self) -> None:
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            try:
                self.ask("query { version }", {})
                return
            except (urllib.error.URLError, ConnectionError):
                time.sleep(POLL_S)
        raise TimeoutError(f"dagster dev did not come up:\n{self.printed()}")

    def printed(self) -> str:
        """The end of what its processes printed."""
        return self.log.read_text()[-4000:]

    def stop(self) -> None:
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self.kill()

    def kill(self) -> None:
        """kill -9 of the whole session: webserver, daemon, code servers, runs, steps, trainers."""
        while alive := _session(self._process.pid):
            for pid in alive:
                with contextlib.suppress(ProcessLookupError):  # it ended meanwhile
                    os.kill(pid, signal.SIGKILL)
        self._process.wait()


def _session(leader: int) -> list[int]:
    """Living processes of the session that `leader` began, whatever has become of their parents."""
    pids = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
        except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            continue
        if int(session) == leader and state != "Z":
            pids.append(int(stat.parent.name))
    return pids
