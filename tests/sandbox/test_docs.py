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


def threat_table() -> dict[str, list[str]]:
    """What holds each row of the threat table: names of programs and tests."""
    rows = [line.split("|") for line in PAGE.split("| threat | control |")[1].split("\n\n")[0].splitlines()[2:]]
    return {row[1].strip(): re.findall(r"`([^`]+)`", row[3]) for row in rows}


def names_of_tests() -> set[str]:
    return {
        name
        for file in Path(__file__).parent.glob("test_*.py")
        for name in re.findall(r"def (test_\w+)", file.read_text())
    }


def test_every_threat_is_held_by_programs_or_tests_and_every_program_belongs_to_one() -> None:
    table = threat_table()
    assert {case.threat for case in CASES} - {""} <= set(table)
    for threat, names in table.items():
        programs = {case.name for case in CASES if case.threat == threat}
        assert names, threat
        assert set(names) <= programs | names_of_tests(), threat
