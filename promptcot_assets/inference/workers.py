"""Processes that each hold a `LanguageModel` and work on batches.

They come from a fork server that has already imported torch and transformers, so every pool but the first starts in a
fraction of a second. The server itself stays for the life of the parent (it holds no model and no device); a worker
ends with its pool, or with its parent, whichever ends first.
"""

import gc
import os
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import ModuleType
from typing import Any

from promptcot_assets.inference.language_model import Batch, LanguageModel
from promptcot_assets.inference.protocol import EngineError, EngineLost

# passive: an idle OpenMP thread that spins takes the core from the next worker (measured: up to six times slower).
# MALLOC: glibc keeps the memory of freed tensors instead of asking the kernel for cleared pages in every layer
# (measured: scoring in batches of 32 gains a sixth). It dies with the worker.
WORKER_ENVIRONMENT = {
    "OMP_WAIT_POLICY": "passive",
    "TOKENIZERS_PARALLELISM": "false",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
}
END_WAIT_S = 5.0  # for a worker told to end; a busy one is killed


@dataclass(frozen=True)
class ModelSpec:
    """What a worker needs to load the model; `model_type` is the Hugging Face family, imported ahead by the server."""

    folder: Path
    model_type: str
    threads: int
    dtype: str
    devices: tuple[str, ...]  # worker i takes devices[i % len(devices)]


class LocalModel:
    """The model in this process: what a pool of one does, without the process."""

    def __init__(self, spec: ModelSpec) -> None:
        try:
            self._model: LanguageModel | None = LanguageModel(spec.folder, spec.threads, spec.dtype, spec.devices[0])
        except (OSError, ValueError, RuntimeError, ImportError) as error:
            raise EngineError(f"cannot load {spec.folder}: {type(error).__name__}: {error}") from error

    def run(self, batches: Sequence[Batch], what: str) -> list[Any]:
        if self._model is None:
            raise EngineError("the engine is closed; open it again to use it")
        results = []
        for number, batch in enumerate(batches):
            try:
                results.append(self._model.run(batch))
            except RuntimeError as error:  # torch's own: out of memory, a device gone
                raise EngineError(f"{what}: batch {number + 1} of {len(batches)} failed: {error}") from error
        return results

    def close(self) -> None:
        on_gpu = self._model is not None and self._model.device != "cpu"
        self._model = None
        if on_gpu:
            import torch

            gc.collect()
            torch.cuda.empty_cache()  # give the memory back to the device, not only to torch


class WorkerPool:
    """`count` workers. Raises EngineError when a worker cannot load the model, fails on a batch or dies."""

    def __init__(self, spec: ModelSpec, count: int) -> None:
        self._workers: list[tuple[ForkServerProcess, connection.Connection]] = []
        context = get_context("forkserver")
        with _environment(WORKER_ENVIRONMENT), _no_main_module():
            context.set_forkserver_preload(_preload(spec.model_type))
            try:
                for number in range(count):
                    ours, theirs = context.Pipe()
                    process = context.Process(
                        target=_serve, args=(theirs, spec, number), name=f"promptcot-worker-{number}", daemon=True
                    )
                    process.start()
                    theirs.close()
                    self._workers.append((process, ours))
                for number in range(count):
                    self._receive(number, f"loading {spec.folder}")
            except BaseException:
                self.close()
                raise

    def run(self, batches: Sequence[Batch], what: str) -> list[Any]:
        """The results of `batches`, in order. Any failure closes the pool: nothing is returned in part."""
        if not self._workers:
            raise EngineError("the engine is closed; open it again to use it")
        results: list[Any] = [None] * len(batches)
        waiting = list(range(len(batches)))  # taken from the end: the longest rows first, so that no worker ends late
        busy: dict[int, int] = {}
        try:
            while waiting or busy:
                for number in range(len(self._workers)):
                    if number not in busy and waiting:
                        busy[number] = waiting.pop()
                        self._send(number, batches[busy[number]], _name(what, busy[number], batches))
                ready = connection.wait([self._workers[number][1] for number in busy])
                for number in [number for number in busy if self._workers[number][1] in ready]:
                    index = busy.pop(number)
                    results[index] = self._receive(number, _name(what, index, batches))
        except BaseException:
            self.close()
            raise
        return results

    def _send(self, number: int, batch: Batch, what: str) -> None:
        try:
            self._workers[number][1].send(batch)
        except OSError as error:
            raise self._died(number, what) from error

    def _receive(self, number: int, what: str) -> Any:
        try:
            ok, value = self._workers[number][1].recv()
        except (EOFError, OSError) as error:
            raise self._died(number, what) from error
        if not ok:
            raise EngineError(f"worker {number} failed while {what}:\n{value}")
        return value

    def _died(self, number: int, what: str) -> EngineLost:
        process = self._workers[number][0]
        process.join(END_WAIT_S)
        return EngineLost(
            f"worker {number} (pid {process.pid}) died while {what}: exit code {process.exitcode}; "
            "-9 is most often the kernel out of memory: fewer engine.workers or a smaller engine.batch_size need less"
        )

    def close(self) -> None:
        """End every worker and wait until it is gone."""
        workers, self._workers = self._workers, []
        for _, pipe in workers:
            pipe.close()
        for process, _ in workers:
            process.terminate()
        for process, _ in workers:
            process.join(END_WAIT_S)
            if process.exitcode is None:
                process.kill()
                process.join()
            process.close()


def _name(what: str, index: int, batches: Sequence[Batch]) -> str:
    return f"{what}: batch {index + 1} of {len(batches)}"


def _serve(pipe: connection.Connection, spec: ModelSpec, number: int) -> None:
    """A worker's life: load, say so, answer batches until the pipe ends."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.update(WORKER_ENVIRONMENT)
    try:
        model = LanguageModel(spec.folder, spec.threads, spec.dtype, spec.devices[number % len(spec.devices)])
        pipe.send((True, None))
        while True:
            pipe.send((True, model.run(pipe.recv())))
    except (EOFError, BrokenPipeError):
        return  # the pool has closed
    except Exception:  # noqa: BLE001 - whatever it is, the parent raises it
        pipe.send((False, traceback.format_exc()))


def _end_with_parent() -> None:
    """Leave at once when the parent is gone, even in the middle of a batch.

    Not PR_SET_PDEATHSIG: the kernel would watch a worker's Unix parent, which is the fork server.
    """
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _preload(model_type: str) -> list[str]:
    return [
        "torch",
        "transformers.models.auto.modeling_auto",
        "transformers.models.auto.tokenization_auto",
        "transformers.generation",
        "transformers.modeling_utils",
        f"transformers.models.{model_type}.modeling_{model_type}",
        "promptcot_assets.inference.language_model",
    ]


@contextmanager
def _no_main_module() -> Iterator[None]:
    """Hide the main program while workers start: multiprocessing would run it again in each of them.

    Under Dagster that is its whole command line; in a script without a main guard it is the script.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set while the server starts: OpenMP reads its variables when torch is imported."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
