"""The label assets on a real Dagster instance: problems in a lake in, labels with their figures out."""

from pathlib import Path

import dagster as dg

from promptcot_assets.assets.labels import candidate_programs, code_tests, math_answers, math_votes, proposed_tests
from promptcot_assets.assets.partitions import BATCHES
from promptcot_assets.domains import procedural_domain
from promptcot_assets.lake.ids import content_id
from tests.assets.materialized import built, resources_of
from tests.small_home import BATCH, Home

PROFILE = """
extends: demo
labels: {tests_per_problem: 2, test_programs: 3, mutants: 2, shard_rows: 3}
sandbox: {workers: 1}
"""


def test_every_problem_of_a_batch_gets_its_label_in_shards(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    problems = [
        {"problem_id": content_id(name, one.problem), "domain": name, "problem": one.problem, "batch": BATCH}
        for name in ("mini_maths", "mini_code")
        for one in procedural_domain(name).write_seeds(4, 0, {"planner": 1}, seed=3).train
    ]
    home.commit("problems", problems, partition=BATCH)
    (tmp_path / "profile.yaml").write_text(PROFILE)
    profile = tmp_path / "profile.yaml"
    resources = resources_of(profile, home.path)
    with dg.instance_for_test() as instance:
        instance.add_dynamic_partitions(str(BATCHES.name), [BATCH])
        result = dg.materialize(
            built(profile, math_votes, math_answers, proposed_tests, candidate_programs, code_tests),
            partition_key=BATCH, instance=instance, resources=resources,
        )  # fmt: skip
    assert result.success

    answers, tests = (
        home.lake.table(ref).to_pylist()
        for ref in (home.lake.newest("math_answers", BATCH), home.lake.newest("code_tests", BATCH))
        if ref
    )
    assert {row["problem_id"] for row in answers} == {row["problem_id"] for row in problems[:4]}
    assert {row["problem_id"] for row in tests} == {row["problem_id"] for row in problems[4:]}
    assert len(tests) == 4 * 3  # the worked example and two drawn inputs
    kept = [row for row in tests if row["expected"] is not None]
    assert kept and all(row["trust"] >= 0.6 and 0 < row["mutants"] <= 2 for row in kept)

    (event,) = result.asset_materializations_for_node("code_tests")
    assert event.metadata["kept"].value == len(kept) and event.metadata["repaired"].value == 0
    assert 0 <= float(event.metadata["mean_mutation_score"].value) <= 1  # type: ignore[arg-type]

    votes, programs = (
        home.lake.table(ref).to_pylist()
        for ref in (home.lake.newest("math_votes", BATCH), home.lake.newest("candidate_programs", BATCH))
        if ref
    )
    assert [row["problem_id"] for row in votes] == [row["problem_id"] for row in problems[:4] for _ in range(5)]
    assert [row["problem_id"] for row in programs] == [row["problem_id"] for row in problems[4:] for _ in range(3)]
    assert all(len(row["outputs"]) == 3 for row in programs if row["program"] is not None)
    (event,) = result.asset_materializations_for_node("math_votes")
    assert event.metadata["completions_kept"].value == len(votes)
    assert event.metadata["characters_kept"].value == sum(len(row["completion"]) for row in votes)
