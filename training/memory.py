"""What a training takes of main memory, said before it starts: an estimate, and a refusal where it cannot fit.

Only for one process on a CPU: what a GPU holds is `promptcot doctor`'s to say. Measured against
`figures["peak_gib"]` of real runs (benchmarks/real_model.py); it is meant to be right within a third and on the high
side for long rows, where running out ends hours of work.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.child import Spec, SpecError

GIB = 1 << 30
FLOAT32, BF16 = 4, 2
LIBRARIES = 1.0 * GIB  # torch, transformers and TRL in a process, before any weight
KEPT_A_LAYER, KEPT_A_LAYER_MLP = 17, 4  # numbers kept for the backward pass: of hidden and of MLP width, a position
LOGITS_KEPT = 3  # copies of a position's logits that the loss holds at once


@dataclass(frozen=True)
class Shape:
    """What a decoder's memory follows from."""

    weights: int
    hidden: int
    mlp: int
    layers: int
    vocabulary: int


def needed(shape: Shape, positions: int, trained: int, half: bool, recomputes: bool) -> dict[str, float]:
    """Bytes of a step over `positions` (rows times the longest of them), by what they are for.

    trained: weights that are (an adapter's, else all). half: products in bfloat16. recomputes: gradient checkpointing.
    """
    kept = KEPT_A_LAYER * shape.hidden + KEPT_A_LAYER_MLP * shape.mlp
    of_a_number = BF16 if half else FLOAT32
    layers = shape.layers * shape.hidden + kept if recomputes else shape.layers * kept
    copy = shape.weights * BF16 if half else 0  # autocast keeps one as long as a step lasts
    return {
        "weights": shape.weights * FLOAT32 + copy,
        "gradients and optimiser": 3 * trained * FLOAT32,
        "activations": positions * layers * of_a_number,
        "logits": positions * shape.vocabulary * LOGITS_KEPT * FLOAT32,
        "libraries": LIBRARIES,
    }


def refuse_what_cannot_fit(spec: Spec, args: Any, base: Path, lengths: list[int], available: int | None = None) -> None:
    """Raises: SpecError with what is needed, what is free and what needs less.

    lengths: tokens of every row or pack. available: bytes; None: what this machine has free, and nothing is refused
    where it does not say or where the training is not one process on a CPU.
    """
    if args.world_size > 1 or not args.use_cpu or not lengths:
        return
    free = available_bytes() if available is None else available
    shape = shape_of(base)
    if free is None or shape is None:
        return
    rows, longest = args.per_device_train_batch_size, max(lengths)
    trained = shape.weights if spec.lora is None else _adapter(shape, spec.lora.r)
    parts = needed(shape, rows * longest, trained, bool(args.bf16), bool(args.gradient_checkpointing))
    total = sum(parts.values())
    if total <= free:
        return
    most = ", ".join(f"{name} {size / GIB:.1f}" for name, size in parts.items())
    raise SpecError(
        f"does not fit into memory: needs about {total / GIB:.1f} GiB ({most}), {free / GIB:.1f} free; "
        + _mend(spec, args, shape, longest, free)
    )


def _mend(spec: Spec, args: Any, shape: Shape, longest: int, free: float) -> str:
    """The largest batch that fits with the step as large as it was; else what else needs less."""
    trained = shape.weights if spec.lora is None else _adapter(shape, spec.lora.r)
    rows, times = args.per_device_train_batch_size, args.gradient_accumulation_steps
    for recomputes in dict.fromkeys((bool(args.gradient_checkpointing), True)):
        for fewer in (size for size in range(rows, 0, -1) if rows % size == 0):
            if sum(needed(shape, fewer * longest, trained, bool(args.bf16), recomputes).values()) <= free:
                said = [] if fewer == rows else [
                    f"arguments.per_device_train_batch_size {fewer} with gradient_accumulation_steps "
                    f"{times * rows // fewer}"
                ]  # fmt: skip
                if recomputes and not args.gradient_checkpointing:
                    said.append("arguments.gradient_checkpointing true")
                return f"set {' and '.join(said)}"
    lora = " and train an adapter (lora)" if spec.lora is None else ""
    return f"set a smaller arguments.max_length (the longest row has {longest:,} tokens){lora}, or free memory"


def _adapter(shape: Shape, rank: int) -> int:
    """About how many weights an adapter of all linear layers has."""
    return shape.layers * rank * (8 * shape.hidden + 3 * (shape.hidden + shape.mlp))


def shape_of(base: Path) -> Shape | None:
    """From the folder's config; None where it is of a family that has other names for these widths."""
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(base)
    text = config.get_text_config()
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size")
    hidden, mlp, layers, vocabulary = (getattr(text, name, None) for name in names)
    if not (hidden and mlp and layers and vocabulary):
        return None
    with init_empty_weights():
        model = AutoModelForCausalLM.from_config(config)
    model.tie_weights()
    return Shape(sum(one.numel() for one in model.parameters()), hidden, mlp, layers, vocabulary)


def available_bytes() -> int | None:
    """Main memory that a new process can have: the machine's, or what the control group leaves, whichever is less."""
    found = [one for one in (_of_the_machine(), _of_the_group()) if one is not None]
    return min(found) if found else None


def _of_the_machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), None)


def _of_the_group() -> int | None:
    """cgroup v2's limit less what is used and cannot be given back."""
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (group / "memory.max").read_text().strip(), int((group / "memory.current").read_text())
        inactive = next(
            (int(line.split()[1]) for line in (group / "memory.stat").read_text().splitlines()
             if line.startswith("inactive_file ")), 0
        )  # fmt: skip
    except (OSError, ValueError):
        return None
    return None if limit == "max" else int(limit) - used + inactive
