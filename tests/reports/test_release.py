"""A release says the truth about itself, or every row that does not is named; a hostile folder is one sentence."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from promptcot_assets.cli import main
from promptcot_assets.judging.opening import open_verifier
from promptcot_assets.lake.ids import content_id
from promptcot_assets.reports.export import export_table
from promptcot_assets.reports.release import Verified, as_text, verify_release
from promptcot_assets.reports.release_folder import ReleaseError, recognised, row_fault
from promptcot_assets.settings.engines import Sandbox
from promptcot_assets.stages.evaluation import benchmarks
from promptcot_assets.stages.students import self_play
from promptcot_assets.tables import MODEL_ROLES, SCHEMAS
from tests.small_home import DOMAIN, Home, row

Row = dict[str, Any]
THINK = "<think>so</think>"
TABLES = ("problems", "math_answers", "rollouts", "verdicts", "benchmark_items", "benchmark_generations",
          "benchmark_verdicts", "benchmark_scores")  # fmt: skip


def filled(table: str, rows: list[Row]) -> list[Row]:
    return [row(table, **one) for one in rows]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two problems with labels, three rollouts each, and a benchmark of two items with its scores; all of it true."""
    home = Home(tmp_path_factory.mktemp("release") / "home")
    problems = filled("problems", [
        {"problem_id": content_id(DOMAIN, text), "problem": text, "batch": "first"}
        for text in ("What is 3 plus 4, said slowly?", "What is 5 times 6, said aloud?")
    ])  # fmt: skip
    answers = filled("math_answers", [
        {"label_id": content_id(one["problem_id"], [label, label, ""]), "problem_id": one["problem_id"],
         "answer": label, "votes": 2, "asked": 3, "share": 2 / 3, "answers": [label, label, ""], "voter": "v"}
        for one, label in zip(problems, ("7", "30"), strict=True)
    ])  # fmt: skip
    rollouts = filled("rollouts", [
        {"rollout_id": content_id(one["problem_id"], "m/1", k, k), "problem_id": one["problem_id"], "attempt": k,
         "completion": f"{THINK} \\boxed{{{7 if k else 30}}}", "seed": k, "model": "m/1", "finish_reason": "stop"}
        for one in problems for k in range(3)
    ])  # fmt: skip
    items = filled("benchmark_items", [
        {"item_id": content_id("own", f"item {n}"), "benchmark": "own", "problem": f"item {n}", "answer": str(n)}
        for n in (1, 2)
    ])  # fmt: skip
    drawn = filled("benchmark_generations", [
        {"generation_id": content_id(one["item_id"], f"{stage}/1", stage, 0, 9), "item_id": one["item_id"],
         "benchmark": "own", "stage": stage, "completion": f"{THINK} \\boxed{{{1 if stage == 'base' else n}}}",
         "seed": 9, "model": f"{stage}/1", "finish_reason": "stop"}
        for n, one in enumerate(items, 1) for stage in ("base", "sft")
    ])  # fmt: skip
    with open_verifier(Sandbox()) as verifier:
        labels = {one["problem_id"]: one for one in self_play.labels(problems, answers, [], [])}
        verdicts = self_play.verdicts(rollouts, labels, verifier)
        judged = benchmarks.verdicts(drawn, {one["item_id"]: one for one in items}, verifier)
    assert any(one["passed"] for one in verdicts) and not all(one["passed"] for one in verdicts)
    everything = dict(zip(TABLES, (problems, answers, rollouts, verdicts, items, drawn, judged,
                                   benchmarks.scores(judged, 1)), strict=True))  # fmt: skip
    folder = tmp_path_factory.mktemp("release") / "released"
    folder.mkdir()
    for name, rows in everything.items():
        home.commit(name, rows, partition="tiny")
        export_table(home.path, name, None, folder / name)
    return folder


@pytest.fixture
def release(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "released"))


def verified(folder: Path, **more: Any) -> Verified:
    return verify_release(str(folder), Sandbox(), **more)


def tamper(folder: Path, table: str, change: Callable[[list[Row]], list[Row] | None]) -> None:
    (file,) = (folder / table / "data").iterdir()
    schema = pq.read_schema(file)
    rows = pq.read_table(file).to_pylist()
    pq.write_table(pa.Table.from_pylist(change(rows) or rows, schema), file)


def differing(found: Verified) -> set[tuple[str, str, int]]:
    return {(one.table, one.name, len(one.differences)) for one in found.checks if one.differences}


def test_a_true_release_differs_in_nothing(release: Path) -> None:
    found = verified(release, ngram=8)
    assert found.differences == 0, as_text(found)
    checked = {(one.table, one.name): one.rows for one in found.checks}
    assert checked["verdicts", "the verdict is what judging it says"] == 6
    assert checked["benchmark_verdicts", "the verdict is what judging it says"] == 4
    assert checked["math_answers", "the answer is what the votes say"] == 2
    assert checked["benchmark_scores", "the score is what the verdicts say"] == 3
    assert checked["problems", "problem_id is the hash of its row"] == 2
    assert checked["verdicts", "rollout_id is there"] == 6
    assert as_text(found).endswith("0 differences")


def put(column: str, value: Any, at: int = 0) -> Callable[[list[Row]], None]:
    def change(rows: list[Row]) -> None:
        rows[at][column] = value

    return change


LIES: dict[str, tuple[str, Callable[[list[Row]], Any], set[tuple[str, str]]]] = {
    "another problem": ("problems", put("problem", "What is 3 plus 5?"),
                        {("problems", "problem_id is the hash of its row")}),
    "a label that lost the vote": ("math_answers", put("answer", "8"), {
        ("math_answers", "the answer is what the votes say"), ("verdicts", "the verdict is what judging it says")}),
    "more votes": ("math_answers", put("votes", 3), {("math_answers", "the answer is what the votes say")}),
    "another share": ("math_answers", put("share", 1.0), {("math_answers", "the answer is what the votes say")}),
    "a verdict": ("verdicts", put("passed", True), {("verdicts", "the verdict is what judging it says")}),
    "a rollout's seed": ("rollouts", put("seed", 5), {("rollouts", "rollout_id is the hash of its row")}),
    "a score": ("benchmark_scores", put("value", 0.9), {("benchmark_scores", "the score is what the verdicts say")}),
    "a score that is missing": ("benchmark_scores", lambda rows: rows[1:],
                                {("benchmark_scores", "the score is what the verdicts say")}),
    "a benchmark item among the problems": ("problems", lambda rows: [*rows, {
        **rows[0], "problem": "item 1", "problem_id": content_id(DOMAIN, "item 1")}],
        {("problems", "shares no 13 words in a row with a benchmark item")}),
    "a row twice": ("problems", lambda rows: [*rows, rows[0]], {("problems", "rows are as declared")}),
    "a domain that nobody knows": ("problems", put("domain", "magic\x1b[2J"), {("problems", "rows are as declared")}),
    "a pass of the benchmark": ("benchmark_verdicts", put("passed", False), {
        ("benchmark_verdicts", "the verdict is what judging it says"),
        ("benchmark_scores", "the score is what the verdicts say")}),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_every_lie_is_found_and_nothing_else(lie: str, release: Path) -> None:
    table, change, where = LIES[lie]
    tamper(release, table, change)
    found = verified(release)
    assert {(name, check) for name, check, _ in differing(found)} >= where, as_text(found)
    told = {name for name, *_ in differing(found)}
    assert told <= {name for name, _ in where} | {"rollouts", "verdicts", "math_answers"}, as_text(found)
    assert "\x1b" not in as_text(found)


def test_what_cannot_be_checked_is_named(release: Path, tmp_path: Path) -> None:
    shutil.rmtree(release / "rollouts")
    shutil.rmtree(release / "benchmark_items")
    found = verified(release)
    assert "verdicts: the rollouts are not in it" in found.skipped
    assert "decontamination of problems: no benchmark items in it; name files with --benchmark" in found.skipped
    file = tmp_path / "items.jsonl"
    file.write_text(json.dumps({"problem": "What is 3 plus 4, said slowly?", "answer": "7"}) + "\n")
    found = verified(release, items=[str(file)])
    assert ("problems", "shares no 13 words in a row with a benchmark item", 1) in differing(found)


def test_one_table_alone_and_json_lines(made: Path, tmp_path: Path) -> None:
    rows = pq.read_table(made / "problems" / "data").to_pylist()
    (tmp_path / "one" / "data").mkdir(parents=True)
    lines = [json.dumps(one) for one in rows]
    (tmp_path / "one" / "data" / "first.jsonl").write_text("\n".join([lines[0], "{broken", "[1]", lines[1]]) + "\n")
    found = verified(tmp_path / "one")
    assert found.tables == {"problems": 4}
    assert differing(found) == {("problems", "rows are as declared", 2)}


def hostile_link(folder: Path) -> None:
    (file,) = (folder / "problems" / "data").iterdir()
    file.unlink()
    file.symlink_to("/etc/passwd")


def hostile_bytes(folder: Path) -> None:
    (file,) = (folder / "problems" / "data").iterdir()
    content = bytearray(file.read_bytes())
    content[20:60] = b"\xff" * 40
    file.write_bytes(content)


HOSTILE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a link": (hostile_link, "is no plain file"),
    "a fifo": (lambda folder: os.mkfifo(folder / "problems" / "data" / "x.parquet"), "is no plain file"),
    "a pickle": (lambda folder: (folder / "problems" / "data" / "x.pkl").write_bytes(b"."), "is neither Parquet nor"),
    "flipped bytes": (hostile_bytes, "damaged"),
    "no parquet": (lambda folder: (folder / "problems" / "data" / "a.parquet").write_text("PAR1"), "damaged"),
    "no data": (lambda folder: shutil.rmtree(folder / "problems" / "data"), ""),
    "an empty folder": (lambda folder: [one.unlink() for one in (folder / "problems" / "data").iterdir()], "0 files"),
    "another table": (
        lambda folder: pq.write_table(pa.table({"a\x1b": [1]}), folder / "problems" / "data" / "a.parquet"),
        "are those of no table",
    ),
    "one table twice": (lambda folder: shutil.copytree(folder / "problems", folder / "again"), "another folder"),
}  # fmt: skip


@pytest.mark.parametrize("attack", HOSTILE)
def test_a_hostile_folder_is_one_sentence(attack: str, release: Path) -> None:
    do, message = HOSTILE[attack]
    do(release)
    if not message:
        assert "problems" not in verified(release).tables
        return
    with pytest.raises(ReleaseError, match=message) as caught:
        verified(release)
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)


@pytest.mark.parametrize(("address", "message"), [
    ("nowhere", "is no folder"),
    ("hf:org/name@main", "a full commit hash"),
    ("hf:../name@" + "0" * 40 + "#x", "a full commit hash"),
])  # fmt: skip
def test_addresses(address: str, message: str) -> None:
    with pytest.raises(ReleaseError, match=message):
        verify_release(address, Sandbox())


def test_every_table_is_recognised_by_its_columns() -> None:
    for table in SCHEMAS.keys() - set(MODEL_ROLES):
        assert recognised(SCHEMAS[table].names, table) == table
    assert recognised(["prompt", "completion"]) == "sft_examples" == recognised(["messages"])
    assert recognised(["prompt", "chosen", "rejected"]) == "preference_pairs" and recognised(["a"]) is None


def test_a_row_is_held_against_its_declaration() -> None:
    good = row("math_answers", answers=["7"], answer="7")
    assert row_fault("math_answers", good) is None
    for column, value in (("votes", "3"), ("votes", True), ("votes", 2**70), ("share", float("nan")), ("answers", "7"),
                          ("answers", [7]), ("answer", "\ud800"), ("domain", None), ("domain", "x"),
                          ("share", 10**400), ("share", -(10**400))):  # fmt: skip
        assert row_fault("math_answers", good | {column: value}), column
    items = row("benchmark_items", answer="7")
    for tests in ("[", "{}", "[]", "[1]", '[{"stdin": 1, "expected": ""}]'):
        assert row_fault("benchmark_items", items | {"tests": tests}), tests
    assert row_fault("benchmark_items", items | {"tests": '[{"stdin": "1", "expected": ""}]'}) is None


def test_a_line_that_leaves_out_what_may_be_empty_is_a_row_all_the_same() -> None:
    """A line of JSON need not have the columns of the first."""
    for table in SCHEMAS.keys() - set(MODEL_ROLES):
        whole = row(table)
        needed = {one.name: whole[one.name] for one in SCHEMAS[table] if not one.nullable}
        assert row_fault(table, needed) == row_fault(table, whole), table
        for name in needed.keys() - {"problem_id"}:  # without it a row of training is one that TRL reads
            assert row_fault(table, {key: one for key, one in needed.items() if key != name}), (table, name)
    tests = row("code_tests")
    assert row_fault("code_tests", {key: one for key, one in tests.items() if key != "stdin"} | {"expected": "1"})


def test_a_date_beyond_all_calendars_is_a_damaged_file(release: Path) -> None:
    file = release / "math_answers" / "data" / "late.parquet"
    days = pa.array([2**31 - 1], pa.int32()).cast(pa.date32())
    pq.write_table(pa.table({"votes": days}), file)
    with pytest.raises(ReleaseError, match=r"late.parquet': damaged after row 0 .*get it again"):
        verify_release(str(release), Sandbox())


def test_the_command_ends_with_1_when_anything_differs(release: Path) -> None:
    one = CliRunner().invoke(main, ["verify-release", str(release), "--json"])
    assert one.exit_code == 0 and json.loads(one.stdout)["differences"] == 0
    tamper(release, "verdicts", put("passed", True))
    two = CliRunner().invoke(main, ["verify-release", str(release)])
    assert two.exit_code == 1 and two.stdout.endswith("1 differences in verdicts\n")
