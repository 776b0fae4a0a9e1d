from __future__ import annotations

import pytest

from promptcot_assets.lake import LakeError
from promptcot_assets.lineage import trace as reports
from promptcot_assets.lineage.history import History
from promptcot_assets.lineage.trace import Graph, Node
from tests.small_home import BATCH, Home

Named = set[tuple[str, str | None]]


def nodes(home: Home, row_id: str, kind: str, down: bool = False) -> Named:
    history, graph = reports.trace(home.path, row_id, down)
    return {(node.ref.asset, node.row) for node in graph.edges if reports.kind_of(history, node) == kind}


ABOVE_PROBLEM_1 = {("raw_problems", "raw_1"), ("concept_sets", "set_1"), ("concept_corpus", "ratios"),
                   ("seed_problems", "seed_1"), ("seed_problems", "seed_2")}  # fmt: skip
ABOVE_PROBLEM_2 = {("raw_problems", "raw_2"), ("concept_sets", "set_2"), ("concept_corpus", "sums"),
                   ("seed_problems", "seed_1"), ("seed_problems", "seed_3")}  # fmt: skip
LABELS_2 = {("math_answers", "label_2"), ("code_tests", "test_2")}
UP: list[tuple[str, Named]] = [
    ("seed_1", set()),
    ("ratios", {("seed_problems", "seed_1"), ("seed_problems", "seed_2")}),
    ("candidate_1b", {("seed_problems", "seed_1")}),
    ("winner_2", {("em_rationales", "candidate_2a"), ("seed_problems", "seed_2")}),
    ("problem_1", ABOVE_PROBLEM_1),
    ("trace_1", {("problems", "problem_1"), ("math_answers", "label_1"), *ABOVE_PROBLEM_1}),
    ("example_2", {("seed_problems", "seed_1")}),
    ("pair_1", {("rollouts", "rollout_1"), ("rollouts", "rollout_2"), ("verdicts", "rollout_1"),
                ("verdicts", "rollout_2"), ("problems", "problem_2"), *LABELS_2, *ABOVE_PROBLEM_2}),
    ("sft_1", {("benchmark_items", "item_1")}),
    ("score_sft", {("benchmark_verdicts", "sft_1"), ("benchmark_verdicts", "sft_2"), ("benchmark_generations", "sft_1"),
                   ("benchmark_generations", "sft_2"), ("benchmark_items", "item_1"), ("benchmark_items", "item_2")}),
]  # fmt: skip


@pytest.mark.parametrize(("row_id", "above"), UP, ids=[row_id for row_id, _ in UP])
def test_rows_above(arc: Home, row_id: str, above: Named) -> None:
    found = nodes(arc, row_id, "row")
    assert {one for one in found if one[1] != row_id or one in above} == above


def test_a_benchmark_answer_leads_through_the_models_to_the_seeds(arc: Home) -> None:
    roles = {"student_base", "sft_model", "self_play_model", "base_model", "problem_generator", "rationale_model",
             "cold_rationale_model", "cold_problem_generator"}  # fmt: skip
    assert nodes(arc, "self_play_1", "model") == {(role, arc.models[role]) for role in roles}
    assert {("seed_problems", None), ("em_rationales", None), ("preference_pairs", None)} <= nodes(
        arc, "self_play_1", "table"
    )


def test_a_model_can_be_traced_itself(arc: Home) -> None:
    assert nodes(arc, arc.models["cold_rationale_model"], "table") == {("seed_triples", None), ("seed_problems", None)}
    below = nodes(arc, arc.models["sft_model"], "model", down=True)
    assert below == {("sft_model", arc.models["sft_model"]), ("self_play_model", arc.models["self_play_model"])}


DOWN: list[tuple[str, Named]] = [
    ("score_sft", set()),  # the point of the plot is another stage's
    ("score_self_play", {("scaling", "scale_1")}),
    ("seed_3", {("cold_start_bounds", "bound_0"), ("em_bounds", "bound_1"), ("em_curves", "curve_1"),
                ("common_bounds", "common_1"), ("distribution", "seed problems"),
                ("distribution", "synthetic problems")}),
    ("candidate_1b", set()),
    ("candidate_2a", {("em_m_step", "winner_2")}),
    ("test_2", {("teacher_traces", "trace_2"), ("verdicts", "rollout_1"), ("verdicts", "rollout_2"),
                ("preference_pairs", "pair_1"), ("difficulty", "problem_2"), ("yield_report", "step_1")}),
    ("item_2", {("benchmark_generations", f"{stage}_2") for stage in ("base", "sft", "self_play")}
     | {("benchmark_verdicts", f"{stage}_2") for stage in ("base", "sft", "self_play")}
     | {("benchmark_scores", f"score_{stage}") for stage in ("base", "sft", "self_play")}
     | {("scaling", "scale_1"), ("distribution", "seed problems"), ("distribution", "synthetic problems")}),
]  # fmt: skip


@pytest.mark.parametrize(("row_id", "below"), DOWN, ids=[row_id for row_id, _ in DOWN])
def test_rows_below(arc: Home, row_id: str, below: Named) -> None:
    assert {one for one in nodes(arc, row_id, "row", down=True) if one[1] != row_id} == below


def test_only_what_it_was_trained_on_leads_to_a_model(arc: Home) -> None:
    assert nodes(arc, "candidate_1b", "model", down=True) == set()  # lost the E-step
    assert nodes(arc, "seed_3", "model", down=True) == set()  # held out
    assert ("rationale_model", arc.models["rationale_model"]) in nodes(arc, "candidate_1a", "model", down=True)


def test_a_concept_leads_down_through_its_seeds(arc: Home) -> None:
    below = nodes(arc, "sums", "row", down=True)
    assert {("seed_problems", "seed_3"), ("em_bounds", "bound_1"), ("concept_sets", "set_2")} <= below
    assert ("seed_problems", "seed_2") not in below


def test_rows_are_followed_in_the_versions_they_were_made_from(own_arc: Home) -> None:
    """A problem that is gone from the newest batch still explains the traces that were made of it."""
    own_arc.commit("problems", [{"problem_id": "problem_1", "raw_problem_id": "raw_1", "concept_set_id": "set_1"}],
                   "raw_problems", partition=BATCH)  # fmt: skip
    history, graph = reports.trace(own_arc.path, "rollout_1")
    (problem,) = (node for node in graph.edges if node.row == "problem_2")
    assert problem.ref.version == 1 and not history.is_newest(problem.ref)
    assert "problems[first]@1 problem_2 (superseded)" in reports.as_text(history, graph)
    assert graph.missing == []
    below = reports.trace(own_arc.path, "problem_2", down=True)[1]  # from the superseded version that still has it
    assert any(node.row == "pair_1" for node in below.edges)


def test_the_nearest_version_counts(own_arc: Home) -> None:
    """A rollout names a problem of the batch it read, not of an older one that only its model was trained on."""
    own_arc.commit("problems", [{"problem_id": "problem_2", "raw_problem_id": "raw_3", "concept_set_id": "set_1"}],
                   "raw_problems", partition=BATCH)  # fmt: skip
    own_arc.commit(
        "rollouts", [{"rollout_id": "again", "problem_id": "problem_2"}], "problems", "sft_model", partition="tiny"
    )
    graph = reports.trace(own_arc.path, "again")[1]
    assert {node.ref.version for node in graph.edges if node.row == "problem_2"} == {2}
    assert ("raw_problems", "raw_2") not in {(node.ref.asset, node.row) for node in graph.edges}


def test_an_id_without_a_row_is_reported(own_arc: Home) -> None:
    own_arc.commit("teacher_traces", [{"trace_id": "orphan", "problem_id": "nowhere", "teacher": "sft_model/0123"}],
                   "problems", partition=BATCH)  # fmt: skip
    history, graph = reports.trace(own_arc.path, "orphan")
    assert [(one["column"], one["value"]) for one in graph.missing] == [
        ("problem_id", "nowhere"), ("teacher", "sft_model/0123")
    ]  # fmt: skip
    assert "! teacher_traces orphan: problem_id 'nowhere'" in reports.as_text(history, graph)


def test_an_unknown_id_says_where_to_look(arc: Home) -> None:
    with pytest.raises(LakeError, match=r"no table in .* has a row 'nobody'; a row id is the 16 hex digits"):
        reports.trace(arc.path, "nobody")


def test_garbage_collected_rows_end_the_walk(own_arc: Home) -> None:
    own_arc.commit("rollouts", [{"rollout_id": "new", "problem_id": "problem_2"}], "problems", partition="tiny")
    (old,) = (entry for entry in History(own_arc.path).of_asset("rollouts") if entry.ref.version == 1)
    (own_arc.path / "lake" / "rollouts" / old.file).unlink()
    rows = nodes(own_arc, "pair_1", "row")
    assert ("verdicts", "rollout_1") in rows and ("rollouts", "rollout_1") not in rows
    text = reports.as_text(*reports.trace(own_arc.path, "pair_1"))
    assert text.endswith("! rollouts[tiny]@1: not followed, its rows were garbage-collected")


def test_a_large_group_is_a_number(own_arc: Home) -> None:
    many = [{"generation_id": f"g{n}", "item_id": "item_1", "benchmark": "aime", "stage": "sft"} for n in range(30)]
    own_arc.commit("benchmark_verdicts", many, "benchmark_items", partition="tiny")
    own_arc.commit("benchmark_scores", [{"score_id": "s", "benchmark": "aime", "stage": "sft"}], "benchmark_verdicts",
                   partition="tiny")  # fmt: skip
    history, graph = reports.trace(own_arc.path, "s")
    assert "benchmark, stage: benchmark_verdicts[tiny]@2  30 of 30 rows" in reports.as_text(history, graph)


def test_a_printed_tree_takes_the_long_way_and_repeats_nothing(arc: Home) -> None:
    history, graph = reports.trace(arc.path, "pair_1")
    lines = reports.as_text(history, graph).splitlines()
    assert not any(line.startswith(("├─ problem_id", "└─ problem_id")) for line in lines)  # the rollouts lead there
    unfolded = [line for line in lines if "problems[first]@1 problem_2" in line and "(above)" not in line]
    assert len(unfolded) == 1
    assert Node(arc.refs["problems"], "problem_2") in graph.edges[graph.starts[0]]  # JSON has the short way too
    document = reports.as_json(history, graph)
    assert len(document["edges"]) == sum(map(len, graph.edges.values()))


def test_long_lists_of_children_are_cut_in_print(arc: Home) -> None:
    start = Node(arc.refs["raw_problems"], "start")
    graph = Graph([start])
    for n in range(9):
        graph.add(start, Node(arc.refs["problems"], f"child {n}"), "via")
    text = reports.as_text(History(arc.path), graph)
    assert "child 4" in text and "child 5" not in text and "… 4 more of problems (--json lists all)" in text


def test_an_empty_home_says_what_to_run(tmp_path) -> None:
    with pytest.raises(LakeError, match="run `promptcot run`"):
        reports.trace(tmp_path, "seed_1")
    assert not (tmp_path / "lake").exists()
