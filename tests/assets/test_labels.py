"""The label assets on a real Dagster instance: problems in a lake in, labels with their figures out."""

from pathlib import Path

import dagster as dg

from promptcot_assets.assets.labels import (
    candidate_programs,
    code_tests,
    math_answers,
    math_votes,
    proposed_tests,
    tested_judges,
    written_judges,
)
from promptcot_assets.assets.partitions import BATCHES
from promptcot_assets.assets.table_asset import TableAsset
from promptcot_assets.domains import procedural_domain
from promptcot_assets.judging.verifier import ProblemLabels
from promptcot_assets.lake.ids import content_id
from tests.assets.materialized import built, resources_of
from tests.small_home import BATCH, Home

PROFILE = """
extends: demo
labels: {tests_per_problem: 2, test_programs: 3, mutants: 2, shard_rows: 3}
sandbox: {workers: 1}
"""


REPAIRING = PROFILE.replace("labels: {", "labels: {repair_examples: true, ")


def labelled(home: Home, profile: Path, *more: TableAsset) -> dg.ExecuteInProcessResult:
    """Every label of the batch, made."""
    resources = resources_of(profile, home.path)
    with dg.instance_for_test() as instance:
        instance.add_dynamic_partitions(str(BATCHES.name), [BATCH])
        return dg.materialize(
            built(profile, math_votes, math_answers, proposed_tests, candidate_programs, *more, code_tests),
            partition_key=BATCH, instance=instance, resources=resources,
        )  # fmt: skip


def test_contradicted_statements_are_repaired_and_asked_as_repaired(tmp_path: Path) -> None:
    home, world = Home(tmp_path / "home"), procedural_domain("mini_code")
    right = [one.problem for one in world.write_seeds(6, 0, {"planner": 1}, seed=3).train]
    wrong = [world.with_worked_example(text, "987654") for text in right[:4]]
    problems = [
        {"problem_id": content_id("mini_code", text), "domain": "mini_code", "problem": text, "batch": BATCH}
        for text in [*wrong, *right[4:]]
    ]
    home.commit("problems", problems, partition=BATCH)
    profile = tmp_path / "profile.yaml"
    made = {}
    for name, text in (("without", PROFILE), ("with", REPAIRING)):
        profile.write_text(text)
        run = labelled(home, profile)
        ref = home.lake.newest("code_tests", BATCH)
        assert run.success and ref
        (event,) = run.asset_materializations_for_node("code_tests")
        made[name] = home.lake.table(ref).to_pylist(), event.metadata
    (before, page), (after, repaired) = made["without"], made["with"]
    assert {row["problem_id"] for row in before if row["expected"]} <= {row["problem_id"] for row in problems[4:]}
    statements = {row["problem_id"]: row["statement"] for row in after if row["statement"]}
    truth = {problem["problem_id"]: text for problem, text in zip(problems, right, strict=True)}
    assert statements and all(text == truth[problem] for problem, text in statements.items())
    assert repaired["statements_repaired"].value == len(statements) and page["statements_repaired"].value == 0
    gained = int(repaired["problems_with_tests"].value) - int(page["problems_with_tests"].value)  # type: ignore[arg-type, call-overload]
    assert gained == len(statements)
    asked = [ProblemLabels([], after).on(problem) for problem in problems]
    assert {one["problem"] for one in asked if one} >= set(statements.values())


JUDGING = PROFILE.replace("labels: {", "labels: {validators: 3, checkers: 1, ")


def test_judges_are_written_tested_and_used_and_all_is_the_same_again(tmp_path: Path) -> None:
    problems = [
        {"problem_id": content_id("mini_code", one.problem), "domain": "mini_code", "problem": one.problem,
         "batch": BATCH}
        for one in procedural_domain("mini_code").write_seeds(5, 0, {"planner": 1}, seed=4).train
    ]  # fmt: skip
    versions, tests = [], []
    for name, text in (("a", JUDGING), ("b", JUDGING), ("c", PROFILE)):
        home, profile = Home(tmp_path / name), tmp_path / f"{name}.yaml"
        home.commit("problems", problems, partition=BATCH)
        profile.write_text(text)
        run = labelled(home, profile, *((written_judges, tested_judges) if text == JUDGING else ()))
        made = {one: home.lake.newest(one, BATCH) for one in ("written_judges", "tested_judges", "code_tests")}
        versions.append({one: ref and ref.data_version for one, ref in made.items()})
        assert run.success and made["code_tests"]
        tests.append(home.lake.table(made["code_tests"]).to_pylist())
        if text == JUDGING and made["tested_judges"]:
            rows = home.lake.table(made["tested_judges"]).to_pylist()
            assert [row["problem_id"] for row in rows] == [row["problem_id"] for row in problems for _ in range(4)]
            (event,) = run.asset_materializations_for_node("tested_judges")
            believed = [row for row in rows if row["decides"]]
            assert believed and event.metadata["validators_believed"].value == len(believed)
            assert event.metadata["checkers_believed"].value == 0
            (event,) = run.asset_materializations_for_node("written_judges")
            assert "exactly one output is right" in str(event.metadata["dropped"].value)
    assert versions[0] == versions[1]
    assert tests[0] == tests[1] == tests[2]  # whose drawn inputs all are allowed
    assert versions[2]["written_judges"] is None


def test_every_problem_of_a_batch_gets_its_label_in_shards(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    problems = [
        {"problem_id": content_id(name, one.problem), "domain": name, "problem": one.problem, "batch": BATCH}
        for name in ("mini_maths", "mini_code")
        for one in procedural_domain(name).write_seeds(4, 0, {"planner": 1}, seed=3).train
    ]
    home.commit("problems", problems, partition=BATCH)
    (tmp_path / "profile.yaml").write_text(PROFILE)
    result = labelled(home, tmp_path / "profile.yaml")
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
