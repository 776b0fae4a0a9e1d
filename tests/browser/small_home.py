"""The home that all browser tests share: cold start done, three EM rounds to go, settings that a test can change."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from tests.assets import arc_runs
from tests.assets.dagster_dev import DagsterDev

PROFILE = Path(__file__).with_name("three_rounds.yaml")


@dataclass
class SmallHome:
    """A home, the profile its runs read, and the `dagster dev` that works in it."""

    path: Path
    dev: DagsterDev | None = None

    @property
    def profile(self) -> Path:
        return self.path.parent / "profile.yaml"

    def set_em(self, **settings: Any) -> None:
        """Change settings of `em`; runs started from now on read them."""
        self.profile.write_text(yaml.safe_dump({"extends": str(PROFILE), "em": settings}))

    def prepare(self) -> None:
        """Make the home, with a Dagster instance whose daemon looks for dead runs every two seconds, not minutes."""
        config = yaml.safe_load((files("promptcot_assets.automation") / "dagster.yaml").read_text())
        config["run_monitoring"] |= {"poll_interval_seconds": 2, "free_slots_after_run_end_seconds": 1}
        instance = self.path / "dagster"
        instance.mkdir(parents=True)
        (instance / "dagster.yaml").write_text(yaml.safe_dump(config))
        self.set_em()
        done = self._run(sys.executable, "-m", "tests.browser.cold_start")
        assert done.returncode == 0, done.stderr[-4000:]

    def start(self, port: int | None = None) -> DagsterDev:
        self.dev = DagsterDev(self.path, port, PROMPTCOT_PROFILE=str(self.profile))
        self.dev.wait_until_up()
        return self.dev

    def promptcot(self, *arguments: str) -> Any:
        """What a reporting command prints with --json."""
        done = self._run(*arc_runs.PROMPTCOT, *arguments, "--json")
        assert done.returncode == 0, done.stderr[-4000:]
        return json.loads(done.stdout)

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return arc_runs.run(command, self.path, PROMPTCOT_PROFILE=str(self.profile))
