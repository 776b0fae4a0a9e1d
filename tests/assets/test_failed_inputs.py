"""What failed a blocking check is an input of no later run, until it is made anew or passes."""

from pathlib import Path

import dagster as dg
import pytest

from promptcot_assets.assets.partitions import BATCHES, last_round, partitions_of
from promptcot_assets.assets.resources import LakeResource
from promptcot_assets.assets.synthesis import raw_problems
from promptcot_assets.automation.checks import blocking, checks, no_seed_is_a_benchmark_item, pairs_are_sound
from promptcot_assets.settings import load_settings
from promptcot_assets.tables import Unit
from tests.assets.materialized import built, resources_of
from tests.small_home import BATCH, STUDENT, Home, whole_arc

SOUND = {"pair_id": "pair", "problem_id": "problem_2", "chosen_rollout_id": "rollout_1",
         "rejected_rollout_id": "rollout_2", "chosen": "1", "rejected": "2"}  # fmt: skip


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return whole_arc(tmp_path / "home")


DEMO = load_settings("demo")
STUDENTS, LAST_ROUND = partitions_of(Unit.STUDENT, DEMO), last_round(DEMO)
PAIRS = pairs_are_sound(STUDENTS)


@dg.asset(partitions_def=STUDENTS)
def preference_pairs() -> None:
    """Stands for a run of the asset that left the pairs as they are."""


@dg.asset(code_version="1", partitions_def=STUDENTS, deps=["preference_pairs"])
def self_play_model(context: dg.AssetExecutionContext, lake: LakeResource) -> None:
    lake.step(context, "self_play_model", [f"preference_pairs[{STUDENT}]"], [])


def test_a_run_of_its_own_does_not_start_on_what_failed(home: Home) -> None:

    resources = resources_of("demo", home.path, blocking(checks(DEMO)))

    def run(*definitions: dg.AssetsDefinition | dg.AssetChecksDefinition) -> dg.ExecuteInProcessResult:
        return dg.materialize(
            definitions, instance=instance, resources=resources, partition_key=STUDENT,
            raise_on_error=False,
        )  # fmt: skip

    with dg.instance_for_test() as instance:
        assert run(self_play_model).success
        home.commit("preference_pairs", [SOUND | {"rejected": "1"}], "rollouts", "verdicts", partition=STUDENT)
        assert run(self_play_model).success  # nobody has looked: Dagster would not stop it either

        (looked,) = run(preference_pairs, PAIRS).get_asset_check_evaluations()
        assert not looked.passed
        failed = run(self_play_model)
        (stopped,) = [event.step_failure_data for event in failed.all_events if event.is_step_failure]
        assert stopped.error and f"{home.refs['preference_pairs']} failed the check pairs_are_sound" in str(
            stopped.error
        )

        home.commit("preference_pairs", [SOUND], "rollouts", "verdicts", partition=STUDENT)
        assert run(self_play_model).success  # that was of another version
        (looked,) = run(preference_pairs, PAIRS).get_asset_check_evaluations()
        assert looked.passed
        assert run(self_play_model).success


@dg.asset
def benchmark_items() -> None:
    """Stands for a run of the asset that left the items as they are."""


@dg.asset(code_version="1")
def base_model(context: dg.AssetExecutionContext, lake: LakeResource) -> None:
    lake.step(context, "base_model", ["seed_problems", "seed_triples"], [])


def test_nothing_is_trained_on_seeds_that_are_benchmark_items(home: Home) -> None:
    resources = resources_of("demo", home.path, blocking(checks(DEMO)))
    leak = {"item_id": "leak", "benchmark": "aime", "problem": " One?", "source": "aime.jsonl"}

    def run(*definitions: dg.AssetsDefinition | dg.AssetChecksDefinition) -> dg.ExecuteInProcessResult:
        return dg.materialize(definitions, instance=instance, resources=resources, raise_on_error=False)

    with dg.instance_for_test() as instance:
        home.commit("benchmark_items", [leak])
        (looked,) = run(benchmark_items, no_seed_is_a_benchmark_item).get_asset_check_evaluations()
        assert not looked.passed
        failed = run(base_model)
        (stopped,) = [event.step_failure_data for event in failed.all_events if event.is_step_failure]
        for told in ("base_model does not start", "no_seed_is_a_benchmark_item", "aime.jsonl", "s.jsonl, row 1"):
            assert stopped.error and told in str(stopped.error)

        home.commit("benchmark_items", [leak | {"problem": "another?"}])
        (looked,) = run(benchmark_items, no_seed_is_a_benchmark_item).get_asset_check_evaluations()
        assert looked.passed and run(base_model).success


@pytest.mark.parametrize(("fall", "stopped"), [(0.0, False), (50.0, True)])
def test_no_batch_is_written_by_a_generator_that_its_gate_stopped(home: Home, fall: float, stopped: bool) -> None:
    before = [row | {"bound_id": f"bound_{n}", "problem_id": f"seed_{n}", "split": "held_out"}
              for row in home.lake.table(home.refs["em_bounds"]).to_pylist() for n in range(1, 9)]  # fmt: skip
    cold = [row | {"series": "cold_start", "round": 0} for row in before]
    home.commit("cold_start_bounds", cold, "cold_rationale_model", "cold_problem_generator")
    home.commit("em_bounds", before, "rationale_model", "problem_generator", partition="round_01")
    home.train("problem_generator", "em_m_step", partition=LAST_ROUND, weights="last")
    after = [row | {"iw_bound": row["iw_bound"] - fall} for row in before]
    home.commit("em_bounds", after, "problem_generator", partition=LAST_ROUND)
    with dg.instance_for_test() as instance:
        instance.add_dynamic_partitions(str(BATCHES.name), [BATCH])
        done = dg.materialize(
            built("demo", raw_problems), instance=instance, partition_key=BATCH, raise_on_error=False,
            resources=resources_of("demo", home.path),
        )  # fmt: skip
    (failed,) = [str(event.step_failure_data.error) for event in done.all_events if event.is_step_failure]
    told = f"raw_problems does not start, em_bounds[{LAST_ROUND}] is stopped by its gate: the held-out bound fell by 50"
    assert (told in failed) == stopped
    assert ("model.safetensors" in failed or "config.json" in failed) != stopped  # these models cannot be loaded
