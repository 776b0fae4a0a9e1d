"""Jobs: what is in them, a failed step's second try, and the one that runs everything."""

import shutil
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.snap.job_snapshot import JobSnap
from dagster_graphql.schema.run_config import default_values_yaml_from_type_snap

from promptcot_assets.assets.resources import LakeResource, SettingsResource
from promptcot_assets.automation.jobs import RETRY, UNIT_TAG, everything_job, improve_job, jobs
from promptcot_assets.definitions import build_definitions, defs
from promptcot_assets.settings import load_settings
from promptcot_assets.tables import open_lake
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
        if not job.name.startswith("__") and job.name not in ("everything_job", "improve_job")
        for key in job.asset_layer.executable_asset_keys
    }
    made_of = {parent.path[-1] for key in graph.get_all_asset_keys() for parent in graph.get(key).parent_keys}
    assert made_of - held <= BY_THEMSELVES


def test_a_run_carries_its_unit_as_a_tag() -> None:
    tags = {
        job.name: defs.resolve_job_def(job.name).tags[UNIT_TAG] for job in jobs("home", "demo", load_settings("demo"))
    }
    assert tags["em_round_job"] == "em_round" and tags["everything_job"] == "everything"
    assert len(set(tags.values())) == len(tags)


def test_the_job_of_a_batch_makes_the_judges_that_its_labels_need(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("extends: demo\nlabels: {validators: 1}\n")
    judges = {"written_judges", "tested_judges"}
    for profile, own in (("demo", set()), (str(tmp_path / "own.yaml"), judges)):
        job = build_definitions(profile).resolve_job_def("synthesis_batch_job")
        made = {key.to_user_string() for key in job.asset_layer.executable_asset_keys}
        assert made & judges == own and "code_tests" in made


def test_a_second_try_takes_what_the_first_one_finished(tmp_path: Path) -> None:
    @dg.asset(name="concept_corpus", retry_policy=dg.RetryPolicy(max_retries=RETRY.max_retries))
    def fails_once(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
        step = lake.step(context, "concept_corpus", [], [])
        if done := step.unchanged():
            return done
        step.commit([{"concept_id": "c", "domain": "maths", "concept": "sums", "problems": 1}])
        raise ConnectionError("the endpoint went away")

    settings = SettingsResource(profile="demo")
    lake = LakeResource(home=str(tmp_path), settings=settings)
    assert dg.materialize([fails_once], resources={"lake": lake}).success
    assert len(open_lake(tmp_path).history("concept_corpus")) == 1


def everything(home: Path, profile: str) -> dg.ExecuteInProcessResult:
    return everything_job(str(home), profile).execute_in_process(raise_on_error=False)


def test_the_launchpad_of_everything_has_nothing_to_set() -> None:
    snapshot = JobSnap.from_job_def(defs.resolve_job_def("everything_job"))
    root = snapshot.mode_def_snaps[0].root_config_key
    assert root
    fields = snapshot.config_schema_snapshot.get_config_snap(root)
    assert default_values_yaml_from_type_snap(snapshot.config_schema_snapshot, fields).strip() in ("", "{}")
    assert fields.fields == []


def test_everything_fails_with_the_reason(tmp_path: Path) -> None:
    profile = tmp_path / "broken.yaml"
    profile.write_text("extends: demo\nlanes: none\n")
    result = everything(tmp_path / "home", str(profile))
    (event,) = result.filter_events(lambda event: event.is_step_failure)
    assert "exit code 1" in str(event.step_failure_data.error) and "lanes" in str(event.step_failure_data.error)


def test_improving_nobody_fails_with_the_reason(tmp_path: Path) -> None:
    asked = {"ops": {"improve": {"config": {"student": "--nobody", "rounds": 2, "budget": 5}}}}
    result = improve_job(str(tmp_path), "demo").execute_in_process(run_config=asked, raise_on_error=False)
    (event,) = result.filter_events(lambda event: event.is_step_failure)
    said = str(event.step_failure_data.error)
    assert "promptcot improve ended with exit code 1" in said and "no student '--nobody' in profile demo" in said


@pytest.mark.slow
def test_everything_leaves_a_finished_home_alone(
    finished_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "copy"
    shutil.copytree(finished_home, home)
    monkeypatch.setenv("DAGSTER_HOME", str(home / "dagster"))
    commits = len(open_lake(home).lineage())
    assert everything(home, str(SMALL)).success
    assert len(open_lake(home).lineage()) == commits
