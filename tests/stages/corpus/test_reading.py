"""Reading seeds: the normal form on the real files, wrappers as a table, one clear error for each kind of bad input."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from promptcot_assets.stages.corpus.reading import COLUMNS, read_seeds
from promptcot_assets.stages.corpus.sources import SeedError
from promptcot_assets.stages.corpus.values import last_boxed
from tests.published_samples import COUNTS
from tests.published_samples import rows as raw


def write_jsonl(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("text", "boxed"),
    [
        (r"so \boxed{33}", "33"),
        (r"\boxed{1} then \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\fbox{7}", "7"),
        (r"\boxed{3} and an unclosed \boxed{4", "3"),
        (r"\boxed{}", None),
        ("no answer", None),
        (r"\boxed{" * 200_000, None),  # a repetition of a model: one pass, not one a box
    ],
)
def test_last_boxed(text, boxed):
    assert last_boxed(text) == boxed


@pytest.mark.parametrize("name", COUNTS)
def test_published_files_read_whole_and_bare(name, published):
    rows, dropped = read_seeds(published / f"{name}.jsonl")
    assert (len(rows), dropped) == (COUNTS[name], [])
    final = [row.get("reference_solution", row.get("solution", "")).partition("#### ")[2] or None for row in raw(name)]
    assert [row["answer"] for row in rows] == final
    for row in rows:
        assert not any(mark in row["problem"] for mark in ("<|", "<｜", "step by step", "YOUR CODE", "specification)"))


def test_codeforces_carries_its_sample_tests_and_the_triples_their_concepts(published):
    rows, _ = read_seeds(published / "codeforces.jsonl")
    cases = [json.loads(row["input_output"]) for row in raw("codeforces")]
    assert [[test["stdin"] for test in row["tests"]] for row in rows] == [case["inputs"] for case in cases]
    assert [[test["expected"] for test in row["tests"]] for row in rows] == [case["outputs"] for case in cases]
    triples, _ = read_seeds(published / "seed_triples_math.jsonl", limit=3)
    assert len(triples) == 3 and all(row["concepts"] and row["rationale"] for row in triples)


@pytest.mark.parametrize(
    ("columns", "answer", "solution"),
    [
        ({"answer": 33}, "33", None),
        ({"answer": "7", "solution": "so \\boxed{8}\n#### 9"}, "7", "so \\boxed{8}"),
        ({"solution": "so \\boxed{8}\n#### 9"}, "9", "so \\boxed{8}"),
        ({"reference_solution": "so \\boxed{8}."}, "8", "so \\boxed{8}."),
        ({"solution": "#### 9"}, "9", None),
        ({"solution": "9"}, "9", None),
        ({"solution": "$\\frac{1}{2}$"}, "\\frac{1}{2}", None),
        ({"solution": "-1,200.5"}, "-1,200.5", None),
        ({"solution": "Clear."}, None, "Clear."),
        ({"response": "Add them.\n#### 9\nThe answer is: 9"}, "9", "Add them."),
        ({"response": "Add them.\nThe answer is: $x^2$."}, "x^2", "Add them."),
        (
            {"answer": (ESSAY := "There are nine of them. Take two away, since Ada has two. So seven are left.")},
            None,
            ESSAY,
        ),
        ({"answer": "Yes. For example, n = 3."}, "Yes. For example, n = 3.", None),
        ({"solution": "#### First step\nadd them up"}, None, "#### First step\nadd them up"),
        ({"answer": "  "}, None, None),
    ],
)
def test_where_an_answer_comes_from(tmp_path, columns, answer, solution):
    rows, _ = read_seeds(write_jsonl(tmp_path / "a.jsonl", {"problem": "p", **columns}))
    assert (rows[0]["answer"], rows[0]["solution"]) == (answer, solution)


def test_normal_form_is_complete_and_says_where_the_row_is_from(tmp_path):
    chat = [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]
    rows, _ = read_seeds(write_jsonl(tmp_path / "a.jsonl", {"problem": "p"}, {"prompt": chat}))
    assert rows[0] == {**dict.fromkeys(COLUMNS), "problem": "p", "concepts": [], "source": "a.jsonl", "row": 1}
    assert (rows[1]["problem"], rows[1]["row"]) == ("q", 2)


def test_function_style_tests_become_one_argument_a_line(tmp_path):
    cases = json.dumps({"fn_name": "add", "inputs": [[1, [2, 3]]], "outputs": ["6"]})
    rows, _ = read_seeds(write_jsonl(tmp_path / "a.jsonl", {"problem": "p", "input_output": cases}))
    assert rows[0]["fn_name"] == "add" and rows[0]["tests"] == [{"stdin": "1\n[2, 3]", "expected": '"6"'}]


def test_parquet_and_jsonl_give_the_same_rows(tmp_path):
    raw = [{"problem": f"p{i}", "answer": str(i), "concepts": ["a", "b"]} for i in range(5)]
    pq.write_table(pa.Table.from_pylist(raw), tmp_path / "a.parquet")
    from_parquet, _ = read_seeds(tmp_path / "a.parquet")
    from_jsonl, _ = read_seeds(write_jsonl(tmp_path / "a.jsonl", *raw))
    assert [{**row, "source": ""} for row in from_parquet] == [{**row, "source": ""} for row in from_jsonl]


def test_rows_dropped_for_cause_are_returned_with_the_reason(tmp_path):
    path = write_jsonl(
        tmp_path / "a.jsonl",
        {"problem": "  "},
        {"problem": None},
        {"problem": "kept"},
        {"problem": "half a \ud800 pair"},
        {"problem": "p", "input_output": "{not json"},
        {"problem": "p", "input_output": {"inputs": ["1"], "outputs": []}},
        {"problem": "p", "tests": [{"stdin": "1"}]},
        {"problem": "p", "input_output": {"inputs": ["one"], "outputs": ["1"], "fn_name": "f"}},
    )
    rows, dropped = read_seeds(path)
    assert [row["problem"] for row in rows] == ["kept"]
    assert [row["row"] for row in dropped] == [1, 2, 4, 5, 6, 7, 8]
    reasons = Counter(row["reason"].partition(":")[0] for row in dropped)
    assert reasons == {"empty problem": 2, "unusable tests": 4, "text is not valid Unicode; mend or delete the row": 1}
    json.dumps(dropped, ensure_ascii=False).encode()  # what fell can itself be written down


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b'{"problem": ', "not JSON; mend or delete"),
        (b"[1]", "a JSON list, not an object"),
        (b'{"problem": "\xff"}', "not UTF-8; save the file as UTF-8"),
        (b"[" * 100_000, "not JSON"),
        (b'{"problem": 5}', "the problem is a int"),
        (b'{"problem": "p", "answer": {"a": 1}}', "the answer is a dict"),
        (b'{"problem": "p", "answer": NaN}', "NaN or infinite"),
        (b'{"problem": "p", "answer": "nan"}', "NaN or infinite"),
        (b'{"problem": "p", "answer": -Infinity}', "NaN or infinite"),
        (rb'{"problem": "p", "answer": "\\boxed{}"}', "empty box"),
        (rb'{"problem": "p", "answer": "\\boxed{3"}', "never closes"),
        (b'{"problem": "p", "answer": "proof"}', "a proof is asked for"),
        (b'{"problem": "p", "concepts": "ratios"}', "`concepts` must be a list of strings"),
        (b'{"problem": "p", "answer": ' + b"[" * 600 + b"]" * 600 + b"}", "nested too deep"),
        (b'{"problem": "p", "tests": "1"}', "unusable tests"),
        (b'{"problem": "p", "tests": [{"input": "1", "output": "1"}, {"input": "2"}]}', "unusable tests"),
    ],
)
def test_a_faulty_row_falls_with_file_row_and_mend_and_the_others_stay(line, says, tmp_path):
    path = tmp_path / "mixed.jsonl"
    path.write_bytes(b'{"problem": "good"}\n\n' + line + b'\n{"problem": "also good"}\n')
    rows, dropped = read_seeds(path)
    assert [(row["problem"], row["row"]) for row in rows] == [("good", 1), ("also good", 4)]
    ((source, row, reason),) = [(one["source"], one["row"], one["reason"]) for one in dropped]
    assert (source, row) == ("mixed.jsonl", 3) and says in reason


@pytest.mark.parametrize(
    ("answer", "read"),
    [
        (r"\boxed{3}", "3"),
        (r"\boxed{\boxed{3}}", "3"),
        (r"The answer is \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        ("$3$", "3"),
        ("$$x^2$$", "x^2"),
        ("$a$ and $b$", "$a$ and $b$"),
        ("Answer: 3", "3"),
        (3, "3"),
        (3.0, "3"),
        (0.125, "0.125"),
        (True, "True"),
        ([3], "3"),
        (["1", "-1"], "1, -1"),
        ('["34"]', "34"),
        ("['34', 'thirty-four']", "34"),
        (0, "0"),
        (0.0, "0"),
        ({"target": ["34"]}, "34"),
        ({"value": 0}, "0"),
        ("[1, 2]", "[1, 2]"),
        ("(1, 2)", "(1, 2)"),
        ("  ", None),
        (None, None),
    ],
)
def test_an_answer_is_bare(answer, read, tmp_path):
    rows, dropped = read_seeds(write_jsonl(tmp_path / "a.jsonl", {"problem": "p", "answer": answer}))
    assert ([row["answer"] for row in rows], dropped) == ([read], [])


@pytest.mark.parametrize(
    ("problem", "answer"),
    [("Problem Statement", "Final Answer"), ("problem-statement", "final-answer"), ("problemStatement", "finalAnswer"),
     (" Problem ", "ANSWER"), ("question", "gt")],
)  # fmt: skip
def test_a_column_is_known_in_other_letters(problem, answer, tmp_path):
    rows, dropped = read_seeds(write_jsonl(tmp_path / "a.jsonl", {problem: "p", answer: 3}))
    assert ([(row["problem"], row["answer"]) for row in rows], dropped) == ([("p", "3")], [])


@pytest.mark.parametrize("column", ["choices", "options"])
def test_choices_in_a_column_of_their_own_are_no_statement(column, tmp_path):
    row = {"question": "Which is even?", column: ["1", "2"], "answer": 1}
    rows, dropped = read_seeds(write_jsonl(tmp_path / "a.jsonl", row, row | {column: []}))
    assert len(rows) == 1 and "write them into the statement" in dropped[0]["reason"]


ONE_CASE = [{"input": "1", "output": "2"}]


@pytest.mark.parametrize(
    ("columns", "read"),
    [
        ({"tests": [ONE_CASE[0] | {"fn_name": ["f"]}]}, {"fn_name": None}),
        ({"tests": [ONE_CASE[0] | {"metadata": {"func_name": {"f": 1}}}]}, {"fn_name": None}),
        ({"solution": {"language": 3, "solution": ["a"]}}, {"solution": "a"}),
        ({"solution": {"steps": [3, {"_text": 4}, "so"]}}, {"solution": "so"}),
        ({"time_limit": 10**400}, {"cpu_s": None}),
        ({"time_limit": {"seconds": 10**400, "nanos": 5e8}}, {"cpu_s": 0.5}),
        ({"points": float("inf")}, {"points": None}),
        ({"points": 10**400}, {"points": None}),
        ({"date": 1689000000}, {"date": "2023-07-10T14:40:00+00:00"}),
        ({"date": 2023}, {"date": "2023"}),
    ],
)
def test_a_value_of_an_odd_shape_costs_no_row(columns, read, tmp_path):
    rows, dropped = read_seeds(write_jsonl(tmp_path / "a.jsonl", {"problem": "p", **columns}))
    assert ([{name: row[name] for name in read} for row in rows], dropped) == ([read], [])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"words": "p"}\n', ["no column holds a problem", "words", "columns: {problem: THEIRS"]),
        ('{"problem": 5}\n', ["no column holds a problem"]),
        ('{"row": {"question": "p", "answer": "3"}}\n', ["row.question, row.answer"]),
        ("\n\n", ["no rows"]),
        ("", ["no rows"]),
    ],
)
def test_a_file_without_a_single_problem_is_one_error(tmp_path, content, says):
    path = tmp_path / "bad.jsonl"
    path.write_text(content)
    with pytest.raises(SeedError) as error:
        read_seeds(path)
    assert all(part in str(error.value) for part in ["bad.jsonl", *says])


def test_a_false_parquet_file_is_named(tmp_path):
    (tmp_path / "bad.parquet").write_bytes(b"not parquet")
    with pytest.raises(SeedError, match=r"bad\.parquet: not a Parquet file"):
        read_seeds(tmp_path / "bad.parquet")


@pytest.mark.parametrize(
    "source",
    [
        "",
        "absent.jsonl",
        "x" * 5000 + ".jsonl",
        "table.xlsx",
        "hf:org/name",
        "hf:org/name@a",
        "hf:name@a#train",
        "hf:org/name@main#train",
    ],
)
def test_sources_that_cannot_be_opened(source):
    with pytest.raises(SeedError, match=source or "the source has no name"):
        read_seeds(source)


def test_limit_counts_kept_rows(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", {"problem": ""}, {"problem": "a"}, {"problem": "b"}, {"problem": "c"})
    rows, dropped = read_seeds(path, limit=2)
    assert [row["problem"] for row in rows] == ["a", "b"] and len(dropped) == 1
    with pytest.raises(SeedError, match="limit=0"):
        read_seeds(path, limit=0)


def test_hub_data_set_through_datasets(tmp_path, monkeypatch):
    """`datasets` prefers a local folder of that name: its real loader without the network."""
    folder = tmp_path / "org" / "name"
    folder.mkdir(parents=True)
    write_jsonl(folder / "train.jsonl", {"problem": "a", "answer": 1}, {"problem": "b", "answer": 2})
    monkeypatch.chdir(tmp_path)
    rows, _ = read_seeds(f"hf:org/name@{'a' * 40}#train")
    assert [(row["problem"], row["answer"], row["row"]) for row in rows] == [("a", "1", 1), ("b", "2", 2)]
    with pytest.raises(SeedError, match="split"):
        read_seeds(f"hf:org/name@{'a' * 40}#nothing")


def test_a_file_of_a_hub_repository_is_read_from_its_cache(tmp_path):
    """In a process of its own: the hub's library reads HF_HOME and HF_HUB_OFFLINE once, at import."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    folder = tmp_path / "hub" / "datasets--org--name" / "snapshots" / commit
    folder.mkdir(parents=True)
    write_jsonl(folder / "test5.jsonl", {"problem": "a", "answer": 1})
    code = (
        "import sys; from promptcot_assets.stages.corpus.reading import read_seeds; print(read_seeds(sys.argv[1])[0])"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}

    def read(file):
        return subprocess.run([sys.executable, "-c", code, f"hf:org/name@{commit}#{file}"], env=environment,
                              capture_output=True, text=True, timeout=120, check=False)  # fmt: skip

    assert "'problem': 'a'" in (done := read("test5.jsonl")).stdout, done.stderr
    absent = read("test6.jsonl").stderr
    assert "SeedError: hf:org/name@" in absent and "mend name, revision or file" in absent
