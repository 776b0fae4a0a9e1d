"""Running the real command line on the small profile, for the tests of the arc."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
SMALL = ROOT / "tests" / "profiles" / "small.yaml"
ONE_ROUND = SMALL.with_name("one_round.yaml")
PROMPTCOT = [sys.executable, "-m", "promptcot_assets.cli"]
DAGSTER = [sys.executable, "-m", "dagster"]


def environment(home: Path, **more: str) -> dict[str, str]:
    return {
        **os.environ,
        "PROMPTCOT_HOME": str(home),
        "PROMPTCOT_PROFILE": str(SMALL),
        "DAGSTER_HOME": str(home / "dagster"),
        **more,
    }


def run(command: Sequence[str], home: Path, within_s: float = 1800, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, env=environment(home, **more), capture_output=True, text=True, timeout=within_s, check=False
    )


def run_until(marker: str, home: Path, **more: str) -> str:
    """Start the arc and kill -9 everything it started as soon as it prints `marker`; what it printed until then."""
    process = subprocess.Popen(
        [*PROMPTCOT, "run"], cwd=ROOT, env=environment(home, **more), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, start_new_session=True,
    )  # fmt: skip
    printed = ""
    assert process.stdout
    for line in process.stdout:
        printed += line
        if marker in line:
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert marker in printed, f"the arc ended before it printed {marker!r}:\n{printed[-3000:]}"
    return printed
