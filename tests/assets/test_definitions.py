"""The graph as it stands: a changed key, dependency, partition, pool or check shows here in review."""

import json
from pathlib import Path

import dagster as dg
import pytest

from promptcot_assets.assets.everything import ASSETS
from promptcot_assets.assets.start_here import NAME as START
from promptcot_assets.automation.checks import checks
from promptcot_assets.definitions import build_definitions
from promptcot_assets.settings import load_settings
from promptcot_assets.tables import MODEL_ROLES, SCHEMAS, TABLES

OPTIONAL = {name for name, table in TABLES.items() if table.optional}

SNAPSHOT = Path(__file__).with_name("graph.json")


@pytest.fixture(scope="module")
def definitions(tmp_path_factory: pytest.TempPathFactory) -> dg.Definitions:
    return build_definitions("demo", str(tmp_path_factory.mktemp("home")))


def _late_after(policy: dg.FreshnessPolicy | None) -> str | None:
    return str(policy.fail_window.to_timedelta()) if policy else None


def described(definitions: dg.Definitions) -> dict[str, object]:
    graph = definitions.resolve_asset_graph()
    assets = {
        key.to_user_string(): {
            "group": graph.get(key).group_name,
            "deps": sorted(parent.to_user_string() for parent in graph.get(key).parent_keys),
            "partitions": type(graph.get(key).partitions_def).__name__ if graph.get(key).partitions_def else None,
            "pools": sorted(graph.get(key).pools or []),
            "automated": graph.get(key).automation_condition is not None,
            "late after": _late_after(graph.get(key).freshness_policy_or_from_metadata),
        }
        for key in sorted(graph.get_all_asset_keys())
    }
    checks = sorted(f"{key.asset_key.to_user_string()}: {key.name}" for key in graph.asset_check_keys)
    return {"assets": assets, "checks": checks, "jobs": sorted(job.name for job in definitions.resolve_all_job_defs())}


def test_a_check_has_the_partitions_of_its_asset(definitions: dg.Definitions) -> None:
    """Dagster takes others without an error, and then reads the wrong rows."""
    graph = definitions.resolve_asset_graph()
    for key in graph.asset_check_keys:
        spec = graph.get_check_spec(key)
        assert spec.partitions_def == graph.get(key.asset_key).partitions_def, key


def test_the_first_box_leads_to_the_front_page_and_the_reader(tmp_path: Path) -> None:
    graph = build_definitions("demo", str(tmp_path)).resolve_asset_graph()
    box = graph.get(dg.AssetKey("start_here"))
    assert not box.is_materializable and not box.parent_keys and not box.child_keys
    assert box.description and str(tmp_path / "reader" / "index.html") in box.description
    for command in ("promptcot read", "promptcot show", "promptcot trace", "promptcot mark"):
        assert f"`{command}" in box.description


def test_every_model_outside_the_rounds_is_checked_for_its_inputs(definitions: dg.Definitions) -> None:
    keys = definitions.resolve_asset_graph().asset_check_keys
    checked = {key.asset_key.path[-1] for key in keys if key.name == "every_input_resolves"}
    of_rounds = {"rationale_model", "problem_generator", "control_rationale_model", "control_problem_generator"}
    assert checked == set(MODEL_ROLES) - OPTIONAL - of_rounds


def test_no_check_of_a_round_is_a_step_of_its_own(definitions: dg.Definitions) -> None:
    """It would run on when the round's assets are there, and the backfill with the next round beside it."""
    graph = definitions.resolve_asset_graph()
    rounds = {key for key in graph.get_all_asset_keys() if graph.get(key).group_name == "em"}
    alone = [key for check in checks(load_settings("demo")) for key in check.check_keys if key.asset_key in rounds]
    assert alone == []


def test_the_graph_is_that_of_the_profile_it_is_built_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever the profile of the process."""
    monkeypatch.setenv("PROMPTCOT_PROFILE", "demo")
    paper = load_settings("selfplay_4b")
    built = build_definitions("selfplay_4b", str(tmp_path))
    graph = built.resolve_asset_graph()
    partitions = {
        name: graph.get(dg.AssetKey(name)).partitions_def for name in ("student_base", "em_bounds", "teacher_model")
    }
    keys = {name: definition.get_partition_keys() for name, definition in partitions.items() if definition}
    assert keys["student_base"] == sorted(paper.students) != sorted(load_settings("demo").students)
    assert len(keys["em_bounds"]) == paper.em.rounds == 6
    assert keys["teacher_model"] == sorted(paper.teachers)
    assert graph.has(dg.AssetKey("seed_annotations"))
    lake = built.resources["lake"] if built.resources else None  # type: ignore[index]
    assert lake.settings.values == paper and lake.home == str(tmp_path)


def test_definitions_load_and_have_no_cycle(definitions: dg.Definitions) -> None:
    dg.Definitions.validate_loadable(definitions)
    assert definitions.resolve_asset_graph().toposorted_asset_keys  # finds the cycles that loading alone does not


def test_graph_is_the_one_reviewed(definitions: dg.Definitions) -> None:
    """After a meant change: python -m tests.assets.test_definitions"""
    assert described(definitions) == json.loads(SNAPSHOT.read_text())


def test_every_asset_has_a_declared_table_an_owner_a_kind_and_a_description(definitions: dg.Definitions) -> None:
    for spec in definitions.resolve_all_asset_specs():
        if spec.key.path[-1] == START:
            continue
        assert spec.key.path[-1] in SCHEMAS
        assert spec.owners and spec.kinds and spec.code_version
        assert spec.description, f"{spec.key} has no description"
        assert "dagster/column_schema" in spec.metadata


def test_every_declared_table_is_an_asset(definitions: dg.Definitions) -> None:
    assert ASSETS.keys() == TABLES.keys()
    demo = load_settings("demo")  # which does without the optional ones
    assert {name for name, asset in ASSETS.items() if not asset.when(demo)} == OPTIONAL
    assert {spec.key.path[-1] for spec in definitions.resolve_all_asset_specs()} - {START} == set(SCHEMAS) - {
        name for name, table in TABLES.items() if table.optional
    }


def test_round_outputs_depend_on_their_own_previous_round_and_on_nothing_inside_the_round(
    definitions: dg.Definitions,
) -> None:
    """Inner dependencies of a self-dependent multi-asset make every backfill fail in the daemon."""
    from tests.assets.materialized import CONTROL_OUTPUTS, ROUND_OUTPUTS

    graph = definitions.resolve_asset_graph()
    for outputs in (ROUND_OUTPUTS, CONTROL_OUTPUTS):
        for name in outputs:
            parents = {key.to_user_string() for key in graph.get(dg.AssetKey(name)).parent_keys}
            assert name in parents
            assert not parents & (set(outputs) - {name})


if __name__ == "__main__":
    SNAPSHOT.write_text(json.dumps(described(build_definitions("demo", "/nowhere")), indent=1) + "\n")
