"""A killed run leaves no step at work, holds no place in a pool, and cannot choose what it works on."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.launcher import WorkerStatus

from benchmarks.kills import processes_of
from promptcot_assets.automation import arc, processes
from promptcot_assets.automation.executor import OverrideRefused, refuse_overrides
from promptcot_assets.automation.home import ARC_TAG, open_home, release_dead_runs
from promptcot_assets.definitions import build_definitions
from promptcot_assets.settings import load_settings
from tests.assets.arc_runs import PROMPTCOT, ROOT, environment
from tests.training.test_child import gone

MODULE = """
import os, time
from pathlib import Path

import dagster as dg

from promptcot_assets.assets.resources import LakeResource, SettingsResource
from promptcot_assets.automation.executor import run_executor

HOME = Path(os.environ["PROMPTCOT_HOME"])

@dg.asset(pool="gpu")
def slow(lake: LakeResource) -> None:
    unfinished = HOME / ".pid"
    unfinished.write_text(str(os.getpid()))
    unfinished.rename(HOME / "pid")
    time.sleep(float(os.environ["SLEEPS"]))

settings = SettingsResource(profile="demo")
resources = {"settings": settings, "lake": LakeResource(home=str(HOME), settings=settings)}
defs = dg.Definitions(assets=[slow], resources=resources, executor=run_executor(resources))
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROMPTCOT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PROMPTCOT_PROFILE", raising=False)
    return tmp_path / "home"


@pytest.fixture
def instance(home: Path) -> Iterator[dg.DagsterInstance]:
    with open_home(home, load_settings("demo")) as instance:
        yield instance


def started(home: Path, sleeps: float, *more: str) -> subprocess.Popen[bytes]:
    """A real run of the command line, whose one step is a process of its own."""
    (home / "module.py").write_text(MODULE)
    command = [sys.executable, "-m", "dagster", "asset", "materialize", "-f", "module.py", "--select", "slow", *more]
    with (home / "log").open("wb") as log:
        environment = os.environ | {"SLEEPS": str(sleeps), "DAGSTER_HOME": str(home / "dagster")}
        return subprocess.Popen(command, cwd=home, env=environment, stdout=log, stderr=log)


def step_of(home: Path, run: subprocess.Popen[bytes]) -> int:
    for _ in range(1200):
        if (home / "pid").exists():
            return int((home / "pid").read_text())
        assert run.poll() is None, (home / "log").read_text()
        time.sleep(0.1)
    raise AssertionError("the step never began")


def test_a_killed_run_leaves_no_step_and_no_slot(home: Path, instance: dg.DagsterInstance) -> None:
    run = started(home, 300)
    step = step_of(home, run)
    (record,) = instance.get_runs()
    assert record.tags[processes.PID_TAG] == str(run.pid) and not processes.is_gone(record.tags)
    launcher: Any = instance.run_launcher
    assert launcher.check_run_worker_health(record).status is WorkerStatus.RUNNING
    release_dead_runs(instance)
    assert instance.get_runs()[0].status is dg.DagsterRunStatus.STARTED, "it lives, so it is left alone"

    run.send_signal(signal.SIGKILL)
    assert processes_gone_while_zombie(record.tags), "a zombie works on nothing"
    run.wait()
    assert gone(step), "the step ends with its run, and does not work beside the retry"

    assert launcher.check_run_worker_health(record).status is WorkerStatus.NOT_FOUND
    holders = instance.event_log_storage.get_concurrency_run_ids()
    assert holders == {record.run_id}
    release_dead_runs(instance)
    assert instance.get_runs()[0].status is dg.DagsterRunStatus.FAILURE
    assert instance.event_log_storage.get_concurrency_run_ids() == set()


def processes_gone_while_zombie(tags: dict[str, str]) -> bool:
    for _ in range(200):
        if processes.is_gone(tags):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("after_s", [0.0, 1.0])
def test_what_loads_while_its_arc_is_killed_makes_nothing_and_ends(home: Path, after_s: float) -> None:
    """The arc alone is killed, as the kernel kills when memory runs out; its lane has only begun to import."""
    process = subprocess.Popen(
        [*PROMPTCOT, "run"], cwd=ROOT, env=environment(home), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not any("spawn_main" in command for command in processes_of(home).values()):
        assert process.poll() is None and time.monotonic() < deadline, "the arc has started no lane"
        time.sleep(0.01)
    time.sleep(after_s)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 120
    while (left := processes_of(home)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left
    assert not list((home / "lake").glob("*/_delta_log/*.json"))  # no leg was worked on by itself


@pytest.mark.parametrize("resources", [
    {"settings": {"config": {"profile": "/tmp/of_somebody.yaml"}}},
    {"lake": {"config": {"home": "/tmp"}}},
    {"lake": {"config": {"blocking_checks": {}, "home": "/tmp"}}},
])  # fmt: skip
def test_a_run_that_sets_a_resource_is_refused(
    home: Path, instance: dg.DagsterInstance, tmp_path: Path, resources: dict[str, Any]
) -> None:
    """As in the launchpad of a job: the configuration is valid, and nothing of the run begins."""
    (tmp_path / "run.yaml").write_text(json.dumps({"resources": resources}))
    run = started(home, 0, "--config", str(tmp_path / "run.yaml"))
    assert run.wait() != 0
    assert not (home / "pid").exists(), "no step began"
    said = (home / "log").read_text()
    assert "OverrideRefused: a run cannot set resources." in said and "PROMPTCOT_PROFILE" in said


def test_a_run_that_repeats_what_is_set_is_not_refused() -> None:
    """The launchpad's button for missing settings writes the present ones."""
    resources = build_definitions("demo", "/home/of/this").resources or {}
    refuse_overrides({}, resources)
    refuse_overrides({"resources": None, "loggers": {"console": {}}}, resources)
    refuse_overrides({"resources": {"trainer": {}, "engine": None}}, resources)
    checks = resources["lake"].blocking_checks
    present = {"lake": {"config": {"home": "/home/of/this", "blocking_checks": checks}}}
    refuse_overrides({"resources": present | {"settings": {"config": {"profile": "demo"}}}}, resources)
    for setting, value in (("home", {"env": "HOME"}), ("blocking_checks", {}), ("of_another_version", 1)):
        with pytest.raises(OverrideRefused, match=rf"resources\.lake\.config\.{setting}"):
            refuse_overrides({"resources": {"lake": {"config": {setting: value}}}}, resources)


def test_a_process_is_told_from_a_later_one_of_its_number() -> None:
    own = processes.own_tags()
    assert not processes.is_gone(own)
    assert processes.is_gone(own | {processes.BEGAN_TAG: "1"})
    assert processes.is_gone(own | {processes.PID_TAG: "4194304"})  # above the kernel's highest
    for untold in ({}, own | {processes.HOST_TAG: "another"}, own | {processes.PID_TAG: "none"}):
        assert not processes.is_gone(untold)


def test_runs_that_never_began_and_slots_of_the_dead_are_cleaned(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = processes.own_tags() | {processes.BEGAN_TAG: "1"}
    status = dg.DagsterRunStatus.NOT_STARTED
    of_arc, of_dead, just_now = (
        instance.add_run(dg.DagsterRun(job_name="em_round", status=status, tags=tags))
        for tags in ({ARC_TAG: "a leg"}, dead, {})
    )
    storage = instance.event_log_storage
    assert storage.claim_concurrency_slot("deduplication", "of a run that is not there", "step").is_claimed
    release_dead_runs(instance)
    statuses = {run.run_id: run.status for run in instance.get_runs()}
    assert statuses[of_arc.run_id] is statuses[of_dead.run_id] is dg.DagsterRunStatus.FAILURE
    assert statuses[just_now.run_id] is status
    assert storage.get_concurrency_run_ids() == set()
    later = time.time() + timedelta(hours=2).total_seconds()
    monkeypatch.setattr("promptcot_assets.automation.home.time.time", lambda: later)
    release_dead_runs(instance)
    assert {run.status for run in instance.get_runs()} == {dg.DagsterRunStatus.FAILURE}


# ---- lanes
def leg(name: str, after: tuple[str, ...] = ()) -> arc.Leg:
    return arc.Leg(name, (), None, after, 1.0)


def behave(definitions: arc.LoadDefinitions, leg: arc.Leg) -> str | None:
    """What a lane does with a leg, by the leg's name: in a process of its own, as for a real one."""
    kind, _, folder = leg.name.partition(" ")
    (Path(folder) / kind).write_text(str(os.getpid()))
    if kind == "waits":
        time.sleep(120)
        (Path(folder) / "waited").touch()
    while not (Path(folder) / "waits").exists():
        time.sleep(0.05)
    if kind == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    return f"{kind} failed: a reason" if kind == "fails" else None


@pytest.mark.parametrize("in_background", [False, True], ids=["", "started with &"])
@pytest.mark.parametrize(("kind", "said"), [
    ("fails", "fails failed: a reason"),
    ("killed", r"a lane was killed \(exit code -9\) during .*killed .*memory ran out"),
])  # fmt: skip
def test_a_lane_that_fails_ends_the_others_at_once(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, said: str, in_background: bool
) -> None:
    """In the background of a shell too, where SIGINT is ignored and Dagster then ignores SIGTERM, for its children."""
    plan = [leg(f"{kind} {tmp_path}"), leg(f"waits {tmp_path}")]
    monkeypatch.setattr(arc, "legs", lambda settings: plan)
    monkeypatch.setattr(arc, "_run_leg", behave)
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN) if in_background else signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(arc.ArcError, match=said):
            arc.run_arc(load_settings("demo").model_copy(update={"lanes": 2}), home, build_definitions)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert gone(int((tmp_path / "waits").read_text()), 1.0) and not (tmp_path / "waited").exists()


def test_the_pool_of_lanes_shows_its_processes() -> None:
    """What ending them rests on; Python 3.14 has `kill_workers` for it."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(os.getpid).result() in (pool._processes or {})
