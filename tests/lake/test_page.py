"""The examples of docs/architecture/lake.md run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "architecture" / "lake.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(blocks("python")) == len(blocks("sql")) == 1
    for block in blocks("python") * 2:  # the second time nothing is left to do, and nothing breaks
        exec(compile(block, str(PAGE), "exec"), {})
    with duckdb.connect("home/catalog.duckdb", read_only=True) as con:
        answers = [con.sql(query).fetchall() for query in blocks("sql")[0].split(";") if query.strip()]
    assert answers[0] == [("batch_01", 2)]
    assert answers[2][0][0] == "seed_problems"
