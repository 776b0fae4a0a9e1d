"""What failed a blocking check is an input of no later run, until it is made anew or passes."""

from pathlib import Path

import dagster as dg
import pytest

from promptcot_assets.assets.resources import EngineResource, LakeResource, SettingsResource
from promptcot_assets.assets.synthesis import raw_problems
from promptcot_assets.automation.checks import blocking_checks, pairs_are_sound
from promptcot_assets.automation.partitions import BATCHES, LAST_ROUND, STUDENTS
from tests.reports.small_home import BATCH, STUDENT, Home, whole_arc

SOUND = {"pair_id": "pair", "problem_id": "problem_2", "chosen_rollout_id": "rollout_1",
         "rejected_rollout_id": "rollout_2", "chosen": "1", "rejected": "2"}  # fmt: skip


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return whole_arc(tmp_path / "home")


@dg.asset(partitions_def=STUDENTS)
def preference_pairs() -> None:
    """Stands for a run of the asset that left the pairs as they are."""


@dg.asset(code_version="1", partitions_def=STUDENTS, deps=["preference_pairs"])
def self_play_model(context: dg.AssetExecutionContext, lake: LakeResource) -> None:
    lake.step(context, "self_play_model", f"preference_pairs[{STUDENT}]")


def test_a_run_of_its_own_does_not_start_on_what_failed(home: Home) -> None:
    settings = SettingsResource(profile="demo")
    lake = LakeResource(home=str(home.path), settings=settings, blocking_checks=blocking_checks())

    def run(*definitions: dg.AssetsDefinition | dg.AssetChecksDefinition) -> dg.ExecuteInProcessResult:
        return dg.materialize(
            definitions, instance=instance, resources={"lake": lake, "settings": settings}, partition_key=STUDENT,
            raise_on_error=False,
        )  # fmt: skip

    with dg.instance_for_test() as instance:
        assert run(self_play_model).success
        home.commit("preference_pairs", [SOUND | {"rejected": "1"}], "rollouts", "verdicts", partition=STUDENT)
        assert run(self_play_model).success  # nobody has looked: Dagster would not stop it either

        (looked,) = run(preference_pairs, pairs_are_sound).get_asset_check_evaluations()
        assert not looked.passed
        failed = run(self_play_model)
        (stopped,) = [event.step_failure_data for event in failed.all_events if event.is_step_failure]
        assert stopped.error and f"{home.refs['preference_pairs']} failed the check pairs_are_sound" in str(
            stopped.error
        )

        home.commit("preference_pairs", [SOUND], "rollouts", "verdicts", partition=STUDENT)
        assert run(self_play_model).success  # that was of another version
        (looked,) = run(preference_pairs, pairs_are_sound).get_asset_check_evaluations()
        assert looked.passed
        assert run(self_play_model).success


@pytest.mark.parametrize(("fall", "stopped"), [(0.0, False), (50.0, True)])
def test_no_batch_is_written_by_a_generator_that_its_gate_stopped(home: Home, fall: float, stopped: bool) -> None:
    settings = SettingsResource(profile="demo")
    lake = LakeResource(home=str(home.path), settings=settings)
    before = [row | {"bound_id": f"bound_{n}", "problem_id": f"seed_{n}", "split": "held_out"}
              for row in home.lake.table(home.refs["em_bounds"]).to_pylist() for n in range(1, 9)]  # fmt: skip
    home.commit("em_bounds", before, "rationale_model", "problem_generator", partition="round_01")
    home.train("problem_generator", "em_m_step", partition=LAST_ROUND, weights="last")
    after = [row | {"iw_bound": row["iw_bound"] - fall} for row in before]
    home.commit("em_bounds", after, "problem_generator", partition=LAST_ROUND)
    with dg.instance_for_test() as instance:
        instance.add_dynamic_partitions(str(BATCHES.name), [BATCH])
        done = dg.materialize(
            [raw_problems], instance=instance, partition_key=BATCH, raise_on_error=False,
            resources={"lake": lake, "settings": settings, "engine": EngineResource(settings=settings)},
        )  # fmt: skip
    (failed,) = [str(event.step_failure_data.error) for event in done.all_events if event.is_step_failure]
    told = f"raw_problems does not start, em_bounds[{LAST_ROUND}] is stopped by its gate: the held-out bound fell by 50"
    assert (told in failed) == stopped
    assert ("model.safetensors" in failed or "config.json" in failed) != stopped  # these models cannot be loaded
