"""Where problems are read from: every kind of file, folders, globs, conditions, and what is broken in them."""

from __future__ import annotations

import csv
import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from promptcot_assets.stages.corpus import sources
from promptcot_assets.stages.corpus.reading import Reading, read, read_seeds
from promptcot_assets.stages.corpus.sources import Broken, SeedError, contents, open_source

ROWS = [{"problem": f"What is {n} + 1?", "answer": str(n + 1), "level": n} for n in range(1, 7)]


def write(path: Path, rows: list[dict[str, object]] = ROWS) -> Path:
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    if path.name.endswith(".gz"):
        path.write_bytes(gzip.compress(lines))
    elif path.name.endswith(".zst"):
        with pa.CompressedOutputStream(str(path), "zstd") as file:
            file.write(lines)
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=2)
    elif path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    elif path.name == "array.json":
        path.write_text(json.dumps(rows, indent=1))
    elif path.name == "by_id.json":
        path.write_text(json.dumps({f"id{at}": row for at, row in enumerate(rows)}))
    else:
        path.write_bytes(lines)
    return path


KINDS = ("a.jsonl", "a.ndjson", "lines.json", "array.json", "by_id.json", "a.jsonl.gz", "a.jsonl.zst", "a.parquet",
         "a.csv", "a.tsv")  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_gives_the_same_rows(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name)
    rows, dropped = read_seeds(path)
    assert not dropped
    assert [(row["problem"], row["answer"], row["source"], row["row"]) for row in rows] == [
        (row["problem"], row["answer"], name, at) for at, row in enumerate(ROWS, 1)
    ]
    chosen, _ = read_seeds(path, where="level::int >= 4 and problem not like '%6%'")  # in a table of texts, a cast
    assert [(row["answer"], row["row"]) for row in chosen] == [("5", 4), ("6", 5)]
    with pytest.raises(SeedError, match=r"where|condition"):
        read_seeds(path, where="no_such_column > 3")


def test_folders_and_globs_are_read_in_the_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    write(tmp_path / "b.jsonl", ROWS[:2])
    write(tmp_path / "a.parquet", ROWS[2:4])
    write(tmp_path / "more" / "c.jsonl.gz", ROWS[4:])
    (tmp_path / "README.md").write_text("no problems")
    expected = ["4", "5", "2", "3", "6", "7"]
    assert [row["answer"] for row in read_seeds(tmp_path)[0]] == expected
    assert [row["answer"] for row in read_seeds(str(tmp_path / "**" / "*"))[0]] == expected
    assert [row["answer"] for row in read_seeds(str(tmp_path / "*.jsonl"))[0]] == ["2", "3"]
    with pytest.raises(SeedError, match="holds no file"):
        read_seeds(str(tmp_path / "*.csv"))
    before = contents([str(tmp_path)])
    write(tmp_path / "b.jsonl", ROWS[:1])
    assert contents([str(tmp_path)]) != before


@pytest.mark.parametrize("kind", ["parquet", "csv", "tsv", "json", "jsonl"])
@pytest.mark.parametrize("called", ["plain", "try [2]"])
def test_a_name_that_looks_like_a_pattern_is_the_file_of_that_name(kind: str, called: str, tmp_path: Path) -> None:
    """A browser calls a second download `data[1].csv`; its folder may have brackets as well."""
    folder = tmp_path / called
    folder.mkdir()
    for at, name in enumerate(("data[1]", "data1", "d*", "data?", "[")):
        path = folder / f"{name}.{kind}"
        path.write_text(json.dumps([ROWS[at]], indent=1)) if kind == "json" else write(path, [ROWS[at]])
    for at, name in enumerate(("data[1]", "data1", "d*", "data?", "[")):
        assert [row["answer"] for row in read_seeds(folder / f"{name}.{kind}")[0]] == [str(at + 2)], name
    assert len(read_seeds(folder)[0]) == 5


def test_a_date_beyond_all_calendars_is_one_sentence_and_no_column_of_a_csv_is_ours(tmp_path: Path) -> None:
    days = pa.array([2**31 - 1], pa.int32()).cast(pa.date32())
    pq.write_table(pa.table({"problem": ["a"], "answer": ["1"], "day": days}), tmp_path / "a.parquet")
    with pytest.raises(SeedError, match=r"a.parquet: column 'day' has a value that is out of range .*; leave the col"):
        read_seeds(tmp_path / "a.parquet")
    for name in ("row_number_", "row_number"):
        write(tmp_path / "a.csv", [{"problem": "What is it?", "answer": "1", name: "5"}])
        assert [row["row"] for row in read_seeds(tmp_path / "a.csv")[0]] == [1]


GSM = [{"question": "Ann has 3 pens and buys 4. How many?", "answer": "3 + 4 = 7\n#### 7"}]
MATH = [{"problem": "What is 8 + 1?", "level": "Level 5", "type": "Algebra", "solution": "It is $\\boxed{9}$."}]


def test_files_of_several_shapes_in_one_folder_are_each_read_as_what_they_are(tmp_path: Path) -> None:
    for name, rows in (("a/train.jsonl", GSM), ("b/train.jsonl", ROWS[:2]), ("c.jsonl", MATH)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, rows)
    reading = Reading(str(tmp_path))
    rows = list(read(reading))
    assert [(row["answer"], row["source"], row["row"]) for row in rows] == [
        ("7", "a/train.jsonl", 1), ("2", "b/train.jsonl", 1), ("3", "b/train.jsonl", 2), ("9", "c.jsonl", 1)
    ]  # fmt: skip
    assert (reading.forms, reading.reasons) == (["GSM8K", "columns by name", "MATH"], {})


def test_what_lies_beside_the_problems_of_a_folder_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / ".cache" / "huggingface").mkdir(parents=True)
    (tmp_path / ".cache" / "huggingface" / "train.json").write_text('{"question": "hidden"}')
    (tmp_path / "README.md").write_text("no problems")
    (tmp_path / "dataset_infos.json").write_text('{"default": {"description": "Problems.", "features": {}}}')
    (tmp_path / "a_table.json").write_text('[{"rows": 3}, {"rows": 4}]')
    write(tmp_path / "train.jsonl", ROWS[:2])
    rows, dropped = read_seeds(tmp_path)
    assert [(row["answer"], row["source"]) for row in rows] == [("2", "train.jsonl"), ("3", "train.jsonl")]
    assert [(row["source"], row["row"]) for row in dropped] == [("a_table.json", 1), ("a_table.json", 2)]
    assert all("no column holds a problem among: rows" in row["reason"] for row in dropped)
    (tmp_path / "train.jsonl").unlink()
    with pytest.raises(SeedError, match="no column holds a problem among: rows"):
        read_seeds(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("array.jsonl", json.dumps(ROWS, indent=1)),
        ("array_in_a_line.jsonl", json.dumps(ROWS)),
        ("array.jsonl.gz", json.dumps(ROWS)),
        ("wrapped.json", json.dumps({"version": "1", "data": ROWS, "authors": [{"name": "Ada"}]})),
        ("wrapped_long.json", json.dumps({"data": ROWS}, indent=1)),
        ("splits.json", json.dumps({"train": ROWS[:4], "test": ROWS[4:]})),
        ("pandas.json", json.dumps({name: {str(at): row[name] for at, row in enumerate(ROWS)} for name in ROWS[0]})),
        ("columns.json", json.dumps({name: [row[name] for row in ROWS] for name in ROWS[0]})),
        ("bom.json", "\ufeff" + json.dumps(ROWS)),
        ("windows.jsonl", "\ufeff" + "".join(json.dumps(row) + "\r\n" for row in ROWS)),
    ],
)
def test_json_in_every_layout_gives_the_same_rows(name: str, content: str, tmp_path: Path) -> None:
    data = content.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    rows, dropped = read_seeds(tmp_path / name)
    assert not dropped
    assert [(row["problem"], row["answer"], row["row"]) for row in rows] == [
        (row["problem"], row["answer"], at) for at, row in enumerate(ROWS, 1)
    ]


def test_one_row_with_a_list_of_its_own_stays_a_row(tmp_path: Path) -> None:
    row = {"problem": "Add.", "tests": [{"input": "1 2", "output": "3"}], "note": "one"}
    for indent in (None, 1):
        (tmp_path / "a.json").write_text(json.dumps(row, indent=indent))
        rows, _ = read_seeds(tmp_path / "a.json")
        assert [(row["problem"], row["tests"]) for row in rows] == [("Add.", [{"stdin": "1 2", "expected": "3"}])]


def test_a_table_of_texts_holds_lists_as_json(tmp_path: Path) -> None:
    with (tmp_path / "a.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["problem", "answer", "concepts", "tests"])
        writer.writerow(["What is\r\n1 + 1?", "0", '["sums", "ones"]', ""])
        writer.writerow(["Add.", "", "['sums']", '[{"input": "1 2", "output": "3"}]'])
    rows, dropped = read_seeds(tmp_path / "a.csv")
    assert not dropped
    assert [(row["problem"], row["answer"], row["concepts"]) for row in rows] == [
        ("What is\n1 + 1?", "0", ["sums", "ones"]), ("Add.", None, ["sums"])
    ]  # fmt: skip
    assert rows[1]["tests"] == [{"stdin": "1 2", "expected": "3"}]


def test_utf_16_is_one_clear_error(tmp_path: Path) -> None:
    for name in ("a.jsonl", "a.csv", "a.json"):
        (tmp_path / name).write_bytes(json.dumps(ROWS[0]).encode("utf-16"))
        with pytest.raises(SeedError, match=f"{name}: UTF-16; save the file as UTF-8"):
            read_seeds(tmp_path / name)


def test_a_mapping_by_hand_reads_any_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"words": "What is 1 + 1?", "meta": {"final": 2}, "note": "x"}])
    rows, _ = read_seeds(path, columns={"problem": "words", "answer": "meta.final"})
    assert [(row["problem"], row["answer"]) for row in rows] == [("What is 1 + 1?", "2")]
    for columns, says in (
        ({"problem": "statement"}, r"columns.problem: no column 'statement' among: words, meta, note"),
        ({"problem": "words", "answers": "note"}, "columns: answers: not one of ours; ours are problem, answer"),
        ({"answer": "note"}, "names no `problem`"),
    ):
        with pytest.raises(SeedError, match=says):
            read_seeds(path, columns=columns)


CHAMP = {
    "problems": {
        "P_Sums_1": {
            "identifier": "P_Sums_1", "_raw_text": "What is @@1 + 1@@?", "_text": "What is 1 + 1?", "category": "Sums",
            "solution": {"steps": [{"_raw_text": "Add.", "_text": "Add.", "ch_idxs": [0, 1]},
                                   {"_raw_text": "It is @@2@@.", "_text": "It is 2.", "ch_idxs": []}]},
            "_raw_answer": "2", "_answer": "2", "ch_list": ["H_Sums_1_1", "C_sum", "H_Sums_1_2", "C_two"],
            "fws_annotations": {"some model": {"text": "It is 3.", "start_idx": 0, "end_idx": 8}},
        },
        "P_Sums_2": {
            "identifier": "P_Sums_2", "_raw_text": "What is 4?", "_text": "What is 4?", "category": "Sums",
            "solution": {"steps": [{"_text": "It is 4."}]}, "_raw_answer": "4", "_answer": "4", "ch_list": ["C_two"],
        },
    },
    "concepts": {
        "C_sum": {"identifier": "C_sum", "name": "rule of sum", "_text": "a + b", "category": "Sums", "parent": None},
        "C_two": {"identifier": "C_two", "name": None, "_text": "2 is even", "category": "Sums", "parent": None},
    },
    "hints": {
        "H_Sums_1_1": {"identifier": "H_Sums_1_1", "_raw_text": "Use fingers.", "_text": "Use fingers."},
        "H_Sums_1_2": {"identifier": "H_Sums_1_2", "_raw_text": "Count @@them@@.", "_text": "Count them."},
    },
}  # fmt: skip


def test_a_document_of_champ_has_its_concepts_by_name_and_its_hints_as_the_rationale(tmp_path: Path) -> None:
    (tmp_path / "v0.json").write_text(json.dumps(CHAMP))
    rows, dropped = read_seeds(tmp_path / "v0.json")
    assert [(row["answer"], row["concepts"], row["rationale"], row["solution"]) for row in rows] == [
        ("2", ["rule of sum", "2 is even"], "Use fingers.\nCount them.", "Add.\nIt is 2."),
        ("4", ["2 is even"], None, "It is 4."),
    ]
    assert dropped == []


@pytest.mark.parametrize("damage", [{"ch_list": None}, {"ch_list": "C_sum"}, {"ch_list": [["C_sum"], 3, "C_none"]}])
def test_a_problem_of_champ_with_a_damaged_list_has_no_concepts(tmp_path: Path, damage: dict[str, Any]) -> None:
    problem = CHAMP["problems"]["P_Sums_2"] | damage
    (tmp_path / "v0.json").write_text(json.dumps(CHAMP | {"problems": {"P": problem}, "hints": None}))
    ((row,), dropped) = read_seeds(tmp_path / "v0.json")
    assert (row["problem"], row["concepts"], row["rationale"], dropped) == ("What is 4?", [], None, [])


def test_what_is_broken_in_a_file_is_one_row_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "LONGEST_LINE", 200)
    good = b'{"problem": "p"}\n'
    long = b'{"problem": "' + b"x" * 5000 + b'"}\n'
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + good + b'{"a\n' + b"\xff\n" + long + good + b'"text"\n' + good)
    rows = open_source(tmp_path / "a.jsonl")
    found = [(number, row if isinstance(row, dict) else row.reason) for _, number, row in rows]
    assert [number for number, _ in found] == [1, 2, 3, 4, 5, 6, 7]
    assert [row["problem"] for _, row in found if isinstance(row, dict)] == ["p", "p", "p"]
    reasons = [str(row) for _, row in found if not isinstance(row, dict)]
    assert ["JSON" in reasons[0], "UTF-8" in reasons[1], "MiB" in reasons[2], "str" in reasons[3]] == [True] * 4
    for name in ("b.jsonl.gz", "b.json.gz"):
        (tmp_path / name).write_bytes(gzip.compress(good * 1000)[:-20])
        with pytest.raises(SeedError, match=f"{name}: cannot be unpacked"):
            list(open_source(tmp_path / name))


def test_a_broken_line_of_a_table_is_a_row_in_its_place(tmp_path: Path) -> None:
    lines = (b"problem,answer", b"What is 1?,1", b"bad \xff bytes,2", b"What is 3?,3,4", b'"What, is 4?",4', b"Open?")
    (tmp_path / "a.csv").write_bytes(b"\n".join(lines) + b"\n")
    rows, dropped = read_seeds(tmp_path / "a.csv")
    assert [(row["problem"], row["row"]) for row in rows] == [("What is 1?", 1), ("What, is 4?", 4)]
    assert [row["row"] for row in dropped] == [2, 3, 5]
    assert all("mend or delete the line" in row["reason"] for row in dropped)


def test_a_broken_array_keeps_what_comes_before_the_break(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"problem": "p"},\n {"problem": "q"},\n {"problem": oops}]')
    found = [row for _, _, row in open_source(tmp_path / "a.json")]
    assert isinstance(found[-1], Broken) and "broken here or a little later" in found[-1].reason


def test_an_array_that_ends_early_is_a_broken_row(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"problem": "What is 1?"}, {"problem": "What is 2?"}])[:-9])
    found = [row for _, _, row in open_source(tmp_path / "a.json")]
    assert isinstance(found[-1], Broken) and "broken here or a little later" in found[-1].reason


def test_a_damaged_page_of_a_table_is_one_clear_error(tmp_path: Path) -> None:
    table = pa.table({"problem": [f"What is {number}?" for number in range(5000)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=1000)
    content = bytearray((tmp_path / "a.parquet").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 300] = b"\xaa" * 300
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(SeedError, match=r"a\.parquet: not a Parquet file"):
        list(open_source(tmp_path / "a.parquet"))


def test_bytes_that_are_no_text_fall_and_decimals_are_numbers(tmp_path: Path) -> None:
    columns = {"problem": [b"caf\xe9?", b"What is 7/2?"], "answer": [Decimal("1.0"), Decimal("3.5")]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    rows, dropped = read_seeds(tmp_path / "a.parquet")
    assert [(row["problem"], row["answer"]) for row in rows] == [("What is 7/2?", "3.5")]
    assert [(row["row"], row["reason"].partition(";")[0]) for row in dropped] == [(1, "text is not valid Unicode")]


def test_lines_in_a_file_that_is_called_json_may_be_long(tmp_path: Path) -> None:
    lines = [json.dumps({"problem": "p", "notes": "x" * 100_000}), json.dumps({"problem": "q"})]
    (tmp_path / "a.json").write_text("\n".join(lines))
    assert [row["problem"] for row in read_seeds(tmp_path / "a.json")[0]] == ["p", "q"]


def test_a_condition_takes_nan_for_null_and_lets_faulty_rows_pass_to_be_counted(tmp_path: Path) -> None:
    lines = ('{"problem": "p", "x": NaN}', '{"problem": "q", "x": 1}', '{"problem": "half \\ud800"}', '{"x": 2}', "{")
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    rows, dropped = read_seeds(tmp_path / "a.jsonl", where="x is null")
    assert [row["problem"] for row in rows] == ["p"] and [row["row"] for row in dropped] == [3, 5]


def test_reasoning_gym_gives_questions_with_its_own_answers() -> None:
    pytest.importorskip("reasoning_gym")
    rows, dropped = read_seeds("gym:basic_arithmetic?size=5&seed=7&max_terms=2")
    assert not dropped and len(rows) == 5 == len({row["problem"] for row in rows})
    assert all(row["answer"] and row["source"].startswith("gym:") for row in rows)
    assert rows == read_seeds("gym:basic_arithmetic?size=5&seed=7&max_terms=2")[0]
    assert rows != read_seeds("gym:basic_arithmetic?size=5&seed=8&max_terms=2")[0]
    wrong = (
        "no_such_task",
        "basic_arithmetic?no_such_setting=1",
        "basic_arithmetic?size=x",
        "basic_arithmetic?size=-1",
    )
    for address in map("gym:{}".format, wrong):
        with pytest.raises(SeedError, match="write gym:NAME"):
            read_seeds(address)
