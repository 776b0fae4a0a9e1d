"""vLLM in a process of its own: what runs there, and what is said over the pipe. Started by `vllm_engine.py`.

    python -c 'from promptcot_assets.inference.vllm_process import main; main()' PIPE PARENT

The process leads a process group of its own, which holds all that vLLM starts. It ends the group when its parent is
gone (a pidfd tells it at once), so nothing is left on a device even when the parent was killed by SIGKILL.
"""

import os
import select
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptcot_assets.inference.protocol import SamplingParams
from promptcot_assets.inference.refusals import REFUSED, Refusal

if TYPE_CHECKING:
    from vllm.outputs import RequestOutput


@dataclass(frozen=True)
class Spec:
    """What is loaded. arguments: vLLM's `EngineArgs` by their names; adapter: a LoRA folder, for every request."""

    arguments: dict[str, Any]
    adapter: str | None


@dataclass(frozen=True)
class Started:
    accelerators: int  # devices held; 0 on a CPU


@dataclass(frozen=True)
class Sample:
    """Rows to sample, one a completion."""

    prompts: list[list[int]]
    seeds: list[int]
    limits: list[int]
    end_tokens: list[int]
    params: SamplingParams

    def __len__(self) -> int:
        return len(self.prompts)


@dataclass(frozen=True)
class Sampled:
    ids: list[int]  # the end token included
    finish_reason: str
    logprob: float
    cached: int  # prompt tokens that the prefix cache held


@dataclass(frozen=True)
class Score:
    prefixes: list[list[int]]
    continuations: list[list[int]]

    def __len__(self) -> int:
        return len(self.prefixes)


@dataclass(frozen=True)
class Scored:
    logprobs: list[float]
    cached: int


@dataclass(frozen=True)
class Failed:
    """A call, or the start, that came to nothing."""

    why: str


Call = Sample | Score


def main() -> None:
    pipe, parent = Connection(int(sys.argv[1])), int(sys.argv[2])
    os.set_inheritable(pipe.fileno(), False)  # its end is how the parent learns of ours
    end_group_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt at the terminal is the parent's to act on
    code = 1
    try:
        code = run(pipe)
    except BaseException:  # noqa: BLE001 - the parent quotes it from the log
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # the interpreter's own end waits in the destructors of vLLM's libraries, for good


def run(pipe: Connection) -> int:
    """Load what the parent says and answer its calls; the exit code."""
    spec: Spec = pipe.recv()
    try:
        host = Host(spec)
    except Exception:  # noqa: BLE001 - whatever it is, the parent raises it
        pipe.send(Failed(traceback.format_exc()))
        return 1
    pipe.send(Started(host.accelerators))
    try:
        host.serve(pipe)
    finally:
        host.close()
    return 0


def end_group_with(parent: int) -> None:
    """Kill this process's group as soon as `parent` is gone, whatever the main thread is doing."""
    watched = os.pidfd_open(parent)
    if os.getppid() != parent:  # it was gone before it could be watched
        os._exit(1)

    def watch() -> None:
        select.select([watched], [], [])
        kill_group(os.getpgrp())

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()


def kill_group(group: int) -> None:
    """SIGKILL for every process of a group, this one last, save Python's resource trackers.

    Those unlink the shared memory that the dead cannot, and end by themselves.
    """
    me = os.getpid()
    for pid in sorted(alive_in(group), key=lambda pid: pid == me):
        with suppress(FileNotFoundError, ProcessLookupError):
            if "resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_text():
                os.kill(pid, signal.SIGKILL)


def alive_in(group: int) -> list[int]:
    """The processes of a process group. A zombie is dead: it holds nothing but a row of the process table."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            state, _, its_group = stat.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state != "Z":
                found.append(int(stat.parent.name))
    return found


@dataclass
class Running:
    """A call whose rows are in the engine."""

    call: Call
    done: dict[int, Sampled | Scored | Refusal] = field(default_factory=dict)


class Host:
    """The engine and the calls in it. Rows of several calls run together; a call is answered when its last is done."""

    def __init__(self, spec: Spec) -> None:
        from vllm.platforms import current_platform

        on_cpu = current_platform.is_cpu()
        if on_cpu:
            # one process: nothing to overlap with, and its threads are what the environment says
            os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")

        from vllm.engine.arg_utils import EngineArgs
        from vllm.lora.request import LoRARequest
        from vllm.v1.engine.llm_engine import LLMEngine

        self.engine = LLMEngine.from_engine_args(EngineArgs(**spec.arguments))
        self.accelerators = 0 if on_cpu else self.engine.vllm_config.parallel_config.world_size
        self._over = False
        self._end_with_core()
        self._running: dict[int, Running] = {}
        self._adapter = LoRARequest("adapter", 1, spec.adapter) if spec.adapter else None
        if self._adapter:
            self.engine.add_lora(self._adapter)  # now, so that a broken one is an error of the start

    def serve(self, pipe: Connection) -> None:
        """Answer calls until the parent says that it is over (None)."""
        while True:
            while not self._running or pipe.poll():
                message = pipe.recv()
                if message is None:
                    return
                number, call = message
                self._running[number] = Running(call)
                self._add(number)
                self._answer(pipe, number, None)
            for output in self.engine.step():
                if output.finished:
                    number = int(output.request_id.partition("/")[0])
                    if number in self._running:
                        self._answer(pipe, number, self._take(number, output))

    def close(self) -> None:
        self._over = True
        self.engine.engine_core.shutdown()

    def _end_with_core(self) -> None:
        """Where vLLM's engine core is a process of its own: end when it does, as the parent then learns.

        vLLM's client waits for good for the answer of a core that was killed.
        """
        resources = getattr(self.engine.engine_core, "resources", None)
        cores = resources.engine_manager.processes if resources and resources.engine_manager else []

        def watch() -> None:
            wait([core.sentinel for core in cores])
            if not self._over:
                print(f"vLLM's engine core ended with exit code {[core.exitcode for core in cores]}", flush=True)
                kill_group(os.getpgrp())

        if cores:
            threading.Thread(target=watch, name="end-with-core", daemon=True).start()

    def _answer(self, pipe: Connection, number: int, failed: Failed | None) -> None:
        """Send what the call came to, if it is over."""
        running = self._running[number]
        if failed:
            self.engine.abort_request([f"{number}/{row}" for row in range(len(running.call))])
            pipe.send((number, failed))
        elif len(running.done) == len(running.call):
            pipe.send((number, [running.done[row] for row in range(len(running.call))]))
        else:
            return
        del self._running[number]

    def _add(self, number: int) -> None:
        """Hand all rows of a call to the engine; one that it refuses is done, and the others run."""
        from vllm.exceptions import VLLMError

        running = self._running[number]
        for row in range(len(running.call)):
            try:
                self._add_row(number, row, running.call, share=True)
            except (VLLMError, ValueError) as error:
                running.done[row] = Refusal(REFUSED, f"vLLM refuses row {row}: {error}")

    def _add_row(self, number: int, row: int, call: Call, share: bool) -> None:
        from vllm import SamplingParams as VllmParams
        from vllm.inputs.engine import tokens_input
        from vllm.sampling_params import RequestOutputKind

        if isinstance(call, Sample):
            ids = call.prompts[row]
            params = VllmParams(
                temperature=call.params.temperature,
                top_p=call.params.top_p,
                seed=call.seeds[row],
                max_tokens=call.limits[row],
                stop=list(call.params.stop),
                stop_token_ids=call.end_tokens,
                detokenize=bool(call.params.stop),  # the texts are made by the parent, as for every engine
                logprobs=0,  # of the sampled token alone
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
        else:
            ids = call.prefixes[row] + call.continuations[row]
            params = VllmParams(
                temperature=0,
                max_tokens=1,
                detokenize=False,
                prompt_logprobs=0,
                skip_reading_prefix_cache=not share,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
        self.engine.add_request(f"{number}/{row}", tokens_input(ids), params, lora_request=self._adapter)

    def _take(self, number: int, output: "RequestOutput") -> Failed | None:
        """Put a finished row at its place. A row to score whose scores the cache hid is asked for again without it."""
        running, row = self._running[number], int(output.request_id.partition("/")[2])
        (one,) = output.outputs
        cached = output.num_cached_tokens or 0
        if one.finish_reason not in ("stop", "length"):
            return Failed(f"row {row}: vLLM ended it with reason {one.finish_reason!r}")
        if isinstance(running.call, Sample):
            running.done[row] = Sampled(list(one.token_ids), one.finish_reason, float(one.cumulative_logprob), cached)
            return None
        prefix, continuation = running.call.prefixes[row], running.call.continuations[row]
        if cached >= len(prefix):
            # The cache reaches into the continuation. vLLM scores a token from the state of the one before it, and a
            # cached token has none: those scores are missing (or worse, whatever the memory held).
            self._add_row(number, row, running.call, share=False)
            return None
        running.done[row] = Scored(list(_last_scores(output, continuation)), cached)
        return None


def _last_scores(output: "RequestOutput", continuation: list[int]) -> Iterator[float]:
    """Log-probabilities of the prompt's last tokens. vLLM's list starts wherever the cached beginning ended."""
    scores = output.prompt_logprobs[-len(continuation) :]
    for token, by_token in zip(continuation, scores, strict=True):
        yield float(by_token[token].logprob)
