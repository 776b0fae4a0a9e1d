"""`vllm serve` as a child of ours: started on a free loopback port, ended with all its processes, never an orphan."""

import json
import logging
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from promptcot_assets.inference import guardian
from promptcot_assets.inference.engine import EngineError, EngineSettings

logger = logging.getLogger(__name__)

LOG_EVERY_S = 10.0
LAST_LINES = 25  # of the server's log, in the error when it ends
END_WAIT_S = guardian.GRACE_S + 10.0


class VllmServer:
    """A running `vllm serve`. It does not wait until it is ready: that is when its models are listed.

    Start it from the thread that outlives its use: it ends when that thread does. Raises: EngineError when there is no
    `vllm` beside this Python.
    """

    def __init__(self, model: Path, arguments: Mapping[str, Any]) -> None:
        """arguments: vLLM's engine and server arguments by their Python names."""
        binary = Path(sys.executable).with_name("vllm")
        if not binary.is_file():
            raise EngineError(
                f"engine.server.urls is empty and there is no {binary}: install the extra `gpu` into this environment, "
                "or name the addresses of a server that runs elsewhere"
            )
        self.model = model
        self.key = secrets.token_urlsafe(24)  # other users of this machine can reach the port too
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}/v1"
        self._log = tempfile.NamedTemporaryFile(prefix="vllm-serve-", suffix=".log")  # noqa: SIM115 - ours until `close`
        self._began = self._logged = time.monotonic()
        command = [str(binary), "serve", str(model), "--host", "127.0.0.1", "--port", str(port), *flags(arguments)]
        self._process: subprocess.Popen[bytes] | None = subprocess.Popen(
            [sys.executable, guardian.__file__, *command],
            stdin=subprocess.PIPE,  # closed with us
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # an interrupt at the terminal is for us to pass on
            env=os.environ
            | {"VLLM_API_KEY": self.key, "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"},
        )

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def ended(self) -> str | None:
        """Why it is gone, with the end of its log; None while it runs. Asked while we wait, so it logs that we do."""
        if self._process is None:
            return "the server was ended"
        code = self._process.poll()
        if code is not None:
            return f"vllm serve {self.model} ended with exit code {code}; the end of its log:\n{self._tail(LAST_LINES)}"
        now = time.monotonic()
        if now - self._logged >= LOG_EVERY_S:
            self._logged = now
            logger.info("vllm serve %s: %.0f s, %s", self.model, now - self._began, self._tail(1))
        return None

    def close(self) -> None:
        """Return when no process of it is left."""
        process, self._process = self._process, None
        if process is None:
            return
        process.stdin.close()  # type: ignore[union-attr]
        try:
            process.wait(END_WAIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _tail(self, lines: int) -> str:
        return "\n".join(Path(self._log.name).read_text(errors="replace").splitlines()[-lines:])


def serve_arguments(settings: EngineSettings) -> dict[str, Any]:
    """What a server of ours is started with, by vLLM's own names."""
    vllm = settings.vllm
    return {
        "dtype": settings.dtype,
        "max_model_len": settings.max_model_len,
        "tensor_parallel_size": vllm.tensor_parallel,
        "gpu_memory_utilization": vllm.gpu_memory_share,
        "max_num_seqs": vllm.max_running,
        "enable_prefix_caching": vllm.prefix_caching,
        "enforce_eager": vllm.enforce_eager,
        **vllm.arguments,
        "data_parallel_size": settings.server.data_parallel,
        "generation_config": "vllm",  # not the checkpoint's sampling defaults, above all no limit of its own
        "enable_prompt_tokens_details": True,  # what the prefix cache spared
        "disable_uvicorn_access_log": True,
    }


def flags(arguments: Mapping[str, Any]) -> list[str]:
    """Python arguments as vllm serve's flags: True and False as --x and --no-x, mappings as JSON, None left out."""
    words: list[str] = []
    for name, value in arguments.items():
        flag = name.replace("_", "-")
        if value is None:
            continue
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, Mapping):
            words += [f"--{flag}", json.dumps(dict(value))]
        elif isinstance(value, list | tuple):
            words += [f"--{flag}", *map(str, value)]
        else:
            words += [f"--{flag}", str(value)]
    return words


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
