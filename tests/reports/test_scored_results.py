"""The numbers of `promptcot score` are those of the statistics on the same marks, whatever file they come in."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from promptcot_assets.reports.scored_results import as_text, score
from promptcot_assets.stages.evaluation.results_file import ResultsError
from promptcot_assets.stages.statistics import (
    StatisticsError,
    clustered_interval,
    corrected_level,
    paired_difference,
    pass_at_k_interval,
    plan_questions,
)
from promptcot_assets.text.printing import to_json


def marks_of(seed: int, gain: float, questions: int = 40, generations: int = 4) -> list[list[int]]:
    draw = random.Random(seed)
    return [[int(draw.random() < min(1, q / questions + gain)) for _ in range(generations)] for q in range(questions)]


SYSTEMS = {"base": marks_of(1, 0.0), "tuned": marks_of(2, 0.3), "again": marks_of(3, 0.02)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "results.jsonl"
    rows = [{"question_id": n, "system": name, "correct": marks} for name, own in SYSTEMS.items()
            for n, marks in enumerate(own)]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_scores_and_differences_are_the_statistics_of_the_marks(file: Path) -> None:
    found = score([file])
    known = {(one.system, one.metric): one for one in found.scores}
    for name, marks in SYSTEMS.items():
        for metric, interval in (("avg@4", clustered_interval(marks)), ("pass@4", pass_at_k_interval(marks, 4)),
                                 ("pass@2", pass_at_k_interval(marks, 2))):  # fmt: skip
            one = known[name, metric]
            assert (one.value, one.low, one.high) == (interval.estimate, interval.low, interval.high)
    assert [(one.system, one.than) for one in found.differences] == [
        ("tuned", "base"), ("again", "base"), ("again", "tuned")
    ]  # fmt: skip
    for one in found.differences:
        sides = SYSTEMS[one.system], SYSTEMS[one.than]
        alone, strict = paired_difference(*sides), paired_difference(*sides, level=corrected_level(3))
        assert (one.value, one.low, one.high) == (alone.estimate, alone.low, alone.high)
        assert one.significant == (not alone.low <= 0 <= alone.high)
        assert one.significant_among_all == (not strict.low <= 0 <= strict.high)
    by_pair = {(one.system, one.than): one for one in found.differences}
    assert by_pair["tuned", "base"].significant and not by_pair["again", "base"].significant


def test_a_baseline_turns_every_difference_the_same_way(file: Path) -> None:
    found = score([file], baseline="tuned")
    assert [(one.system, one.than) for one in found.differences] == [("base", "tuned"), ("again", "tuned")]
    with pytest.raises(ResultsError, match="no system 'nobody' to compare with; there are base, tuned, again"):
        score([file], baseline="nobody")
    for effect in (0.0, 1e-300, float("nan"), 2.0):
        with pytest.raises(StatisticsError, match=f"effect={effect}"):
            score([file], effect=effect)


def test_the_planner_says_questions_and_answers(file: Path) -> None:
    (plan, *_) = score([file], effect=0.05).plans
    spread = paired_difference(SYSTEMS["tuned"], SYSTEMS["base"]).spread
    assert plan.spread == spread and plan.questions_needed == plan_questions(0.05, spread)
    assert plan.questions_by_generations is not None
    needed = list(plan.questions_by_generations.values())
    assert needed == sorted(needed, reverse=True) and needed[-1] < needed[0]
    assert plan.questions_by_generations[4] == pytest.approx(plan.questions_needed, abs=2)  # there are four each


def test_the_text_names_what_was_read_and_what_was_left_out(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("id,correct\n0,1\n1,0\n99,\n")
    text = as_text(score([file, other]))
    assert "question <- question_id, system <- system, correct <- correct" in text
    assert "1 answers without a mark are left out" in text
    assert "38 questions that only one of other and base has are left out" in text
    assert "not told by one answer each" in text and "questions by answers to each" in text


def test_names_in_a_file_steer_no_terminal_and_can_be_printed(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"id": n, "model": name, "correct": True} for n in (1, 2) for name in ("\x1b[31mred", "half \ud800")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = score([path])
    text = as_text(found)
    assert "\x1b" not in text and text.encode() and "half \\ud800 against \\x1b[31mred" in text
    assert json.loads(to_json(found).encode())["scores"][1]["system"] == "half \ud800"


def test_systems_without_a_common_question_are_not_compared(tmp_path: Path) -> None:
    for name, question in (("a", "q1"), ("b", "q2")):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"id": question, "correct": True}) + "\n")
    found = score([tmp_path / "a.jsonl", tmp_path / "b.jsonl"])
    assert not found.differences and found.notes == ["b and a share 0 questions, so nothing is compared"]
