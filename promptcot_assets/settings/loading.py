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

import base64
import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pydantic
import yaml

from promptcot_assets.settings import machine, pins
from promptcot_assets.settings.profile import Settings
from promptcot_assets.settings.section import merged

PROFILES = Path(__file__).parent
_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
_MARK = re.compile("\ue000([A-Z2-7=]+)\ue001")
_STRUCTURE = ("tag:yaml.org,2002:merge", "tag:yaml.org,2002:value")


class SettingsError(ValueError):
    """A profile that cannot be used; the message names the file, the setting and the mend."""


def load_settings(profile: str | None = None, seed: int | None = None) -> Settings:
    """The settings of `profile` (default: PROMPTCOT_PROFILE, else demo).

    Raises: SettingsError naming the file and the setting.
    """
    name = profile or profile_name()
    try:
        content = machine.fitted(pins.with_pins(_read(name), _locked(name)), machine.this_machine())
    except RecursionError:
        raise SettingsError(f"profile {name!r}: a list or mapping holds itself; take the alias (*) out of it") from None
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
    if not _can_be(path):
        raise SettingsError(f"no profile {name[:60]!a}: no file can be called that; give another name or path")
    if path.resolve() in extended_by:
        raise SettingsError(f"profile {path} extends itself ({' -> '.join(one.name for one in extended_by)} -> {name})")
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in PROFILES.glob("*.yaml")))
        raise SettingsError(f"no profile {name!r} ({path} is no file); known: {known}, or the path of a YAML file")
    try:
        content = yaml.load(_VARIABLE.sub(_marked, path.read_text()), _loader_of(path))
    except (yaml.YAMLError, ValueError) as error:  # ValueError: bytes that are no UTF-8, impossible dates and numbers
        if isinstance(error, SettingsError):
            raise
        raise SettingsError(f"profile {path} is not valid YAML: {error}") from None
    except RecursionError:
        raise SettingsError(f"profile {path} is nested too deep to be read; write it with fewer levels") from None
    except OSError as error:
        raise SettingsError(f"profile {path} cannot be read: {error}") from None
    if odd := next(_odd_keys(content, set()), None):
        raise SettingsError(f"profile {path}: the key {odd!r} is not one line of printable text; rename it")
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


def _can_be(path: Path) -> bool:
    try:
        path.lstat()
    except (ValueError, OSError) as error:
        return isinstance(error, FileNotFoundError | NotADirectoryError | PermissionError)
    return True


def _loader_of(path: Path) -> type[yaml.SafeLoader]:
    """Reads YAML whose scalars hold marked variables. What an environment variable holds stays one scalar.

    An unquoted value is a number or a flag where it looks like one; it never adds a key, a list or a line.
    """

    class Loader(yaml.SafeLoader):
        def compose_scalar_node(self, anchor: dict[str, yaml.Node]) -> yaml.ScalarNode:
            event = self.peek_event()
            event.value, is_marked = _MARK.subn(partial(_value, path), event.value)
            node = super().compose_scalar_node(anchor)
            if is_marked and node.tag in _STRUCTURE:  # `<<` from outside would merge a mapping
                node.tag = "tag:yaml.org,2002:str"
            return node

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            lines: dict[tuple[str, str], int] = {}
            for key, _ in node.value:
                line = key.start_mark.line + 1
                if isinstance(key, yaml.ScalarNode) and lines.setdefault((key.tag, key.value), line) != line:
                    raise SettingsError(
                        f"profile {path}: {key.value!r} stands in line {lines[key.tag, key.value]} and again in line "
                        f"{line}, and only the last would count; make one of them"
                    )
            return super().construct_mapping(node, deep)

    return Loader


def _value(path: Path, mark: re.Match[str]) -> str:
    """What a marked variable stands for: the environment's, else the default that the profile gives."""
    name, default = base64.b32decode(mark[1].encode()).decode().split("\0")
    found = os.environ.get(name) or default
    if not found:
        raise SettingsError(f"profile {path} uses ${{{name}}}, which is not set; export {name}=...")
    return found


def _marked(variable: re.Match[str]) -> str:
    """A variable as letters that mean nothing in YAML wherever they stand, so that it is parsed as the text it is."""
    name = base64.b32encode(f"{variable[1]}\0{variable[2] or ''}".encode()).decode()
    return f"\ue000{name}\ue001"


def _odd_keys(content: Any, seen: set[int]) -> Iterator[str]:
    """Keys with a line break or another control character in them, at any depth: they become names and partitions.

    seen: ids of lists and mappings that were looked into; an alias may name one often, or even inside itself.
    """
    if not isinstance(content, dict | list) or id(content) in seen:
        return
    seen.add(id(content))
    if isinstance(content, dict):
        yield from (key for key in content if isinstance(key, str) and not key.isprintable())
    for one in content.values() if isinstance(content, dict) else content:
        yield from _odd_keys(one, seen)


def profile_name() -> str:
    """PROMPTCOT_PROFILE (default demo); a path to a YAML file is made absolute, for processes that start elsewhere."""
    name = os.environ.get("PROMPTCOT_PROFILE") or "demo"
    return str(Path(name).absolute()) if name.endswith((".yaml", ".yml")) else name


def home() -> Path:
    """The folder of all state: PROMPTCOT_HOME, default `.promptcot` in the working directory."""
    return Path(os.environ.get("PROMPTCOT_HOME") or ".promptcot").absolute()
