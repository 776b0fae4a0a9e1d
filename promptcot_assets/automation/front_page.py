"""The home's front page and what it leads to, as files: written when `promptcot run` or a run of Dagster's ends.

A page is never worth a run: whatever goes wrong with it is said, and the run ends as it would have.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import dagster as dg

from promptcot_assets.automation.failures import newest_failures
from promptcot_assets.reports.reader.export import export

FOLDER = "reader"  # of the home
LOCK = ".reader.lock"


def front_page(home: Path) -> Path:
    """Where it is."""
    return home / FOLDER / "index.html"


def write_front_page(home: Path, say: Callable[[str], None], ended: Mapping[str, bool] | None = None) -> None:
    """Write the page of what the home holds now.

    say: is told what was in the way. ended: runs that are about to end, and whether well: the instance does not know
    yet. Two runs that end at once write one after the other.
    """
    try:
        with (home / LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            export(home, home / FOLDER, failures=newest_failures(home, ended))
    except Exception as error:  # noqa: BLE001
        say(f"no front page: {error}")


def followed_by_page(
    events: Iterator[dg.DagsterEvent], home: Path, run_id: str, say: Callable[[str], None]
) -> Iterator[dg.DagsterEvent]:
    """The events of a run's steps; after the last of them the page, where an asset was made or a step has failed."""
    made = failed = False
    for event in events:
        made |= event.is_step_materialization
        failed |= event.is_step_failure
        yield event
    if made or failed:
        write_front_page(home, say, {run_id: not failed})
