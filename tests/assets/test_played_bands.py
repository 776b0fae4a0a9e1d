"""A later round of self-play plays on what the profile asks for, by how the rounds before it did."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from promptcot_assets.assets.describe import LEGEND, meaning
from promptcot_assets.assets.partitions import BATCHES
from promptcot_assets.assets.self_play import rollouts
from promptcot_assets.lake import Provenance
from promptcot_assets.tables.models import MODEL
from tests.assets.materialized import built, resources_of
from tests.small_home import BATCH, DOMAIN, STUDENT, Home
from tests.tiny_models import make_tiny_model

PROFILE = """
extends: demo
engine: {workers: 1}
students:
  first: {base: {scratch: {hidden_size: 32, intermediate_size: 64, layers: 1, heads: 2, vocab_size: 512, seed: 3}}}
  tiny: {continues: first}
self_play:
  pool_share: 1.0
  rollouts: 1
  sampling: {max_new_tokens: 2}
"""
PASSES = {"unsolved": 0, "medium": 3, "easy": 7, "solved": 8}  # of eight attempts in the first round; `new` had none
HELD_OUT = "{held_out_share: 1.0e-9, bands: [hard, medium], reprofile: true}"  # of which no problem falls into the gate


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """After the round of `first`: what it was played on, and the model that `tiny` starts from."""
    home = Home(tmp_path / "home")
    problems = [{"problem_id": name, "problem": f"Find {len(name)}.", "batch": BATCH} for name in [*PASSES, "new"]]
    home.commit("problems", problems, partition=BATCH)
    labels = [{"label_id": one["problem_id"], "problem_id": one["problem_id"], "answer": "1"} for one in problems]
    home.commit("math_answers", labels, partition=BATCH)
    home.commit("code_tests", [], partition=BATCH)
    tried = [{"rollout_id": f"{name}{n}", "problem_id": name, "n": n} for name in PASSES for n in range(8)]
    played = [{key: one[key] for key in ("rollout_id", "problem_id")} | {"model": "m1"} for one in tried]
    judged = [{"rollout_id": one["rollout_id"], "passed": one["n"] < PASSES[one["problem_id"]]} for one in tried]
    home.commit("rollouts", played, partition="first")
    home.commit("verdicts", judged, partition="first")
    made = Provenance("1", "{}", 0, "run-1", ())
    folder = make_tiny_model(home.lake.work_folder("sft_model", made.fingerprint) / "model")
    about = {"base": None, "examples": 0, "steps": 0, "tokens": 0, "loss": None}
    home.lake.commit_checkpoint("sft_model", folder, MODEL, about, made, STUDENT)
    return home


def asked_for(
    home: Home, folder: Path, self_play: str, extends: str = "profile.yaml"
) -> tuple[set[str], dict[str, Any], set[str]]:
    """The problems that `tiny` plays on, the page of its rollouts, the inputs that these name."""
    profile = folder / "profile.yaml"
    profile.write_text(PROFILE)
    own = folder / "own.yaml"
    own.write_text(f"extends: {extends}\nself_play: {self_play}\n")
    resources = resources_of(own, home.path)
    with dg.instance_for_test() as instance:
        instance.add_dynamic_partitions(str(BATCHES.name), [BATCH])
        result = dg.materialize(built(own, rollouts), partition_key=STUDENT, instance=instance, resources=resources)
    ref = home.lake.newest("rollouts", STUDENT)
    assert ref
    (event,) = result.asset_materializations_for_node("rollouts")
    page = {name: value.value for name, value in event.metadata.items()}
    assert all(meaning("rollouts", name) for name in page if name not in ("dagster/row_count", LEGEND))
    inputs = {f"{one.asset}[{one.partition}]" for one in home.lake.commit_of(ref).provenance.inputs}
    return {row["problem_id"] for row in home.lake.table(ref).to_pylist()}, page, inputs


def gate_of(home: Home, gains: Sequence[float]) -> None:
    rows = [{"problem_id": f"h{n}", "before": 0.5, "pass_rate": 0.5 + gain} for n, gain in enumerate(gains)]
    home.commit("self_play_gate", rows, partition="first")


def test_what_the_first_round_solved_is_not_played_again(home: Home, tmp_path: Path) -> None:
    played, page, inputs = asked_for(home, tmp_path, "{bands: [hard, medium]}")
    assert played == {"unsolved", "medium", "new"}  # of 7 in 8 and 8 in 8 nothing is hard
    assert page["out_of_band"] == 2
    assert page["bands"] == {f"{DOMAIN}, {band}": 1 for band in ("medium", "new", "unsolved")}
    assert {"rollouts[first]", "verdicts[first]"} <= inputs


def test_a_mix_of_bands_takes_their_shares_and_all_that_is_new(home: Home, tmp_path: Path) -> None:
    mix = f"{{band_mix: {{{DOMAIN}: {{medium: 1, easy: 1, hard: 1}}}}}}"
    played, page, inputs = asked_for(home, tmp_path, mix)
    assert played == {"medium", "easy", "new"}
    assert page["out_of_band"] == 2
    assert {"rollouts[first]", "verdicts[first]"} <= inputs


@pytest.mark.parametrize(
    ("gains", "plateau"), [([0.1, 0.2, 0.15, 0.1], False), ([0.1, -0.1, 0.0, 0.05], True), ([-0.3, -0.2, -0.3], True)]
)
def test_bands_are_measured_anew_after_a_plateau(home: Home, tmp_path: Path, gains: list[float], plateau: bool) -> None:
    gate_of(home, gains)
    played, page, inputs = asked_for(home, tmp_path, HELD_OUT)
    assert played == ({*PASSES, "new"} if plateau else {"unsolved", "medium", "new"})
    assert page.get("plateau", False) is plateau
    assert page["out_of_band"] == (0 if plateau else 2)
    assert "self_play_gate[first]" in inputs


def test_a_gate_without_a_problem_says_nothing_of_a_plateau(home: Home, tmp_path: Path) -> None:
    gate_of(home, [])
    played, _, _ = asked_for(home, tmp_path, HELD_OUT)
    assert played == {"unsolved", "medium", "new"}


def test_a_student_that_does_not_play_is_asked_nothing(home: Home, tmp_path: Path) -> None:
    (tmp_path / "resting.yaml").write_text("extends: profile.yaml\nstudents: {tiny: {plays: false}}\n")
    played, page, _ = asked_for(home, tmp_path, "{bands: [hard, medium]}", "resting.yaml")
    assert played == set() and page["dagster/row_count"] == 0
