"""What a step of SFT costs beside the bare loop: `training.sft`, TRL's SFTTrainer with what is put around it, against
forward, loss, backward, clipping and AdamW on the same batches.

    python -m benchmarks.training [--small] [ROUNDS]

Both begin with the same file of texts and train the same random Llama, on one thread in float32, on the same batches
of rows of like length; their losses of the first step must agree. Counted are CPU seconds, since the cores are shared:
of a run of some steps less those of a run of one, so that start and end do not count. The ways take turns, and of
every length the cheapest of ROUNDS counts. "packed" is ours with `packing` against ours without. --small takes a model
of a moment.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.child import CHILD_ENVIRONMENT

WORDS = ["let", "find", "the", "sum", "of", "all", "positive", "integers", "such", "that", "a", "number", "is", "by"]
Shape = tuple[int, int, int, int, int, int]  # hidden, MLP, layers, heads, key-value heads, vocabulary
SMOLLM2_135M: Shape = (576, 1536, 30, 9, 3, 49_152)
SFT = (sys.executable, "-m", "training.sft")
BARE = (sys.executable, "-c", "import sys; from benchmarks.training import bare; bare(sys.argv[1])")
AGREE = 1e-3  # nats a token
TOO_SHORT_S = 0.2


@dataclass(frozen=True)
class Task:
    """What all ways of a comparison train, on which texts, and the arguments that they share."""

    base: Path
    prompts: Sequence[str]
    completions: Sequence[str]
    steps: int  # that are counted; one more is run
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Way:
    command: Sequence[str]  # the file of the spec follows
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Speed:
    """speed: tokens a CPU second, 0 where it was over too soon to tell; first, whole: what the runs of one step and of
    all steps printed."""

    speed: float
    first: dict[str, Any]
    whole: dict[str, Any]


# shape, rows a step, steps
SIZES: dict[str, tuple[Shape, int, int]] = {
    "0.5M": ((128, 384, 2, 4, 4, 512), 16, 60),
    "30M": ((512, 1536, 8, 8, 8, 8192), 8, 8),
    "135M": (SMOLLM2_135M, 4, 3),
}
SMALL: dict[str, tuple[Shape, int, int]] = {"0.5M": ((128, 384, 2, 4, 4, 512), 8, 20)}
WAYS = {
    "ours": Way(SFT, {}),
    "bare": Way(BARE, {}),
    "packed": Way(SFT, {"packing": True, "per_device_train_batch_size": 2}),
}


def random_model(folder: Path, shape: Shape) -> Path:
    """A folder of a Llama of this shape, with a tokenizer of the words of `texts`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from promptcot_assets.stages.base_models import train_tokenizer

    tokenizer = train_tokenizer(texts(200, 0), 320)
    hidden, mlp, layers, heads, groups, vocabulary = shape
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary, hidden_size=hidden, intermediate_size=mlp, num_hidden_layers=layers,
            num_attention_heads=heads, num_key_value_heads=groups, tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
        )
    ).save_pretrained(folder)  # fmt: skip
    tokenizer.save_pretrained(folder)
    return folder


def texts(count: int, seed: int, shortest: int = 30, longest: int = 110) -> list[str]:
    """Of so many words each."""
    rng = random.Random(seed)
    return [" ".join(rng.choice(WORDS) for _ in range(rng.randint(shortest, longest))) for _ in range(count)]


def bare(spec_file: str) -> None:
    """A training of `training.sft`'s spec with nothing around it; prints tokens, steps and the first step's loss."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from training.rows import length_grouped_order, sft_rows

    torch.set_num_threads(1)
    spec = json.loads(Path(spec_file).read_text())
    given, base, scratch = spec["arguments"], Path(spec["base"]), Path(spec["checkpoints"])
    scratch.mkdir()
    rows = sft_rows(Path(spec["data"]), AutoTokenizer.from_pretrained(base), given["max_length"], scratch)
    examples, size = rows.data.to_list(), given["per_device_train_batch_size"]
    order = length_grouped_order(rows.lengths("input_ids"), size, spec["seed"], 0)
    model = AutoModelForCausalLM.from_pretrained(base).train()
    optimiser = torch.optim.AdamW(model.parameters(), given["learning_rate"], fused=True)
    losses, tokens = list[float](), 0
    for step in range(given["max_steps"]):
        batch = [examples[row] for row in order[step * size : (step + 1) * size]]
        longest = max(len(row["input_ids"]) for row in batch)
        ids, labels = torch.zeros(size, longest, dtype=torch.long), torch.full((size, longest), -100)
        mask = torch.zeros_like(ids)
        for place, row in enumerate(batch):
            length = len(row["input_ids"])
            ids[place, :length], labels[place, :length] = torch.tensor(row["input_ids"]), torch.tensor(row["labels"])
            mask[place, :length] = 1
            tokens += length
        loss = model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    print(json.dumps({"tokens": tokens, "loss_curve": [[1, losses[0]]]}))


def speeds(task: Task, ways: Mapping[str, Way], rounds: int = 1) -> dict[str, Speed]:
    """By way, how fast the steps after the first are. The ways take turns; of every length the cheapest run counts."""
    seconds: dict[tuple[str, int], float] = {}
    printed: dict[tuple[str, int], dict[str, Any]] = {}
    one, all_ = 1, 1 + task.steps
    for _ in range(max(1, rounds)):
        for name, way in ways.items():
            for steps in (one, all_):
                spent, printed[name, steps] = trained(task, way, steps)
                seconds[name, steps] = min(spent, seconds.get((name, steps), spent))
    found = {}
    for name in ways:
        first, whole, spent = printed[name, one], printed[name, all_], seconds[name, all_] - seconds[name, one]
        speed = (whole["tokens"] - first["tokens"]) / spent if spent > TOO_SHORT_S else 0.0
        found[name] = Speed(speed, first, whole)
    return found


def trained(task: Task, way: Way, steps: int) -> tuple[float, dict[str, Any]]:
    """CPU seconds of a training of so many steps, and what it printed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = pa.table({"prompt": task.prompts, "completion": task.completions})
        pq.write_table(data, folder / "data.parquet")
        places = {name: str(folder / name) for name in ("output", "checkpoints")}
        arguments = {**task.arguments, **way.arguments, "max_steps": steps}
        spec = {
            "base": str(task.base),
            "data": str(folder / "data.parquet"),
            "seed": 0,
            "arguments": arguments,
            **places,
        }
        (folder / "spec.json").write_text(json.dumps(spec))
        return timed([*way.command, str(folder / "spec.json")])


def timed(command: Sequence[str]) -> tuple[float, dict[str, Any]]:
    """CPU seconds of a training, and the result that it prints last."""
    before = _children()
    done = subprocess.run(command, env=os.environ | CHILD_ENVIRONMENT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    result: dict[str, Any] = json.loads([line for line in done.stdout.splitlines() if line.startswith("{")][-1])
    return _children() - before, result


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", nargs="?", type=int, default=1)
    parser.add_argument("--small", action="store_true")
    asked = parser.parse_args()
    for name, (shape, rows, steps) in (SMALL if asked.small else SIZES).items():
        of_all = rows * (1 + steps)
        arguments = {"learning_rate": 1e-4, "lr_scheduler_type": "constant", "max_grad_norm": 1.0, "max_length": 448,
                     "per_device_train_batch_size": rows}  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            base = random_model(Path(folder) / "model", shape)
            task = Task(base, texts(of_all, 1, shortest=5, longest=100), texts(of_all, 2, shortest=5, longest=100),
                        steps, arguments)  # fmt: skip
            found = speeds(task, WAYS, asked.rounds)
        ours, alone, packed = (found[way] for way in WAYS)
        apart = abs(ours.first["loss_curve"][0][1] - alone.first["loss_curve"][0][1])
        if ours.first["tokens"] != alone.first["tokens"] or apart > AGREE:
            raise SystemExit(f"{name}: not the same steps: the losses of the first are {apart} nats apart")
        if not all(one.speed for one in found.values()):
            print(f"{name:>6}  too short to tell", flush=True)
            continue
        print(
            f"{name:>6}  ours {ours.speed:8.0f}  bare loop {alone.speed:8.0f} tokens a CPU second: a step takes "
            f"{alone.speed / ours.speed:.2f} times the bare one; packed {packed.speed / ours.speed:.2f}x",
            flush=True,
        )


if __name__ == "__main__":
    main()
