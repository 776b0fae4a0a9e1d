"""What the trainers share around TRL's loop: arguments, resuming, progress, an output folder written whole or not.

Resuming is exact: the order of rows is a pure function of seed and epoch, checkpoints hold optimizer, schedule and
random states, and they are taken only where the loss curve has a point, so that no point averages over a gap.
"""

import difflib
import hashlib
import json
import math
import shutil
import time
from pathlib import Path
from typing import Any

from training.child import Report, Spec, SpecError
from training.rows import LengthGroupedSampler, Rows, length_grouped_order

CURVE_POINTS = 200
PROGRESS_SECONDS = 5.0
OURS = {  # arguments that the spec's own fields or this module decide
    "output_dir": "output",
    "seed": "seed",
    "data_seed": "seed",
    "save_strategy": "save_seconds",
    "save_steps": "save_steps",
    "logging_steps": None,
    "logging_strategy": None,
    "train_sampling_strategy": None,
    "dataset_kwargs": None,
}


def trainer_arguments(config: type, spec: Spec, **fixed: Any) -> Any:
    """TRL's own configuration object from `spec.arguments`. Raises SpecError naming an argument it does not know."""
    import torch

    known = set(config.__dataclass_fields__)  # type: ignore[attr-defined]
    for name in spec.arguments:
        if name in OURS or name in fixed:
            instead = f"; set the spec's field {OURS[name]!r}" if OURS.get(name) else ""
            raise SpecError(f"arguments.{name} cannot be set{instead}")
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; is it {close[0]}?" if close else ""
            raise SpecError(f"arguments.{name}: {config.__name__} has no such argument{hint}")
    defaults: dict[str, Any] = {"report_to": "none", "disable_tqdm": True}
    if not torch.cuda.is_available():  # TRL's own defaults are for a GPU and refuse to start here
        defaults |= {"use_cpu": True, "bf16": False, "gradient_checkpointing": False, "dataloader_pin_memory": False}
    decided = {"output_dir": str(spec.checkpoints), "seed": spec.seed, "save_strategy": "no", "logging_strategy": "no"}
    try:
        return config(**{**defaults, **spec.arguments, **decided, **fixed})
    except (TypeError, ValueError) as error:
        raise SpecError(f"arguments: {config.__name__} refuses them: {error}") from error


def resumable(trainer: type, lengths: list[int]) -> type:
    """`trainer` with rows in `length_grouped_order` and checkpoints without a model card."""
    from transformers import Trainer

    class Resumable(trainer):  # type: ignore[misc, valid-type]
        def _get_train_sampler(self, train_dataset: Any = None) -> LengthGroupedSampler:
            return LengthGroupedSampler(lengths, rows_a_step(self.args), self.args.seed)

        def _save_checkpoint(self, model: Any, trial: Any) -> None:
            Trainer._save_checkpoint(self, model, trial)

    return Resumable


def rows_a_step(args: Any) -> int:
    return args.train_batch_size * args.gradient_accumulation_steps * args.world_size


def train(trainer: Any, spec: Spec, report: Report, rows: Rows, lengths: list[int], kind: str) -> None:
    """Train (from the last checkpoint of the same spec, if there is one), write `spec.output`, report the result."""
    start = time.perf_counter()
    watch = Watch(spec, report, sum(lengths) / len(lengths), rows_a_step(trainer.args))
    trainer.add_callback(watch.callback())
    checkpoint = last_checkpoint(spec.checkpoints)
    if checkpoint is not None:
        report.line(f"{kind}: continuing from {checkpoint.name}")
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    steps = trainer.state.global_step
    curve = [[entry["step"], entry["loss"]] for entry in trainer.state.log_history if "loss" in entry]
    result = {
        "trainer": kind,
        "steps": steps,
        "loss": curve[-1][1],
        "loss_curve": curve,
        "tokens": tokens_seen(lengths, rows_a_step(trainer.args), spec.seed, steps),
        "rows": len(lengths),
        "dropped": rows.dropped,
        "seed": spec.seed,
        "arguments": dict(spec.arguments),
    }
    draft = spec.output.with_name(f".{spec.output.name}.partial")
    trainer.save_model(str(draft))
    if not trainer.is_world_process_zero():
        return
    (draft / "training_args.bin").unlink()  # paths and a pickle
    result["files"] = {path.name: _sha256(path) for path in sorted(draft.iterdir())}
    (draft / "training.json").write_text(json.dumps(result, indent=1) + "\n")
    draft.rename(spec.output)
    shutil.rmtree(spec.checkpoints)
    report.result({**result, "seconds": time.perf_counter() - start})


def tokens_seen(lengths: list[int], batch: int, seed: int, steps: int) -> int:
    """Tokens of all rows of `steps` steps, whichever process ran them."""
    steps_an_epoch = math.ceil(len(lengths) / batch)
    epochs, rest = divmod(steps, steps_an_epoch)
    order = length_grouped_order(lengths, batch, seed, epochs)[: rest * batch]
    return epochs * sum(lengths) + sum(lengths[row] for row in order)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint. The trainer writes its state last: without a readable one it was cut short."""
    steps = {int(path.name.split("-")[1]): path for path in folder.glob("checkpoint-*")}
    for step in sorted(steps, reverse=True):
        try:
            json.loads((steps[step] / "trainer_state.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            continue  # cut short by a kill: the one before it is whole
        return steps[step]
    return None


def prepare_folders(spec: Spec, kind: str) -> None:
    """Refuse to overwrite a model or to continue another run's checkpoints; forget a half-written output."""
    if spec.output.exists():
        raise SpecError(f"{spec.output}: the output folder exists; a model is written once: remove it or name another")
    shutil.rmtree(spec.output.with_name(f".{spec.output.name}.partial"), ignore_errors=True)
    spec.output.parent.mkdir(parents=True, exist_ok=True)
    spec.checkpoints.mkdir(parents=True, exist_ok=True)
    note = spec.checkpoints / "run.json"
    run = {
        "trainer": kind,
        "base": str(spec.base),
        "revision": spec.revision,
        "data": _sha256(spec.data) if spec.data.is_file() else None,
        "seed": spec.seed,
        "arguments": dict(spec.arguments),
    }
    if note.exists() and (there := json.loads(note.read_text())) != run:
        differing = ", ".join(name for name in run if there.get(name) != run[name])
        raise SpecError(f"{spec.checkpoints}: checkpoints of another run ({differing} differ): remove the folder")
    note.write_text(json.dumps(run))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Watch:
    """Decides, step by step, when to log a point of the curve, save a checkpoint and say how far we are."""

    def __init__(self, spec: Spec, report: Report, mean_length: float, rows_a_step: int) -> None:
        self._spec, self._report = spec, report
        self._tokens_a_step = mean_length * rows_a_step
        self._stride, self._first, self._unsaved = 1, 0, 0
        self._started = self._said = self._saved = time.monotonic()

    def begin(self, state: Any) -> None:
        self._stride = math.ceil(state.max_steps / CURVE_POINTS)
        self._first = self._unsaved = state.global_step
        self._started = self._said = self._saved = time.monotonic()
        self._report.line(f"training: {state.max_steps - state.global_step} of {state.max_steps} steps to go")

    def step(self, state: Any, control: Any) -> None:
        now, step = time.monotonic(), state.global_step
        control.should_log = step % self._stride == 0 or step == state.max_steps
        steps, seconds = self._spec.save_steps, self._spec.save_seconds
        due = (steps and step - self._unsaved >= steps) or (seconds and now - self._saved >= seconds)
        control.should_save = bool(due and step % self._stride == 0 and step < state.max_steps)
        if control.should_save:
            self._saved, self._unsaved = now, step
        if now - self._said >= PROGRESS_SECONDS:
            self._said = now
            self._say(state, (step - self._first) / (now - self._started))

    def _say(self, state: Any, steps_a_second: float) -> None:
        loss = next((entry["loss"] for entry in reversed(state.log_history) if "loss" in entry), None)
        self._report.line(
            f"step {state.global_step}/{state.max_steps}"
            + ("" if loss is None else f"  loss {loss:.4f}")
            + f"  {steps_a_second * self._tokens_a_step:,.0f} tokens/s"
            + f"  {(state.max_steps - state.global_step) / steps_a_second:.0f} s to go"
        )

    def callback(self) -> Any:
        from transformers import TrainerCallback

        watch = self

        class Callback(TrainerCallback):
            def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                watch.begin(state)

            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                watch.step(state, control)

        return Callback()
