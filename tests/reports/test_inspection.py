"""`promptcot inspect` on public shapes: what it counts, what it names, what it warns of, and how much memory it
takes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from promptcot_assets.cli import main
from promptcot_assets.reports.inspection import inspect
from promptcot_assets.settings import load_settings
from tests.stages.corpus.public_forms import SHAPES

KEYS = {"rows", "dropped", "form", "used", "unused", "answers", "tests", "solutions", "tokens", "duplicates", "overlap",
        "sample", "warnings"}  # fmt: skip


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def command(path: Path | str, *options: str, **environment: str) -> Result:
    return CliRunner().invoke(main, ["inspect", str(path), *options], env={"PROMPTCOT_PROFILE": "demo", **environment})


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("as_", ["seeds", "benchmark"])
def test_it_counts_what_would_be_read(name: str, as_: str, tmp_path: Path) -> None:
    shape = SHAPES[name]
    result = command(write(tmp_path / "a.jsonl", shape.rows), "--as", as_, "--domain", shape.domain, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found.keys() >= KEYS
    assert (found["rows"], found["form"]) == (len(shape.answers), shape.form)
    assert found["dropped"] == shape.dropped
    assert found["answers"] == sum(answer is not None for answer in shape.answers)
    assert (found["tests"], found["solutions"]) == (len(shape.tests), shape.solutions)
    assert [row["answer"] for row in found["sample"]] == shape.answers[:3]
    assert not {paths.split(".")[0] for paths in found["used"].values()} & set(found["unused"])
    assert bool(found["warnings"]) >= (not shape.answers)


def test_zeros_that_hide_something_are_warnings_with_the_mend(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"problem": f"What is {n}?", "the_answer": str(n), "id": n} for n in range(5)])
    (warning,) = json.loads(command(path, "--json").stdout)["warnings"]
    assert "0 of 5 rows have an answer; columns that look like one: the_answer" in warning and "columns:" in warning
    mapped = json.loads(command(path, "--json", "--column", "problem=problem", "--column", "answer=the_answer").stdout)
    assert (mapped["answers"], mapped["warnings"], mapped["form"]) == (5, [], "mapped by hand")
    as_text = command(path).output
    assert "the_answer" in as_text and "0 with answers" in as_text
    judged = json.loads(command(path, "--as", "benchmark", "--json").stdout)["warnings"]
    assert any("without answers or tests is refused" in text for text in judged)


def test_doubles_and_overlap_are_counted(tmp_path: Path) -> None:
    text = "Ada walks nine kilometres around the old harbour every single morning before she opens her shop in town"
    rows = [{"problem": f"{text} on day {n % 4}. How long?", "answer": str(n % 6)} for n in range(8)]
    seeds = write(tmp_path / "seeds.jsonl", [*rows, {"problem": "What else?", "answer": "1"}])
    items = write(tmp_path / "items.jsonl", [{"question": f"{text} on day 9. How far?", "answer": "9"}])
    profile = tmp_path / "mine.yaml"
    profile.write_text(
        f"extends: demo\ncorpus: {{procedural: null, files: {{maths: [{seeds}]}}}}\nsynthesis: {{concept_sets: null}}\n"
        f"deduplication: {{decontamination_ngram: 13}}\nbenchmarks: {{files: {{maths: {{walks: {items}}}}}}}\n"
    )
    found = json.loads(command(seeds, "--json", PROMPTCOT_PROFILE=str(profile)).stdout)
    assert found["duplicates"]["rows"] == 4
    assert found["duplicates"]["different_answers_in_rows"] == [[1, 5], [2, 6], [3, 7], [4, 8]]
    assert found["duplicates"]["different_answers"] == 4
    assert found["overlap"] == {"rows": 8, "with": {"walks": 8}, "compared_with": ["walks"]}
    other = json.loads(command(items, "--as", "benchmark", "--json", PROMPTCOT_PROFILE=str(profile)).stdout)
    assert other["overlap"]["rows"] == 1 and list(other["overlap"]["with"]) == [str(seeds)]


def test_mistakes_are_one_message(tmp_path: Path) -> None:
    for arguments, says in (
        ([str(tmp_path / "absent.jsonl")], "no such file"),
        ([str(write(tmp_path / "a.jsonl", [{"words": "x"}]))], "no column holds a problem"),
        ([str(tmp_path / "a.jsonl"), "--domain", "physics"], "no domain 'physics'"),
        ([str(tmp_path / "a.jsonl"), "--column", "problem"], "OURS=THEIRS"),
    ):
        result = command(*arguments)
        assert result.exit_code != 0 and says in result.output and "Traceback" not in result.output


def test_a_profile_that_cannot_be_read_leaves_out_limits_and_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"question": "What is 1 + 1?", "answer": "2"}])
    result = command(path, "--json", PROMPTCOT_PROFILE="real_seeds", SEEDS="")
    found = json.loads(result.stdout)
    assert found["answers"] == 1 and found["tokens"]["limit"] is None
    assert any("SEEDS" in text for text in found["warnings"])


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Rows of two kilobytes: ten thousand more of them are 20 MB of text and may cost some hundred kilobytes."""
    code = (
        "import resource, sys; from promptcot_assets.reports.inspection import inspect; found = inspect(sys.argv[1]); "
        "print(found['rows'], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = []
    for count in (5_000, 15_000):
        path = tmp_path / f"{count}.jsonl"
        with path.open("w") as file:
            for n in range(count):
                file.write(json.dumps({"problem": f"What is {n}? " + "x" * 2000, "answer": str(n)}) + "\n")
        done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
        rows, peak = map(int, done.stdout.split())
        assert rows == count
        peaks.append(peak)
    assert peaks[1] - peaks[0] < 8_000, "kilobytes"


def test_limits_of_the_profile_are_held_against_the_longest(tmp_path: Path) -> None:
    rows = [{"problem": "What is it? " * repeat, "answer": "2"} for repeat in (1, 200)]
    found = inspect(str(write(tmp_path / "a.jsonl", rows)), settings=load_settings("demo"))
    assert found["tokens"]["longer"] == 1 and found["tokens"]["limit_is"].startswith("em.")
    assert any("longer than" in text for text in found["warnings"])
