from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from promptcot_assets.lake import Lake
from promptcot_assets.tables import open_lake


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return open_lake(tmp_path / "home")


@pytest.fixture
def writer() -> Callable[..., subprocess.Popen[str]]:
    """Starts `lake_writer` with the given arguments."""

    def start(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.lake.lake_writer", *map(str, arguments)]
        root = Path(__file__).parents[2]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root)

    return start
