"""Rounds are yearly windows that have ended, so there is a most of them: every one within it is a partition."""

from pathlib import Path

import pytest

from promptcot_assets.assets.partitions import keys_of, last_round, partitions_of
from promptcot_assets.settings import SettingsError, load_settings
from promptcot_assets.tables import Unit

MOST = 24


def with_rounds(folder: Path, rounds: int) -> str:
    profile = folder / "mine.yaml"
    profile.write_text(f"extends: demo\nem: {{rounds: {rounds}}}\n")
    return str(profile)


def test_every_round_is_a_partition(tmp_path: Path) -> None:
    settings = load_settings(with_rounds(tmp_path, MOST))
    partitions = partitions_of(Unit.ROUND, settings)
    assert partitions
    keys = partitions.get_partition_keys()
    assert keys == [f"round_{number:02d}" for number in range(1, MOST + 1)] == keys_of(Unit.ROUND, settings)
    assert last_round(settings) == keys[-1]


def test_one_more_than_there_can_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=rf"mine\.yaml.*em\.rounds.*less than or equal to {MOST}"):
        load_settings(with_rounds(tmp_path, MOST + 1))
