"""Every public shape, as JSONL and as Parquet: the form, the exact answers, tests and solutions, and what falls."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from promptcot_assets.settings.profile import Corpus
from promptcot_assets.stages.corpus.forms import FORMS
from promptcot_assets.stages.corpus.reading import Reading, read
from promptcot_assets.stages.corpus.seed_tables import seed_problems
from tests import published_samples
from tests.stages.corpus.public_forms import SHAPES, Row, Shape


def write(folder: Path, kind: str, rows: list[Row]) -> Path:
    path = folder / f"problems.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@pytest.mark.parametrize("name", SHAPES)
def test_a_public_shape_is_read_whole(name: str, kind: str, tmp_path: Path) -> None:
    shape: Shape = SHAPES[name]
    reading = Reading(str(write(tmp_path, kind, shape.rows)))
    rows = list(read(reading, domain=shape.domain))
    assert reading.form is not None and reading.form.name == shape.form
    assert [row["answer"] for row in rows] == shape.answers
    assert [len(row["tests"]) for row in rows if row["tests"]] == shape.tests
    assert sum(row["solution"] is not None for row in rows) == shape.solutions
    assert reading.reasons == Counter(shape.dropped)
    assert shape.used.items() <= reading.used.items()
    assert not shape.problems or [row["problem"] for row in rows] == shape.problems
    for row, more in zip(rows, shape.more, strict=False):
        assert {column: row[column] for column in more} == more
    assert all(path.split(".")[0] in reading.columns for paths in reading.used.values() for path in paths.split(", "))


@pytest.mark.parametrize("name", [name for name in SHAPES if SHAPES[name].answers])
def test_a_shape_read_under_maths_and_code_gives_each_row_once(name: str, tmp_path: Path) -> None:
    """As `make real-seeds` reads it."""
    shape, path = SHAPES[name], str(write(tmp_path, "jsonl", SHAPES[name].rows))
    rows, dropped = seed_problems(Corpus(files={"maths": [path], "code": [path]}), 0)
    own = [row for row in rows if row["domain"] == shape.domain]
    assert [row["answer"] for row in own] == shape.answers
    assert [len(json.loads(row["tests"])) for row in own if row["tests"]] == shape.tests
    assert len({row["source_row"] for row in (*rows, *dropped)}) == len(rows) + len(dropped) == len(shape.rows)


def test_the_page_says_of_every_form_what_is_read() -> None:
    page = (Path(__file__).parents[3] / "docs" / "real_seeds.md").read_text()
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| ")]
    missing = {form.name for form in FORMS if not any(form.name in row for row in rows)}
    assert not missing, f"give {missing} a row in docs/real_seeds.md"


def test_the_samples_are_those_that_the_tests_read() -> None:
    folder = Path(__file__).parents[3] / "samples"
    for path in folder.rglob("*.jsonl"):
        name = "seed_triples_math" if path.stem == "seeds" else path.stem
        lines = path.read_text().splitlines()
        assert [json.loads(line) for line in lines] == published_samples.rows(name, len(lines)) and lines
