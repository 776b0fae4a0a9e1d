"""Watching a run: when to log a point of the curve, to save, to say how far we are; what the machine did meanwhile."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from training.child import Report, Spec

CURVE_POINTS = 200
PROGRESS_SECONDS = 5.0


def alone(due: bool) -> bool:
    """The decision of one process is that of all."""
    return due


class Watch:
    """Decides, step by step, when to log a point of the curve, save a checkpoint and say how far we are.

    agree: what the first process has decided, for all; asked only where clocks decide (`save_seconds`).
    """

    def __init__(self, spec: Spec, report: Report, tokens_a_step: float, agree: Callable[[bool], bool] = alone) -> None:
        self._spec, self._report, self._tokens_a_step, self._agree = spec, report, tokens_a_step, agree
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
        control.should_save = step % self._stride == 0 and step < state.max_steps and self._due(step, now)
        if control.should_save:
            self._saved, self._unsaved = now, step
        if now - self._said >= PROGRESS_SECONDS:
            self._said = now
            self._say(state, (step - self._first) / (now - self._started))

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
            "processes": accelerator.num_processes,
            "accelerator_seconds": seconds * accelerator.num_processes,
        }
