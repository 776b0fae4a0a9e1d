"""Pinned revisions: which commit of a hub repository a profile means.

A profile may name `revision` itself. Where it does not, the commit stands in `revisions.lock`: the one of this
folder, over it the one beside the profile. A lock is YAML, `org/name: commit`, and `datasets/org/name: commit` for
data sets; `datasets/org/name@branch: commit` for another branch or tag than main. Branches move, so an id without a
commit is refused when its files are needed; `promptcot pin` writes what is missing.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

LOCK = "revisions.lock"
COMMIT = re.compile(r"[0-9a-f]{40}")
HUB_ADDRESS = re.compile(
    r"hf:(?P<name>[^/@#]+/[^/@#]+)(?P<config>/[^/@#]+)?(?:@(?P<revision>[^@#]+))?#(?P<split>[^@#]+)"
)  # of a data set; without a revision its branch main is meant
SENTENCE_MODELS = ("embedding", "semantic")  # settings whose `name` is a hub id
MEND = "`promptcot pin` writes the commit that its main branch has now; or set `revision` to a full commit hash"


class PinError(RuntimeError):
    """A commit that cannot be had or written; the message says what to do."""


def read_locks(*folders: Path) -> dict[str, str]:
    """The pinned commits, a later folder's over an earlier one's.

    Raises: PinError naming the file and the entry that is not a full commit hash.
    """
    pins: dict[str, str] = {}
    for path in (folder / LOCK for folder in folders):
        content = yaml.safe_load(path.read_text()) if path.is_file() else None
        for name, commit in (content or {}).items():
            if not COMMIT.fullmatch(str(commit)):
                raise PinError(f"{path}: {name}: {commit!r} is not a full commit hash; correct or delete the line")
            pins[name] = commit
    return pins


def with_pins(content: Any, pins: dict[str, str], setting: str = "") -> Any:
    """The content of a profile with every revision that it leaves out and `pins` knows."""
    if isinstance(content, list):
        return [with_pins(one, pins) for one in content]
    if isinstance(content, str):
        return _with_revision(content, pins)
    if not isinstance(content, dict):
        return content
    filled = {key: with_pins(value, pins, str(key)) for key, value in content.items()}
    name = _model_of(filled, setting)
    if name is not None and not filled.get("revision") and name in pins:
        filled["revision"] = pins[name]
    return filled


def unpinned(settings: Any) -> list[str]:
    """Hub ids that the settings (as plain values) name without a commit, data sets with `datasets/` before them."""
    return sorted(set(_unpinned(settings, "")))


def pin(names: list[str], folder: Path) -> dict[str, str]:
    """The commits that the main branches of `names` have now, added to the lock in `folder`.

    Raises: PinError when the hub does not tell one (nothing is written then) or the lock cannot be written.
    """
    pins = {name: _commit_of(name) for name in names}
    path, today = folder / LOCK, datetime.date.today()
    lines = "".join(
        f"{name}: {commit}  # {name.partition('@')[2] or 'main'} on {today}\n" for name, commit in pins.items()
    )
    try:
        before = path.read_text() if path.is_file() else ""
        path.write_text(before + ("\n" if before and not before.endswith("\n") else "") + lines)
    except OSError as error:
        raise PinError(f"cannot write {path} ({error}); write a profile of your own that extends this one") from error
    return pins


def pinned_now(address: str) -> str:
    """A data set's address with the commit that its branch has now, where it names none; anything else as it is.

    Raises: PinError when the hub does not tell it.
    """
    match = HUB_ADDRESS.fullmatch(address)
    name = _data_set(match) if match else None
    return _with_revision(address, {name: _commit_of(name)}) if name else address


def _with_revision(address: str, pins: dict[str, str]) -> str:
    match = HUB_ADDRESS.fullmatch(address)
    if match is None or (name := _data_set(match)) is None or name not in pins:
        return address
    return f"hf:{match['name']}{match['config'] or ''}@{pins[name]}#{match['split']}"


def _data_set(match: re.Match[str]) -> str | None:
    """The name that a data set's address has in a lock; None when the address says the commit itself."""
    revision = match["revision"]
    if revision and COMMIT.fullmatch(revision):
        return None
    return f"datasets/{match['name']}" + (f"@{revision}" if revision not in (None, "main") else "")


def _model_of(values: dict[str, Any], setting: str) -> str | None:
    name = values.get("name") if setting in SENTENCE_MODELS else values.get("hub_id")
    return name if isinstance(name, str) and not Path(name).is_dir() else None


def _unpinned(value: Any, setting: str) -> Iterator[str]:
    if isinstance(value, list):
        for one in value:
            yield from _unpinned(one, "")
    elif isinstance(value, dict):
        if (name := _model_of(value, setting)) is not None and not value.get("revision"):
            yield name
        for key, one in value.items():
            yield from _unpinned(one, str(key))
    elif isinstance(value, str) and (match := HUB_ADDRESS.fullmatch(value)) and (name := _data_set(match)):
        yield name


def _commit_of(name: str) -> str:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    kind = "dataset" if name.startswith("datasets/") else "model"
    repository, _, branch = name.removeprefix("datasets/").partition("@")
    try:
        commit = HfApi().repo_info(repository, revision=branch or "main", repo_type=kind).sha
    except (*HfHubHTTPError.__bases__, OfflineModeIsEnabled) as error:  # those of the hub's HTTP client among them
        raise PinError(
            f"the Hugging Face hub does not tell the commit of {name} ({type(error).__name__}: {error}); check the "
            "network, HF_HUB_OFFLINE and, for a gated repository, HF_TOKEN"
        ) from error
    if not commit or not COMMIT.fullmatch(commit):
        raise PinError(f"the Hugging Face hub gives {commit!r} as the commit of {name}, which is none")
    return commit
