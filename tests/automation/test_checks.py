"""Checks on a lake of a few rows: what holds passes, and every planted fault is named."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from promptcot_assets.assets.cold_start import COLD_START_GATE
from promptcot_assets.assets.em import BOUND_GATE, COLLAPSE_GATE
from promptcot_assets.assets.resources import LakeResource, SettingsResource
from promptcot_assets.automation.checks import (
    JUDGED,
    LEARNED_FROM,
    MODELS,
    blocking_checks,
    every_input_resolves,
    graders_reject_cheats,
    labels_have_the_votes,
    no_benchmark_contamination,
    no_seed_is_a_benchmark_item,
    no_seed_shares_words_with_a_benchmark_item,
    pairs_are_sound,
    rows_are_as_declared,
)
from promptcot_assets.automation.partitions import BATCHES, PROFILE, ROUNDS, STUDENTS
from promptcot_assets.definitions import defs
from promptcot_assets.lake import Ref
from promptcot_assets.reports.history import History
from sandbox import probes
from tests.reports.small_home import BATCH, ROUND, STUDENT, Home, whole_arc

KEYS = {id(BATCHES): BATCH, id(ROUNDS): ROUND, id(STUDENTS): STUDENT}


@pytest.fixture(scope="module")
def arc(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return whole_arc(tmp_path_factory.mktemp("arc") / "home")


@pytest.fixture
def home(arc: Home, tmp_path: Path) -> Home:
    """A copy that a test may damage."""
    own = Home(Path(shutil.copytree(arc.path, tmp_path / "home")))
    own.refs |= arc.refs
    own.models |= arc.models
    return own


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as instance:
        instance.add_dynamic_partitions(str(BATCHES.name), [BATCH])
        yield instance


def outcome(
    check: dg.AssetChecksDefinition,
    home: Home,
    instance: dg.DagsterInstance,
    partitions: dg.PartitionsDefinition | None,
) -> dg.AssetCheckEvaluation:
    """What the check says after a run of its asset that changes nothing."""
    settings = SettingsResource(profile="demo")
    resources = {"lake": LakeResource(home=str(home.path), settings=settings), "settings": settings}
    asset = next(iter(check.check_keys)).asset_key

    @dg.asset(key=asset, partitions_def=partitions)
    def checked() -> None: ...

    result = dg.materialize(
        [checked, check], instance=instance, resources=resources,
        partition_key=KEYS[id(partitions)] if partitions else None, raise_on_error=False,
    )  # fmt: skip
    (evaluation,) = result.get_asset_check_evaluations()
    return evaluation


@pytest.mark.parametrize("asset", ["seed_problems", "problems", "sft_examples"])
def test_rows_as_committed_pass(asset: str, home: Home, instance: dg.DagsterInstance) -> None:
    found = outcome(rows_are_as_declared(asset, LEARNED_FROM[asset]), home, instance, LEARNED_FROM[asset])
    assert found.passed and found.metadata["rows"].value == home.refs[asset].rows


def rewrite(home: Home, ref: Ref, change: dict[str, list[object]]) -> None:
    """Another table where the rows of a version lie, as nothing of ours writes it."""
    entry = History(home.path).entries[ref.asset, ref.version]
    path = home.path / "lake" / ref.asset / entry.file
    table = pq.read_table(path, partitioning=None)
    for name, values in change.items():
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, pa.array(values, table.schema.field(name).type))
    pq.write_table(table, path, write_page_checksum=True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"example_id": ["example_1", "example_1"]}, "example_id: an id twice"),
        ({"prompt": ["new 1?", None]}, "prompt: 1 rows without a value"),
        ({"prompt": ["new 1?", "another?"]}, "the rows are not those that were committed"),
    ],
)
def test_rows_that_are_not_what_was_committed_are_named(
    change: dict[str, list[object]], said: str, home: Home, instance: dg.DagsterInstance
) -> None:
    rewrite(home, home.refs["sft_examples"], change)
    found = outcome(rows_are_as_declared("sft_examples", STUDENTS), home, instance, STUDENTS)
    assert not found.passed and said in found.metadata["faults"].value


@pytest.mark.parametrize("role", ["base_model", "cold_problem_generator", "self_play_model"])
def test_inputs_of_a_model_resolve_until_one_is_lost(role: str, home: Home, instance: dg.DagsterInstance) -> None:
    check = every_input_resolves(role, MODELS[role])
    found = outcome(check, home, instance, MODELS[role])
    assert found.passed and found.metadata["ancestors"].value == len(home.lake.ancestors(home.refs[role]))
    entry = History(home.path).entries["seed_triples", home.refs["seed_triples"].version]
    (home.path / "lake" / "seed_triples" / entry.file).unlink()
    lost = outcome(check, home, instance, MODELS[role])
    assert not lost.passed and "seed_triples[all]@1" in str(lost.description)


def test_a_base_that_is_no_ancestor_is_named(home: Home, instance: dg.DagsterInstance) -> None:
    home.train("sft_model", "sft_examples", base="self_play_model", weights="other", partition=STUDENT)
    found = outcome(every_input_resolves("sft_model", STUDENTS), home, instance, STUDENTS)
    assert not found.passed and home.models["self_play_model"] in str(found.description)


def test_the_graders_are_tried_on_planted_cheats(home: Home, instance: dg.DagsterInstance) -> None:
    found = outcome(graders_reject_cheats("verdicts", JUDGED["verdicts"]), home, instance, STUDENTS)
    assert found.passed and found.metadata["probes"].value > 20


def test_a_grader_that_judges_wrong_fails_the_check(
    home: Home, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    unfair = ("an honest answer that is not taken for one", "1", r"\boxed{2}")
    monkeypatch.setattr(probes, "HONEST_COMPLETIONS", [*probes.HONEST_COMPLETIONS, unfair])
    found = outcome(graders_reject_cheats("verdicts", STUDENTS), home, instance, STUDENTS)
    assert not found.passed and found.metadata["wrong"].value == [f"{unfair[0]}: wrong_answer"]


# ---- what a schema cannot say
def test_a_problem_that_shares_its_text_with_a_benchmark_is_named(home: Home, instance: dg.DagsterInstance) -> None:
    assert outcome(no_benchmark_contamination, home, instance, BATCHES).passed
    home.commit("benchmark_items", [{"item_id": "leak", "benchmark": "aime", "problem": "new 2?"}])
    found = outcome(no_benchmark_contamination, home, instance, BATCHES)
    assert not found.passed and found.metadata["examples"].value == ["raw_2: aime leak"]


def test_a_benchmark_item_that_is_a_seed_is_named(home: Home, instance: dg.DagsterInstance) -> None:
    assert outcome(no_seed_is_a_benchmark_item, home, instance, None).passed
    home.commit("benchmark_items", [{"item_id": "leak", "benchmark": "aime", "problem": "one?"}])
    found = outcome(no_seed_is_a_benchmark_item, home, instance, None)
    assert not found.passed and found.metadata["shared"].value == ["leak"]


def test_a_seed_that_shares_words_with_a_benchmark_item_is_a_warning(home: Home, instance: dg.DagsterInstance) -> None:
    words = " ".join(f"w{at}" for at in range(PROFILE.deduplication.decontamination_ngram))
    seeds = [{"problem_id": split, "split": split, "problem": f"{split}: {words}"} for split in ("play", "held_out")]
    home.commit("seed_problems", seeds)
    assert outcome(no_seed_shares_words_with_a_benchmark_item, home, instance, None).passed
    home.commit("benchmark_items", [{"item_id": "leak", "benchmark": "aime", "problem": f"{words}: how far?"}])
    found = outcome(no_seed_shares_words_with_a_benchmark_item, home, instance, None)
    assert not found.passed and found.severity is dg.AssetCheckSeverity.WARN and not found.blocking
    assert found.metadata["examples"].value == ["play: aime leak"]  # what is never trained on may


def test_a_label_with_too_few_votes_is_named_and_none_is_none(home: Home, instance: dg.DagsterInstance) -> None:
    about = {"voter": "procedural", "problem_id": "problem_1"}
    enough = about | {"label_id": "enough", "answer": "7", "votes": 8, "share": 1.0}
    home.commit("math_answers", [enough, about | {"label_id": "tie", "answer": None, "votes": 3}], partition=BATCH)
    assert outcome(labels_have_the_votes, home, instance, BATCHES).passed
    home.commit("math_answers", [enough, about | {"label_id": "few", "answer": "7", "votes": 1}], partition=BATCH)
    found = outcome(labels_have_the_votes, home, instance, BATCHES)
    assert not found.passed and found.metadata["too few votes"].value == ["few"]


PAIR = {"pair_id": "pair", "problem_id": "problem_2", "chosen_rollout_id": "rollout_1",
        "rejected_rollout_id": "rollout_2", "chosen": "1", "rejected": "2"}  # fmt: skip


@pytest.mark.parametrize(
    "pairs",
    [
        [PAIR | {"rejected": "1"}],
        [PAIR | {"chosen_rollout_id": "rollout_2", "rejected_rollout_id": "rollout_1"}],
        [PAIR, PAIR | {"pair_id": "again"}],
        [PAIR | {"rejected_rollout_id": "rollout_3"}],
    ],
    ids=["chosen is rejected", "the wrong way round", "rollouts used twice", "a rollout that nobody judged"],
)
def test_an_unsound_pair_fails(pairs: list[dict[str, object]], home: Home, instance: dg.DagsterInstance) -> None:
    assert outcome(pairs_are_sound, home, instance, STUDENTS).passed
    home.commit("preference_pairs", pairs, "rollouts", "verdicts", partition=STUDENT)
    assert not outcome(pairs_are_sound, home, instance, STUDENTS).passed


def test_every_blocking_check_is_known_to_what_reads_the_asset() -> None:
    graph = defs.resolve_asset_graph()
    blocking = {(key.asset_key.path[-1], key.name) for key in graph.asset_check_keys if graph.get(key).blocking}
    known = {(asset, name) for asset, names in blocking_checks().items() for name in names}
    assert blocking - known == {
        ("cold_start_bounds", COLD_START_GATE), ("em_rationales", COLLAPSE_GATE), ("em_bounds", BOUND_GATE)
    }  # fmt: skip
    assert known <= blocking
