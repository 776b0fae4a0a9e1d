"""The whole arc on a small profile, by the real command line: it ends, it is whole, it survives kill -9."""

import shutil
from pathlib import Path

import dagster as dg
import duckdb
import pytest
from dagster._core.definitions.selector import RepositorySelector

from promptcot_assets.tables import MODEL_ROLES, SCHEMAS, TABLES, open_lake
from tests.assets.arc_runs import DAGSTER, PROMPTCOT, SMALL, run, run_until
from tests.assets.materialized import materialize

pytestmark = pytest.mark.slow

# moments in every kind of work: a trainer, scoring, sampling and judging
KILL_AT = ("training:", "em_rationales[round_01] · E-step: rewards", "ask sft")
TWO_OF_EACH = f"extends: {SMALL}\nlanes: 2\nengine: {{workers: 2}}\nsandbox: {{workers: 2}}\n"

OPTIONAL = {name for name, table in TABLES.items() if table.optional}


def data_versions(home: Path) -> dict[tuple[str, str], str]:
    lake = open_lake(home)
    refs = [lake.newest(asset, partition) for asset in SCHEMAS for partition in lake.partitions(asset)]
    return {(ref.asset, ref.partition): ref.data_version for ref in refs if ref}


def test_every_asset_is_in_the_lake_and_resolves(finished_home: Path) -> None:
    lake = open_lake(finished_home)
    versions = data_versions(finished_home)
    # no profile of the tests names standings or holds problems out for the self-play gate
    empty_allowed = {"preference_pairs", "dropped_problems", "contest_standings", "codeforces_ratings"}
    empty_allowed |= {"self_play_gate", "self_play_examples"}  # so small a student may pass nothing that is usable
    # nor has the procedural domain files whose rows could fall
    empty_allowed |= {"dropped_seed_rows", "dropped_benchmark_rows"}
    assert {asset for asset, _ in versions} >= set(SCHEMAS) - empty_allowed - OPTIONAL
    for commit in lake.lineage():
        for ref in commit.provenance.inputs:
            assert lake.commit_of(ref).ref == ref
    for role in MODEL_ROLES:
        for partition in lake.partitions(role):
            ref = lake.newest(role, partition)
            assert ref and lake.verify(ref)


def test_its_runs_are_on_the_timeline_and_its_front_page_is_there(finished_home: Path) -> None:
    """The timeline leaves out a run that does not say which code location it is of."""
    with dg.DagsterInstance.from_config(str(finished_home / "dagster")) as instance:
        origins = [run.remote_job_origin for run in instance.get_runs()]
    assert origins and {origin and origin.repository_origin.get_selector() for origin in origins} == {
        RepositorySelector(location_name="promptcot", repository_name="__repository__")
    }
    assert "What this home is" in (finished_home / "reader" / "index.html").read_text()


def test_last_screen_names_the_ui_the_catalogue_and_three_queries_that_work(finished_home: Path) -> None:
    printed = (finished_home / "printed.txt").read_text()
    assert "make ui" in printed and str(finished_home / "catalog.duckdb") in printed and "ETA" in printed
    queries = [line.split('"')[1] for line in printed.splitlines() if line.strip().startswith("promptcot sql")]
    assert len(queries) == 3
    with duckdb.connect(str(finished_home / "catalog.duckdb"), read_only=True) as catalogue:
        for query in queries:
            assert catalogue.execute(query).fetchall(), query


def test_catalogue_answers_what_people_ask(finished_home: Path) -> None:
    with duckdb.connect(str(finished_home / "catalog.duckdb"), read_only=True) as catalogue:
        rewards = catalogue.execute("select count(*), count(reward) from em_rationales where round = 1").fetchone()
        assert rewards and rewards[0] == 3 * 256 and rewards[1] > 0
        ancestors = catalogue.execute(
            """
            with recursive up as (
              select asset, partition, version, inputs from lineage where asset = 'self_play_model'
              union
              select l.asset, l.partition, l.version, l.inputs
              from up, unnest(up.inputs) as i(ref) join lineage l
                on l.asset = ref.asset and l.partition = ref.partition and l.version = ref.version)
            select distinct asset from up
            """
        ).fetchall()
        assert {"seed_problems", "problem_generator", "em_rationales", "teacher_traces"} <= {
            row[0] for row in ancestors
        }


def test_an_arc_of_two_lanes_killed_again_and_again_ends_with_the_same_data_versions(
    finished_home: Path, tmp_path: Path
) -> None:
    """The finished home was made by one lane, and workers one at a time."""
    home, profile = tmp_path / "killed", tmp_path / "two_of_each.yaml"
    profile.write_text(TWO_OF_EACH)
    for marker in KILL_AT:
        run_until(marker, home, PROMPTCOT_PROFILE=str(profile))
    done = run([*PROMPTCOT, "run"], home, PROMPTCOT_PROFILE=str(profile))
    assert done.returncode == 0, done.stderr[-4000:]
    assert data_versions(home) == data_versions(finished_home)


def test_running_again_changes_nothing(finished_home: Path, tmp_path: Path) -> None:
    home = tmp_path / "copy"
    shutil.copytree(finished_home, home)
    commits = len(open_lake(home).lineage())
    done = run([*PROMPTCOT, "run"], home)
    assert done.returncode == 0, done.stderr[-4000:]
    assert len(open_lake(home).lineage()) == commits


def test_number_of_workers_changes_no_data_version(finished_home: Path, tmp_path: Path) -> None:
    """Two workers instead of one, from the first batch on, in a copy of the home."""
    profile = tmp_path / "two_of_each.yaml"
    profile.write_text(TWO_OF_EACH)
    home = tmp_path / "copy"
    shutil.copytree(finished_home, home)
    for asset, partition in (("raw_problems", "first"), ("code_tests", "first"), ("rollouts", "tiny")):
        assert materialize(home, profile, [asset], partition) == ""
        before, after = open_lake(finished_home).newest(asset, partition), open_lake(home).newest(asset, partition)
        assert before and after and after.version > before.version
        assert after.data_version == before.data_version


@pytest.mark.parametrize(
    ("selection", "partition"),
    [("concept_corpus", None), ("sft_model", "tiny")],
)
def test_dagster_materializes_a_selection_from_the_command_line(
    finished_home: Path, tmp_path: Path, selection: str, partition: str | None
) -> None:
    home = tmp_path / "copy"
    shutil.copytree(finished_home, home)
    command = [*DAGSTER, "asset", "materialize", "-m", "promptcot_assets.definitions", "--select", selection]
    done = run([*command, *(["--partition", partition] if partition else [])], home)
    assert done.returncode == 0, done.stderr[-4000:]
    assert data_versions(home) == data_versions(finished_home)  # same inputs, same seed: same content


def test_flipped_byte_in_a_checkpoint_is_named_with_the_mend(finished_home: Path, tmp_path: Path) -> None:
    home = tmp_path / "copy"
    shutil.copytree(finished_home, home)
    lake = open_lake(home)
    ref = lake.newest("sft_model", "tiny")
    assert ref
    weights = lake.checkpoint(ref) / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(bytes(content))
    said = materialize(home, SMALL, ["rollouts"], "tiny")
    assert "model.safetensors" in said and "sft_model" in said


def test_workspace_validates(finished_home: Path) -> None:
    done = run([*DAGSTER, "definitions", "validate", "-w", "workspace.yaml"], finished_home)
    assert done.returncode == 0, done.stderr[-4000:]
