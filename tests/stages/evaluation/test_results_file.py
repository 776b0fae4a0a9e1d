"""Files of results as other projects write them, and files that are wrong: one error naming row, column and mend."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from promptcot_assets.stages.evaluation.results_file import ResultsError, read_results

Row = dict[str, Any]
TWO = {"q1": [1.0, 0.0], "q2": [1.0, 1.0]}


def lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


# (rows as some project writes them, the same as marks by benchmark, system and question)
FORMS: dict[str, tuple[list[Row], dict[str, dict[str, dict[str, list[float]]]]]] = {
    "one answer a row": (
        [{"question_id": q, "model": "a", "correct": bool(mark)} for q, own in TWO.items() for mark in own],
        {"all": {"a": TWO}},
    ),
    "LiveCodeBench": (
        [{"question_id": q, "code_list": ["", ""], "graded_list": [bool(m) for m in own], "pass@1": 0.5}
         for q, own in TWO.items()],
        {"all": {"given": TWO}},
    ),
    "Qwen2.5-Math": (
        [{"idx": n, "question": "1+1?", "answer": "2", "pred": ["2", "3"], "score": [bool(m) for m in own]}
         for n, own in enumerate(TWO.values())],
        {"all": {"given": {"0": [1, 0], "1": [1, 1]}}},
    ),
    "lm-evaluation-harness": (
        [{"doc_id": n, "doc": {"problem": "?"}, "target": "2", "filtered_resps": ["2"], "exact_match": float(own[1])}
         for n, own in enumerate(TWO.values())],
        {"all": {"given": {"0": [0], "1": [1]}}},
    ),
    "HumanEval": (
        [{"task_id": f"HumanEval/{n}", "completion": "", "result": "passed" if m else "failed: x", "passed": bool(m)}
         for n, own in enumerate(TWO.values()) for m in own],
        {"all": {"given": {"HumanEval/0": [1, 0], "HumanEval/1": [1, 1]}}},
    ),
    "inspect": (
        [{"sample_id": q, "epoch": at, "score": "C" if m else "I"}
         for q, own in TWO.items() for at, m in enumerate(own)],
        {"all": {"given": TWO}},
    ),
    "ours": (
        [{"generation_id": f"{s}{q}{k}", "item_id": q, "benchmark": b, "model": "m/1", "stage": s, "attempt": k,
          "passed": bool(m), "verdict": "ok"}
         for b in ("aime", "amc") for s in ("base", "sft") for q, own in TWO.items() for k, m in enumerate(own)],
        {b: {"base": TWO, "sft": TWO} for b in ("aime", "amc")},
    ),
    "a column a system": (
        [{"problem": q, "first": int(own[0]), "second": int(own[1]), "length": 17} for q, own in TWO.items()],
        {"all": {"first": {"q1": [1], "q2": [1]}, "second": {"q1": [0], "q2": [1]}}},
    ),
    "an unusual name": (
        [{"id": q, "ist_richtig": [bool(m) for m in own]} for q, own in TWO.items()],
        {"all": {"given": TWO}},
    ),
    "partial scores": (
        [{"id": q, "Score": sum(own) / 4} for q, own in TWO.items()],
        {"all": {"given": {"q1": [0.25], "q2": [0.5]}}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_the_usual_forms_are_read_by_their_values(form: str, tmp_path: Path) -> None:
    rows, marks = FORMS[form]
    assert read_results([lines(tmp_path / "given.jsonl", rows)]).marks == marks


def test_parquet_csv_and_json_say_the_same(tmp_path: Path) -> None:
    rows = FORMS["one answer a row"][0]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "given.parquet")
    cells = "".join(f"{row['question_id']},{row['model']},{row['correct']}\n" for row in rows)
    (tmp_path / "given.csv").write_text(f"question_id,model,correct\n{cells}")
    (tmp_path / "given.json").write_text(json.dumps(rows))
    for kind in ("parquet", "csv", "json"):
        assert read_results([tmp_path / f"given.{kind}"]).marks == {"all": {"a": TWO}}


@pytest.mark.parametrize("marks", ["01", ("false", "true"), ("False", "True")])
def test_a_csv_with_a_column_a_system_is_read(marks: tuple[str, str], tmp_path: Path) -> None:
    wrong, right = marks
    (tmp_path / "given.csv").write_text(f"id,first,second,attempt\nq1,{right},{wrong},0\nq2,{right},{right},1\n")
    assert read_results([tmp_path / "given.csv"]).marks == {
        "all": {"first": {"q1": [1], "q2": [1]}, "second": {"q1": [0], "q2": [1]}}
    }


def test_files_are_systems_where_nothing_else_tells_them_apart(tmp_path: Path) -> None:
    rows = [{"id": "q1", "correct": True}]
    first, second = (lines(tmp_path / f"{name}.jsonl", rows) for name in ("first", "second"))
    assert list(read_results([first, second]).marks["all"]) == ["first", "second"]
    named = [{**rows[0], "model": "m"}]
    first, second = (lines(tmp_path / f"{name}.jsonl", named) for name in ("before", "after"))
    assert list(read_results([first, second]).marks["all"]) == ["before", "after"]
    other = lines(tmp_path / "other.jsonl", [{**named[0], "id": "q2"}])
    assert read_results([first, other]).marks["all"] == {"m": {"q1": [1.0], "q2": [1.0]}}
    (tmp_path / "deep").mkdir()
    same = lines(tmp_path / "deep" / "first.jsonl", rows)
    assert list(read_results([tmp_path / "first.jsonl", same]).marks["all"]) == [
        str(tmp_path / "first.jsonl"), str(same)
    ]  # fmt: skip


def test_an_answer_without_a_mark_is_counted_and_neither_right_nor_wrong(tmp_path: Path) -> None:
    rows = [{"id": "q1", "correct": [True, None]}, {"id": "q2", "correct": None}, {"id": "q3", "correct": [False]}]
    found = read_results([lines(tmp_path / "a.jsonl", rows)])
    assert found.marks["all"]["a"] == {"q1": [1.0], "q3": [0.0]} and found.not_judged == 2


GOOD = {"id": "q1", "correct": True}
WRONG: dict[str, tuple[list[Any], str]] = {
    "empty": ([], "it is empty"),
    "no question": ([{"correct": True}], "no column names the question; name it with --column question=THEIRS"),
    "no mark": ([{"id": "q", "text": "hm"}], "no column says whether an answer is right"),
    "percent": ([GOOD, {"id": "q2", "correct": 87}], "row 2: column 'correct' is 87; a mark is true or false"),
    "a number beyond all floats": ([GOOD, {"id": "q2", "correct": 10**400}], "row 2: column 'correct' is 1000"),
    "another in a list": ([GOOD, {"id": "q2", "correct": [-(10**400)]}], "row 2: column 'correct' is -1000"),
    "a text": ([GOOD, {"id": "q2", "correct": "perhaps"}], "row 2: column 'correct' is 'perhaps'"),
    "an object": ([GOOD, {"id": "q2", "correct": {"a": 1}}], "row 2: column 'correct' is {'a': 1}"),
    "nested": ([GOOD, {"id": "q2", "correct": [[1]]}], "row 2: column 'correct' is [1]"),
    "no id": ([GOOD, {"correct": True}], "row 2: column 'id' is empty"),
    "id is a list": ([GOOD, {"id": ["q"], "correct": True}], "row 2: column 'id' is a list"),
    "a list": ([GOOD, [1]], "row 2: a JSON list, not an object"),
    "twice": (
        [{**GOOD, "attempt": 0}, {**GOOD, "attempt": 1}, {**GOOD, "attempt": 1}],
        "row 3: attempt 1 of question 'q1' stands in a.jsonl, row 2 too",
    ),
    "nothing judged": ([{"id": "q1", "correct": True} | {"correct": None}], "no column says whether"),
}  # fmt: skip


@pytest.mark.parametrize("fault", WRONG)
def test_a_fault_is_one_sentence_with_row_and_column(fault: str, tmp_path: Path) -> None:
    rows, message = WRONG[fault]
    with pytest.raises(ResultsError) as caught:
        read_results([lines(tmp_path / "a.jsonl", rows)])
    assert message in str(caught.value) and "a.jsonl" in str(caught.value) and "\n" not in str(caught.value)


def test_broken_lines_missing_files_and_unknown_mappings(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", [GOOD])
    path.write_text(path.read_text() + "{broken\n")
    with pytest.raises(ResultsError, match=r"a.jsonl, row 2: not JSON"):
        read_results([path])
    with pytest.raises(ResultsError, match=r"none.jsonl: no such file; check the path$"):
        read_results([tmp_path / "none.jsonl"])
    with pytest.raises(ResultsError, match=r"jsonl: no such file; check the path$"):
        read_results([tmp_path / f"{'a' * 300}.jsonl"])
    good = lines(tmp_path / "b.jsonl", [{"id": "q1", "scores": {"match": {"value": "C"}}}])
    assert read_results([good], {"correct": "scores.match.value"}).marks == {"all": {"b": {"q1": [1.0]}}}
    with pytest.raises(ResultsError, match="no row has a column 'nope', which is to be the correct"):
        read_results([good], {"correct": "nope"})
    with pytest.raises(ResultsError, match="there is no column 'answer' to map"):
        read_results([good], {"answer": "nope"})
