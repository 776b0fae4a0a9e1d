"""What several test files share: one finished home of the small profile, made once by the real command line."""

from pathlib import Path

import pytest
from hypothesis import settings

from tests.assets import arc_runs

settings.register_profile("promptcot", deadline=None)  # a loaded machine is slow, and no property is about time
settings.load_profile("promptcot")


@pytest.fixture(scope="session")
def finished_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the small profile's arc has run to its end. Copy it before changing it."""
    home = tmp_path_factory.mktemp("finished") / "home"
    done = arc_runs.run([*arc_runs.PROMPTCOT, "run"], home)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    (home / "printed.txt").write_text(done.stderr + done.stdout)
    return home
