"""What the trainers share around TRL's loop: arguments, resuming, progress, an output folder written whole or not.

Resuming is exact: the order of rows is a pure function of seed and epoch, checkpoints hold optimizer, schedule and
random states, and they are taken only where the loss curve has a point, so that no point averages over a gap.
"""

import difflib
import hashlib
import json
import math
import re
import shutil
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.child import Report, Spec, SpecError
from training.rows import LengthGroupedSampler, Rows, length_grouped_order

RESULT = "training.json"
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
}


def trainer_arguments(config: type, spec: Spec, **fixed: Any) -> Any:
    """TRL's own configuration object from `spec.arguments`. Raises SpecError naming an argument it does not know."""
    import torch

    # TRL passes on a name that transformers is renaming; whoever reads the run's log cannot mend that
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing.* is deprecated", category=FutureWarning)
    known = set(config.__dataclass_fields__)  # type: ignore[attr-defined]
    arguments = dict(spec.arguments)
    if "warmup_ratio" in arguments and "warmup_ratio" not in known:  # now a warmup_steps below 1
        if "warmup_steps" in arguments:
            raise SpecError("arguments: give warmup_ratio or warmup_steps, not both")
        arguments["warmup_steps"] = arguments.pop("warmup_ratio")
    for name in arguments:
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
        return config(**{**defaults, **arguments, **decided, **fixed})
    except (TypeError, ValueError) as error:
        raise SpecError(f"arguments: {config.__name__} refuses them: {error}") from error


def resumable(trainer: type, lengths: list[int] | None = None) -> type:
    """`trainer` with rows in `length_grouped_order` (its own order without `lengths`), checkpoints without a card."""
    from transformers import Trainer

    class Resumable(trainer):
        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            if lengths is None:
                return super()._get_train_sampler(train_dataset)
            return LengthGroupedSampler(lengths, rows_a_step(self.args), self.args.seed)

        def _save_checkpoint(self, model: Any, trial: Any) -> None:
            Trainer._save_checkpoint(self, model, trial)

    return Resumable


def rows_a_step(args: Any) -> int:
    return args.train_batch_size * args.gradient_accumulation_steps * args.world_size


def train(
    trainer: Any,
    spec: Spec,
    run: Mapping[str, Any],
    report: Report,
    rows: Rows,
    lengths: list[int],
    sampled: bool = False,
) -> None:
    """Train (from the last checkpoint of the same run, if there is one), write `spec.output`, report the result.

    run: what `identity` gave; lengths: tokens a row, what the order of rows is made of. sampled: the trainer samples
    what it learns from, so that only it knows the tokens.
    """
    from transformers import PrinterCallback

    start = time.perf_counter()
    trainer.remove_callback(PrinterCallback)  # a dictionary a step on standard output
    batch = rows_a_step(trainer.args)
    trainer.add_callback(Watch(spec, report, sum(lengths) / len(lengths) * batch).callback())
    checkpoint = last_checkpoint(spec.checkpoints)
    if checkpoint is not None:
        report.line(f"continuing from {checkpoint.name}")
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    steps = trainer.state.global_step
    curve = [[entry["step"], entry["loss"]] for entry in trainer.state.log_history if "loss" in entry]
    result = {
        **run,
        "steps": steps,
        "loss": curve[-1][1],
        "loss_curve": curve,
        "tokens": trainer.state.num_input_tokens_seen if sampled else tokens_seen(lengths, batch, spec.seed, steps),
        "rows": len(lengths),
        "dropped": rows.dropped,
    }
    trainer.save_model(str(_draft(spec)))
    if trainer.is_world_process_zero():
        result = _publish(spec, result)
        report.result({**result, "seconds": time.perf_counter() - start})


def _draft(spec: Spec) -> Path:
    return spec.output.with_name(f".{spec.output.name}.partial")


def _publish(spec: Spec, result: dict[str, Any]) -> dict[str, Any]:
    """Complete the draft, rename it to the output, forget the checkpoints. The same run writes the same bytes."""
    draft = _draft(spec)
    (draft / "training_args.bin").unlink(missing_ok=True)  # a pickle, with paths
    result = {**result, "files": {path.name: _sha256(path) for path in sorted(draft.iterdir())}}
    (draft / RESULT).write_text(json.dumps(result, indent=1) + "\n")
    draft.rename(spec.output)
    shutil.rmtree(spec.checkpoints)
    return result


def tokens_seen(lengths: list[int], batch: int, seed: int, steps: int) -> int:
    """Tokens of all rows of `steps` steps, whichever process ran them."""
    steps_an_epoch = math.ceil(len(lengths) / batch)
    epochs, rest = divmod(steps, steps_an_epoch)
    order = length_grouped_order(lengths, batch, seed, epochs)[: rest * batch]
    return epochs * sum(lengths) + sum(lengths[row] for row in order)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint. The trainer writes its state last: without a readable one it was cut short."""
    steps = {int(path.name.split("-")[1]): path for path in folder.glob("checkpoint-*")}
    whole = [step for step, path in steps.items() if _read_json(path / "trainer_state.json")]
    return steps[max(whole)] if whole else None


def base_folder(spec: Spec) -> Path:
    """The folder of the base model; a hub id is looked up (and fetched, if need be) at its revision."""
    if (Path(spec.base) / "config.json").is_file():
        return Path(spec.base)
    if Path(spec.base).exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", spec.base):
        raise SpecError(f"base: {spec.base} is neither a model folder (with a config.json) nor a hub id")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(spec.base, revision=spec.revision))
    except OSError as error:  # every error of the hub is one
        raise SpecError(f"base: cannot get {spec.base}@{spec.revision} from the hub: {error}") from error


def identity(spec: Spec, kind: str, base: Path) -> dict[str, Any]:
    """What decides the result, without paths: equal identities give equal models."""
    if not spec.data.is_file():
        raise SpecError(f"data: {spec.data}: no such file")
    weights = hashlib.sha256()
    for path in sorted([base / "config.json", *base.glob("*.safetensors"), *base.glob("tokenizer*")]):
        weights.update(f"{path.name} {_sha256(path)}\n".encode())
    inputs = {"base": weights.hexdigest(), "data": _sha256(spec.data)}
    return {"trainer": kind, **inputs, "seed": spec.seed, "arguments": dict(spec.arguments)}


def begin(spec: Spec, run: Mapping[str, Any], report: Report) -> bool:
    """Ready the folders. False when this very run is done already: its result is then reported again.

    Raises: SpecError when the output is another run's, or the checkpoints are.
    """
    if spec.output.exists():
        done = _read_json(spec.output / RESULT)
        if not _same(done, run):
            raise SpecError(f"output: {spec.output} exists and is not this run's: remove it or name another")
        shutil.rmtree(spec.checkpoints, ignore_errors=True)  # a kill may have come between the rename and this
        report.result({**done, "seconds": 0.0})
        return False
    shutil.rmtree(_draft(spec), ignore_errors=True)  # what a kill left
    spec.output.parent.mkdir(parents=True, exist_ok=True)
    spec.checkpoints.mkdir(parents=True, exist_ok=True)
    note = spec.checkpoints / "run.json"
    if note.exists() and not _same(_read_json(note), run):
        raise SpecError(f"checkpoints: {spec.checkpoints} holds those of another run: remove it or name another")
    note.write_text(json.dumps(run))
    return True


def _same(there: Mapping[str, Any], run: Mapping[str, Any]) -> bool:
    return {name: there.get(name) for name in run} == json.loads(json.dumps(run))


def _read_json(path: Path) -> dict[str, Any]:
    """Empty when it is not there or was cut short by a kill."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Watch:
    """Decides, step by step, when to log a point of the curve, save a checkpoint and say how far we are."""

    def __init__(self, spec: Spec, report: Report, tokens_a_step: float) -> None:
        self._spec, self._report, self._tokens_a_step = spec, report, tokens_a_step
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
