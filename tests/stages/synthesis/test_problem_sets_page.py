"""The examples of docs/architecture/problem_sets.md run as they stand."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "architecture" / "problem_sets.md"


def test_the_example_runs() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    exec(compile(block, str(PAGE), "exec"), {})
