"""Whether this machine can do what a profile asks for: every line says ok, warn or fail, and how to mend it."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

from promptcot_assets.doctor.devices import Device, free_memory
from promptcot_assets.doctor.finding import Finding, Level
from promptcot_assets.lake import Lake, LakeError, Ref
from promptcot_assets.settings import Settings, SettingsError, load_settings
from promptcot_assets.settings.engines import PACKAGES
from promptcot_assets.settings.machine import cores
from promptcot_assets.tables import open_lake

GIB = 1 << 30
OLDEST_PYTHON = (3, 11)
DISK_GIB = {"fail": 1, "warn": 5}  # free
MEMORY_GIB = {"fail": 2, "warn": 4}
RESTORE = "restore the home from a copy"
NAMED = 10  # faults in one line


def examine(home: Path, profile: str | None = None, data: bool = False) -> Iterator[Finding]:
    """Every finding, the quick ones first. data: also read all that is in use, which takes a while."""
    yield _python()
    yield _cores()
    yield _memory()
    yield _disk(home)
    yield _home(home)
    yield from _guarded("catalogue", lambda: _catalogue(home), RESTORE)
    yield from _guarded("instance", lambda: _instance(home), "mend dagster.yaml, or delete it and run `promptcot init`")
    if data:
        yield from _guarded("data", lambda: _data(home), RESTORE)
    yield from _guarded("sandbox", _sandbox)
    settings = yield from _profile(profile)
    if settings is None:
        return
    yield from _guarded("engine", lambda: _engine(settings))
    yield from _guarded("torch", lambda: _torch(settings))
    yield from _guarded("needs", lambda: _needs(settings, home))


def _profile(profile: str | None) -> Generator[Finding, None, Settings | None]:
    """Whether there is such a profile; returns its settings, or None."""
    try:
        settings = load_settings(profile)
    except SettingsError as error:
        yield Finding("profile", "fail", str(error), "name a profile with --profile or PROMPTCOT_PROFILE")
        return None
    yield Finding("profile", "ok", f"{settings.profile}, domains {', '.join(settings.domains)}")
    return settings


def examine_for(device: Device, home: Path, profile: str | None = None) -> Iterator[Finding]:
    """What a machine with `device` lacks for the profile; nothing of this machine but its cache and its disk."""
    settings = yield from _profile(profile)
    if settings is None:
        return
    yield from _guarded("needs", lambda: _needs(settings, home, device))


def examine_data(home: Path) -> Iterator[Finding]:
    """The findings about what lies in the home, all of it read."""
    yield from _guarded("catalogue", lambda: _catalogue(home), RESTORE)
    yield from _guarded("data", lambda: _data(home), RESTORE)


def _guarded(
    name: str, examination: Callable[[], Finding | list[Finding]], mend: str = "install the project anew: `make setup`"
) -> Iterator[Finding]:
    """An examination that may break on what it examines, which is a finding too."""
    try:
        found = examination()
    except Exception as error:  # noqa: BLE001
        found = Finding(name, "fail", f"{type(error).__name__}: {error}", mend)
    yield from found if isinstance(found, list) else [found]


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST_PYTHON:
        return Finding("python", "fail", version, "use Python 3.11 or newer")
    return Finding("python", "ok", f"{version}, {sys.executable}")


def _cores() -> Finding:
    found = cores()
    if found < 2:
        return Finding("cores", "warn", f"{found}", "the arc runs, one step after the other; two cores halve its time")
    return Finding("cores", "ok", f"{found}")


def _memory() -> Finding:
    free, limit = free_memory()
    where = "free in this container" if limit else "free"
    return _amount("memory", free, MEMORY_GIB, where, "close other programs or lower `lanes` and `sandbox.workers`")


def _disk(home: Path) -> Finding:
    place = _existing(home)
    mend = "free some, `promptcot gc --apply`, or move PROMPTCOT_HOME"
    return _amount("disk", shutil.disk_usage(place).free, DISK_GIB, f"free at {place}", mend)


def _amount(name: str, size: int, least: dict[str, int], where: str, mend: str) -> Finding:
    level: Level = "fail" if size < least["fail"] * GIB else "warn" if size < least["warn"] * GIB else "ok"
    return Finding(name, level, f"{size / GIB:.1f} GiB {where}", "" if level == "ok" else mend)


def _home(home: Path) -> Finding:
    place = _existing(home)
    try:
        with tempfile.NamedTemporaryFile(dir=place, prefix=".promptcot-doctor-"):
            pass
    except OSError as error:
        mend = "set PROMPTCOT_HOME to a folder one can write in"
        return Finding("home", "fail", f"cannot write in {place}: {error}", mend)
    if place != home:
        return Finding("home", "ok", f"{home} does not exist yet and can be made")
    return Finding("home", "ok", f"{home}, {_size(home) / (1 << 20):,.1f} MiB, writable")


def _size(folder: Path) -> int:
    """Bytes of all files in it; what a run removes meanwhile counts nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += (Path(place) / name).lstat().st_size
    return total


def _existing(path: Path) -> Path:
    return next(one for one in (path, *path.parents) if one.is_dir())


def _catalogue(home: Path) -> Finding:
    from promptcot_assets.lineage.history import History
    from promptcot_assets.reports.query import query

    if not any(home.glob("lake/*/_delta_log")):
        return Finding("catalogue", "ok", "nothing in the lake yet", "`promptcot run` fills it")
    try:
        if lost := open_lake(home).lost():
            return Finding("catalogue", "fail", "; ".join(map(str, lost)), RESTORE)
        ((commits,),) = query(home, "select count(*) from lineage").rows
    except LakeError as error:
        made = len(History(home).entries)  # fails on a damaged log, which no new catalogue mends
        mend = "`promptcot init` with a writable home writes it anew"
        return Finding("catalogue", "fail", f"{made:,} commits, but {error}", mend)
    return Finding("catalogue", "ok", f"{commits:,} commits")


def _instance(home: Path) -> Finding:
    """Whether the home's dagster.yaml names all that new homes' does."""
    from promptcot_assets.doctor.instance_file import missing

    config = home / "dagster" / "dagster.yaml"
    if not config.exists():
        return Finding("instance", "ok", "no dagster.yaml yet", "`promptcot init` writes it")
    older = ", ".join(missing(config))
    if older:
        return Finding("instance", "warn", f"{config} is older than {older}", "`promptcot init` adds them")
    return Finding("instance", "ok", f"{config}")


def _data(home: Path) -> Finding:
    """Whether all that is in use, and the logs and databases that tell of it, still are what was written."""
    lake, used = open_lake(home), set[Ref]()
    logs = list(dict.fromkeys(_faults_of_logs(lake, used)))
    wrong = [*logs, *_faults_of(lake, used), *_damaged_databases(home)]
    if wrong:
        more = f"; and {len(wrong) - NAMED:,} more" if len(wrong) > NAMED else ""
        mend = RESTORE if logs else "restore their files from a copy of the home, or materialize them again"
        return Finding("data", "fail", f"damaged or lost: {'; '.join(wrong[:NAMED])}{more}", mend)
    return Finding("data", "ok", f"{len(used):,} versions are what was committed")


def _faults_of_logs(lake: Lake, used: set[Ref]) -> Iterator[str]:
    """What is wrong with each log; `used` is filled with the newest versions and what models and scores rest on."""
    for asset in lake.assets():
        try:
            lake.check_log(asset)
            used.update(lake.current(asset))
        except LakeError as error:
            yield str(error)
    try:
        used.update(lake.pinned())
    except LakeError as error:  # of a damaged log too, which is named already
        yield str(error)


def _faults_of(lake: Lake, versions: set[Ref]) -> Iterator[str]:
    for ref in sorted(versions, key=str):
        try:
            lake.check(ref)
        except LakeError as error:
            yield str(error) if str(ref) in str(error) else f"{ref}: {error}"


def _damaged_databases(home: Path) -> Iterator[str]:
    """Dagster's own databases that SQLite finds torn: runs and their events, on which no version rests."""
    import sqlite3

    for path in sorted(home.glob("dagster/**/*.db")):
        try:
            with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
                said = [row[0] for row in database.execute("pragma quick_check")]
        except sqlite3.Error as error:
            said = [str(error)]
        if said != ["ok"]:
            yield f"Dagster's database {path} is damaged ({said[0]}); move it away: runs are forgotten, no row is lost"


def _sandbox() -> list[Finding]:
    from sandbox import SandboxUnavailable
    from sandbox.client import open_pool
    from sandbox.probes import run_probes

    try:
        with open_pool(1) as pool:
            probes = run_probes(pool)
            tier = pool.tier
    except SandboxUnavailable as error:
        return [Finding("sandbox", "fail", str(error), "without isolation no program is judged")]
    bad = [f"{probe.probe}: {probe.got}" for probe in probes if not probe.holds]
    return [
        Finding("sandbox", "ok", f"tier {tier}, self-test passed"),
        Finding("probes", "fail", "; ".join(bad), "do not train on verdicts of this machine; report it")
        if bad
        else Finding("probes", "ok", f"{len(probes)} planted cheats and honest answers judged right"),
    ]


def _engine(settings: Settings) -> Finding:
    name = settings.engine.name
    for package in PACKAGES[name]:
        try:
            importlib.import_module(package)
        except ImportError as error:
            extra = {"vllm": "gpu", "ray": "ray"}.get(package)
            mend = f"pip install 'promptcot-assets[{extra}]'" if extra else "install the project anew: `make setup`"
            return Finding("engine", "fail", f"{name}: {error}", mend)
    return Finding("engine", "ok", name)


def _needs(settings: Settings, home: Path, device: Device | None = None) -> list[Finding]:
    """What the profile's models, and the disk that its whole arc takes, ask of this machine."""
    from promptcot_assets.doctor.estimate import estimate
    from promptcot_assets.doctor.missing import missing

    try:
        return list(missing(settings, estimate(settings, home, device), home))
    except LakeError as error:  # a damaged log: no fault of the installation
        return [Finding("needs", "fail", str(error), "restore the home from a copy")]


def _torch(settings: Settings) -> Finding:
    import torch

    from promptcot_assets.doctor.estimate import needs_gpu

    if torch.cuda.is_available():
        names = {torch.cuda.get_device_name(at) for at in range(torch.cuda.device_count())}
        return Finding("torch", "ok", f"{torch.__version__}, {torch.cuda.device_count()} × {', '.join(sorted(names))}")
    found = f"{torch.__version__}, CPU, {torch.get_num_threads()} threads"
    if needs_gpu(settings):
        return Finding("torch", "warn", found, f"profile {settings.profile} is meant for a GPU")
    return Finding("torch", "ok", found)
