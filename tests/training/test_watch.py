from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from training.child import Report, Spec
from training.watch import CURVE_POINTS, Meter, Watch


@dataclass
class State:
    """What a callback sees of transformers' TrainerState."""

    max_steps: int
    global_step: int = 0
    log_history: list[dict] = field(default_factory=list)


@dataclass
class Control:
    should_log: bool = False
    should_save: bool = False


def walk(max_steps: int, **saving: float) -> tuple[list[int], list[int]]:
    """The steps at which a run logs a point of its curve, and those at which it saves."""
    spec = Spec("base", Path("data"), Path("out"), Path("checkpoints"), **saving)  # type: ignore[arg-type]
    watch, state = Watch(spec, Report(None, rank=1), 1.0), State(max_steps)
    watch.begin(state)
    logged, saved = [], []
    for step in range(1, max_steps + 1):
        state.global_step, control = step, Control()
        watch.step(state, control)
        logged += [step] if control.should_log else []
        saved += [step] if control.should_save else []
    return logged, saved


@pytest.mark.parametrize("max_steps", [1, 7, 199, 200, 201, 399, 400, 401, 5000])
def test_the_curve_has_few_points_and_ends_at_the_last_step(max_steps: int) -> None:
    logged, saved = walk(max_steps)
    assert logged[-1] == max_steps
    assert min(max_steps, CURVE_POINTS // 2) <= len(logged) <= CURVE_POINTS
    assert saved == []


WAYS_TO_SAVE: list[tuple[dict[str, float], Callable[[int], bool]]] = [
    ({"save_steps": 10}, lambda saves: saves == 99),
    ({"save_steps": 7}, lambda saves: 90 <= saves <= 142),
    ({"save_seconds": 1e-9}, lambda saves: saves == 199),
    ({"save_seconds": 1e9}, lambda saves: saves == 0),
]


@pytest.mark.parametrize(("saving", "enough"), WAYS_TO_SAVE)
def test_checkpoints_are_taken_only_at_points_of_the_curve(
    saving: dict[str, float], enough: Callable[[int], bool]
) -> None:
    logged, saved = walk(1000, **saving)  # a point every 5 steps
    assert set(saved) <= set(logged)
    assert 1000 not in saved  # the output itself is next
    assert enough(len(saved))


def test_progress_lines_name_what_is_trained(capsys: pytest.CaptureFixture[str]) -> None:
    spec = Spec("base", Path("data"), Path("out"), Path("checkpoints"), title="rationale_model[round_02]")
    Watch(spec, Report(None), 1.0).begin(State(30))
    assert capsys.readouterr().out == "rationale_model[round_02] · training: 30 of 30 steps to go\n"


def test_where_clocks_decide_all_processes_save_when_the_first_does() -> None:
    asked: list[bool] = []

    def first_process(due: bool) -> bool:
        asked.append(due)
        return len(asked) % 3 == 0

    spec = Spec("base", Path("data"), Path("out"), Path("checkpoints"), save_seconds=1e9)
    watch, state = Watch(spec, Report(None, rank=1), 1.0, first_process), State(1000)
    watch.begin(state)
    saved = []
    for step in range(1, 1000):
        state.global_step, control = step, Control()
        watch.step(state, control)
        saved += [step] if control.should_save else []
    assert saved == list(range(15, 1000, 15))  # every third point of a curve with one at every fifth step
    assert not any(asked)  # by its own clock this process would have saved nothing


BATCHES: list[tuple[dict[str, torch.Tensor], int, int]] = [
    ({"attention_mask": torch.tensor([[1, 1, 1], [1, 0, 0]]), "completion_mask": torch.ones(2, 3)}, 6, 4),
    ({"prompt_mask": torch.tensor([[0, 1]]), "completion_mask": torch.tensor([[1, 1, 1, 0]])}, 6, 4),
    ({"input_ids": torch.ones(1, 7)}, 7, 7),
]


@pytest.mark.parametrize(("batch", "positions", "tokens"), BATCHES, ids=["sft and dpo", "grpo", "packed"])
def test_what_went_through_the_model_is_counted(batch: dict[str, torch.Tensor], positions: int, tokens: int) -> None:
    meter = Meter()
    meter.count(batch)
    meter.count(batch)
    figures = meter.figures(Accelerator(cpu=True), seconds=2.0)
    assert figures["padded_share"] == pytest.approx(1 - tokens / positions)
    assert figures["tokens_per_second"] == tokens
    assert (figures["processes"], figures["accelerator_seconds"]) == (1, 2.0)
