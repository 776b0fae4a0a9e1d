"""Whether this machine can do what a profile asks for: every line says ok, warn or fail, and how to mend it."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from promptcot_assets.reports.finding import Finding, Level
from promptcot_assets.settings import Settings, SettingsError, load_settings

GIB = 1 << 30
OLDEST_PYTHON = (3, 11)
DISK_GIB = {"fail": 1, "warn": 5}  # free
MEMORY_GIB = {"fail": 2, "warn": 4}
NAMED = 10  # damaged versions in one line
ENGINE_PACKAGES = {"transformers": ("torch", "transformers"), "vllm": ("vllm",), "server": (), "ray": ("ray",)}


def examine(home: Path, profile: str | None = None, data: bool = False) -> Iterator[Finding]:
    """Every finding, the quick ones first. data: also read all that is in use, which takes a while."""
    yield _python()
    yield _cores()
    yield _memory()
    yield _disk(home)
    yield _home(home)
    yield from _guarded("catalogue", lambda: _catalogue(home), "restore the home from a copy")
    yield from _guarded("instance", lambda: _instance(home), "mend dagster.yaml, or delete it and run `promptcot init`")
    if data:
        yield from _guarded("data", lambda: _data(home), "restore the home from a copy")
    yield from _guarded("sandbox", _sandbox)
    try:
        settings = load_settings(profile)
    except SettingsError as error:
        yield Finding("profile", "fail", str(error), "name a profile with --profile or PROMPTCOT_PROFILE")
        return
    yield Finding("profile", "ok", f"{settings.profile}, domains {', '.join(settings.domains)}")
    yield from _guarded("engine", lambda: _engine(settings))
    yield from _guarded("torch", lambda: _torch(settings))
    yield from _guarded("needs", lambda: _needs(settings, home))


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
    cores = len(os.sched_getaffinity(0))
    if cores < 2:
        return Finding("cores", "warn", f"{cores}", "the arc runs, one step after the other; two cores halve its time")
    return Finding("cores", "ok", f"{cores}")


def _memory() -> Finding:
    free, limit = _free_memory()
    where = "free in this container" if limit else "free"
    return _amount("memory", free, MEMORY_GIB, where, "close other programs or lower `lanes` and `sandbox.workers`")


def _free_memory() -> tuple[int, bool]:
    """Bytes that may still be allocated, and whether a container's limit decides."""
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(lines["MemAvailable"].split()[0]) << 10
    group = Path("/sys/fs/cgroup")
    try:
        left = int((group / "memory.max").read_text()) - int((group / "memory.current").read_text())
    except (OSError, ValueError):  # no such control group, or no limit ("max")
        return free, False
    return min(free, left), left < free


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
    from promptcot_assets.lake import LakeError
    from promptcot_assets.reports.history import History
    from promptcot_assets.reports.query import query

    if not any(home.glob("lake/*/_delta_log")):
        return Finding("catalogue", "ok", "nothing in the lake yet", "`promptcot run` fills it")
    try:
        ((commits,),) = query(home, "select count(*) from lineage").rows
    except LakeError as error:
        made = len(History(home).entries)  # fails on a damaged log, which no new catalogue mends
        mend = "`promptcot init` with a writable home writes it anew"
        return Finding("catalogue", "fail", f"{made:,} commits, but {error}", mend)
    return Finding("catalogue", "ok", f"{commits:,} commits")


def _instance(home: Path) -> Finding:
    """Whether the home's dagster.yaml names all that new homes' does."""
    from promptcot_assets.reports.instance_file import missing

    config = home / "dagster" / "dagster.yaml"
    if not config.exists():
        return Finding("instance", "ok", "no dagster.yaml yet", "`promptcot init` writes it")
    older = ", ".join(missing(config))
    if older:
        return Finding("instance", "warn", f"{config} is older than {older}", "`promptcot init` adds them")
    return Finding("instance", "ok", f"{config}")


def _data(home: Path) -> Finding:
    """Whether the newest versions, and those that models and scores rest on, still are what was committed."""
    from promptcot_assets.lake import Lake
    from promptcot_assets.lake.retention import PINNING_TABLES
    from promptcot_assets.reports.history import History
    from promptcot_assets.reports.lineage import with_ancestors

    lake, newest = Lake(home), list(History(home).newest.values())
    pinning = [one for one in newest if one.record.checkpoint or one.ref.asset in PINNING_TABLES]
    used = {entry.ref: None for entry in [*newest, *with_ancestors(History(home), pinning)]}
    damaged = [str(ref) for ref in used if not lake.verify(ref)]
    if damaged:
        more = f" and {len(damaged) - NAMED:,} more" if len(damaged) > NAMED else ""
        mend = "restore their files from a copy of the home, or materialize them again"
        return Finding("data", "fail", f"damaged or lost: {', '.join(damaged[:NAMED])}{more}", mend)
    return Finding("data", "ok", f"{len(used):,} versions are what was committed")


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
    if name not in ENGINE_PACKAGES:
        mend = f"set engine.name to one of {', '.join(ENGINE_PACKAGES)}"
        return Finding("engine", "fail", f"{name!r} is no engine", mend)
    for package in ENGINE_PACKAGES[name]:
        try:
            importlib.import_module(package)
        except ImportError as error:
            extra = {"vllm": "gpu", "ray": "ray"}.get(package)
            mend = f"pip install 'promptcot-assets[{extra}]'" if extra else "install the project anew: `make setup`"
            return Finding("engine", "fail", f"{name}: {error}", mend)
    return Finding("engine", "ok", name)


def _needs(settings: Settings, home: Path) -> list[Finding]:
    """What the profile's models, and the disk that its whole arc takes, ask of this machine."""
    from promptcot_assets.lake import LakeError
    from promptcot_assets.reports.estimate import estimate
    from promptcot_assets.reports.missing import missing

    try:
        return list(missing(settings, estimate(settings, home), home))
    except LakeError as error:  # a damaged log: no fault of the installation
        return [Finding("needs", "fail", str(error), "restore the home from a copy")]


def _torch(settings: Settings) -> Finding:
    import torch

    if torch.cuda.is_available():
        names = {torch.cuda.get_device_name(at) for at in range(torch.cuda.device_count())}
        return Finding("torch", "ok", f"{torch.__version__}, {torch.cuda.device_count()} × {', '.join(sorted(names))}")
    found = f"{torch.__version__}, CPU, {torch.get_num_threads()} threads"
    if settings.base.scratch is None or settings.engine.name == "vllm":
        return Finding("torch", "warn", found, f"profile {settings.profile} is meant for a GPU")
    return Finding("torch", "ok", found)
