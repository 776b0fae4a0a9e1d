"""The examples of docs/architecture/sandbox.md run, and its threat table names every threat that is tested."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sandbox import Pool
from tests.sandbox.programs import CASES

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "architecture" / "sandbox.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_example(example: str, any_pool: Pool) -> None:
    exec(compile(example, "sandbox.md", "exec"), {})


def test_every_threat_is_in_the_table() -> None:
    table = {line.split("|")[1].strip() for line in PAGE.splitlines() if line.startswith("|")}
    assert {case.threat for case in CASES} - {""} <= table
