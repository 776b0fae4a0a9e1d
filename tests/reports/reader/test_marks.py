"""Marks: a table that only grows, who agrees with whom, and what a recall takes of it."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from promptcot_assets.cli import main
from promptcot_assets.doctor.diagnosis import examine
from promptcot_assets.lake import LakeError
from promptcot_assets.lineage.ancestry import stale
from promptcot_assets.lineage.history import History
from promptcot_assets.lineage.trace import trace
from promptcot_assets.reports.query import query, show
from promptcot_assets.reports.reader import marks
from tests.small_home import Home


def promptcot(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), env={"PROMPTCOT_HOME": str(home)})


def _mark_often(home: Path, ref: object, by: str) -> None:
    for number in range(5):
        marks.mark(home, ref, f"row_{number}", "good", by=by)  # type: ignore[arg-type]


def test_a_mark_is_a_row_of_the_exact_version_and_none_is_deleted(own_arc: Home) -> None:
    ref = own_arc.refs["problems"]
    marks.mark(own_arc.path, ref, "problem_1", "bad", "no answer")
    marks.mark(own_arc.path, ref, "problem_1", "good")
    rows = query(own_arc.path, "select row_id, verdict, reason, version, reader from marks order by number").records()
    assert [(row["row_id"], row["verdict"], row["reason"]) for row in rows] == [
        ("problem_1", "bad", "no answer"), ("problem_1", "good", ""),
    ]  # fmt: skip
    assert {row["version"] for row in rows} == {"problems[first]@1"}
    assert {row["reader"] for row in rows} == {marks.reader()}
    (first, _) = marks.marks(own_arc.path)
    assert show(own_arc.path, "marks", [first["mark_id"]]).records() == [first | {"_part": "all"}]
    assert marks.bad_rows(own_arc.path) == []  # the reader's last word


def test_marks_leave_the_rest_of_the_home_as_it_is(own_arc: Home) -> None:
    marks.mark(own_arc.path, own_arc.refs["problems"], "problem_1", "bad")
    assert stale(History(own_arc.path)) == {}
    assert trace(own_arc.path, "pair_1", down=True)
    assert [one.level for one in examine(own_arc.path, "demo", True) if one.name == "data"] == ["ok"]


def test_marks_of_two_processes_are_all_kept(own_arc: Home) -> None:
    context = multiprocessing.get_context("spawn")
    ref = own_arc.refs["problems"]
    workers = [context.Process(target=_mark_often, args=(own_arc.path, ref, by)) for by in ("ada", "bob")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(300)
    rows = marks.marks(own_arc.path)
    assert [row["number"] for row in rows] == list(range(10))
    assert {row["reader"] for row in rows} == {"ada", "bob"}


@pytest.mark.parametrize(("first", "second", "kappa"), [
    ("gggb", "gggb", 1.0),
    ("ggbb", "gbgb", 0.0),
    ("gb", "bg", -1.0),
    ("gggg", "gggg", None),  # chance alone explains it
    ("g" * 45 + "b" * 15 + "g" * 25 + "b" * 15, "g" * 45 + "g" * 15 + "b" * 25 + "b" * 15, 0.1304),
])  # fmt: skip
def test_cohens_kappa(first: str, second: str, kappa: float | None) -> None:
    found = marks.kappa(list(zip(first, second, strict=True)))
    assert found is None if kappa is None else found == pytest.approx(kappa, abs=1e-4)


def test_readers_are_compared_on_the_rows_that_both_marked(own_arc: Home) -> None:
    ref = own_arc.refs["problems"]
    for by, row, verdict in [("ada", "a", "bad"), ("bob", "a", "bad"), ("ada", "b", "good"), ("bob", "c", "bad")]:
        marks.mark(own_arc.path, ref, row, verdict, by=by)
    (one,) = marks.agreement(marks.marks(own_arc.path))
    assert (one.readers, one.rows, one.agreed, one.kappa) == (("ada", "bob"), 1, 1, None)


@pytest.mark.parametrize(("verdict", "reason", "says"), [("ugly", "", "good or bad"), ("bad", "x" * 3_000, "2,000")])
def test_what_is_no_mark_is_refused(own_arc: Home, verdict: str, reason: str, says: str) -> None:
    with pytest.raises(LakeError, match=says):
        marks.mark(own_arc.path, own_arc.refs["problems"], "problem_1", verdict, reason)


def test_the_command_line_marks_and_recalls_what_is_marked(own_arc: Home) -> None:
    assert json.loads(promptcot(own_arc.path, "recall", "--marked", "--json").stdout) == []
    made = promptcot(own_arc.path, "mark", "seed_1", "bad", "--reason", "leaked", "--json")
    assert json.loads(made.stdout)["version"] == "seed_problems[all]@1"
    shown = json.loads(promptcot(own_arc.path, "mark", "--json").stdout)
    assert [row["row_id"] for row in shown["marks"]] == ["seed_1"] and shown["agreement"] == []
    (found,) = json.loads(promptcot(own_arc.path, "recall", "--marked", "--json").stdout)
    assert found == json.loads(promptcot(own_arc.path, "recall", "seed_1", "--json").stdout)
    assert "leaked" in promptcot(own_arc.path, "mark").stdout


@pytest.mark.parametrize("arguments", [["recall"], ["recall", "seed_1", "--marked"], ["mark", "seed_1"]])
def test_half_a_command_is_one_message(own_arc: Home, arguments: list[str]) -> None:
    result = promptcot(own_arc.path, *arguments)
    assert result.exit_code == 2 and "Traceback" not in result.stderr
