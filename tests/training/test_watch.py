from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from training.child import Report, Spec
from training.watch import CURVE_POINTS, Watch


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
