"""What a machine lacks for a profile: devices, models and their pins, the hub, its token, disk. Downloads nothing."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from promptcot_assets.doctor.devices import GIB
from promptcot_assets.doctor.estimate import Estimate, phase_text
from promptcot_assets.doctor.finding import Finding, Level
from promptcot_assets.doctor.memory import runs_elsewhere
from promptcot_assets.doctor.model_sizes import cached, costs
from promptcot_assets.settings import Settings
from promptcot_assets.settings.pins import MEND, unpinned
from promptcot_assets.settings.profile import BaseModel

HUB = "https://huggingface.co"
ANSWER_S = 3.0
ROOM = 1.1  # of the estimated disk


def missing(settings: Settings, found: Estimate, home: Path) -> Iterator[Finding]:
    """Findings of an estimate's needs, the good ones too."""
    yield _devices(settings, found)
    yield from _phases(found)
    models = hub_models(settings)
    if models:
        yield _pins(settings)
        absent = [one for one in models if cached(one, "config.json") is None]
        yield _models(models, absent)
        yield _hub(bool(absent))
        gated = [one.hub_id for one in models if costs()["models"].get(one.hub_id, {}).get("gated")]
        if gated:
            yield _token([str(name) for name in gated])
    if not found.device.asked_for:
        yield from _served(settings)
    yield _disk(found, home)


def hub_models(settings: Settings) -> list[BaseModel]:
    """Every model of the profile that comes from the hub, once."""
    every = [settings.base, *(student.base for student in settings.students.values())]
    every += [settings.teachers[role.teacher].model for role in settings.roles().values()]
    every += [settings.learned_from] if settings.self_play.learning.teacher else []
    wanted = {one.model_dump_json(): one for one in every if one.hub_id and not Path(one.hub_id).is_dir()}
    return list(wanted.values())


def _devices(settings: Settings, found: Estimate) -> Finding:
    """Whether the devices that sample and train are here. Models that others serve take none."""
    if found.device.is_cpu:
        return Finding("devices", "ok", f"{found.device.count} cores; the profile's models are small enough for them")
    elsewhere = runs_elsewhere(settings.engine)
    wanted = {
        need.model: max(0 if elsewhere else need.to_sample or 0, need.to_train or 0)
        for need in found.needs
        if need.size
    }
    model = max(wanted, key=lambda name: wanted[name], default="")
    most = wanted.get(model, 0)
    needed = f"{most} x {found.device.name} of {found.device.memory / GIB:,.0f} GiB for {model}"
    if found.device.count < most and found.device.asked_for:
        mend = f"ask for {most}x{found.device.name.lower().replace(' ', '')}, or train adapters (training.lora)"
        return Finding("devices", "fail", f"needs {needed}; asked about {found.device.count}", mend)
    if found.device.count < most:
        mend = "run on such a machine, let `engine.server.urls` sample elsewhere, or train adapters (training.lora)"
        return Finding("devices", "fail", f"needs {needed}; found {found.device.count}", mend)
    return Finding("devices", "ok", f"{found.device.count} found, needs {needed}" if most else "none needed here")


def _phases(found: Estimate) -> Iterator[Finding]:
    """The trainings and engines that would run out of memory, one finding each; those that need several devices are
    said to by `devices`."""
    several = {need.model for need in found.needs if max(need.to_sample or 0, need.to_train or 0) > 1}
    for phase in found.phases:
        if not phase.fits and phase.model not in several:
            mend = f"set {' or '.join(phase.mends)}" if phase.mends else "take a smaller model or a larger machine"
            yield Finding("memory", "fail", f"{phase.name}: {phase_text(phase).partition('; ')[0]}", mend)


def _pins(settings: Settings) -> Finding:
    names = unpinned(settings.model_dump())
    if names:
        return Finding("revisions", "fail", f"not pinned: {', '.join(names)}", MEND)
    return Finding("revisions", "ok", "every hub model and data set is pinned to a commit")


def _models(models: list[BaseModel], absent: list[BaseModel]) -> Finding:
    if absent:
        listed = ", ".join(f"{one.hub_id}@{(one.revision or 'no commit')[:12]}" for one in absent)
        mend = "they are downloaded when they are first used; HF_HOME names the cache"
        return Finding("models", "warn", f"not in the hub's cache: {listed}", mend)
    return Finding("models", "ok", f"all {len(models)} in the hub's cache at their commits")


def _hub(wanted: bool) -> Finding:
    """Whether the hub answers; that matters only where something is to be downloaded."""
    level: Level = "fail" if wanted else "ok"
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "on", "yes", "true"):
        return Finding("hub", level, "HF_HUB_OFFLINE is set", "unset it, or fill the cache" if wanted else "")
    address = urlsplit(os.environ.get("HF_ENDPOINT", HUB))
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        with socket.create_connection((address.hostname or "", port), ANSWER_S):
            return Finding("hub", "ok", f"{address.hostname} answers")
    except OSError as error:
        mend = "check the network, set HF_ENDPOINT to a mirror, or give local folders instead of hub ids"
        return Finding("hub", level, f"{address.hostname} does not answer: {error}", mend if wanted else "")


def _token(gated: list[str]) -> Finding:
    from huggingface_hub import get_token

    if get_token():
        return Finding("HF_TOKEN", "ok", f"set; the hub asks for it for {', '.join(gated)}")
    mend = "accept the model's terms on the hub, then set HF_TOKEN"
    return Finding("HF_TOKEN", "fail", f"not set, and gated: {', '.join(gated)}", mend)


def _served(settings: Settings) -> Iterator[Finding]:
    """Whether the servers of teachers that others run answer a call; nothing is asked of them."""
    urls: dict[str, list[str]] = {}
    for name in dict.fromkeys(role.teacher for role in settings.roles().values()):
        engine = settings.engine_of(name)
        if runs_elsewhere(engine) and engine.name != "ray":
            for url in (engine.chat_api if engine.name == "chat_api" else engine.server).urls:
                urls.setdefault(url, []).append(name)
    for url, names in urls.items():
        address = urlsplit(url)
        port = address.port or (80 if address.scheme == "http" else 443)
        try:
            with socket.create_connection((address.hostname or "", port), ANSWER_S):
                yield Finding("teachers", "ok", f"{address.hostname}:{port} answers, for {', '.join(names)}")
        except OSError as error:
            said = f"{address.hostname}:{port}, which serves {', '.join(names)}, does not answer: {error}"
            yield Finding("teachers", "fail", said, "start that server, or correct the address")


def _disk(found: Estimate, home: Path) -> Finding:
    place = next(one for one in (home, *home.parents) if one.is_dir())
    free, needed = shutil.disk_usage(place).free, ROOM * found.disk
    said = f"{found.disk / GIB:,.1f} GiB estimated, {free / GIB:,.1f} GiB free at {place}"
    if free < needed:
        return Finding("room", "fail", said, "move PROMPTCOT_HOME (and HF_HOME) to a larger disk")
    return Finding("room", "ok", said)
