"""What a step leaves: figures of engines on its page and in no row, one version for lake and Dagster, or nothing."""

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from promptcot_assets.assets import cold_start, corpus
from promptcot_assets.assets.resources import EngineResource, LakeResource
from promptcot_assets.assets.step import RESUME_TAG, ROWS_A_TABLE
from promptcot_assets.assets.trainer import TrainerResource
from promptcot_assets.domains.procedural import ProceduralWorld
from promptcot_assets.inference import SamplingParams
from promptcot_assets.lake import LakeError, Provenance
from promptcot_assets.settings.profile import Training
from promptcot_assets.tables import open_lake
from promptcot_assets.tables.models import MODEL
from tests.assets.materialized import built, resources_of
from tests.tiny_models import make_tiny_model
from training.child import CHILD_ENVIRONMENT


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one real, tiny checkpoint."""
    home = tmp_path_factory.mktemp("home")
    lake, made = open_lake(home), Provenance("1", "{}", 0, "run", ())
    folder = make_tiny_model(lake.work_folder("base_model", made.fingerprint) / "model")
    about = {"base": None, "examples": 0, "steps": 0, "tokens": 0, "loss": None}
    lake.commit_checkpoint("base_model", folder, MODEL, about, made)
    return home


@dg.asset(code_version="1")
def concept_corpus(
    context: dg.AssetExecutionContext, lake: LakeResource, engine: EngineResource
) -> dg.MaterializeResult:
    """Uses two engines, one after the other, as an E-step does."""
    step = lake.step(context, "concept_corpus", ["base_model"], [])
    with engine.load(step, "base_model") as q:
        q.generate(["let A", "find B"], SamplingParams(max_new_tokens=4, n=3))
    with engine.load(step, "base_model") as p:
        p.score(["let A"] * 4, [" be", " is", " be the", " of"])
    return step.commit([])


def test_the_page_shows_rates_and_shares_of_all_engines_of_a_step(home: Path, tmp_path: Path) -> None:
    profile = tmp_path / "one_process.yaml"
    profile.write_text("extends: demo\nengine: {workers: 1}\n")
    resources = resources_of(profile, home)
    with dg.instance_for_test() as instance:
        result = dg.materialize([concept_corpus], instance=instance, resources=resources)
    (event,) = result.asset_materializations_for_node("concept_corpus")
    shown = {name: value.value for name, value in event.metadata.items()}
    assert shown["sampled_tokens_per_second"] > 0 and shown["scored_tokens_per_second"] > 0
    assert 0 <= shown["padded_share"] < 1 and 0 < shown["shared_prompt_share"] < 1


def test_a_step_holds_neither_its_shards_nor_the_rows_it_commits(home: Path) -> None:
    """Only as many rows as a shard, or a table of a commit, are alive at a time."""
    alive: set[int] = set()
    most = 0

    class Counted(dict):  # type: ignore[type-arg]
        def __init__(self, **row: object) -> None:
            nonlocal most
            super().__init__(**row)
            alive.add(id(self))
            most = max(most, len(alive))

        def __del__(self) -> None:
            alive.discard(id(self))

    @dg.asset(name="concept_corpus", code_version="1")
    def many_rows(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
        step = lake.step(context, "concept_corpus", [], [])
        rows = step.map(
            "write", [{"n": n} for n in range(8 * ROWS_A_TABLE)],
            lambda some: [Counted(concept_id=f"{row['n']:08d}", concept="c", domain="d", problems=1) for row in some],
            256,
        )  # fmt: skip
        assert len(rows) == 8 * ROWS_A_TABLE
        return step.commit(Counted(**row) for row in rows)

    resources = resources_of("demo", home)
    with dg.instance_for_test() as instance:
        dg.materialize([many_rows], instance=instance, resources=resources)
    ref = open_lake(home).newest("concept_corpus")
    assert ref and ref.rows == 8 * ROWS_A_TABLE
    assert ROWS_A_TABLE <= most <= 2 * ROWS_A_TABLE


def test_a_step_reads_the_columns_it_names(tmp_path: Path) -> None:
    read: list[list[dict[str, object]]] = []

    @dg.asset(name="concept_corpus", code_version="1", deps=["seed_problems"])
    def two_columns(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
        step = lake.step(context, "concept_corpus", ["seed_problems"], [])
        read.extend([step.rows("seed_problems"), step.rows("seed_problems", ("split", "problem_id"))])
        with pytest.raises(LakeError, match="no column 'colour'"):
            step.rows("seed_problems", ["colour"])
        return step.commit([])

    with dg.instance_for_test() as instance:
        dg.materialize(built("demo", corpus.seeds, two_columns), instance=instance, resources=few_seeds(tmp_path))
    whole, few = read
    assert len(few) == 28 and few == [{name: row[name] for name in ("split", "problem_id")} for row in whole]


SAY_NOTHING = """
import json, os, pathlib, sys
pathlib.Path(sys.argv[-1]).with_name("environment.json").write_text(json.dumps(dict(os.environ)))
"""


@dg.asset(code_version="1")
def cold_rationale_model(
    context: dg.AssetExecutionContext, lake: LakeResource, trainer: TrainerResource
) -> dg.MaterializeResult:
    """Trained by a process that is started as a trainer is, and ends well without having trained or said anything."""
    step = lake.step(context, "cold_rationale_model", ["base_model"], [])
    examples = [{"prompt": "let A", "completion": " be"}]
    return trainer.train(step, "sft", "base_model", examples, Training(launcher=["python", "-c", SAY_NOTHING]))


def test_a_trainer_that_reports_nothing_has_made_nothing(home: Path) -> None:
    """Dagster's Pipes would record a materialization all the same, unless asked not to."""
    resources = resources_of("demo", home)
    with dg.instance_for_test() as instance:
        result = dg.materialize([cold_rationale_model], instance=instance, resources=resources, raise_on_error=False)
        assert not result.success
        assert instance.get_latest_materialization_event(dg.AssetKey("cold_rationale_model")) is None
    assert open_lake(home).newest("cold_rationale_model") is None

    # it did run, with what can only be set before a process starts: how it waits, and how it keeps memory
    (said,) = home.rglob("environment.json")
    assert json.loads(said.read_text()).items() >= CHILD_ENVIRONMENT.items()


# stands before the trainer's own command, as a launcher does; the trainer is a real one where it is called
ENDS = {
    "killed": (
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "the trainer was killed (exit code -9), most likely by",
    ),
    "of its own accord": ("raise SystemExit(3)", "the trainer ended with exit code 3"),
    "by a wrong argument": (
        "import sys; from training.sft import main; main(sys.argv[-2:])",
        "arguments.colour: SFTConfig has no such argument",
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_trainer_that_fails_says_why_in_one_sentence(home: Path, end: str) -> None:
    """Not "External execution process failed with code 2"; and of Pipes no file is left in /tmp or the home."""
    code, said = ENDS[end]
    training = Training(launcher=["python", "-c", code], arguments={"colour": "red"})

    @dg.asset(name="cold_rationale_model", code_version="1")
    def failing(
        context: dg.AssetExecutionContext, lake: LakeResource, trainer: TrainerResource
    ) -> dg.MaterializeResult:
        step = lake.step(context, "cold_rationale_model", ["base_model"], [])
        return trainer.train(step, "sft", "base_model", [{"prompt": "let A", "completion": " be"}], training)

    with dg.instance_for_test() as instance:
        result = dg.materialize(
            [failing], instance=instance, resources=resources_of("demo", home), raise_on_error=False
        )
    (event,) = result.filter_events(lambda event: event.is_step_failure)
    error = event.step_failure_data.error
    assert error and f"cold_rationale_model: {said}" in error.message
    assert "External execution process" not in error.message
    (work,) = {path.parent for path in home.rglob("spec.json")}
    assert not (work / "messages.jsonl").exists()


def profile_of(folder: Path, seeds: str = "12") -> Path:
    """Its corpus is made at once."""
    profile = folder / "few.yaml"
    few = f"{{seeds: {seeds}, held_out: 2, benchmark: 2, base_problems: 2}}"
    profile.write_text(f"extends: demo\ncorpus: {{procedural: {{mini_maths: {few}, mini_code: {few}}}}}\n")
    return profile


def few_seeds(folder: Path) -> dict[str, Any]:
    """Resources of a new home whose corpus is made at once."""
    return resources_of(profile_of(folder), folder / "home")


def test_dagster_records_the_lakes_data_version_and_downstream_names_it(tmp_path: Path) -> None:
    """So that Dagster's "stale" is true: it compares contents, not runs."""
    resources = few_seeds(tmp_path)
    with dg.instance_for_test() as instance:
        result = dg.materialize(
            built("demo", corpus.seeds, corpus.concept_corpus), instance=instance, resources=resources
        )
        assert result.success
        tags = {}
        for asset in ("seed_problems", "concept_corpus"):
            event = instance.get_latest_materialization_event(dg.AssetKey(asset))
            assert event and event.asset_materialization and event.asset_materialization.tags
            tags[asset] = event.asset_materialization.tags
    lake = open_lake(tmp_path / "home")
    seeds, concepts = lake.newest("seed_problems"), lake.newest("concept_corpus")
    assert seeds and concepts and seeds.data_version != concepts.data_version
    assert tags["seed_problems"]["dagster/data_version"] == seeds.data_version
    assert tags["concept_corpus"]["dagster/data_version"] == concepts.data_version
    assert tags["concept_corpus"]["dagster/input_data_version/seed_problems"] == seeds.data_version
    assert lake.commit_of(concepts).provenance.inputs == (seeds,)


def test_a_page_keeps_sample_and_figures_when_a_run_finds_the_version_made(tmp_path: Path) -> None:
    resources = few_seeds(tmp_path)
    shown = []
    with dg.instance_for_test() as instance:
        for tags in ({}, {RESUME_TAG: "true"}, {RESUME_TAG: "true"}):
            dg.materialize(built("demo", corpus.seeds), instance=instance, resources=resources, tags=tags)
            event = instance.get_latest_materialization_event(dg.AssetKey("seed_problems"))
            assert event and event.asset_materialization
            shown.append(dict(event.asset_materialization.metadata))
    assert "sample" in shown[0] and shown[1] == shown[2] == shown[0]
    assert len(open_lake(tmp_path / "home").history("seed_problems")) == 1


def test_a_run_that_only_resumes_says_why_it_makes_something_anew(tmp_path: Path) -> None:
    def resumed(**settings: str) -> str:
        resources = resources_of(profile_of(tmp_path, **settings), tmp_path / "home")
        assets = built("demo", corpus.seeds, corpus.concept_corpus)
        assert dg.materialize(assets, instance=instance, resources=resources, tags={RESUME_TAG: "true"}).success
        (run,) = instance.get_runs(limit=1)
        said = [one.user_message for one in instance.all_logs(run.run_id)]
        return " | ".join(one for one in said if "anew" in one)

    with dg.instance_for_test() as instance:
        assert resumed() == resumed() == ""  # the first version, and one that is up to date
        said = resumed(seeds="13")
        newest = open_lake(tmp_path / "home")._log.current("concept_corpus")["all"]
        (tmp_path / "home" / "lake" / "concept_corpus" / newest.file).write_bytes(b"")
        assert resumed(seeds="13") == "concept_corpus is made anew: damaged files"
        newest = open_lake(tmp_path / "home")._log.current("dropped_seed_rows")["all"]
        (tmp_path / "home" / "lake" / "dropped_seed_rows" / newest.file).write_bytes(b"")
        assert resumed(seeds="13") == (
            "seed_problems is made anew: its step makes another anew, and both together"
            " | dropped_seed_rows is made anew: damaged files"
        )
    seeds, dropped, concepts = said.split(" | ")
    settings = "; ".join(
        f"setting procedural.{world}.seeds: 12 before, 13 now" for world in ("mini_code", "mini_maths")
    )
    assert seeds == f"seed_problems is made anew: {settings}"
    assert dropped == f"dropped_seed_rows is made anew: {settings}"
    assert concepts == "concept_corpus is made anew: input seed_problems has other content"


def test_a_changed_prompt_is_no_result_that_is_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resources, assets = few_seeds(tmp_path), (corpus.seeds, corpus.seed_triples, cold_start.base_model)
    names, made = ("seed_problems", "seed_triples", "base_model"), []

    def resume(instance: dg.DagsterInstance) -> None:
        tags = {RESUME_TAG: "true"}
        assert dg.materialize(built("demo", *assets), instance=instance, resources=resources, tags=tags).success
        made.append([len(open_lake(tmp_path / "home").history(name)) for name in names])

    with dg.instance_for_test() as instance:
        resume(instance)
        resume(instance)
        monkeypatch.setattr(ProceduralWorld, "generator_prompt", lambda *_: "Write a problem.\n")
        resume(instance)
    assert made == [[1, 1, 1], [1, 1, 1], [1, 1, 2]]  # the tokenizer is fitted to the prompts
