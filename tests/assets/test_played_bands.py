"""A later round of self-play plays on the bands of difficulty that the profile names, by how the former round did."""

from pathlib import Path

import dagster as dg

from promptcot_assets.assets.partitions import BATCHES
from promptcot_assets.assets.self_play import rollouts
from promptcot_assets.lake import Provenance
from promptcot_assets.tables.models import MODEL
from tests.assets.materialized import built, resources_of
from tests.small_home import BATCH, STUDENT, Home
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
  bands: [hard, medium]
  sampling: {max_new_tokens: 2}
"""
PASSES = {"unsolved": 0, "medium": 3, "easy": 7, "solved": 8}  # of eight attempts in the first round; `new` had none


def test_what_the_first_round_solved_is_not_played_again(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    names = [*PASSES, "new"]
    problems = [{"problem_id": name, "problem": f"Find {len(name)}.", "batch": BATCH} for name in names]
    home.commit("problems", problems, partition=BATCH)
    labels = [{"label_id": name, "problem_id": name, "answer": "1"} for name in names]
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

    (tmp_path / "profile.yaml").write_text(PROFILE)
    profile = tmp_path / "profile.yaml"
    resources = resources_of(profile, home.path)
    with dg.instance_for_test() as instance:
        instance.add_dynamic_partitions(str(BATCHES.name), [BATCH])
        result = dg.materialize(built(profile, rollouts), partition_key=STUDENT, instance=instance, resources=resources)

    ref = home.lake.newest("rollouts", STUDENT)
    assert ref
    rows = home.lake.table(ref).to_pylist()
    assert {row["problem_id"] for row in rows} == {"unsolved", "medium", "new"}  # of 7 in 8 and 8 in 8 nothing is hard
    (event,) = result.asset_materializations_for_node("rollouts")
    assert event.metadata["out_of_band"].value == 2
    inputs = home.lake.commit_of(ref).provenance.inputs
    assert {"rollouts[first]", "verdicts[first]"} <= {f"{one.asset}[{one.partition}]" for one in inputs}
