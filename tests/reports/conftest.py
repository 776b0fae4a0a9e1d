from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.reports.small_home import Home, whole_arc


@pytest.fixture(scope="session")
def arc(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A whole arc; read it only."""
    return whole_arc(tmp_path_factory.mktemp("arc") / "home")


@pytest.fixture
def own_arc(arc: Home, tmp_path: Path) -> Home:
    """The same arc copied to a folder of its own, to write to."""
    own = Home(Path(shutil.copytree(arc.path, tmp_path / "copy")))
    own.refs |= arc.refs
    own.models |= arc.models
    return own
