"""The sandbox as a Ray actor on a real local Ray."""

from collections.abc import Iterator
from typing import Any

import pytest

from sandbox import Program, Test, Verdict

ray = pytest.importorskip("ray", reason="the `ray` extra is not installed")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield
    ray.shutdown()


def test_programs_are_judged_in_the_actor(cluster: None) -> None:
    from sandbox.actor import remote_sandbox

    actor: Any = remote_sandbox(1)
    add = Program("a, b = map(int, input().split())\nprint(a + b)")
    right, wrong = Test("1 2", "3"), Test("1 2", "4")
    results = ray.get([actor.run.remote(add, [right]), actor.run.remote(add, [right, wrong])], timeout=120)
    assert [result.verdict for result in results] == [Verdict.OK, Verdict.WRONG_ANSWER]
    assert results[1].passed == 1
    ray.kill(actor)
