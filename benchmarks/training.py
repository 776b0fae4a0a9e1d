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
import random
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.real_model import SMOLLM2_135M, WORDS, Shape, random_model, timed

MAX_LENGTH = 448
AGREE = 1e-3  # nats a token


@dataclass(frozen=True)
class Size:
    shape: Shape
    rows: int  # a step
    steps: int


SIZES = {
    "0.5M": Size((128, 384, 2, 4, 4, 512), rows=16, steps=60),
    "30M": Size((512, 1536, 8, 8, 8, 8192), rows=8, steps=8),
    "135M": Size(SMOLLM2_135M, rows=4, steps=3),
}
SMALL = {"0.5M": Size((128, 384, 2, 4, 4, 512), rows=8, steps=20)}
TOO_SHORT_S = 0.2
OURS = [sys.executable, "-m", "training.sft"]
BARE = [sys.executable, "-c", "import sys; from benchmarks.training import bare; bare(sys.argv[1])"]
WAYS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "ours": (OURS, {}),
    "bare": (BARE, {}),
    "packed": (OURS, {"packing": True, "per_device_train_batch_size": 2}),
}


def texts(count: int, seed: int) -> list[str]:
    """Of 5 to 100 words."""
    rng = random.Random(seed)
    return [" ".join(rng.choice(WORDS) for _ in range(rng.randint(5, 100))) for _ in range(count)]


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


def trained(command: list[str], base: Path, size: Size, steps: int, **arguments: Any) -> tuple[float, dict[str, Any]]:
    """CPU seconds of a training of so many steps, and what it printed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with tempfile.TemporaryDirectory() as name:
        folder, rows = Path(name), size.rows * (1 + size.steps)
        pq.write_table(pa.table({"prompt": texts(rows, 1), "completion": texts(rows, 2)}), folder / "data.parquet")
        places = {name: str(folder / name) for name in ("output", "checkpoints")}
        given = {"learning_rate": 1e-4, "lr_scheduler_type": "constant", "max_grad_norm": 1.0, "max_length": MAX_LENGTH,
                 "per_device_train_batch_size": size.rows, "max_steps": steps, **arguments}  # fmt: skip
        spec = {"base": str(base), "data": str(folder / "data.parquet"), "seed": 0, "arguments": given, **places}
        (folder / "spec.json").write_text(json.dumps(spec))
        return timed([*command, str(folder / "spec.json")])


def speeds(base: Path, size: Size, rounds: int) -> dict[str, float]:
    """By way, tokens a CPU second of the steps after the first; of every length of run the cheapest of its rounds.

    Raises: SystemExit where the ways do not do the same, or are over too soon to tell.
    """
    seconds: dict[tuple[str, int], float] = {}
    printed: dict[tuple[str, int], dict[str, Any]] = {}
    for _ in range(rounds):
        for way, (command, arguments) in WAYS.items():
            for steps in (1, 1 + size.steps):
                took, said = trained(command, base, size, steps, **arguments)
                seconds[way, steps] = min(took, seconds.get((way, steps), took))
                printed[way, steps] = said
    ours, alone = printed["ours", 1], printed["bare", 1]
    if ours["tokens"] != alone["tokens"] or abs(ours["loss_curve"][0][1] - alone["loss_curve"][0][1]) > AGREE:
        raise SystemExit(f"not the same steps: {ours['tokens']} and {alone['tokens']} tokens in the first one")
    found = {}
    for way in WAYS:
        spent = seconds[way, 1 + size.steps] - seconds[way, 1]
        if spent < TOO_SHORT_S:
            raise SystemExit(f"{way}: {size.steps} steps are too short to tell")
        found[way] = (printed[way, 1 + size.steps]["tokens"] - printed[way, 1]["tokens"]) / spent
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", nargs="?", type=int, default=1)
    parser.add_argument("--small", action="store_true")
    asked = parser.parse_args()
    for name, size in (SMALL if asked.small else SIZES).items():
        with tempfile.TemporaryDirectory() as folder:
            found = speeds(random_model(Path(folder) / "model", size.shape), size, max(1, asked.rounds))
        print(
            f"{name:>6}  ours {found['ours']:8.0f}  bare loop {found['bare']:8.0f} tokens a CPU second: a step takes "
            f"{found['bare'] / found['ours']:.2f} times the bare one; packed {found['packed'] / found['ours']:.2f}x",
            flush=True,
        )


if __name__ == "__main__":
    main()
