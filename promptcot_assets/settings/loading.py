"""From a profile (YAML) and three environment variables to the settings of one home.

A profile is a file of this folder (`demo`, `real_seeds`) or a path to a YAML file of your own; `extends: demo` starts
from another one (null takes a setting of it away), ${NAME} stands for an environment variable and ${NAME:-value} for
one that may be missing. What is not written in the profile has its section's default (profile.py, engines.py); which
commit of a hub repository is meant may stand in a lock (pins.py).

    PROMPTCOT_HOME      where all state lives            (default .promptcot in the working directory)
    PROMPTCOT_PROFILE   profile name or path             (default demo)
    PROMPTCOT_SEED      overrides the profile's `seed`
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pydantic
import yaml

from promptcot_assets.settings import pins
from promptcot_assets.settings.profile import Settings
from promptcot_assets.settings.section import merged

PROFILES = Path(__file__).parent


class SettingsError(ValueError):
    """A profile that cannot be used; the message names the file, the setting and the mend."""


def load_settings(profile: str | None = None, seed: int | None = None) -> Settings:
    """The settings of `profile` (default: PROMPTCOT_PROFILE, else demo).

    Raises: SettingsError naming the file and the setting.
    """
    name = profile or profile_name()
    content = pins.with_pins(_read(name), _locked(name))
    from_environment = os.environ.get("PROMPTCOT_SEED")
    if seed is not None:
        content["seed"] = seed
    elif from_environment:
        if not from_environment.isdecimal():
            raise SettingsError(
                f"PROMPTCOT_SEED={from_environment!r} is not a whole number; unset it or give one, e.g. 1"
            )
        content["seed"] = int(from_environment)
    try:
        return Settings.model_validate(content | {"profile": Path(name).stem})
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the profile"
        raise SettingsError(
            f"profile {name!r}: {where}: {first['msg']} ({error.error_count()} problem(s) in all); "
            "settings and defaults are listed in promptcot_assets/settings/profile.py and engines.py"
        ) from None


def lock_folder(name: str) -> Path:
    """Where the lock of a profile is: beside it."""
    return Path(name).parent if name.endswith((".yaml", ".yml")) else PROFILES


def _locked(name: str) -> dict[str, str]:
    try:
        return pins.read_locks(PROFILES, lock_folder(name))
    except pins.PinError as error:
        raise SettingsError(str(error)) from None


def _read(name: str, folder: Path = Path(), extended_by: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The content of a profile laid over those that it extends. `folder`: what a relative path is relative to."""
    path = folder / name if name.endswith((".yaml", ".yml")) else PROFILES / f"{name}.yaml"
    if path.resolve() in extended_by:
        raise SettingsError(f"profile {path} extends itself ({' -> '.join(one.name for one in extended_by)} -> {name})")
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in PROFILES.glob("*.yaml")))
        raise SettingsError(f"no profile {name!r} ({path} is no file); known: {known}, or the path of a YAML file")
    try:
        content = yaml.safe_load(_with_variables(path))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"profile {path} is not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise SettingsError(f"profile {path} is empty or not a mapping of settings")
    if "profile" in content:
        raise SettingsError(f"profile {path}: `profile` cannot be set, it is the file's name; delete the line")
    parent = content.pop("extends", None)
    if parent is None:
        return content
    if not isinstance(parent, str):
        raise SettingsError(f"profile {path}: extends: {parent!r} is not the name or path of a profile")
    return merged(_read(parent, path.parent, (*extended_by, path.resolve())), content)


def _with_variables(path: Path) -> str:
    """The profile's text with ${NAME} and ${NAME:-value where there is none} replaced by environment variables."""

    def value(match: re.Match[str]) -> str:
        found = os.environ.get(match[1]) or match[2]
        if not found:
            raise SettingsError(f"profile {path} uses ${{{match[1]}}}, which is not set; export {match[1]}=...")
        return found

    return re.sub(r"\$\{(\w+)(?::-([^}]*))?\}", value, path.read_text())


def profile_name() -> str:
    """PROMPTCOT_PROFILE (default demo); a path to a YAML file is made absolute, for processes that start elsewhere."""
    name = os.environ.get("PROMPTCOT_PROFILE") or "demo"
    return str(Path(name).absolute()) if name.endswith((".yaml", ".yml")) else name


def home() -> Path:
    """The folder of all state: PROMPTCOT_HOME, default `.promptcot` in the working directory."""
    return Path(os.environ.get("PROMPTCOT_HOME") or ".promptcot").absolute()
