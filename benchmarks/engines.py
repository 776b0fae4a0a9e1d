"""Every engine on one checkpoint: tokens a second sampled and scored, as ratios to the embedded transformers engine.

    python -m benchmarks.engines [ROUNDS] [MODEL]

MODEL is a checkpoint's folder; without it, one of 0.5M weights from scratch, as in the demo. Engines that are not
installed here are named and left out: for `vllm` and `server` on a CPU run it in the environment of `make setup-vllm`
(`.venv-vllm/bin/python -m benchmarks.engines`), on a GPU in the one with the extra `gpu`.

Loading and a first call are not counted. The engines run one after the other, each with its ROUNDS, of which the best
counts; then comes the next, since two would not fit a device. By the wall clock, so for an idle machine; where it is
shared, the CPU time of this process and its descendants beside it tells more (Ray's processes are not descendants).
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch is imported

import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.engine import Size, texts
from promptcot_assets.inference import InferenceEngine, SamplingParams, open_engine
from promptcot_assets.settings.engines import Engine
from promptcot_assets.stages.base_models import from_scratch

PROMPTS, NEW_TOKENS, SEEDS, K = 256, 96, 64, 8
TICKS = os.sysconf("SC_CLK_TCK")
ON_GPU = torch.cuda.is_available()
# on a CPU: no compilation, and blocks of the prefix cache as short as vLLM's attention allows there
ON_CPU: dict[str, Any] = {"enforce_eager": True, "kv_cache_gib": 0.5, "arguments": {"block_size": 32}}
ENGINES: dict[str, dict[str, Any]] = {
    "transformers": {},
    "vllm": {},
    "server": {},
    "ray": {"ray": {"engine": "transformers", "actors": 1, "gpus_an_actor": 1.0 if ON_GPU else 0.0}},
}
NEEDS = {"vllm": "vllm", "server": "vllm", "ray": "ray"}


@dataclass(frozen=True)
class Rate:
    """Tokens a second by the wall clock, and of CPU time."""

    wall: float
    cpu: float


def descendants() -> Iterator[int]:
    """This process and all below it."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            children.setdefault(int(stat.read_text().rpartition(")")[2].split()[1]), []).append(int(stat.parent.name))
    waiting = [os.getpid()]
    while waiting:
        yield (pid := waiting.pop())
        waiting += children.get(pid, [])


def cpu_seconds() -> float:
    total = 0
    for pid in descendants():
        with suppress(FileNotFoundError, ProcessLookupError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])  # user and system, of all its threads
    return total / TICKS


def best(rounds: int, work: Callable[[], int]) -> Rate:
    rates = []
    for _ in range(rounds):
        began, cpu = time.perf_counter(), cpu_seconds()
        tokens = work()
        rates.append(Rate(tokens / (time.perf_counter() - began), tokens / max(cpu_seconds() - cpu, 1 / TICKS)))
    return Rate(max(rate.wall for rate in rates), max(rate.cpu for rate in rates))


def measured(engine: InferenceEngine, rounds: int) -> tuple[Rate, Rate]:
    """Sampling and scoring."""
    prompts, seeds = texts(PROMPTS, 1, 10, 30), texts(SEEDS, 2, 20, 40)
    prefixes = [prompt for prompt in seeds for _ in range(K)]
    continuations = [f" {text}" for text in texts(SEEDS * K, 3, 15, 40)]

    def sample() -> int:
        params = SamplingParams(max_new_tokens=NEW_TOKENS)
        return sum(one.tokens for many in engine.generate(prompts, params) for one in many)

    def score() -> int:
        return sum(len(one.logprobs) for one in engine.score(prefixes, continuations))

    engine.generate(prompts[:8], SamplingParams(max_new_tokens=8))
    engine.score(prefixes[:8], continuations[:8])
    return best(rounds, sample), best(rounds, score)


def compare(model: Path, rounds: int) -> None:
    vllm = {} if ON_GPU else ON_CPU
    base: tuple[Rate, Rate] | None = None
    print(f"{'':<14}{'':<10}{'tokens/s':>10}{'ratio':>8}{'tokens/CPU s':>14}{'ratio':>8}")
    for name, changed in ENGINES.items():
        if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
            print(f"{name:<14}not measured: no {NEEDS[name]} in {sys.prefix}")
            continue
        settings = Engine.model_validate(
            {"name": name, "dtype": "auto" if ON_GPU else "float32", "vllm": vllm} | changed
        )
        with open_engine(settings, model) as engine:
            found = measured(engine, rounds)
        base = base or found
        for what, rate, peer in zip(("sampled", "scored"), found, base, strict=True):
            cpu = "-" if name == "ray" else f"{rate.cpu:,.0f}"
            ratio = "-" if name == "ray" else f"{rate.cpu / peer.cpu:.2f}x"
            print(
                f"{name:<14}{what:<10}{rate.wall:>10,.0f}{rate.wall / peer.wall:>7.2f}x{cpu:>14}{ratio:>8}", flush=True
            )


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        model = Path(sys.argv[2]) if len(sys.argv) > 2 else from_scratch(texts(500, 0, 5, 40), Size(), Path(name) / "m")
        compare(model, rounds)


if __name__ == "__main__":
    main()
