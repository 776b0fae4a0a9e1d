"""The sandbox as a Ray actor on a real cluster."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from sandbox import Program, Test, Verdict
from tests.ray_cluster import RayCluster, ray_cluster

__all__ = ["ray_cluster"]
ray = pytest.importorskip("ray", reason="the `ray` extra is not installed")
pytestmark = pytest.mark.slow


@pytest.fixture
def connected(request: pytest.FixtureRequest) -> Iterator[None]:
    cluster: RayCluster = request.getfixturevalue("ray_cluster")
    cluster.grow(1)
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    yield
    ray.shutdown()


def test_programs_are_judged_in_the_actor(connected: None) -> None:
    from sandbox.actor import remote_sandbox

    actor: Any = remote_sandbox(1)
    add = Program("a, b = map(int, input().split())\nprint(a + b)")
    right, wrong = Test("1 2", "3"), Test("1 2", "4")
    results = ray.get([actor.run.remote(add, [right]), actor.run.remote(add, [right, wrong])], timeout=120)
    assert [result.verdict for result in results] == [Verdict.OK, Verdict.WRONG_ANSWER]
    assert results[1].passed == 1
    ray.kill(actor)
