"""What the trainers share around TRL's loop: arguments, resuming, saving the whole model.

Resuming is exact: the order of rows is a pure function of seed and epoch, checkpoints hold optimizer, schedule and
random states, and they are taken only where the loss curve has a point, so that no point averages over a gap.
"""

import difflib
import math
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.child import Report, Spec, SpecError
from training.folders import draft, last_checkpoint, mark_whole, publish, written_or_gone
from training.lora import merge
from training.rows import LengthGroupedSampler, Rows, length_grouped_order
from training.watch import Meter, Watch, alone

CHECKPOINTS_KEPT = 2  # while the newest is being written the one before must be there
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
    defaults: dict[str, Any] = {"report_to": "none", "disable_tqdm": True, "save_total_limit": CHECKPOINTS_KEPT}
    if not torch.cuda.is_available():  # TRL's own defaults are for a GPU and refuse to start here
        defaults |= {"use_cpu": True, "bf16": False, "gradient_checkpointing": False, "dataloader_pin_memory": False}
    decided = {"output_dir": str(spec.checkpoints), "seed": spec.seed, "save_strategy": "no", "logging_strategy": "no"}
    try:
        return config(**{**defaults, **arguments, **decided, **fixed})
    except (TypeError, ValueError) as error:
        raise SpecError(f"arguments: {config.__name__} refuses them: {error}") from error


def resumable(trainer: type, lengths: list[int] | None = None) -> type:
    """`trainer` with rows in `length_grouped_order` (TRL's RepeatSampler without `lengths`), checkpoints that are whole
    or not there, and a meter of what went through the model."""
    from transformers import Trainer

    class Resumable(trainer):
        meter = Meter()

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            if lengths is None:
                self.order = super()._get_train_sampler(train_dataset)
            else:
                self.order = LengthGroupedSampler(lengths, rows_a_step(self.args), self.args.seed)
            return self.order

        def _run_epoch(self, *args: Any, epoch: int, **kwargs: Any) -> Any:
            # accelerate tells a sampler its epoch, but not through the wrappers of a resumed run of several processes;
            # and TRL's draws every epoch from where the last one left its generator, which a resumed run has not seen
            if lengths is not None:
                self.order.set_epoch(epoch)
            elif self.order.shuffle:
                self.order.generator.manual_seed(self.args.seed + epoch)
            return super()._run_epoch(*args, epoch=epoch, **kwargs)

        def _save_checkpoint(self, model: Any, trial: Any) -> None:
            checkpoint = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            with written_or_gone(checkpoint):
                Trainer._save_checkpoint(self, model, trial)  # TRL's adds a card
                self.accelerator.wait_for_everyone()
                if self.is_world_process_zero():
                    mark_whole(checkpoint)

        def _save(self, output_dir: Any = None, state_dict: Any = None) -> None:
            # an output layer that is the embedding is left out by its address, which gathered copies do not share
            for name in getattr(self.model, "all_tied_weights_keys", {}) if state_dict else ():
                state_dict.pop(name, None)
            super()._save(output_dir, state_dict)

        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            self.meter.count(inputs)
            return super().compute_loss(model, inputs, *args, **kwargs)

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
    base: Path,
    sampled: bool = False,
    steps_a_cycle: int = 1,
) -> None:
    """Train (from the last checkpoint of the same run, if there is one), write `spec.output`, report the result.

    run: what `begin` gave; lengths: tokens of every row or pack, what their order is made of. sampled: the trainer
    samples what it learns from, so that only it knows the tokens. steps_a_cycle: checkpoints are taken at multiples of
    it. Raises: OutputError when writing fails.
    """
    from transformers import PrinterCallback

    start = time.perf_counter()
    trainer.remove_callback(PrinterCallback)  # a dictionary a step on standard output
    batch = rows_a_step(trainer.args)
    agree = alone if trainer.args.world_size == 1 else _agreed
    trainer.add_callback(Watch(spec, report, sum(lengths) / len(lengths) * batch, agree, steps_a_cycle).callback())
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
        "rows": rows.read - sum(rows.dropped.values()),
        "dropped": rows.dropped,
    }
    figures = trainer.meter.figures(trainer.accelerator, time.perf_counter() - start)
    with written_or_gone(draft(spec)):
        _save_whole(trainer, spec, base)
        if trainer.is_world_process_zero():
            result = publish(spec, result)
    report.result({**result, "figures": figures})


def _agreed(due: bool) -> bool:
    from accelerate.utils import broadcast_object_list

    heard = [due]
    broadcast_object_list(heard)
    return heard[0]


def _save_whole(trainer: Any, spec: Spec, base: Path) -> None:
    """All weights in one folder, wherever they lie: sharded ones are gathered, an adapter is merged into its base."""
    if trainer.is_fsdp_enabled:  # checkpoints may be sharded, the result is not
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    if spec.lora is None:
        trainer.save_model(str(draft(spec)))
        return
    adapter = spec.checkpoints / "adapter"
    trainer.save_model(str(adapter))
    if trainer.is_world_process_zero():
        merge(base, adapter, draft(spec), (trainer.args.model_init_kwargs or {}).get("dtype", "float32"))
        trainer.processing_class.save_pretrained(draft(spec))


def tokens_seen(lengths: list[int], batch: int, seed: int, steps: int) -> int:
    """Tokens of all rows of `steps` steps, whichever process ran them."""
    steps_an_epoch = math.ceil(len(lengths) / batch)
    epochs, rest = divmod(steps, steps_an_epoch)
    order = length_grouped_order(lengths, batch, seed, epochs)[: rest * batch]
    return epochs * sum(lengths) + sum(lengths[row] for row in order)
