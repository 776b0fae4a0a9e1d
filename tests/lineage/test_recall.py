from __future__ import annotations

import json

import pytest

from promptcot_assets.lineage.history import History
from promptcot_assets.lineage.recall import Recall, as_text, recall
from promptcot_assets.lineage.trace import trace
from promptcot_assets.tables import MODEL_ROLES, SCHEMAS, TABLES
from promptcot_assets.tables.references import id_column, owns_its_id
from tests.small_home import BATCH, Home

STARTS = ("seed_1", "seed_2", "seed_3", "candidate_1a", "candidate_2a", "set_1", "set_2", "raw_1", "raw_4", "problem_1",
          "problem_2", "trace_1", "rollout_1", "item_1")  # fmt: skip
AGGREGATES = ("benchmark_scores", "difficulty", "em_curves", "distribution", "scaling", "yield_report")  # of many rows


def named(found: Recall) -> dict[str, int]:
    return {one.ref.asset: one.named for one in found.tables if one.named}


def by_brute_force(home: Home, row_id: str) -> dict[str, set[str]]:
    """Ids of the rows of the newest versions that hold, in any column, the id of a row that does, and so on."""
    rows = [
        (asset, one)
        for asset in set(SCHEMAS) - set(MODEL_ROLES) - set(AGGREGATES)
        for partition in home.lake.partitions(asset)
        for one in home.lake.table(home.lake.newest(asset, partition)).to_pylist()
    ]
    bad, ids = set[int](), {row_id}
    while True:
        new = {
            at
            for at, (_, one) in enumerate(rows)
            if at not in bad and any(f'"{bad_id}' in _text(one) for bad_id in ids)
        }
        if not new:
            break
        bad |= new
        ids |= {rows[at][1][id_column(rows[at][0])] for at in new if owns_its_id(rows[at][0])}
    found: dict[str, set[str]] = {}
    for asset, one in (rows[at] for at in bad):
        found.setdefault(asset, set()).add(one[id_column(asset)])
    return found


def _text(row: dict[str, object]) -> str:
    return json.dumps(row).replace('\\"', '"')


@pytest.mark.parametrize("row_id", STARTS)
def test_recall_finds_exactly_the_rows_that_a_search_of_all_columns_finds(arc: Home, row_id: str) -> None:
    tables = [one for one in recall(arc.path, row_id).tables if one.named and one.ref.asset not in AGGREGATES]
    found = {one.ref.asset: set(one.rows[: one.named]) for one in tables}
    assert found == by_brute_force(arc, row_id)
    assert [len(found[one.ref.asset]) for one in tables] == [one.named for one in tables]


def test_a_bad_test_reaches_what_was_judged_by_it_the_model_and_its_scores(arc: Home) -> None:
    found = recall(arc.path, "test_2")
    assert named(found) == {"code_tests": 1, "teacher_traces": 1, "yield_report": 1, "verdicts": 2,
                            "preference_pairs": 1, "difficulty": 1}  # fmt: skip
    assert [one["model_id"] for one in found.models] == [arc.models["self_play_model"]]
    assert [(one["stage"], one["value"], one["through_a_model"]) for one in found.scores] == [("self_play", 1.0, True)]
    learned = {one.ref.asset: one.learned for one in found.tables if one.learned}
    assert learned == {"benchmark_generations": 2, "benchmark_verdicts": 2, "benchmark_scores": 1, "scaling": 1}


@pytest.mark.parametrize("label", ["label_2", "test_2"])
def test_a_bad_label_reaches_the_students_own_passes_and_its_gate(own_arc: Home, label: str) -> None:
    about: dict[str, object] = {"problem_id": "problem_2"}
    own_arc.commit(
        "self_play_examples", [{"example_id": "pass_1", "rollout_id": "rollout_1", **about}], "rollouts", "verdicts",
        partition="tiny",
    )  # fmt: skip
    model = own_arc.train("self_play_model", "sft_model", "self_play_examples", partition="tiny", weights="passes")
    own_arc.commit(
        "self_play_gate", [{"before": 0.5, "pass_rate": 0.2, "model": model, **about}],
        "sft_model", "self_play_model", "problems", "math_answers", "code_tests", partition="tiny",
    )  # fmt: skip
    found = recall(own_arc.path, label)
    assert named(found).items() >= {"verdicts": 2, "self_play_examples": 1, "self_play_gate": 1}.items()
    assert model in [one["model_id"] for one in found.models if one["newest"]]


def test_a_bad_standing_reaches_the_ratings(own_arc: Home) -> None:
    own_arc.commit("contest_standings", [{"standing_id": "standing_1", "contest": "c1"}])
    own_arc.commit(
        "codeforces_ratings", [{"score_id": "rating_1", "benchmark": "codeforces", "stage": "sft"}],
        "benchmark_verdicts", "benchmark_items", "contest_standings", partition="tiny",
    )  # fmt: skip
    assert named(recall(own_arc.path, "standing_1")) == {"contest_standings": 1, "codeforces_ratings": 1}


def test_a_bad_benchmark_item_reaches_scores_but_no_model(arc: Home) -> None:
    found = recall(arc.path, "item_1")
    assert found.models == []
    assert {one["score_id"] for one in found.scores} == {"score_base", "score_sft", "score_self_play"}
    assert not any(one["through_a_model"] for one in found.scores)


def test_a_held_out_seed_reaches_measures_but_no_model(arc: Home) -> None:
    found = recall(arc.path, "seed_3")
    assert found.models == []
    assert {"cold_start_bounds", "em_bounds", "em_curves"} < named(found).keys()


def test_a_candidate_that_lost_reaches_nothing(arc: Home) -> None:
    assert named(recall(arc.path, "candidate_1b")) == {"em_rationales": 1}


def test_a_concept_is_as_bad_as_its_seeds(arc: Home) -> None:
    found = recall(arc.path, "sums")
    assert named(found)["seed_problems"] == 2
    assert named(found)["concept_sets"] == 2  # one has the concept, one comes from seeds that have it


def test_a_model_can_be_recalled(arc: Home) -> None:
    found = recall(arc.path, arc.models["sft_model"])
    assert {one["model_id"] for one in found.models} == {arc.models["sft_model"], arc.models["self_play_model"]}
    assert all(one.named == 0 for one in found.tables)
    assert {one.ref.asset: one.learned for one in found.tables}["benchmark_generations"] == 4  # not those of the base


def test_what_still_rests_on_a_superseded_version_is_found(own_arc: Home) -> None:
    """The example is gone from the newest table, but the model was trained on the version that had it."""
    own_arc.commit(
        "sft_examples", [{"example_id": "example_2", "problem_id": "seed_1"}], "seed_problems", partition="tiny"
    )
    found = recall(own_arc.path, "example_1")
    assert named(found) == {}
    assert {one["model_id"] for one in found.models} == {own_arc.models["sft_model"], own_arc.models["self_play_model"]}
    assert not any("sft_examples" in command for command in found.backfill)  # that one is healed already
    assert found.backfill[0].startswith("dagster asset materialize -m promptcot_assets.definitions --select sft_model")


def test_a_bad_vote_reaches_its_label_its_trace_and_what_was_judged(own_arc: Home) -> None:
    """Of a label every vote is bad news, of a trace only the vote that it is."""
    about = {"problem_id": "problem_2", "model": "procedural"}
    votes = [{"vote_id": f"vote_{at}", "attempt": at, "seed": at, "answer": "7", **about} for at in (1, 2)]
    own_arc.commit("math_votes", votes, "problems", partition=BATCH)
    label = {"label_id": "label_2", "problem_id": "problem_2", "answer": "7", "voter": "procedural"}
    own_arc.commit("math_answers", [label], "math_votes", partition=BATCH)
    traces = [
        {"trace_id": f"of_vote_{at}", "problem_id": "problem_2", "seed": at, "teacher": "procedural", "valid": True}
        for at in (2, 3)
    ]
    own_arc.commit("teacher_traces", traces, "problems", "math_answers", "code_tests", "math_votes", partition=BATCH)
    own_arc.commit("verdicts", [{"rollout_id": "rollout_1", "problem_id": "problem_2"}], "rollouts", "problems",
                   "math_answers", "code_tests", partition="tiny")  # fmt: skip
    found = named(recall(own_arc.path, "vote_2"))
    assert {name: found[name] for name in ("math_votes", "math_answers", "teacher_traces", "verdicts")} == {
        "math_votes": 1, "math_answers": 1, "teacher_traces": 2, "verdicts": 1,
    }  # fmt: skip
    _, graph = trace(own_arc.path, "of_vote_2")
    above = {(node.ref.asset, node.row) for node in graph.edges}
    assert ("math_votes", "vote_2") in above and ("math_answers", "label_2") in above
    direct = {node.row for node in graph.edges[graph.starts[0]] if node.ref.asset == "math_votes"}
    assert direct == {"vote_2"}


def test_a_bad_program_reaches_the_tests_that_it_decided(own_arc: Home) -> None:
    about = {"problem_id": "problem_2"}
    proposals = [
        {"proposal_id": f"proposal_{at}", "becomes": f"test_{at}", "number": at, "writer": "procedural", **about}
        for at in (2, 3)
    ]
    programs = [{"program_id": "program_1", "model": "procedural", "outputs": ["1", "2"], **about}]
    own_arc.commit("proposed_tests", proposals, "problems", partition=BATCH)
    own_arc.commit("candidate_programs", programs, "problems", "proposed_tests", partition=BATCH)
    tests = [{"test_id": f"test_{at}", "writer": "procedural", **about} for at in (2, 3)]
    own_arc.commit("code_tests", tests, "proposed_tests", "candidate_programs", partition=BATCH)
    assert named(recall(own_arc.path, "program_1")) == {"candidate_programs": 1, "code_tests": 2}
    _, graph = trace(own_arc.path, "test_3")
    assert {node.row for node in graph.edges[graph.starts[0]]} >= {"proposal_3", "program_1"}
    assert "proposal_2" not in {node.row for node in graph.edges[graph.starts[0]]}


def test_a_bad_judge_reaches_the_tests_that_it_had_a_say_in(own_arc: Home) -> None:
    about = {"problem_id": "problem_2"}
    judges = [{"judge_id": f"judge_{at}", "number": at, "kind": "checker", **about} for at in (1, 2)]
    own_arc.commit("proposed_tests", [], "problems", partition=BATCH)
    own_arc.commit("candidate_programs", [], "problems", "proposed_tests", partition=BATCH)
    own_arc.commit("written_judges", [{"writer": "procedural", **one} for one in judges], "problems", partition=BATCH)
    own_arc.commit("tested_judges", judges, "proposed_tests", "candidate_programs", "written_judges", partition=BATCH)
    tests = [{"test_id": f"test_{at}", "writer": "procedural", **about} for at in (2, 3)]
    own_arc.commit("code_tests", tests, "proposed_tests", "candidate_programs", "tested_judges", partition=BATCH)
    assert named(recall(own_arc.path, "judge_1")) == {"written_judges": 1, "tested_judges": 1, "code_tests": 2}
    _, graph = trace(own_arc.path, "test_3")
    assert {node.row for node in graph.edges[graph.starts[0]]} >= {"judge_1", "judge_2"}


def test_a_healed_lake_has_nothing_to_recall(own_arc: Home) -> None:
    about = {"voter": "procedural", "answer": "7"}
    own_arc.commit(
        "math_answers", [{"label_id": "label_1", "problem_id": "problem_1", **about}], "problems", partition=BATCH
    )
    own_arc.commit("teacher_traces", [{"trace_id": "trace_1", "problem_id": "problem_1", "teacher": "procedural"}],
                   "problems", "math_answers", partition=BATCH)  # fmt: skip
    before = named(recall(own_arc.path, "label_2"))
    assert "teacher_traces" not in before and before["verdicts"] == 2
    own_arc.commit("verdicts", [], "rollouts", "math_answers", partition="tiny")
    own_arc.commit("preference_pairs", [], "rollouts", "verdicts", partition="tiny")
    own_arc.train("self_play_model", "sft_model", "preference_pairs", partition="tiny", weights="new")
    own_arc.commit("difficulty", [], "rollouts", "verdicts", partition="tiny")
    own_arc.commit("yield_report", [], "math_answers", "teacher_traces", partition=BATCH)
    found = recall(own_arc.path, "label_2")
    assert named(found) == {}
    assert [(one["model_id"], one["newest"]) for one in found.models if one["newest"]] == []


def test_print_has_counts_models_scores_and_commands(arc: Home) -> None:
    text = as_text(arc.path, recall(arc.path, "seed_1"))
    assert text.startswith("seed_problems[all]@1 seed_1  one?")
    assert "remove or correct row 1 of s.jsonl" in text
    assert f"export PROMPTCOT_HOME={arc.path} DAGSTER_HOME={arc.path}/dagster PROMPTCOT_SEED=0" in text
    assert arc.models["self_play_model"] in text and "aime" in text


def test_rows_that_were_garbage_collected_are_told(own_arc: Home) -> None:
    own_arc.commit("raw_problems", [], "concept_sets", partition=BATCH)
    (old,) = (entry for entry in History(own_arc.path).of_asset("raw_problems") if entry.ref.version == 1)
    (own_arc.path / "lake" / "raw_problems" / old.file).unlink()
    found = recall(own_arc.path, "set_1")
    assert [str(ref) for ref in found.unreadable] == ["raw_problems[first]@1"]
    assert "raw_problems[first]@1" in as_text(own_arc.path, found)


def test_shared_references_are_part_of_the_walk(arc: Home) -> None:
    assert all(TABLES[name].made_of for name in AGGREGATES)
