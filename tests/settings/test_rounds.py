"""Rounds are yearly windows that have ended, so there is a most of them: every one within it is a partition."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from promptcot_assets.settings import SettingsError, load_settings

MOST = 24
KEYS = "import json; from promptcot_assets.automation.partitions import ROUNDS, LAST_ROUND; \
print(json.dumps([ROUNDS.get_partition_keys(), LAST_ROUND]))"


def with_rounds(folder: Path, rounds: int) -> str:
    profile = folder / "mine.yaml"
    profile.write_text(f"extends: demo\nem: {{rounds: {rounds}}}\n")
    return str(profile)


def test_every_round_is_a_partition(tmp_path: Path) -> None:
    environment = {**os.environ, "PROMPTCOT_PROFILE": with_rounds(tmp_path, MOST)}  # read when the module loads
    done = subprocess.run([sys.executable, "-c", KEYS], env=environment, capture_output=True, text=True, check=True)
    keys, last = json.loads(done.stdout)
    assert keys == [f"round_{number:02d}" for number in range(1, MOST + 1)] and last == keys[-1]


def test_one_more_than_there_can_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=rf"mine\.yaml.*em\.rounds.*less than or equal to {MOST}"):
        load_settings(with_rounds(tmp_path, MOST + 1))
