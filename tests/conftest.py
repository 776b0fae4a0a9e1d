"""What several test files share: one finished home of the small profile, made once by the real command line."""

import os
import shutil
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings

from tests.assets import arc_runs

settings.register_profile("promptcot", deadline=None)  # a loaded machine is slow, and no property is about time
settings.load_profile("promptcot")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Side by side (`make test`) a file stays on one worker, and all with a Ray cluster on one; slow ones are first."""
    if not getattr(config.option, "loadgroup", False):  # what pytest-xdist sets in a worker
        return
    tests = [item for item in items if isinstance(item, pytest.Function)]
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    on_ray = {item.path for item in tests if "ray_cluster" in {*item.fixturenames, *vars(item.module)}}
    items.sort(key=lambda item: item.path not in slow)
    for item in items:
        item.add_marker(pytest.mark.xdist_group("ray" if item.path in on_ray else str(item.path)))


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
