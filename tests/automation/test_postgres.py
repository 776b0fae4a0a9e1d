"""docker/dagster.yaml on a real PostgreSQL, with the real code location behind gRPC as in docker/compose.yaml."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.launcher import WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG

from promptcot_assets.tables import open_lake

ROOT = Path(__file__).parents[2]
PASSWORD = "not the usual one"
DEADLINE_S = 500  # of waiting for a process, on a machine with much else to do

pytest.importorskip("dagster_postgres", reason="the dev extra is not installed: pip install -e '.[dev]'")


def binaries() -> Path:
    """The folder of PostgreSQL's server programs; Debian keeps them off the PATH."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not folders or not (folders[-1] / "postgres").exists():
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    return folders[-1]


def server_user() -> dict[str, int]:
    """PostgreSQL refuses to run as root: the user and group that its processes get."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid}
    pytest.skip("root cannot run PostgreSQL, and there is neither a user postgres nor nobody")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def database() -> Iterator[dict[str, str]]:
    """A server of its own on the loopback interface, with a password: the variables that docker/dagster.yaml reads."""
    programs, user, port = binaries(), server_user(), free_port()
    with tempfile.TemporaryDirectory() as name:  # not tmp_path: the server's user could not enter it
        folder = Path(name)
        if user:
            os.chown(folder, user["user"], user["group"])
        secret = folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        make = [programs / "initdb", "-D", folder / "data", "-U", "dagster", "-A", "scram-sha-256", "--no-sync",
                f"--pwfile={secret}", "-E", "UTF8", "--locale=C"]  # fmt: skip
        subprocess.run(make, check=True, capture_output=True, cwd=folder, **user)
        run = [programs / "postgres", "-D", folder / "data", "-h", "127.0.0.1", "-p", str(port), "-k", folder,
               "-c", "fsync=off"]  # fmt: skip
        with (folder / "log").open("w") as log:
            server = subprocess.Popen(run, stdout=log, stderr=log, cwd=folder, **user)
        try:
            ready = [programs / "pg_isready", "-h", "127.0.0.1", "-p", str(port), "-q"]
            wait_until(lambda: subprocess.run(ready, check=False).returncode == 0, "PostgreSQL")
            yield {
                "DAGSTER_PG_HOST": "127.0.0.1",
                "DAGSTER_PG_PORT": str(port),
                "DAGSTER_PG_USER": "dagster",
                "DAGSTER_PG_PASSWORD": PASSWORD,
                "DAGSTER_PG_DB": "postgres",
            }
        finally:
            server.send_signal(signal.SIGINT)  # fast shutdown: sessions are ended
            server.wait(30)


def wait_until(holds, what: str) -> None:
    until = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < until, f"{what}: not within {DEADLINE_S} s"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def home(database: dict[str, str]) -> Iterator[Path]:
    """A home that `promptcot init` prepared with docker/dagster.yaml; the environment of this process too."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        variables = database | {
            "PROMPTCOT_HOME": str(folder),
            "PROMPTCOT_PROFILE": str(ROOT / "tests" / "profiles" / "small.yaml"),
            "PROMPTCOT_DAGSTER_YAML": str(ROOT / "docker" / "dagster.yaml"),
            "DAGSTER_HOME": str(folder / "dagster"),
        }
        for key, value in variables.items():
            patch.setenv(key, value)
        subprocess.run([sys.executable, "-m", "promptcot_assets.cli", "init"], check=True, cwd=ROOT)
        yield folder


@pytest.fixture
def instance(home: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(home / "dagster")) as found:
        yield found


def code_server(port: int) -> subprocess.Popen[bytes]:
    """The worker's command of docker/compose.yaml."""
    compose = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
    command = [str(word) for word in compose["x-worker"]["command"]]
    command[command.index("-h") + 1] = "127.0.0.1"  # its name in the internal network
    command[command.index("4000")] = str(port)
    server = subprocess.Popen([sys.executable, "-m", *command], cwd=ROOT, start_new_session=True)
    check = [sys.executable, "-m", "dagster", "api", "grpc-health-check", "-p", str(port)]
    wait_until(lambda: subprocess.run(check, check=False, capture_output=True).returncode == 0, "the code server")
    return server


def stop(server: subprocess.Popen[bytes]) -> None:
    os.killpg(server.pid, signal.SIGKILL)
    server.wait(30)


def rows(instance: dg.DagsterInstance, query: str) -> list[tuple]:
    import sqlalchemy

    with instance.event_log_storage.index_connection() as connection:
        return [tuple(row) for row in connection.execute(sqlalchemy.text(query))]


def materialize(asset: str) -> None:
    command = ["dagster", "asset", "materialize", "-m", "promptcot_assets.definitions", "--select", asset]
    done = subprocess.run([sys.executable, "-m", *command], check=False, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]


def test_the_home_uses_the_instance_file_that_it_is_told(home: Path, instance: dg.DagsterInstance) -> None:
    assert (home / "dagster" / "dagster.yaml").read_text() == (ROOT / "docker" / "dagster.yaml").read_text()
    kinds = {
        type(one).__name__ for one in (instance.event_log_storage, instance.run_storage, instance.schedule_storage)
    }
    assert kinds == {"PostgresEventLogStorage", "PostgresRunStorage", "PostgresScheduleStorage"}
    assert instance.event_log_storage.get_concurrency_info("deduplication").slot_count == 1
    assert not list((home / "dagster").rglob("*.db"))


def test_two_runs_at_once_and_their_events_are_in_postgres(home: Path, instance: dg.DagsterInstance) -> None:
    with ThreadPoolExecutor(2) as both:
        list(both.map(materialize, ["seed_problems,dropped_seed_rows", "contest_standings"]))
    query = "select asset_key from event_logs where dagster_event_type = 'ASSET_MATERIALIZATION' order by 1"
    assert rows(instance, query) == [
        (f'["{name}"]',) for name in ("contest_standings", "dropped_seed_rows", "seed_problems")
    ]
    assert rows(instance, "select status, count(*) from runs group by 1") == [("SUCCESS", 2)]

    for asset in ("seed_problems", "contest_standings"):
        event = instance.get_latest_materialization_event(dg.AssetKey(asset))
        committed = open_lake(home).newest(asset)
        assert event is not None and event.asset_materialization is not None and committed is not None
        assert event.asset_materialization.metadata["dagster/row_count"].value == committed.rows


def test_a_code_server_started_again_at_the_same_port_does_not_know_the_run(
    home: Path, instance: dg.DagsterInstance
) -> None:
    """Else a run would stay "started" for ever after its worker's container was started again."""
    port = free_port()
    told = {GRPC_INFO_TAG: f'{{"host": "127.0.0.1", "port": {port}}}'}
    run = dg.DagsterRun(job_name="of the first server", status=dg.DagsterRunStatus.STARTED, tags=told)
    instance.add_run(run)
    assert instance.run_launcher.check_run_worker_health(run).status is WorkerStatus.NOT_FOUND
    server = code_server(port)
    try:
        health = instance.run_launcher.check_run_worker_health(run)
        assert (health.status, health.msg) == (WorkerStatus.NOT_FOUND, "the code server was started again since")
    finally:
        stop(server)


@pytest.mark.slow
def test_a_queued_run_goes_through_daemon_and_worker_and_is_known_to_live(
    home: Path, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    """The daemon and the worker of docker/compose.yaml as processes; the run waits in Postgres until they are there."""
    port = free_port()
    workspace = yaml.safe_load((ROOT / "docker" / "workspace.yaml").read_text())
    workspace["load_from"][0]["grpc_server"] |= {"host": "127.0.0.1", "port": port}
    at = tmp_path / "workspace.yaml"
    at.write_text(yaml.safe_dump(workspace))
    worker = code_server(port)
    queue = [sys.executable, "-m", "dagster", "job", "launch", "-j", "corpus_job", "-w", str(at), "-l", "promptcot"]
    subprocess.run(queue, check=True, cwd=ROOT)
    (run,) = instance.get_runs(dg.RunsFilter(job_name="corpus_job"))
    assert run.status is dg.DagsterRunStatus.QUEUED
    daemon = subprocess.Popen(
        [sys.executable, "-m", "dagster._daemon", "run", "-w", str(at)], cwd=ROOT, start_new_session=True
    )
    seen = set[WorkerStatus]()

    def finished() -> bool:
        now = instance.get_run_by_id(run.run_id)
        assert now is not None
        if now.status is dg.DagsterRunStatus.STARTED:
            seen.add(instance.run_launcher.check_run_worker_health(now).status)
        return now.is_finished

    try:
        wait_until(finished, "the queued run")
    finally:
        stop(daemon)
        stop(worker)
    ended = instance.get_run_by_id(run.run_id)
    assert ended is not None and ended.status is dg.DagsterRunStatus.SUCCESS
    assert seen == {WorkerStatus.RUNNING}
