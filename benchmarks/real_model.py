"""What our ways on a CPU are worth for a model of SmolLM2-135M's shape: training and the E-step.

    python -m benchmarks.real_model [--gguf FILE] [--tiny] [--rounds N]

Training: tokens a CPU second of `training.sft` as it is, in bf16, with 4 rows a step as the profile smollm2_135m has it
and with 8, against the way before it (float32 and TRL's own output layer). A run of some steps less a run of one, so
that start and end do not count; CPU seconds, because the cores are shared. E-step: tokens sampled and scored a second
of the clock, on an idle machine, on the same prompts and seeds: one process of all cores in float32, as it was before,
and as the profile has it, a process on every core in whatever this CPU computes fastest; beside it how far the sums of
log-probabilities of one and the same text are apart, which is what bfloat16 costs. The ways take turns and the best of
ROUNDS counts. Without --gguf the weights are random: the time is the same, and the differences of log-probabilities are
those of a model that knows nothing. --tiny is a model of a moment, so that CI notices when this can no longer run.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch is imported

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.training import SFT, SMOLLM2_135M, Task, Way, random_model, speeds, texts
from promptcot_assets.settings import load_settings
from promptcot_assets.settings.engines import Engine
from promptcot_assets.settings.machine import cores

ROWS, STEPS, K, SEEDS = 64, 3, 4, 32
BEFORE = "import sys; from training import output_layer, sft; output_layer.LARGE = sys.maxsize; sft.main(sys.argv)"
WAYS = {
    "before: float32, 4 rows a step": Way((sys.executable, "-c", BEFORE), {"per_device_train_batch_size": 4}),
    "bf16, 4 rows a step": Way(SFT, {"per_device_train_batch_size": 4, "bf16": True}),
    "bf16, 8 rows a step": Way(SFT, {"per_device_train_batch_size": 8, "bf16": True}),
}


def model(folder: Path, gguf: Path | None, tiny: bool) -> Path:
    """A folder of the model: of the GGUF file, else random weights in the shape of SmolLM2-135M."""
    from promptcot_assets.stages.gguf import from_gguf, sha256_of

    if gguf:
        return from_gguf(gguf, sha256_of(gguf), folder)
    return random_model(folder, (64, 128, 2, 4, 2, 320) if tiny else SMOLLM2_135M)


def training(base: Path, rounds: int) -> dict[str, tuple[float, float]]:
    """By way: tokens a CPU second, 0 where the steps were too short to tell, and the peak in GiB."""
    task = Task(base, texts(ROWS, 1), texts(ROWS, 2), STEPS, {"learning_rate": 1e-5, "max_length": 512})
    found = speeds(task, WAYS, rounds)
    return {way: (one.speed, one.whole["figures"]["peak_gib"]) for way, one in found.items()}


def engines() -> dict[str, Engine]:
    """How the E-step's engine is opened: as the profile smollm2_135m has it, and as it was before."""
    own = load_settings("smollm2_135m").engine
    before = {"dtype": "float32", "workers": 1, "threads": cores(), "batch_size": 128, "score_batch_size": 32}
    ways = (own.model_copy(update=before), own)
    return {f"{one.dtype}, {one.workers} x {one.threads} threads": one for one in ways}


def e_step(base: Path, rounds: int, tiny: bool) -> dict[str, tuple[float, list[float]]]:
    """By way: tokens sampled and scored a second, and the log-probabilities of texts that all score alike."""
    from promptcot_assets.inference import SamplingParams
    from promptcot_assets.inference.transformers_engine import TransformersEngine

    seeds = 2 if tiny else SEEDS
    prompts, fixed = texts(seeds, 3), texts(seeds, 4)
    params = SamplingParams(temperature=1.0, max_new_tokens=64, n=K)
    found: dict[str, tuple[float, list[float]]] = {}
    for _ in range(rounds):
        for name, settings in engines().items():
            with TransformersEngine.from_settings(base, settings) as engine:
                alone = engine.score(prompts, [f" {one}" for one in fixed])  # every process has loaded its weights
                began, before = time.perf_counter(), engine.usage
                engine.generate(prompts, params, list(range(seeds)))
                engine.score([one for one in prompts for _ in range(K)], [f" {one}" for one in fixed for _ in range(K)])
                seconds, used = time.perf_counter() - began, engine.usage
            tokens = sum(getattr(used, one) - getattr(before, one) for one in ("completion_tokens", "scored_tokens"))
            sums = [math.fsum(one.logprobs) for one in alone]
            found[name] = max(found.get(name, (0.0, sums)), (tokens / seconds, sums))
    return found


def apart(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """Mean and largest difference of sums of log-probabilities, nats."""
    gaps = [abs(a - b) for a, b in zip(first, second, strict=True)]
    return math.fsum(gaps) / len(gaps), max(gaps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf", type=Path)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--rounds", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        base = model(Path(name) / "model", asked.gguf, asked.tiny)
        found = training(base, asked.rounds)
        (old, _), *_ = found.values()
        for way, (speed, peak) in found.items():
            times = f"{speed / old:.2f}x" if old and speed else "too short to tell"
            print(f"training, {way:<32}{speed:8.0f} tokens a CPU second, {times}, peak {peak:.1f} GiB", flush=True)
        drawn = e_step(base, asked.rounds, asked.tiny)
        for way, (speed, _) in drawn.items():
            print(f"E-step, {way:<34}{speed:8.0f} tokens a second")
        (old, exact), (new, rounded) = drawn.values()
        mean, most = apart(exact, rounded)
        print(f"  {new / old:.2f}x; log p of a text {mean:.2f} nats apart, at most {most:.2f}")


if __name__ == "__main__":
    main()
