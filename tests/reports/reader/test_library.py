"""What a page joins: along the declared references, in exact versions, upwards and downwards."""

from __future__ import annotations

import pytest

from promptcot_assets.lake import LakeError
from promptcot_assets.reports.reader.library import Library
from tests.small_home import Home


def test_a_problem_has_what_it_comes_from_and_what_became_of_it(arc: Home) -> None:
    with Library(arc.path) as library:
        (page,) = library.join([library.find("problems", "problem_2")])
    above = {(via, row.table, row.id) for via, row in page.above}
    assert {("raw_problem_id", "raw_problems", "raw_2"), ("concept_set_id", "concept_sets", "set_2"),
            ("seed_problem_ids", "seed_problems", "seed_1")} <= above  # fmt: skip
    below = {table: [row.id for row in rows] for table, rows in page.below.items()}
    assert below["math_answers"] == ["label_2"] and below["code_tests"] == ["test_2"]
    assert sorted(below["rollouts"]) == sorted(below["verdicts"]) == ["rollout_1", "rollout_2"]
    assert below["preference_pairs"] == ["pair_1"] and below["difficulty"] == ["problem_2"]


def test_a_seed_has_the_candidates_of_every_round(arc: Home) -> None:
    with Library(arc.path) as library:
        pages = library.join(library.where(library.entries("seed_problems")[0], "true order by all"))
    found = {page.record.id: sorted(row.id for row in page.below.get("em_rationales", [])) for page in pages}
    assert found == {"seed_1": ["candidate_1a", "candidate_1b"], "seed_2": ["candidate_2a"], "seed_3": []}


def test_a_row_about_a_problem_is_read_on_its_page(arc: Home) -> None:
    with Library(arc.path) as library:
        rows = [library.find(*key) for key in (("rollouts", "rollout_1"), ("em_rationales", "candidate_2a"),
                                               ("benchmark_verdicts", "sft_1"), ("problems", "problem_1"))]  # fmt: skip
        subjects = library.subjects(rows)
    assert [subjects[row].key for row in rows] == [
        ("problems", "problem_2"), ("seed_problems", "seed_2"), ("benchmark_items", "item_1"),
        ("problems", "problem_1"),
    ]  # fmt: skip


def test_a_score_leads_to_the_answers_it_is_the_mean_of(arc: Home) -> None:
    with Library(arc.path) as library:
        answers = library.behind(library.find("benchmark_scores", "score_sft"))
    assert sorted(row.id for row in answers) == ["sft_1", "sft_2"]


def test_a_model_leads_to_what_it_learned_from_and_wrote(arc: Home) -> None:
    with Library(arc.path) as library:
        name = arc.models["rationale_model"]
        trained = library.trained_on(library.history.models[name], 12)
        assert [(given.ref.asset, rows, [row.id for row in some]) for given, rows, some in trained] == [
            ("em_rationales", 2, ["candidate_1a", "candidate_2a"])  # only the winners train it
        ]
        assert library.wrote(name) == {"em_m_step": 2, "em_bounds": 1}


def test_an_older_version_is_found_when_no_newer_one_has_the_row(own_arc: Home) -> None:
    own_arc.commit("concept_corpus", [{"concept_id": "sums", "concept": "sums", "problems": 1}], "seed_problems")
    own_arc.publish()
    with Library(own_arc.path) as library:
        assert str(library.find("concept_corpus", "ratios").ref) == "concept_corpus[all]@1"
        assert str(library.find("concept_corpus", "sums").ref) == "concept_corpus[all]@2"
        with pytest.raises(LakeError, match="concept_corpus has no row 'none'"):
            library.find("concept_corpus", "none")
