"""The last screen of an arc, on a lake of a few rows."""

from pathlib import Path
from typing import Any

import pyarrow as pa
from pytest import MonkeyPatch

from promptcot_assets.lake import Lake, Ref, Row
from promptcot_assets.reports.summary import summary
from tests.small_home import Home


def curve(
    metric: str, value: float, error: float | None = 0.1, series: str = "em", round_: int = 2, **more: Any
) -> Row:
    return {"point_id": f"{series}{round_}{metric}", "series": series, "round": round_, "split": "held_out",
            "metric": metric, "value": value, "standard_error": error, "problems": 60} | more  # fmt: skip


def test_one_problem_is_no_significance(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.commit("em_curves", [
        curve("iw_bound", -9.0, None, problems=1), curve("gain over cold_start", 0.8, None, problems=1),
        curve("gain over extra_training", 0.0, 0.0), curve("common gain over cold_start", 0.8),
    ])  # fmt: skip
    text = summary(home.lake, home.path)
    assert "inf standard errors" not in text
    assert "cold_start                  0.80   a single problem says nothing about others\n" in text
    (line,) = [line for line in text.splitlines() if "extra_training" in line]
    assert line.endswith("the same on every problem")
    assert "+8.0 standard errors, significant" in text


def test_a_gain_counts_that_holds_on_the_large_pool(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    gains = {"cold_start": (0.9, 0.7, 0.6, 0.5), "extra_training": (0.9, 0.5, 0.3, 0.1)}
    points = [curve("common gain over cold_start", 0.9)]
    for other, values in gains.items():
        points += [
            curve(f"gain at pool {size} over {other}", v) for size, v in zip((18, 66, 258), values, strict=False)
        ]
        points.append(curve(f"gain carried on over {other}", values[3]))
    points += [curve(f"bound at pool {size}", -9.0) for size in (18, 66, 258)] + [curve("effective at pool 258", 41.6)]
    points += [curve("information", 0.93), curve("well_posed", 0.8), curve("well_posed_on_concepts", 0.7)]
    points += [
        curve("without_usable_proposal", 0.05),
        curve("without_usable_proposal", 0.0, series="cold_start", round_=0),
    ]
    home.commit("em_curves", points)
    text = summary(home.lake, home.path)
    assert "on common pools of 18, 66, 258 proposals" in text and "under the common pool's" not in text
    assert "0.90 ± 0.10  0.70 ± 0.10  0.60 ± 0.10   significant (60 problems, effective 42)" in text
    assert "0.30 ± 0.10   shrinks towards 0 as the pool grows: open (60 problems" in text
    assert "0.93 ± 0.10      0.800    0.700" in text
    assert "with no rationale: 3 of 120" in text


def score(stage: str, metric: str, **more: Any) -> Row:
    return {
        "score_id": f"{stage}{metric}",
        "benchmark": "aime24",
        "stage": stage,
        "metric": metric,
        "value": 0.5,
    } | more


def test_of_several_students_each_is_named(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    assert "on the benchmarks" not in summary(home.lake, home.path)
    rows = [
        score("sft", "avg@4", infrastructure_failures=1), score("sft", "pass@4"),
        score("sft", "paired difference", compared_with="base", significant=True, infrastructure_failures=7),
    ]  # fmt: skip
    home.commit("benchmark_scores", rows, partition="tiny")
    alone = summary(home.lake, home.path)
    assert "\nStudent on the benchmarks" in alone and "Student tiny" not in alone
    home.commit("benchmark_scores", rows, partition="tiny_round_02")
    text = summary(home.lake, home.path)
    first, second = (text.index(f"\nStudent {name} on the benchmarks") for name in ("tiny", "tiny_round_02"))
    own = text[first:second]
    assert own.count("avg@4") == 1 and "minus base" in own and "pass@4" not in own
    assert "(our failure, left out): 2; over a time limit" in text


def test_the_well_posed_rate_is_told_without_reading_completions(tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    home, read = Home(tmp_path / "home"), list[list[str]]()
    raw = [{"raw_problem_id": f"raw_{n}", "completion": "long", "well_posed": n < 3} for n in range(4)]
    home.commit("raw_problems", raw[:2], partition="first")
    home.commit("raw_problems", raw[2:], partition="second")
    read_table = Lake.table

    def noting(lake: Lake, ref: Ref, columns: list[str] | None = None) -> pa.Table:
        table = read_table(lake, ref, columns)
        read.append(table.column_names)
        return table

    monkeypatch.setattr(Lake, "table", noting)
    assert "  mini_maths: well-posed rate of completions 0.750\n" in summary(home.lake, home.path)
    assert read == [["domain", "well_posed"]] * 2
