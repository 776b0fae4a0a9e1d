"""What failed a blocking check is an input of no later run, until it is made anew or passes."""

from pathlib import Path

import dagster as dg
import pytest

from promptcot_assets.assets.resources import LakeResource, SettingsResource
from promptcot_assets.automation.checks import blocking_checks, pairs_are_sound
from promptcot_assets.automation.partitions import STUDENTS
from tests.reports.small_home import STUDENT, Home, whole_arc

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
