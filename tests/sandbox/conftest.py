from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandbox import Pool, SandboxUnavailable
from sandbox.pool import TIERS


def _open(tier: str, workers: int = 2) -> Pool | str:
    try:
        return Pool(workers, tier=tier)  # type: ignore[arg-type]
    except SandboxUnavailable as error:
        return str(error)


@pytest.fixture(scope="session")
def pools() -> Iterator[dict[str, Pool | str]]:
    """A pool for every tier, or the reason why this machine has none."""
    opened = {tier: _open(tier) for tier in TIERS}
    yield opened
    for pool in opened.values():
        if isinstance(pool, Pool):
            pool.close()


@pytest.fixture(params=TIERS)
def pool(request: pytest.FixtureRequest, pools: dict[str, Pool | str]) -> Pool:
    """Every test that uses it runs once in each tier that holds here."""
    found = pools[request.param]
    if isinstance(found, str):
        pytest.skip(found)
    return found


@pytest.fixture
def any_pool(pools: dict[str, Pool | str]) -> Pool:
    """The strongest tier, for what does not depend on it."""
    return next(pool for pool in pools.values() if isinstance(pool, Pool))
