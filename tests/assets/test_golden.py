"""Changed rows without a new code version are refused."""

from __future__ import annotations

import json

import pytest

from promptcot_assets.assets.everything import ASSETS
from tests.assets.golden import LOCK, NO_ROWS_HERE, versions


@pytest.fixture(scope="module")
def now() -> dict[str, dict[str, str]]:
    return versions()


@pytest.mark.parametrize("asset", sorted(ASSETS.keys() - NO_ROWS_HERE))
def test_the_rows_of_a_code_version_are_the_ones_locked(asset: str, now: dict[str, dict[str, str]]) -> None:
    locked = json.loads(LOCK.read_text()).get(asset)
    assert now[asset] == locked, (
        f"{asset} makes other rows than those locked for its code version. If that is meant, give the asset a new "
        "code_version in promptcot_assets/assets and run `python -m tests.assets.golden`; else look for what changed"
    )
