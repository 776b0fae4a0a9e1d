"""A gate lets through the model that it looked at, and no other that was trained since."""

from pathlib import Path

import dagster as dg
import pytest

from promptcot_assets.assets.em import refuse_stopped
from promptcot_assets.assets.gates import refuse_another_model
from promptcot_assets.settings.profile import ExpectationMaximisation
from tests.small_home import ROUND, STUDENT, Home, cold_start, em, seeds

GATES = [  # the gate's table, the model that it lets through, the partition of both
    ("em_bounds", "problem_generator", ROUND),
    ("self_play_gate", "self_play_model", STUDENT),
    ("tuning_samples", "tuned_generator", STUDENT),
]


@pytest.mark.parametrize(("gate", "model", "partition"), GATES)
def test_a_model_that_was_trained_after_its_gate_is_not_let_through(
    gate: str, model: str, partition: str, tmp_path: Path
) -> None:
    home = Home(tmp_path / "home")
    home.train(model, partition=partition)
    measured, seen = home.commit(gate, [], model, partition=partition), home.refs[model]
    refuse_another_model(home.lake, "the next step", measured, seen)
    home.train(model, partition=partition, weights="others")
    why = rf"the next step does not start: {gate}\[{partition}\].*another model than {model}.*materialize {gate}\["
    with pytest.raises(dg.Failure, match=why):
        refuse_another_model(home.lake, "the next step", measured, home.refs[model])
    home.train(model, partition=partition)  # the weights of before: the same model
    refuse_another_model(home.lake, "the next step", measured, home.refs[model])


def test_a_round_that_carries_its_models_over_has_the_measures_of_the_one_before(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.train("problem_generator", partition="round_01")
    home.commit("em_bounds", [], "problem_generator", partition="round_01")
    home.train("problem_generator", partition="round_02")  # the same weights
    carried = home.commit("em_bounds", [], "em_bounds", partition="round_02")
    refuse_another_model(home.lake, "the next step", carried, home.refs["problem_generator"])


@pytest.mark.parametrize(("role", "round_"), [
    ("cold_rationale_model", 0), ("cold_problem_generator", 0), ("rationale_model", 1), ("problem_generator", 1),
])  # fmt: skip
def test_what_needs_a_round_does_not_start_on_the_bounds_of_other_models(
    role: str, round_: int, tmp_path: Path
) -> None:
    """A kill between the training of a round and its bounds leaves the bounds of the models before."""
    home, settings = Home(tmp_path / "home"), ExpectationMaximisation()
    for step in (seeds, cold_start, em):
        step(home)
    refuse_stopped(home.lake, settings, "the next step", round_)
    home.train(role, partition=ROUND if round_ else "all", weights="others")
    with pytest.raises(dg.Failure, match=f"another model than {role}"):
        refuse_stopped(home.lake, settings, "the next step", round_)
