from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from promptcot_assets.cli import main
from promptcot_assets.lake import LakeError
from promptcot_assets.reports.benchmark_report import as_json, as_markdown, benchmark_report, plan, scaling_figure
from promptcot_assets.reports.paper_results import ABLATIONS, BENCHMARKS, RESULTS
from promptcot_assets.stages.evaluation.benchmarks import scores
from promptcot_assets.stages.statistics import (
    StatisticsError,
    clustered_interval,
    majority_interval,
    paired_difference,
    pass_at_k_interval,
    plan_questions,
)
from tests.small_home import Home

MARKS = {"base": [[0, 0], [1, 0], [0, 0]], "sft": [[1, 1], [1, 0], [0, 0]]}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.commit("benchmark_items", [{"item_id": f"i{n}", "benchmark": "aime24"} for n in range(3)])
    home.commit("benchmark_generations", [], "benchmark_items", partition="tiny")
    judged = [
        {"generation_id": f"{stage}{n}{k}", "item_id": f"i{n}", "benchmark": "aime24", "stage": stage, "attempt": k,
         "passed": bool(mark), "answer": "4" if mark else f"{k}", "reference": "4", "model": f"{stage}/1",
         "grader": "maths/1", "verdict": "ok" if mark else "wrong_answer"}
        for stage, questions in MARKS.items() for n, marks in enumerate(questions) for k, mark in enumerate(marks)
    ]  # fmt: skip
    home.commit("benchmark_verdicts", judged, "benchmark_generations", "benchmark_items", partition="tiny")
    home.commit("benchmark_scores", scores(judged, 2), "benchmark_verdicts", partition="tiny")
    home.commit("codeforces_ratings", [{"score_id": "e", "benchmark": "codeforces", "stage": "sft", "model": "sft/1",
                                        "refused": "only sample tests"}], partition="tiny")  # fmt: skip
    points = [{"point_id": s, "benchmark": "aime24", "student": "tiny", "stage": s, "examples": n, "value": 0.5,
               "low": 0.25, "high": 0.75} for n, s in enumerate(MARKS)]  # fmt: skip
    home.commit("scaling", points, partition="tiny")
    return home


def test_every_number_is_the_statistic_that_the_table_holds_with_its_versions(home: Home) -> None:
    report = benchmark_report(home.path)
    known = {(one.stage, one.metric): one for one in report.scores}
    answers = [["4", "4"], ["4", "1"], ["0", "1"]]
    for metric, interval in (
        ("avg@2", clustered_interval(MARKS["sft"])),
        ("pass@2", pass_at_k_interval(MARKS["sft"], 2)),
        ("majority@2", majority_interval(MARKS["sft"], 2, answers)),
    ):
        score = known["sft", metric]
        assert (score.value, score.low, score.high) == (interval.estimate, interval.low, interval.high)
        assert (score.questions, score.generations, score.model) == (3, 2, "sft/1")
    difference, alone = known["sft", "paired difference"], paired_difference(MARKS["sft"], MARKS["base"])
    assert (difference.value, difference.low) == (alone.estimate, alone.low)
    assert difference.compared_with == "base" and difference.significant is False
    assert known["sft", "Elo"].value is None and "sample tests" in str(known["sft", "Elo"].note)
    behind = [home.lake.newest(table, "tiny") for table in ("benchmark_scores", "benchmark_verdicts")]
    assert all(ref and report.versions["tiny"]["data"][str(ref)] == ref.data_version for ref in behind)
    rows = home.lake.table(behind[0]).to_pylist() if behind[0] else []
    assert rows and {(row["stage"], row["metric"], row["value"]) for row in rows} == {
        (one.stage, one.metric, one.value) for one in report.scores if one.metric != "Elo"
    }


def test_a_difference_may_be_real_alone_and_not_among_all(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    marks = [int(n < 24) for n in range(30)]  # better on 6 of 30 questions: 1 in 5, from 0.05 to 0.35 alone
    levels = {}
    for benchmarks in (1, 40):
        judged = [
            {"generation_id": f"{b}{stage}{n}", "item_id": f"{b}/{n}", "benchmark": f"b{b}", "stage": stage,
             "passed": bool(mark) or stage == "sft", "model": f"{stage}/1", "attempt": 0, "verdict": "ok",
             "grader": "maths/1"}
            for b in range(benchmarks) for stage in ("base", "sft") for n, mark in enumerate(marks)
        ]  # fmt: skip
        home.commit("benchmark_verdicts", judged, partition="tiny")
        home.commit("benchmark_scores", scores(judged, 1), "benchmark_verdicts", partition="tiny")
        differences = [one for one in benchmark_report(home.path).scores if one.compared_with]
        assert len(differences) == benchmarks and all(one.significant for one in differences)
        levels[benchmarks] = {one.significant_among_all for one in differences}
    assert levels == {1: {True}, 40: {False}}


def test_the_text_has_ours_the_papers_and_where_they_come_from(home: Home, tmp_path: Path) -> None:
    report = benchmark_report(home.path)
    text = as_markdown(report)
    assert "| tiny | aime24 | sft | avg@2 | 50.0 |" in text and "| self-play 4B, after | 87.3 | 85 |" in text
    ours = next(line for line in text.splitlines() if line.startswith("| **tiny, sft**"))
    interval = clustered_interval(MARKS["sft"])
    beside = f"| 50.0 ({100 * interval.low:.1f} to {100 * interval.high:.1f}; n=3, k=2) | - |"
    assert beside in ours and ours.endswith("| refused: only sample tests |")
    assert "benchmark_verdicts[tiny]@" in text and "refused: only sample tests" in text
    assert json.loads(json.dumps(as_json(report)))["paper"]["SFT 7B"]["after"]["aime24"] == 73.1
    scaling_figure(report.scaling, tmp_path / "scaling.png")
    assert (tmp_path / "scaling.png").read_bytes()[:4] == b"\x89PNG"


def test_the_plan_is_made_from_the_spread_that_was_seen(home: Home) -> None:
    (one,) = plan(home.path, 0.02)
    spread = paired_difference(MARKS["sft"], MARKS["base"]).spread
    assert one.spread == pytest.approx(spread) and one.questions == 3
    assert one.questions_needed == plan_questions(0.02, spread)
    with pytest.raises(StatisticsError, match="effect=0"):
        plan(home.path, 0)


def test_the_commands(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTCOT_HOME", str(home.path))
    done = CliRunner().invoke(main, ["benchmark-report", "--out", str(tmp_path / "report")])
    assert done.exit_code == 0 and "## Beside the paper" in done.output
    assert {path.name for path in (tmp_path / "report").iterdir()} == {"report.md", "scaling.png"}
    assert "questions at a spread of" in CliRunner().invoke(main, ["plan", "2"]).output
    assert CliRunner().invoke(main, ["plan", "0"]).exit_code == 1


def test_nothing_judged_is_said(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="no benchmark has been judged"):
        benchmark_report(tmp_path)
    with pytest.raises(LakeError, match="no two stages"):
        plan(tmp_path, 0.1)


def test_the_papers_tables_are_whole() -> None:
    assert all(len(side) == len(BENCHMARKS) for sides in RESULTS.values() for side in sides)
    assert all(len(row) == len(BENCHMARKS) for row in ABLATIONS.values())
    assert ABLATIONS["full"] == RESULTS["SFT 7B"][1]
