"""Published formats, one small row each, and the real files where they lie beside the checkout."""

import base64
import json
import pickle
import zlib
from pathlib import Path

import pytest

from promptcot_assets.domains import domain_named
from promptcot_assets.judging.opening import open_verifier
from promptcot_assets.lake import Row
from promptcot_assets.settings.engines import Sandbox
from promptcot_assets.settings.profile import Benchmarks, Evaluation, PublishedBenchmark
from promptcot_assets.stages.corpus.sources import SeedError
from promptcot_assets.stages.evaluation.benchmarks import item_prompt, published_items, verdicts
from promptcot_assets.stages.evaluation.published_items import read_items
from tests.published_samples import COUNTS


def packed(tests: list[Row]) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(tests)))).decode()


def lcb(kind: str, date: str, **changed: object) -> Row:
    test = {"input": "[1, 2]\n3" if kind == "functional" else "1 2\n", "output": "6", "testtype": kind}
    return {
        "question_content": f"Sum ({kind}).", "public_test_cases": json.dumps([test]),
        "private_test_cases": packed([test, test]), "contest_date": date,
        "starter_code": "class Solution:\n    def total(self, xs, y):\n        " if kind == "functional" else "",
        "metadata": json.dumps({"func_name": "total"} if kind == "functional" else {}),
    } | changed  # fmt: skip


CODEFORCES = {
    "description": "Add.", "input_format": "Two integers.", "output_format": "Their sum.", "note": None,
    "examples": [{"input": "1 2", "output": "3"}], "official_tests": [{"input": "4 5", "output": "9"}],
    "official_tests_complete": True, "contest_id": 1850, "points": 500.0, "input_mode": "stdio",
    "generated_checker": None, "interaction_format": None,
}  # fmt: skip


def write(path: Path, *rows: Row) -> PublishedBenchmark:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return PublishedBenchmark(source=str(path))


def test_livecodebench_has_programs_and_functions(tmp_path: Path) -> None:
    rows, dropped = read_items(
        write(tmp_path / "lcb.jsonl", lcb("stdin", "2025-02-01"), lcb("functional", "2025-02-02")), "code"
    )
    program, function = rows
    assert [len(row["tests"]) for row in rows] == [3, 3] and not dropped
    assert (program["fn_name"], function["fn_name"]) == (None, "total")
    assert function["tests"][0] == {"stdin": "[1, 2]\n3", "expected": "6"}
    assert "Starter code:\n```python\nclass Solution:" in function["problem"]
    assert "Starter" not in program["problem"]


def test_a_window_of_dates_makes_a_version_of_livecodebench(tmp_path: Path) -> None:
    dates = ("2024-07-31T00:00:00", "2024-08-01T00:00:00", "2025-01-31T00:00:00", "2025-02-01T00:00:00")
    write(tmp_path / "lcb.jsonl", *(lcb("stdin", date, question_content=f"Sum {date}.") for date in dates))
    v5 = PublishedBenchmark(source=str(tmp_path / "lcb.jsonl"), since="2024-08-01", until="2025-02-01")
    rows, dropped = read_items(v5, "code")
    assert [row["row"] for row in rows] == [2, 3]
    assert [(row["row"], row["reason"]) for row in dropped] == [
        (1, "outside the window of dates"),
        (4, "outside the window of dates"),
    ]


def test_packed_tests_import_nothing_and_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    harmful = base64.b64encode(zlib.compress(pickle.dumps(len))).decode()
    large = packed([{"input": "1" * 100_000, "output": "6", "testtype": "stdin"}])
    monkeypatch.setattr("promptcot_assets.stages.corpus.values.MAX_UNPACKED", 1 << 16)
    bad = [
        lcb("stdin", "2025-02-01", private_test_cases=value, question_content=value[:9]) for value in (harmful, large)
    ]
    rows, dropped = read_items(write(tmp_path / "lcb.jsonl", lcb("stdin", "2025-02-01"), *bad), "code")
    assert len(rows) == 1
    assert [(row["row"], row["reason"]) for row in dropped] == [
        (2, "unusable tests: the packed tests are damaged; download the file again"),
        (3, "unusable tests: unpacked they are larger than 0 MiB"),
    ]  # fmt: skip


def test_codeforces_keeps_contest_points_and_whether_its_tests_are_whole(tmp_path: Path) -> None:
    partial = CODEFORCES | {"official_tests_complete": False, "official_tests": [], "description": "Add again."}
    unfit = [CODEFORCES | {"interaction_format": "ask"}, CODEFORCES | {"input_mode": "file"}]
    rows, dropped = read_items(write(tmp_path / "cf.jsonl", CODEFORCES, partial, *unfit), "code")
    assert [(row["contest"], row["points"], row["sample_tests"]) for row in rows] == [
        ("1850", 500.0, False), ("1850", 500.0, True),
    ]  # fmt: skip
    assert [row["tests"][0]["stdin"] for row in rows] == ["4 5", "1 2"]
    assert rows[0]["problem"].split("\n\n")[:3] == ["Add.", "Input", "Two integers."]
    assert domain_named("code").worked_example(rows[0]["problem"]) == {"stdin": "1 2", "expected": "3"}
    assert [row["reason"] for row in dropped] == ["interactive", "reads and writes files"]


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        ({"question": "2 + 2?", "answer": "Two and two.\n#### 4"}, "4"),
        ({"problem": "2 + 2?", "solution": r"\boxed{5}", "answer": "4", "level": 3, "unique_id": "x"}, "4"),
        ({"problem_idx": 1, "problem": "2 + 2?", "answer": 4}, "4"),
    ],
    ids=["GSM8K on the hub", "MATH-500", "AIME and HMMT on the hub"],
)
def test_maths_sets_of_the_hub(row: Row, answer: str, tmp_path: Path) -> None:
    ((read,), _) = read_items(write(tmp_path / "maths.jsonl", row), "maths")
    assert (read["problem"], read["answer"]) == ("2 + 2?", answer)


def test_a_benchmark_without_an_item_that_can_be_judged_is_an_error(tmp_path: Path) -> None:
    def refused(source: PublishedBenchmark, domain: str, says: str) -> None:
        with pytest.raises(SeedError, match=says):
            read_items(source, domain)

    refused(
        write(tmp_path / "cf.jsonl", CODEFORCES | {"interaction_format": "ask"}), "code", r"no item is left \(1 x inter"
    )
    dated = PublishedBenchmark(
        source=write(tmp_path / "maths.jsonl", {"question": "1?", "answer": 1}).source, since="2025"
    )
    refused(dated, "maths", "no `contest_date`")
    unread = write(tmp_path / "aime.jsonl", {"problem": "1 + 1?", "final": "2"}, {"problem": "1 + 2?", "final": "3"})
    refused(unread, "maths", r"aime\.jsonl: no item is left, 0 of 2 have an answer.*inspect")
    refused(write(tmp_path / "maths.jsonl", {"question": "1?", "answer": 1}), "code", "0 of 1 have tests")


def test_functions_are_asked_for_as_functions_and_programs_as_the_profile_says(tmp_path: Path) -> None:
    source = write(tmp_path / "lcb.jsonl", lcb("stdin", "2025-02-01"), lcb("functional", "2025-02-02")).source
    (program, function), _ = published_items(Benchmarks(files={"code": {"lcb": source}}))
    ours, published = Evaluation(), Evaluation(prompts="published")
    assert item_prompt(program, ours) == domain_named("code").solve_prompt(program["problem"])
    assert "Read the inputs from stdin" in item_prompt(program, published)
    assert item_prompt(function, ours) == item_prompt(function, published)
    assert "starter code above" in item_prompt(function, ours) and "stdin" not in item_prompt(function, ours)


@pytest.mark.parametrize("name", ["aime24", "aime25", "hmmt25", "codeforces"])
def test_published_files_lose_no_item_and_their_prompts_are_the_published_ones(name: str, published: Path) -> None:
    path = published / f"{name}.jsonl"
    domain = "code" if name == "codeforces" else "maths"
    rows, dropped = published_items(Benchmarks(files={domain: {name: str(path)}}))
    assert (len(rows), dropped) == (COUNTS[name], [])
    prompts = (json.loads(line)["prompt"] for line in path.read_text().splitlines())
    asked = {prompt.partition("<|im_start|>user\n")[2].partition("<|im_end|>")[0].strip() for prompt in prompts}
    assert {item_prompt(row, Evaluation(prompts="published")).strip() for row in rows} == asked


def test_several_files_are_read_one_after_the_other_and_a_bad_row_names_its_own(tmp_path: Path) -> None:
    first = write(tmp_path / "test4.jsonl", lcb("stdin", "2024-07-30"), lcb("stdin", "2024-08-01")).sources
    second = write(tmp_path / "test5.jsonl", lcb("functional", "2025-01-31"), lcb("stdin", "2025-02-01")).sources
    both = PublishedBenchmark(source=[*first, *second], since="2024-08-01", until="2025-02-01")
    rows, dropped = read_items(both, "code")
    assert [(row["source"], row["row"]) for row in rows] == [("test4.jsonl", 2), ("test5.jsonl", 1)]
    assert [row["reason"] for row in dropped] == ["outside the window of dates"] * 2
    with (tmp_path / "test5.jsonl").open("a") as file:
        file.write("\n" + json.dumps(lcb("stdin", "2025-01-01") | {"public_test_cases": 3}))
    _, dropped = read_items(both, "code")
    (bad,) = (row for row in dropped if row["reason"] != "outside the window of dates")
    assert (bad["source"], bad["row"]) == ("test5.jsonl", 4) and "unusable tests" in bad["reason"]


def test_livecodebench_items_of_both_styles_are_judged_by_running_them(tmp_path: Path) -> None:
    source = write(tmp_path / "lcb.jsonl", lcb("stdin", "2025-02-01"), lcb("functional", "2025-02-02")).source
    items = {row["item_id"]: row for row in published_items(Benchmarks(files={"code": {"lcb": source}}))[0]}
    program, function = items
    answers = {
        program: ("xs = map(int, input().split())\nprint(sum(xs) + 3)", "print(6.5)",
                  "print('06')\nexit(3)"),  # by LiveCodeBench's rules: any exit, and digits are numbers
        function: ("class Solution:\n    def total(self, xs, y):\n        return sum(xs) + y",
                   "def total(xs, y):\n    return sum(xs) + y", "def total(xs, y):\n    return y"),
    }  # fmt: skip
    drawn = [
        {"generation_id": f"{item}{at}", "item_id": item, "benchmark": "lcb", "domain": "code", "stage": "sft",
         "model": "m", "attempt": at, "completion": f"```python\n{code}\n```"}
        for item, codes in answers.items() for at, code in enumerate(codes)
    ]  # fmt: skip
    with open_verifier(Sandbox(workers=1)) as verifier:
        judged = verdicts(drawn, items, verifier)
    assert [row["passed"] for row in judged] == [True, False, True, True, True, False]


def test_a_codeforces_item_is_judged_by_its_checker_within_its_time(tmp_path: Path) -> None:
    """Any two numbers with the right sum; the samples show one pair."""
    checker = (
        "import sys\ngiven, _, said = (open(name).read().split() for name in sys.argv[1:4])\n"
        "print(int(len(said) == 2 and sum(map(int, said)) == int(given[0])))"
    )
    tests = [{"input": "7\n", "output": "1 6\n"}]
    row = CODEFORCES | {"generated_checker": checker, "official_tests": tests, "examples": tests, "time_limit": 1.0}
    items = published_items(Benchmarks(files={"code": {"cf": write(tmp_path / "cf.jsonl", row).source}}))[0]
    (item,) = items
    assert (item["checker"], item["cpu_s"]) == (checker, 1.0)
    codes = ("print(0, int(input()))", "print(1, 5)", "print('seven')", "while True: pass")
    drawn = [
        {"generation_id": str(at), "item_id": item["item_id"], "benchmark": "cf", "domain": "code", "stage": "sft",
         "model": "m", "attempt": at, "completion": f"```python\n{code}\n```"}
        for at, code in enumerate(codes)
    ]  # fmt: skip
    with open_verifier(Sandbox(workers=1)) as verifier:
        judged = verdicts(drawn, {item["item_id"]: item}, verifier)
    assert [row["verdict"] for row in judged] == ["ok", "wrong_answer", "wrong_answer", "time_limit"]
