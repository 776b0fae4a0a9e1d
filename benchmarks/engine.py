"""What our decode loop gains over the obvious way, on a tiny model (0.5M weights, as in the demo). Scoring: scoring.py.

    python benchmarks/engine.py [ROUNDS]

Sampling against `generate` of transformers at the same batch size, the SFT trainer against a bare loop over the same
batches. Peers run alternately in one process, on one thread, in CPU time (the cores are shared); the best of ROUNDS
counts. Prints ratios, rates only beside them.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch is imported

import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from promptcot_assets.inference import SamplingParams
from promptcot_assets.inference.transformers_engine import TransformersEngine
from promptcot_assets.stages.base_models import from_scratch
from training import sft
from training.rows import length_grouped_order, sft_rows

PROMPTS, NEW_TOKENS, STEPS = 256, 96, 60
WORDS = ["let", "A", "be", "the", "root", "of", "and", "find", "sum", "average", "share", "percent", "ratio", "when"]


@dataclass(frozen=True)
class Size:
    hidden_size: int = 128
    intermediate_size: int = 384
    layers: int = 2
    heads: int = 4
    vocab_size: int = 512
    max_position: int = 512
    seed: int = 0


def texts(count: int, seed: int, shortest: int, longest: int) -> list[str]:
    rng = random.Random(seed)
    words = [*WORDS, *map(str, range(99))]
    return [" ".join(rng.choices(words, k=rng.randint(shortest, longest))) for _ in range(count)]


def best(rounds: int, *peers: Callable[[], int]) -> list[float]:
    """Tokens a CPU second of each peer, which take turns."""
    rates = [0.0] * len(peers)
    for _ in range(rounds):
        for index, peer in enumerate(peers):
            start = time.process_time()
            tokens = peer()
            rates[index] = max(rates[index], tokens / (time.process_time() - start))
    return rates


def show(name: str, ours: float, peer: float) -> None:
    print(f"{name:<58} {ours / peer:5.2f}x   ({ours:,.0f} against {peer:,.0f} tokens a CPU second)")


def sampling(model: Path, rounds: int) -> None:
    prompts = texts(PROMPTS, 1, 10, 30)
    reference, tokenizer = AutoModelForCausalLM.from_pretrained(model).eval(), AutoTokenizer.from_pretrained(model)
    for batch_size, n in ((128, 1), (256, 1), (256, 8)):
        with TransformersEngine(model, batch_size=batch_size) as engine:
            params = SamplingParams(max_new_tokens=NEW_TOKENS, n=n)
            asked = prompts[: PROMPTS // n]

            def ours(asked: list[str] = asked, params: SamplingParams = params) -> int:
                return sum(one.tokens for many in engine.generate(asked, params) for one in many)

            def peer(asked: list[str] = asked, n: int = n, batch_size: int = batch_size) -> int:
                rows = sorted((prompt for prompt in asked for _ in range(n)), key=len)
                tokens = 0
                for start in range(0, len(rows), batch_size):
                    batch = tokenizer(
                        rows[start : start + batch_size], padding=True, padding_side="left", return_tensors="pt"
                    )
                    with torch.inference_mode():
                        whole = reference.generate(**batch, do_sample=True, top_k=0, max_new_tokens=NEW_TOKENS)
                    tokens += int((whole[:, batch["input_ids"].shape[1] :] != tokenizer.pad_token_id).sum())
                return tokens

            show(f"sampling, {batch_size} rows, {n} a prompt / generate", *best(rounds, ours, peer))


def training(model: Path, folder: Path, rounds: int) -> None:
    prompts, completions = texts(16 * STEPS, 4, 5, 15), [f" {text}" for text in texts(16 * STEPS, 5, 15, 40)]
    data = folder / "data.parquet"
    pq.write_table(pa.table({"prompt": prompts, "completion": completions}), data)
    tokenizer = AutoTokenizer.from_pretrained(model)
    columns = sft_rows(data, tokenizer, None, folder / "rows").data.to_dict()
    lengths = [len(ids) for ids in columns["input_ids"]]
    from trl import SFTTrainer  # noqa: F401 - imported before the clock starts

    def ours() -> int:
        run = Path(tempfile.mkdtemp(dir=folder))
        spec = {"base": str(model), "data": str(data), "output": str(run / "model"), "checkpoints": str(run / "ck")}
        arguments = {"per_device_train_batch_size": 16, "num_train_epochs": 1, "learning_rate": 2e-3}
        (run / "spec.json").write_text(json.dumps({**spec, "arguments": arguments}))
        sft.main(["sft", str(run / "spec.json")])
        return sum(lengths)

    def peer() -> int:
        bare = AutoModelForCausalLM.from_pretrained(model).train()
        optimizer = torch.optim.AdamW(bare.parameters(), lr=2e-3, fused=True)
        order = length_grouped_order(lengths, 16, 0, 0)
        for start in range(0, len(order), 16):
            rows = order[start : start + 16]
            longest = max(lengths[row] for row in rows)
            pads = {"input_ids": 0, "labels": -100}
            ids, labels = (
                torch.tensor([columns[name][row] + [pad] * (longest - lengths[row]) for row in rows])
                for name, pad in pads.items()
            )
            hidden = bare.model(input_ids=ids).last_hidden_state[:, :-1]
            learned = labels[:, 1:] != -100
            loss = torch.nn.functional.cross_entropy(bare.lm_head(hidden[learned]), labels[:, 1:][learned])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(bare.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        return sum(lengths)

    stdout, sys.stdout = sys.stdout, sys.stderr  # the trainer's own lines
    try:
        rates = best(rounds, ours, peer)
    finally:
        sys.stdout = stdout
    show(f"SFT, {STEPS} steps of 16 rows, set-up and saving too / bare loop", *rates)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = from_scratch(texts(500, 0, 5, 40), Size(), folder / "model")
        sampling(model, rounds)
        training(model, folder, rounds)


if __name__ == "__main__":
    main()
