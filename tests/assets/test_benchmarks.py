"""The published benchmarks through the whole path, from their files to scores, with answers that are known.

In place of a model's generations: the references boxed (stage sft), the published solutions as they are (self_play),
and the answers of other questions (base). A grader that is right scores 1, 1 and 0.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from promptcot_assets.assets.corpus import items
from promptcot_assets.assets.evaluation import (
    benchmark_scores,
    benchmark_verdicts,
    codeforces_ratings,
    contest_standings,
)
from promptcot_assets.assets.table_asset import JointAssets, TableAsset
from promptcot_assets.judging.opening import open_verifier
from promptcot_assets.judging.verifier import Question, Verifier
from promptcot_assets.settings.engines import Sandbox
from promptcot_assets.settings.profile import PublishedBenchmark
from promptcot_assets.stages.evaluation.published_items import read_items
from tests.assets.materialized import built, resources_of
from tests.published_samples import COUNTS, UNBOXED
from tests.small_home import STUDENT, Home

MATHS = ("aime24", "aime25", "hmmt25", "gsm8k")
PROFILE = """
extends: demo
corpus: {{procedural: null, files: {{maths: ["{folder}/gsm8k.jsonl"]}}}}
synthesis: {{concept_sets: null}}
benchmarks: {{files: {files}}}
evaluation: {{generations: 1}}
"""
Row = dict[str, Any]


class BenchmarkPath:
    """The assets of the benchmark path on a lake of their own."""

    def __init__(self, folder: Path, published: Path, domain: str, names: Sequence[str]) -> None:
        self.home = Home(folder / "home")
        files = json.dumps({domain: {name: str(published / f"{name}.jsonl") for name in names}})
        (folder / "own.yaml").write_text(PROFILE.format(folder=published, files=files))
        self._profile = folder / "own.yaml"
        self._resources = resources_of(self._profile, self.home.path)
        self.home.commit("seed_problems", [{"problem_id": "seed", "problem": "a seed?", "split": "train"}])
        self._make(items, contest_standings)
        self.items = self.rows("benchmark_items", "all")
        for asset in ("benchmark_items", "contest_standings"):
            self.home.refs[asset] = self._newest(asset, "all")

    def judge(self, completions: Sequence[Row]) -> None:
        """Commit these as what a student's stages wrote, and make verdicts, scores and ratings of them."""
        at = {"partition": STUDENT}
        self.home.commit("benchmark_generations", list(completions), "benchmark_items", **at)
        self._make(benchmark_verdicts, benchmark_scores, codeforces_ratings, partition=STUDENT)

    def rows(self, asset: str, partition: str = STUDENT) -> list[Row]:
        return self.home.lake.table(self._newest(asset, partition)).to_pylist()

    def _newest(self, asset: str, partition: str) -> Any:
        return self.home.lake.newest(asset, partition)

    def _make(self, *assets: TableAsset | JointAssets, partition: str | None = None) -> None:
        assert dg.materialize(built(self._profile, *assets), partition_key=partition, resources=self._resources).success


def written(item: Row, stage: str, completion: str) -> Row:
    kept = {name: item[name] for name in ("item_id", "benchmark", "domain")}
    about = {"generation_id": f"{item['item_id']}{stage}", "stage": stage, "model": f"{stage}/1"}
    return kept | about | {"completion": f"<think>So.</think>{completion}"}


def boxed_solutions(published: Path) -> dict[str, str]:
    """Problem -> the published solution, of AIME and HMMT problems whose solution boxes its answer."""
    found = {}
    for name in ("aime24", "aime25", "hmmt25"):
        path = published / f"{name}.jsonl"
        rows, _ = read_items(PublishedBenchmark(source=str(path)), "maths")
        raw = [json.loads(line)["reference_solution"] for line in path.read_text().splitlines()]
        found |= {row["problem"]: text for row, text in zip(rows, raw, strict=True) if "\\boxed" in text}
    return found


def test_every_reference_answer_is_right_and_every_other_answer_wrong(tmp_path: Path, published: Path) -> None:
    path, solutions = BenchmarkPath(tmp_path, published, "maths", MATHS), boxed_solutions(published)
    assert len(solutions) == sum(COUNTS[name] for name in ("aime24", "aime25", "hmmt25")) - UNBOXED
    given = []
    for name in MATHS:
        count = COUNTS[name]
        own = [item for item in path.items if item["benchmark"] == name]
        assert len(own) == count
        for at, item in enumerate(own):
            others = (own[(at + step) % count]["answer"] for step in range(1, count))
            other = next(answer for answer in others if answer != item["answer"])
            given += [
                written(item, "base", f"\\boxed{{{other}}}"),
                written(item, "sft", f"\\boxed{{{item['answer']}}}"),
            ]
            if item["problem"] in solutions:
                given.append(written(item, "self_play", solutions[item["problem"]]))
    path.judge(given)
    outcomes = {
        (row["benchmark"], row["stage"]): (row["value"], row["questions"], row["infrastructure_failures"])
        for row in path.rows("benchmark_scores")
        if row["compared_with"] is None
    }
    assert outcomes == {
        **{(name, "base"): (0.0, COUNTS[name], 0) for name in MATHS},
        **{(name, "sft"): (1.0, COUNTS[name], 0) for name in MATHS},
        ("aime24", "self_play"): (1.0, 30 - UNBOXED, 0), ("aime25", "self_play"): (1.0, 30, 0),
        ("hmmt25", "self_play"): (1.0, 30, 0),
    }  # fmt: skip


# ---- Codeforces
def answering(tests: Sequence[Row]) -> str:
    """A program that knows the expected outputs."""
    known = {test["stdin"]: test["expected"] for test in tests}
    return f"```python\nimport sys\nprint({known!r}[sys.stdin.read()])\n```"


def test_a_rating_of_the_released_codeforces_file_is_refused_with_the_reason(tmp_path: Path, published: Path) -> None:
    path = BenchmarkPath(tmp_path, published, "code", ["codeforces"])
    assert len(path.items) == COUNTS["codeforces"]
    own = path.items[:12]
    programs = [answering(json.loads(item["tests"])) for item in own]
    path.judge([
        *(written(item, "sft", program) for item, program in zip(own, programs, strict=True)),
        *(written(item, "base", program) for item, program in zip(own, programs[1:] + programs[:1], strict=True)),
    ])  # fmt: skip
    scores = {row["stage"]: row["value"] for row in path.rows("benchmark_scores") if row["compared_with"] is None}
    assert scores == {"base": 0.0, "sft": 1.0}
    ratings = path.rows("codeforces_ratings")
    assert {row["stage"]: row["rating"] for row in ratings} == {"base": None, "sft": None}
    assert all("12 of 12 problems name no contest" in row["refused"] for row in ratings)


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    with open_verifier(Sandbox(workers=2)) as verifier:
        yield verifier


@pytest.mark.slow
def test_every_test_of_a_codeforces_file_runs_in_the_sandbox(verifier: Verifier, published: Path) -> None:
    rows, dropped = read_items(PublishedBenchmark(source=str(published / "codeforces.jsonl")), "code")
    assert len(rows) == COUNTS["codeforces"] and not dropped
    assert sum(len(row["tests"]) for row in rows) > len(rows)
    judged = verifier.judge([Question("code", answering(row["tests"]), tests=json.dumps(row["tests"])) for row in rows])
    assert {(row["row"], one.verdict) for row, one in zip(rows, judged, strict=True) if not one.passed} == set()
    assert [one.rule for one in judged] == [f"{len(row['tests'])} of {len(row['tests'])} tests" for row in rows]
