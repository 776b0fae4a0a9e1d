"""Watching a run: when to log a point of the curve, to save, to say how far we are; what the machine did meanwhile."""

import math
import resource
import time
from collections.abc import Callable, Mapping
from typing import Any

from training.child import Report, Spec

CURVE_POINTS = 200
# Of what a trainer logs at a point of the curve: the name it has on pages, and TRL's or transformers' names for it.
CURVES = {
    "loss": ("loss",),
    "reward": ("reward", "rewards/margins"),
    "share right": ("rewards/accuracies",),
    "tokens": ("completions/mean_length",),
    "KL": ("kl",),
    "learning rate": ("learning_rate",),
}
PROGRESS_SECONDS = 5.0


def alone(due: bool) -> bool:
    """The decision of one process is that of all."""
    return due


class Watch:
    """Decides, step by step, when to log a point of the curve, save a checkpoint and say how far we are.

    agree: what the first process has decided, for all; asked only where clocks decide (`save_seconds`). steps_a_cycle:
    steps after which an online trainer samples anew; between them a checkpoint would not hold what was sampled.
    """

    def __init__(
        self,
        spec: Spec,
        report: Report,
        tokens_a_step: float,
        agree: Callable[[bool], bool] = alone,
        steps_a_cycle: int = 1,
    ) -> None:
        self._spec, self._report, self._tokens_a_step, self._agree = spec, report, tokens_a_step, agree
        self._cycle = steps_a_cycle
        self._title = spec.title and f"{spec.title} · "
        self._stride, self._first, self._unsaved = 1, 0, 0
        self._started = self._said = self._saved = time.monotonic()

    def begin(self, state: Any) -> None:
        self._stride = math.ceil(state.max_steps / CURVE_POINTS)
        self._first = self._unsaved = state.global_step
        self._started = self._said = self._saved = time.monotonic()
        self._report.line(
            f"{self._title}training: {state.max_steps - state.global_step} of {state.max_steps} steps to go"
        )

    def step(self, state: Any, control: Any) -> None:
        now, step = time.monotonic(), state.global_step
        control.should_log = step % self._stride == 0 or step == state.max_steps
        resumable = step % self._stride == 0 and step % self._cycle == 0
        control.should_save = resumable and step < state.max_steps and self._due(step, now)
        if control.should_save:
            self._saved, self._unsaved = now, step
        if now - self._said >= PROGRESS_SECONDS:
            self._said = now
            self._say(state, (step - self._first) / (now - self._started))

    def point(self, state: Any, logged: Mapping[str, Any]) -> None:
        """Report one point of every curve that the trainer has."""
        values = {
            name: float(logged[theirs]) for name, known in CURVES.items() for theirs in known
            if isinstance(logged.get(theirs), int | float)
        }  # fmt: skip
        if "loss" in values:  # not the summary at the end
            self._report.point({"step": state.global_step, "of": state.max_steps, **values})

    def _due(self, step: int, now: float) -> bool:
        steps, seconds = self._spec.save_steps, self._spec.save_seconds
        if steps and step - self._unsaved >= steps:
            return True
        return seconds is not None and self._agree(now - self._saved >= seconds)

    def _say(self, state: Any, steps_a_second: float) -> None:
        loss = next((entry["loss"] for entry in reversed(state.log_history) if "loss" in entry), None)
        self._report.line(
            f"{self._title}step {state.global_step}/{state.max_steps}"
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

            def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
                if state.is_world_process_zero:
                    watch.point(state, logs or {})

        return Callback()


class Meter:
    """Positions that went through the model, and how many of them were tokens; a resumed run's are its own only."""

    def __init__(self) -> None:
        self.positions = 0
        self._tokens: Any = 0  # stays a tensor where the masks are: to read it at every batch is to wait for the GPU

    def count(self, inputs: Mapping[str, Any]) -> None:
        """inputs: a collated batch of any of the trainers."""
        if "attention_mask" in inputs:  # SFT, DPO
            masks = [inputs["attention_mask"]]
        elif "prompt_mask" in inputs:  # GRPO
            masks = [inputs["prompt_mask"], inputs["completion_mask"]]
        else:  # packed: one row without a gap
            self.positions += inputs["input_ids"].numel()
            self._tokens += inputs["input_ids"].numel()
            return
        self.positions += sum(mask.numel() for mask in masks)
        self._tokens += sum(mask.sum() for mask in masks)

    def figures(self, accelerator: Any, seconds: float) -> dict[str, float]:
        """What the run is said to have cost; every process must ask. Never part of what a result depends on."""
        import torch

        own = torch.tensor([int(self._tokens), self.positions], device=accelerator.device)
        tokens, positions = accelerator.reduce(own, reduction="sum").tolist()
        return {
            "seconds": seconds,
            "tokens_per_second": tokens / seconds,
            "padded_share": 1 - tokens / max(1, positions),
            "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20),  # of main memory
            "processes": accelerator.num_processes,
            "accelerator_seconds": seconds * accelerator.num_processes,
        }
