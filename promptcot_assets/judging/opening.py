"""Opening a verifier as the settings ask: with a pool of this machine, a judge's server, or a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from promptcot_assets.judging.ray_verifier import RayVerifier
from promptcot_assets.judging.verdicts import MeteredPool
from promptcot_assets.judging.verifier import Verifier
from promptcot_assets.settings.engines import Sandbox
from sandbox.client import open_pool


@contextmanager
def open_verifier(settings: Sandbox) -> Iterator[Verifier]:
    """A verifier on the pool of this machine, on that of the server that SANDBOX_SOCKET names, or with `settings.ray`
    on those of a cluster's nodes.

    Raises: sandbox.SandboxUnavailable when no isolation holds there; nothing runs without it.
    """
    with metered(settings) as (verifier, _):
        yield verifier


@contextmanager
def metered(settings: Sandbox) -> Iterator[tuple[Verifier, MeteredPool | RayVerifier]]:
    """As `open_verifier`, beside what meters the programs that it judges."""
    if settings.ray is not None:
        with RayVerifier(settings) as verifier:
            yield verifier, verifier
        return
    with open_pool(settings.workers) as opened:
        pool = MeteredPool(opened)
        yield Verifier(pool, settings), pool
