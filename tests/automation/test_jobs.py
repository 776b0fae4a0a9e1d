"""Jobs: what is in them, a failed step's second try, and the one that runs everything."""

import shutil
from pathlib import Path

import dagster as dg
import pytest

from promptcot_assets.assets.resources import LakeResource, SettingsResource
from promptcot_assets.automation.jobs import JOBS, RETRY, UNIT_TAG, everything_job
from promptcot_assets.definitions import defs
from promptcot_assets.lake import Lake
from tests.assets.arc_runs import SMALL

# asked for by name: they compare or map, and no unit of work waits for them
BY_THEMSELVES = {
    "proposal_pool", "common_bounds", "em_curves", "item_difficulty", "distribution",
    "control_rationale_model", "control_problem_generator", "control_bounds",
}  # fmt: skip


def test_the_units_hold_every_asset_that_another_is_made_of() -> None:
    graph = defs.resolve_asset_graph()
    held = {
        key.path[-1]
        for job in defs.resolve_all_job_defs()
        if not job.name.startswith("__") and job.name != everything_job.name
        for key in job.asset_layer.executable_asset_keys
    }
    made_of = {parent.path[-1] for key in graph.get_all_asset_keys() for parent in graph.get(key).parent_keys}
    assert made_of - held <= BY_THEMSELVES


def test_a_run_carries_its_unit_as_a_tag() -> None:
    tags = {job.name: defs.resolve_job_def(job.name).tags[UNIT_TAG] for job in JOBS}
    assert tags["em_round_job"] == "em_round" and tags["everything_job"] == "everything"
    assert len(set(tags.values())) == len(JOBS)


def test_a_second_try_takes_what_the_first_one_finished(tmp_path: Path) -> None:
    @dg.asset(name="concept_corpus", retry_policy=dg.RetryPolicy(max_retries=RETRY.max_retries))
    def fails_once(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
        step = lake.step(context, "concept_corpus")
        if done := step.unchanged():
            return done
        step.commit([{"concept_id": "c", "domain": "maths", "concept": "sums", "problems": 1}])
        raise ConnectionError("the endpoint went away")

    settings = SettingsResource(profile="demo")
    lake = LakeResource(home=str(tmp_path), settings=settings)
    assert dg.materialize([fails_once], resources={"lake": lake}).success
    assert len(Lake(tmp_path).history("concept_corpus")) == 1


def everything(home: Path, profile: str) -> dg.ExecuteInProcessResult:
    settings = SettingsResource(profile=profile)
    resources = {"lake": LakeResource(home=str(home), settings=settings), "settings": settings}
    return everything_job.execute_in_process(resources=resources, raise_on_error=False)


def test_everything_fails_with_the_reason(tmp_path: Path) -> None:
    profile = tmp_path / "broken.yaml"
    profile.write_text("extends: demo\nlanes: none\n")
    result = everything(tmp_path / "home", str(profile))
    (event,) = result.filter_events(lambda event: event.is_step_failure)
    assert "exit code 1" in str(event.step_failure_data.error) and "lanes" in str(event.step_failure_data.error)


@pytest.mark.slow
def test_everything_leaves_a_finished_home_alone(
    finished_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "copy"
    shutil.copytree(finished_home, home)
    monkeypatch.setenv("DAGSTER_HOME", str(home / "dagster"))
    commits = len(Lake(home).lineage())
    assert everything(home, str(SMALL)).success
    assert len(Lake(home).lineage()) == commits
