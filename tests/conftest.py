"""What several test files share: one finished home of the small profile, made once by the real command line."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import settings

from tests import published_samples
from tests.assets import arc_runs
from tests.small_home import Home, whole_arc
from training.server import serving

settings.register_profile("promptcot", deadline=None)  # a loaded machine is slow, and no property is about time
settings.load_profile("promptcot")


SLOW_S = 1800  # of a test that runs arcs, or waits for the one that all workers share: minutes on a busy machine


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Side by side (`make test`) the files with slow tests come first, so that no worker ends with one alone."""
    for item in items:
        runs_arcs = item.get_closest_marker("slow") or "finished_home" in getattr(item, "fixturenames", ())
        if runs_arcs and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_S))
    if hasattr(config, "workerinput"):  # of pytest-xdist
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file stays on one worker, and all files with a Ray cluster on one: what a module's fixtures make is made once.

    Not by xdist's own groups, which pytest 9.2 ignores without a word.
    """
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = str(super()._split_scope(nodeid))
            return "ray" if "ray_cluster" in (config.rootpath / file).read_text() else file

    return Files(config, log)


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files in the shape of the released evaluation files (tests/published_samples.py). Only to be read."""
    return published_samples.write(tmp_path_factory.mktemp("published"))


def pytest_runtest_setup() -> None:
    """No test meets the instance of an earlier one: where two are left in another order than they were entered, Dagster
    keeps the store of the one that is gone, and refuses to load definitions."""
    states = sys.modules.get("dagster._core.storage.defs_state.base")
    if states is None or (left := states.DefsStateStorage.get()) is None:
        return
    try:
        _ = left._instance
    except sys.modules["dagster._core.errors"].DagsterInvariantViolationError:
        states._current_storage.set(None)


@pytest.fixture(scope="session", autouse=True)
def _forked_trainers() -> Iterator[None]:
    """Trainers of all arcs are forked from one process: a third of a small arc's time is else their imports."""
    with serving():
        yield


@pytest.fixture(scope="session")
def finished_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the small profile's arc has run to its end, for all workers. Copy it before changing it."""
    folder = tmp_path_factory.getbasetemp() / "finished"
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parents[1] / "finished"  # beside the workers' own
    folder.mkdir(exist_ok=True)
    home = folder / "home"
    with FileLock(folder / "lock"):
        if not (home / "printed.txt").exists():
            shutil.rmtree(home, ignore_errors=True)  # of one that failed
            done = arc_runs.run([*arc_runs.PROMPTCOT, "run"], home)
            assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
            (home / "printed.txt").write_text(done.stderr + done.stdout)
    return home


@pytest.fixture(scope="session")
def arc(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A whole arc, its rows written by hand; read it only."""
    return whole_arc(tmp_path_factory.mktemp("arc") / "home")


@pytest.fixture
def own_arc(arc: Home, tmp_path: Path) -> Home:
    """The same arc copied to a folder of its own, to write to."""
    own = Home(Path(shutil.copytree(arc.path, tmp_path / "copy")))
    own.refs |= arc.refs
    own.models |= arc.models
    return own
