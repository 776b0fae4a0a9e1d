"""A generator that meets its solver, as assets: examples, weights, samples, and the batch that it writes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from promptcot_assets.assets.describe import LEGEND, meaning
from promptcot_assets.assets.everything import ASSETS
from promptcot_assets.assets.fingerprint import how_asked
from promptcot_assets.assets.partitions import BATCHES
from promptcot_assets.assets.synthesis import raw_problems
from promptcot_assets.assets.tuning import DIVERSITY_GATE, tuned_generator, tuning_examples, tuning_samples
from promptcot_assets.automation.arc import ArcError, legs
from promptcot_assets.automation.failures import error_of
from promptcot_assets.automation.jobs import units
from promptcot_assets.lake import Provenance, Ref
from promptcot_assets.settings import SettingsError, load_settings
from promptcot_assets.tables import SCHEMAS
from promptcot_assets.tables.models import MODEL
from tests.assets.materialized import built, resources_of
from tests.small_home import BATCH, DOMAIN, ROUND, STUDENT, Home, row
from tests.tiny_models import make_tiny_model

TRAINING = "{threads: 1, arguments: {learning_rate: 0.001, per_device_train_batch_size: 2, num_train_epochs: 1}}"
PROFILE = f"""
extends: demo
engine: {{workers: 1, max_model_len: 256}}
em: {{rounds: 1, problem_sampling: {{max_new_tokens: 4}}}}
tuning: {{samples: 2, training: {TRAINING}}}
synthesis: {{problems_per_set: 2, sampling: {{max_new_tokens: 4}}, written_by: {{second: {STUDENT}}}}}
"""
PASSES = {"never": 0, "half": 4, "always": 8}  # of eight attempts
CONCEPTS = {"concepts": ["sums"], "level": "easy"}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """After a student played on the first batch: p, its last rationales, and two held-out seeds."""
    home = Home(tmp_path / "home")
    home.commit("seed_problems", [
        {"problem_id": f"s{at}", "problem": f"Find {at}.", "split": "held_out", **CONCEPTS} for at in range(2)
    ])  # fmt: skip
    home.commit("em_m_step", [
        {"rationale_id": f"z{at}", "problem_id": f"t{at}", "rationale": "so", "problem": f"Find 1 + {at}.", **CONCEPTS}
        for at in range(4)
    ], partition=ROUND)  # fmt: skip
    home.commit("cold_start_bounds", [])
    made = Provenance("1", "{}", 0, "run-1", ())
    folder = make_tiny_model(home.lake.work_folder("problem_generator", made.fingerprint) / "model")
    about = {"base": None, "examples": 0, "steps": 0, "tokens": 0, "loss": None}
    p = home.lake.commit_checkpoint("problem_generator", folder, MODEL, about, made, ROUND)
    home.refs["problem_generator"] = p
    home.train("rationale_model", partition=ROUND)
    home.commit("em_bounds", [], "rationale_model", "problem_generator", partition=ROUND)  # that nothing stopped
    home.commit("problems", [
        {"problem_id": name, "problem": f"Find {name}.", "rationale": "so", "batch": BATCH,
         "problem_generator": "problem_generator/1", **CONCEPTS}
        for name in PASSES
    ], partition=BATCH)  # fmt: skip
    played(home, PASSES)
    for batch in (BATCH, "second"):
        home.commit("concept_sets", [{"concept_set_id": f"c{batch}", "batch": batch, **CONCEPTS}], partition=batch)
    return home


def played(home: Home, passes: dict[str, int]) -> None:
    tried = [{"rollout_id": f"{name}{n}", "problem_id": name} for name in passes for n in range(8)]
    home.commit("rollouts", [one | {"model": "m1"} for one in tried], partition=STUDENT)
    judged = [one | {"passed": int(one["rollout_id"][-1]) < passes[one["problem_id"]]} for one in tried]
    home.commit("verdicts", judged, partition=STUDENT)


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    path = tmp_path / "profile.yaml"
    path.write_text(PROFILE)
    return path


def made(home: Home, profile: Path, *assets: Any, partition: str = STUDENT, succeeds: bool = True) -> Any:
    resources = resources_of(profile, home.path)
    with dg.instance_for_test() as instance:
        instance.add_dynamic_partitions(str(BATCHES.name), [BATCH, "second"])
        return dg.materialize(
            built(profile, *assets), partition_key=partition, instance=instance, resources=resources,
            raise_on_error=succeeds,
        )  # fmt: skip


def rows(home: Home, table: str, partition: str = STUDENT) -> list[dict[str, Any]]:
    ref = home.lake.newest(table, partition)
    assert ref
    return home.lake.table(ref).to_pylist()


TUNING = (tuning_examples, tuned_generator, tuning_samples)


def test_p_learns_from_what_the_student_sometimes_solves_and_writes_the_batch_that_asks_for_it(
    home: Home, profile: Path
) -> None:
    profile.write_text(PROFILE.replace("tuning: {", "tuning: {min_diversity: 0.0, "))
    result = made(home, profile, *TUNING)
    examples = rows(home, "tuning_examples")
    assert examples[0]["problem_id"] == "half"
    assert [one["kind"] for one in examples] == ["own", "anchor"]
    (weights,) = rows(home, "tuned_generator")
    (start,) = rows(home, "problem_generator", ROUND)
    assert weights["base"] == start["model_id"] and weights["examples"] == 2
    for asset in TUNING:
        (event,) = result.asset_materializations_for_node(asset.name)
        assert all(meaning(asset.name, one) for one in event.metadata if one not in ("dagster/row_count", LEGEND))
    (check,) = result.get_asset_check_evaluations()
    assert check.check_name == DIVERSITY_GATE and check.passed
    series = [one["series"] for one in rows(home, "tuning_samples")]
    assert series == ["before"] * 4 + ["after"] * 4
    for batch, writer in ((BATCH, start), ("second", weights)):
        made(home, profile, raw_problems, partition=batch)
        assert {one["problem_generator"] for one in rows(home, "raw_problems", batch)} == {writer["model_id"]}


def test_a_student_that_solves_nothing_or_everything_leaves_p_as_it_was(home: Home, profile: Path) -> None:
    """Nothing is compared then, and a batch may be written by it."""
    played(home, PASSES | {"half": 0})
    made(home, profile, *TUNING)
    assert rows(home, "tuning_examples") == rows(home, "tuning_samples") == []
    (weights,), (start,) = rows(home, "tuned_generator"), rows(home, "problem_generator", ROUND)
    versions = {one["model_id"].partition("/")[2] for one in (weights, start)}
    assert len(versions) == 1, "other weights"
    assert made(home, profile, raw_problems, partition="second").success


def samples_by_hand(home: Home, *made_of: Ref) -> None:
    """Samples that narrowed: what a model of random weights writes is no lesson."""
    alike = [{"sample_id": f"{name}{at}", "series": name, "domain": DOMAIN, "problem": text, "spread": spread,
              "problem_id": f"s{at}"}
             for name, texts, spread in (("before", ["one two", "three four"], 0.5), ("after", ["one two"] * 2, 0.0))
             for at, text in enumerate(texts)]  # fmt: skip
    content = pa.Table.from_pylist([row("tuning_samples", **one) for one in alike], SCHEMAS["tuning_samples"])
    home.lake.commit("tuning_samples", [content], content.schema, Provenance("1", "{}", 0, "run-1", made_of), STUDENT)


def second_batch(home: Home, profile: Path) -> str:
    """Why it was not written."""
    result = made(home, profile, raw_problems, partition="second", succeeds=False)
    (failure,) = [error_of(event) for event in result.all_events if event.is_step_failure]
    return str(failure)


def test_no_batch_is_written_by_a_generator_that_its_gate_stopped(home: Home, profile: Path) -> None:
    made(home, profile, tuning_examples, tuned_generator)
    p = home.lake.newest("tuned_generator", STUDENT)
    assert p
    samples_by_hand(home, p)
    assert re.search("stopped by its gate.*cosine spread fell", second_batch(home, profile))
    assert made(home, profile, raw_problems, partition=BATCH).success  # EM's own p writes on


def test_no_batch_is_written_on_the_samples_of_another_generator(home: Home, profile: Path) -> None:
    """A run that is killed after the training leaves the samples of the generator before."""
    profile.write_text(PROFILE.replace("tuning: {", "tuning: {min_diversity: 0.0, "))
    made(home, profile, *TUNING)
    played(home, PASSES | {"always": 5})
    made(home, profile, tuning_examples, tuned_generator)
    why = second_batch(home, profile)
    assert re.search(
        r"was measured on another model than tuned_generator\[tiny\].*materialize tuning_samples\[tiny\]", why
    )
    made(home, profile, tuning_samples)
    assert made(home, profile, raw_problems, partition="second").success


def test_p_learns_the_statement_that_the_student_was_asked(home: Home, profile: Path) -> None:
    profile.write_text(PROFILE + "labels: {repair_examples: true}\n")
    tests = [{"test_id": "t1", "problem_id": "half", "statement": "Find half, which is 5."},
             {"test_id": "t2", "problem_id": "half", "statement": None}]  # fmt: skip
    home.commit("code_tests", tests, partition=BATCH)
    made(home, profile, tuning_examples)
    assert rows(home, "tuning_examples")[0]["problem"] == "Find half, which is 5."


def test_samples_that_do_not_parse_are_counted_by_reason(home: Home, profile: Path) -> None:
    result = made(home, profile, *TUNING)
    (event,) = result.asset_materializations_for_node("tuning_samples")
    assert sum(event.metadata["dropped"].value.values()) == 8


def test_the_round_that_trained_last_gives_the_human_seeds(home: Home, profile: Path) -> None:
    """A converged EM carries its models over, and its last rounds have no rationales."""
    profile.write_text(PROFILE.replace("rounds: 1,", "rounds: 2,"))
    home.commit("em_m_step", [], partition="round_02")
    made(home, profile, tuning_examples)
    assert {one["rationale_id"] for one in rows(home, "tuning_examples")} - {None} <= {f"z{at}" for at in range(4)}
    assert len(rows(home, "tuning_examples")) == 2


# ---- settings, graph
def test_a_profile_without_tuning_has_none_of_it(tmp_path: Path) -> None:
    demo, own = load_settings("demo"), tmp_path / "own.yaml"
    own.write_text("extends: demo\ntuning: {}\n")
    tuned = load_settings(str(own))
    assert {leg.name for leg in legs(tuned)} - {leg.name for leg in legs(demo)} == {"tiny: tuning"}
    assert {job.name for job in units(tuned)} - {job.name for job in units(demo)} == {"tuning_job"}
    order = [leg.name for leg in legs(tuned)]
    assert order.index("tiny: self-play") < order.index("tiny: tuning")


@pytest.mark.parametrize(
    "text",
    [
        "synthesis: {written_by: {second: tiny}}",
        "tuning: {}\nsynthesis: {written_by: {second: nobody}}",
        "tuning: {}\nstudents: {tiny: {plays: false}}\nsynthesis: {written_by: {second: tiny}}",
    ],
)
def test_a_batch_needs_a_student_whose_generator_there_is(text: str, tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(f"extends: demo\n{text}\n")
    with pytest.raises(SettingsError, match=r"synthesis.written_by.second: '\w+' has no tuned generator"):
        load_settings(str(path))


@pytest.mark.parametrize("name", ["written_by: {first: tiny}", "focus: {first: {student: tiny}}"])
def test_the_first_batch_cannot_follow_from_who_plays_on_it(name: str, tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(f"extends: demo\ntuning: {{}}\nself_play: {{held_out_share: 0.2}}\nsynthesis: {{{name}}}\n")
    with pytest.raises(
        ArcError, match=rf"synthesis.{name.partition(':')[0]}.first: students play on the batch 'first'"
    ):
        legs(load_settings(str(path)))


def test_a_generator_is_asked_as_itself_and_not_as_the_student_that_it_met(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("extends: demo\ntuning: {}\nstudents: {tiny: {chat: {system: hello}, engine: {batch_size: 3}}}\n")
    settings = load_settings(str(path))
    engine, chat = how_asked(settings, "tuned_generator", "tiny")
    assert (engine, chat) == (settings.engine, None)
    (entered,) = ASSETS["tuned_generator"].recorded(settings, "tiny", ["tuning_examples[tiny]"])[1:]
    assert set(entered) == {"prompts"}
