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
from hypothesis import given
from hypothesis import strategies as st

from promptcot_assets.stages.seeds import SeedError, last_boxed, read_seeds, strip_wrapper

DATA = Path(__file__).parents[2].parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the published files of ../shared/data are absent")
WRAPPERS = json.loads(Path(__file__).with_name("wrappers.json").read_text())


def write_jsonl(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("case", WRAPPERS, ids=lambda case: case["why"])
def test_strip_wrapper(case):
    assert strip_wrapper(case["text"]) == case["bare"]


PIECES = [case["text"] for case in WRAPPERS] + ["[INST]", "<|user|>", "Question:", "\n", "x"]


@given(st.lists(st.sampled_from(PIECES), max_size=4))
def test_strip_wrapper_is_idempotent(pieces):
    once = strip_wrapper("".join(pieces))
    assert strip_wrapper(once) == once


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
    ],
)
def test_last_boxed(text, boxed):
    assert last_boxed(text) == boxed


@needs_data
@pytest.mark.parametrize(
    ("name", "count", "first_answer"),
    [
        ("aime24", 30, "33"),
        ("aime25", 30, "70"),
        ("hmmt25", 30, "103"),
        ("gsm8k", 1319, "18"),
        ("codeforces", 408, None),
        ("seed_triples_math", 253, r"\left( 3, \frac{\pi}{2} \right)"),
    ],
)
def test_published_files_read_whole_and_bare(name, count, first_answer):
    rows, dropped = read_seeds(DATA / f"{name}.jsonl")
    assert (len(rows), dropped, rows[0]["answer"]) == (count, [], first_answer)
    for row in rows:
        assert not any(mark in row["problem"] for mark in ("<|", "<｜", "step by step", "YOUR CODE", "specification)"))


@needs_data
def test_codeforces_carries_its_468_sample_tests_and_the_triples_their_concepts():
    rows, _ = read_seeds(DATA / "codeforces.jsonl")
    assert sum(len(row["tests"]) for row in rows) == 468
    assert rows[0]["tests"][0]["stdin"].startswith("10\n1 9") and rows[0]["tests"][0]["expected"].startswith("1 9\n")
    triples, _ = read_seeds(DATA / "seed_triples_math.jsonl", limit=3)
    assert len(triples) == 3 and all(row["concepts"] and row["rationale"] for row in triples)


@pytest.mark.parametrize(
    ("columns", "answer", "solution"),
    [
        ({"answer": 33}, "33", None),
        ({"answer": "7", "solution": "so \\boxed{8}\n#### 9"}, "7", "so \\boxed{8}"),
        ({"solution": "so \\boxed{8}\n#### 9"}, "9", "so \\boxed{8}"),
        ({"reference_solution": "so \\boxed{8}."}, "8", "so \\boxed{8}."),
        ({"solution": "#### 9"}, "9", None),
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
    nothing = dict.fromkeys(["answer", "solution", "tests", "fn_name", "rationale", "level", "domain"])
    assert rows[0] == {**nothing, "problem": "p", "concepts": [], "source": "a.jsonl", "row": 1}
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
        {"problem": "p", "input_output": {"inputs": ["1"], "outputs": ["1"], "fn_name": "f"}},
    )
    rows, dropped = read_seeds(path)
    assert [row["problem"] for row in rows] == ["kept"]
    assert [row["row"] for row in dropped] == [1, 2, 4, 5, 6, 7, 8]
    reasons = Counter(row["reason"].partition(":")[0] for row in dropped)
    assert reasons == {"empty problem": 2, "unusable tests": 4, "text is not valid Unicode": 1}
    json.dumps(dropped, ensure_ascii=False).encode()  # what fell can itself be written down


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"problem": "p"}\n{"problem": \n', ["line 2", "not JSON", "mend or delete"]),
        ('{"problem": "p"}\n[1]\n', ["line 2", "list"]),
        ('{"question": "p"}\n', ["line 1", "`problem`", "question", "rename"]),
        ('{"problem": 5}\n', ["line 1", "`problem`", "int"]),
        ('{"problem": "p", "answer": [1]}\n', ["line 1", "`answer`", "list"]),
        ('{"problem": "p", "concepts": "ratios"}\n', ["line 1", "`concepts`", "list of strings"]),
        ('{"problem": "p", "tests": "1"}\n', ["line 1", "`tests`", "stdin"]),
        ("\n\n", ["no rows"]),
        ("", ["no rows"]),
    ],
)
def test_bad_files_get_one_error_naming_file_line_and_mend(tmp_path, content, says):
    path = tmp_path / "bad.jsonl"
    path.write_text(content)
    with pytest.raises(SeedError) as error:
        read_seeds(path)
    assert all(part in str(error.value) for part in ["bad.jsonl", *says])


def test_bytes_that_are_not_utf8_and_false_parquet_are_named(tmp_path):
    (tmp_path / "bad.jsonl").write_bytes(b'{"problem": "\xff"}\n')
    with pytest.raises(SeedError, match="line 1"):
        read_seeds(tmp_path / "bad.jsonl")
    (tmp_path / "bad.parquet").write_bytes(b"not parquet")
    with pytest.raises(SeedError, match=r"bad\.parquet: not a Parquet file"):
        read_seeds(tmp_path / "bad.parquet")


@pytest.mark.parametrize("source", ["absent.jsonl", "table.csv", "hf:org/name", "hf:org/name@a", "hf:name@a#train"])
def test_sources_that_cannot_be_opened(source):
    with pytest.raises(SeedError, match=source):
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
    rows, _ = read_seeds("hf:org/name@main#train")
    assert [(row["problem"], row["answer"], row["row"]) for row in rows] == [("a", "1", 1), ("b", "2", 2)]
    with pytest.raises(SeedError, match="split"):
        read_seeds("hf:org/name@main#nothing")


def test_a_file_of_a_hub_repository_is_read_from_its_cache(tmp_path):
    """In a process of its own: the hub's library reads HF_HOME and HF_HUB_OFFLINE once, at import."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    folder = tmp_path / "hub" / "datasets--org--name" / "snapshots" / commit
    folder.mkdir(parents=True)
    write_jsonl(folder / "test5.jsonl", {"problem": "a", "answer": 1})
    code = "import sys; from promptcot_assets.stages.seeds import read_seeds; print(read_seeds(sys.argv[1])[0])"
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}

    def read(file):
        return subprocess.run([sys.executable, "-c", code, f"hf:org/name@{commit}#{file}"], env=environment,
                              capture_output=True, text=True, timeout=120, check=False)  # fmt: skip

    assert "'problem': 'a'" in (done := read("test5.jsonl")).stdout, done.stderr
    absent = read("test6.jsonl").stderr
    assert "SeedError: hf:org/name@" in absent and "mend name, revision or file" in absent
