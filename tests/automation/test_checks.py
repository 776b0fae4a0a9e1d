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
from promptcot_assets.assets.partitions import BATCHES, partitions_of
from promptcot_assets.assets.resources import LakeResource, SettingsResource
from promptcot_assets.automation.checks import (
    blocking,
    checks,
    every_input_resolves,
    graders_reject_cheats,
    labels_have_the_votes,
    no_benchmark_contamination,
    no_seed_is_a_benchmark_item,
    no_seed_shares_words_with_a_benchmark_item,
    no_triple_is_a_benchmark_item,
    pairs_are_sound,
    rows_are_as_declared,
)
from promptcot_assets.definitions import defs
from promptcot_assets.lake import Ref
from promptcot_assets.lineage.history import History
from promptcot_assets.settings import load_settings
from promptcot_assets.tables import TABLES, Unit
from sandbox import probes
from tests.small_home import BATCH, ROUND, STUDENT, Home, whole_arc

PROFILE = load_settings("demo")
ROUNDS, STUDENTS = partitions_of(Unit.ROUND, PROFILE), partitions_of(Unit.STUDENT, PROFILE)
OF_UNIT = {Unit.HOME: None, Unit.ROUND: ROUNDS, Unit.BATCH: BATCHES, Unit.STUDENT: STUDENTS}
OF = {name: OF_UNIT.get(table.unit) for name, table in TABLES.items()}
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
    found = outcome(rows_are_as_declared(asset, OF[asset]), home, instance, OF[asset])
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
        ({"example_id": ["example_1", "example_1"]}, "its checksum differs"),
        ({"prompt": ["new 1?", None]}, "its checksum differs"),
        ({"prompt": ["new 1?", "another?"]}, "the rows are not those that were committed"),
    ],
)
def test_rows_that_are_not_what_was_committed_are_named(
    change: dict[str, list[object]], said: str, home: Home, instance: dg.DagsterInstance
) -> None:
    rewrite(home, home.refs["sft_examples"], change)
    found = outcome(rows_are_as_declared("sft_examples", STUDENTS), home, instance, STUDENTS)
    assert not found.passed and any(said in row["fault"] for row in shown(found))
    assert "dagster asset materialize" in str(found.description) and f"sft_examples[{STUDENT}]" in str(
        found.description
    )


@pytest.mark.parametrize("role", ["base_model", "cold_problem_generator", "self_play_model"])
def test_inputs_of_a_model_resolve_until_one_is_lost(role: str, home: Home, instance: dg.DagsterInstance) -> None:
    check = every_input_resolves(role, OF[role])
    found = outcome(check, home, instance, OF[role])
    assert found.passed and found.metadata["ancestors"].value == len(home.lake.ancestors(home.refs[role]))
    entry = History(home.path).entries["seed_triples", home.refs["seed_triples"].version]
    (home.path / "lake" / "seed_triples" / entry.file).unlink()
    lost = outcome(check, home, instance, OF[role])
    assert not lost.passed and "seed_triples[all]@1" in str(lost.description)


def test_a_base_that_is_no_ancestor_is_named(home: Home, instance: dg.DagsterInstance) -> None:
    home.train("sft_model", "sft_examples", base="self_play_model", weights="other", partition=STUDENT)
    found = outcome(every_input_resolves("sft_model", STUDENTS), home, instance, STUDENTS)
    assert not found.passed and home.models["self_play_model"] in str(found.description)


def test_the_graders_are_tried_on_planted_cheats(home: Home, instance: dg.DagsterInstance) -> None:
    found = outcome(graders_reject_cheats("verdicts", OF["verdicts"]), home, instance, STUDENTS)
    assert found.passed and found.metadata["probes"].value > 20


def test_a_grader_that_judges_wrong_fails_the_check(
    home: Home, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    unfair = ("an honest answer that is not taken for one", "1", r"\boxed{2}")
    monkeypatch.setattr(probes, "HONEST_COMPLETIONS", [*probes.HONEST_COMPLETIONS, unfair])
    found = outcome(graders_reject_cheats("verdicts", STUDENTS), home, instance, STUDENTS)
    assert not found.passed and shown(found) == [{"probe": unfair[0], "verdict": "wrong_answer"}]
    assert "promptcot doctor" in str(found.description)


# ---- what a schema cannot say
def shown(found: dg.AssetCheckEvaluation) -> list[dict[str, object]]:
    """The examples of a failed check, row by row."""
    table = found.metadata["examples"]
    assert isinstance(table, dg.TableMetadataValue)
    return [dict(record.data) for record in table.records]


def test_a_problem_that_shares_its_text_with_a_benchmark_is_named(home: Home, instance: dg.DagsterInstance) -> None:
    assert outcome(no_benchmark_contamination, home, instance, BATCHES).passed
    leak = {"item_id": "leak", "benchmark": "aime", "problem": "new 2?", "source": "aime.jsonl"}
    home.commit("benchmark_items", [leak])
    found = outcome(no_benchmark_contamination, home, instance, BATCHES)
    (row,) = shown(found)
    assert not found.passed and row == {
        "problem": "new 2?", "id": "raw_2", "from": f"batch {BATCH}", "benchmark": "aime", "item": "leak",
        "item from": "aime.jsonl", "shared words": "new 2",
    }  # fmt: skip
    assert "new 2?" in str(found.description) and "make problems of this batch anew" in str(found.description)


@pytest.mark.parametrize(("check", "asset"), [(no_seed_is_a_benchmark_item, "seed_problems"),
                                              (no_triple_is_a_benchmark_item, "seed_triples")])  # fmt: skip
@pytest.mark.parametrize("text", ["one?", "  ONE ?", "$one$."])
def test_a_benchmark_item_that_is_a_seed_is_named(
    check: dg.AssetChecksDefinition, asset: str, text: str, home: Home, instance: dg.DagsterInstance
) -> None:
    home.commit("seed_triples", [{"rationale_id": f"r{n}", "problem_id": "seed_1", "problem": "one?"} for n in (1, 2)])
    assert outcome(check, home, instance, None).passed
    leak = {"item_id": "leak", "benchmark": "aime", "problem": text, "source": "aime.jsonl"}
    home.commit("benchmark_items", [leak, {"item_id": "other", "benchmark": "aime", "problem": "one more?"}])
    found = outcome(check, home, instance, None)
    assert not found.passed and shown(found) == [
        {"problem": "one?", "seed": "seed_1", "from": "s.jsonl, row 1", "benchmark": "aime", "item": "leak",
         "item from": "aime.jsonl"},
    ]  # fmt: skip
    for told in ("one?", "s.jsonl, row 1", "aime.jsonl", "delete these rows"):
        assert told in str(found.description)


def test_seeds_are_compared_once_there_are_items(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    home = Home(tmp_path / "home")
    home.commit("seed_problems", [{"problem_id": "seed_1", "problem": "one?"}])
    home.commit("seed_triples", [{"rationale_id": "r", "problem_id": "seed_1", "problem": "one?"}])
    assert "no benchmark items yet" in str(outcome(no_triple_is_a_benchmark_item, home, instance, None).description)


def test_a_seed_that_shares_words_with_a_benchmark_item_is_a_warning(home: Home, instance: dg.DagsterInstance) -> None:
    words = " ".join(f"w{at}" for at in range(PROFILE.deduplication.decontamination_ngram))
    seeds = [{"problem_id": split, "split": split, "problem": f"{split}: {words}"} for split in ("play", "held_out")]
    home.commit("seed_problems", seeds)
    assert outcome(no_seed_shares_words_with_a_benchmark_item, home, instance, None).passed
    home.commit("benchmark_items", [{"item_id": "leak", "benchmark": "aime", "problem": f"{words}: how far?"}])
    found = outcome(no_seed_shares_words_with_a_benchmark_item, home, instance, None)
    assert not found.passed and found.severity is dg.AssetCheckSeverity.WARN and not found.blocking
    (row,) = shown(found)
    assert (row["id"], row["item"]) == ("play", "leak")  # what is never trained on may


def test_a_label_with_too_few_votes_is_named_and_none_is_none(home: Home, instance: dg.DagsterInstance) -> None:
    about = {"voter": "procedural", "problem_id": "problem_1"}
    enough = about | {"label_id": "enough", "answer": "7", "votes": 8, "share": 1.0}
    home.commit("math_answers", [enough, about | {"label_id": "tie", "answer": None, "votes": 3}], partition=BATCH)
    assert outcome(labels_have_the_votes, home, instance, BATCHES).passed
    home.commit("math_answers", [enough, about | {"label_id": "few", "answer": "7", "votes": 1}], partition=BATCH)
    found = outcome(labels_have_the_votes, home, instance, BATCHES)
    (row,) = shown(found)
    assert not found.passed and row == {"label": "few", "answer": "7", "votes": "1", "problem": "new 1?"}
    assert "make math_answers" in str(found.description)


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
    assert outcome(pairs_are_sound(STUDENTS), home, instance, STUDENTS).passed
    home.commit("preference_pairs", pairs, "rollouts", "verdicts", partition=STUDENT)
    found = outcome(pairs_are_sound(STUDENTS), home, instance, STUDENTS)
    assert not found.passed and all(row["pair"] and row["fault"] for row in shown(found))
    assert "anew" in str(found.description)


def test_every_blocking_check_is_known_to_what_reads_the_asset() -> None:
    graph = defs.resolve_asset_graph()
    blocks = {(key.asset_key.path[-1], key.name) for key in graph.asset_check_keys if graph.get(key).blocking}
    named = ((asset, name) for asset, names in blocking(checks(PROFILE)).items() for name in names)
    known = {(asset, name) for asset, name in named if ":" not in name}
    assert blocks - known == {
        ("cold_start_bounds", COLD_START_GATE), ("em_rationales", COLLAPSE_GATE), ("em_bounds", BOUND_GATE)
    }  # fmt: skip
    assert known <= blocks
