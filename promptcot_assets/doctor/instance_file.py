"""The home's dagster.yaml against the one that new homes get: what an older home lacks.

The file is its owner's to edit, so a value is never changed; a whole top-level setting that the file does not name is
one that it was made before (`run_launcher`, without which no dead run is ever noticed).
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from promptcot_assets.lake import LakeError


def shipped() -> str:
    """The text of the file that a new home gets."""
    return (files("promptcot_assets.automation") / "dagster.yaml").read_text()


def missing(config: Path) -> dict[str, Any]:
    """The top-level settings of new homes that the file does not name. Raises: LakeError when it is no such YAML."""
    try:
        known = yaml.safe_load(config.read_text()) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise LakeError(f"{config} cannot be read: {error}; mend it, or delete it and run `promptcot init`") from error
    if not isinstance(known, dict):
        raise LakeError(f"{config} is not a mapping of settings; mend it, or delete it and run `promptcot init`")
    if "run_queue" in known:  # the older spelling, which Dagster refuses beside the newer one
        known = known | {"concurrency": None}
    return {name: value for name, value in yaml.safe_load(shipped()).items() if name not in known}


def complete(config: Path) -> list[str]:
    """Append the settings that are missing; their names. What is there stays as it is, to the letter.

    Raises: LakeError as `missing`, and when the file cannot be written.
    """
    added = missing(config)
    if added:
        before = config.read_text().rstrip("\n")
        lines = yaml.safe_dump(added, sort_keys=False, default_flow_style=None)
        part = config.with_name(f".{config.name}.new")
        try:
            part.write_text(f"{before}\n\n# added by `promptcot init`: settings that are newer than this home\n{lines}")
            part.replace(config)
        except OSError as error:
            raise LakeError(f"{config} cannot be written: {error}") from error
    return sorted(added)
