"""Verdicts over a real cluster of two nodes: the same rows as of one machine, and no verdict out of a lost node."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from promptcot_assets.judging.opening import metered, open_verifier
from promptcot_assets.judging.ray_verifier import SHARD, RayVerifier
from promptcot_assets.judging.verdicts import judge
from promptcot_assets.judging.verifier import Question, Verifier
from promptcot_assets.settings.engines import RayCluster as RayClusterSettings
from promptcot_assets.settings.engines import Sandbox
from sandbox import SandboxUnavailable
from tests.ray_cluster import RayCluster

pytestmark = pytest.mark.slow
HERE = Sandbox(workers=1, cpu_s=1.0, wall_s=30.0, memory_mb=256)
DOUBLE = json.dumps([{"stdin": str(n), "expected": str(2 * n)} for n in (1, 2)])
BUSY = "sum(range(1_000_000))\n"  # a shard takes seconds, so that it can be interrupted


def over(cluster: RayCluster, **changed: object) -> Sandbox:
    settings = {"address": cluster.address, "placement_s": 60.0} | changed
    return HERE.model_copy(update={"ray": RayClusterSettings.model_validate(settings)})


def fenced(code: str) -> str:
    return f"```python\n{code}\n```"


QUESTIONS = [
    Question("maths", r"so \boxed{\frac{1}{2}}", answer="0.5"),
    Question("maths", r"so \boxed{3}", answer="0.5"),
    Question("maths", r"so \boxed{\sqrt{8}}", answer=r"2\sqrt{2}"),
    Question("maths", "no box", answer="0.5"),
    Question("code", fenced("print(2 * int(input()))"), tests=DOUBLE),
    Question("code", fenced("print(2)"), tests=DOUBLE),
    Question("code", fenced("print(1 / 0)"), tests=DOUBLE),
    Question("code", fenced("while True: pass"), tests=DOUBLE),
    Question("code", fenced("x = bytearray(1 << 30)"), tests=DOUBLE),
    Question("code", fenced("print("), tests=DOUBLE),
    Question("code", "no program", tests=DOUBLE),
]
MANY = [Question("code", fenced(f"{BUSY}print({n % 3} * int(input()))"), tests=DOUBLE) for n in range(3 * SHARD)]


@pytest.fixture(scope="module")
def local() -> Iterator[Verifier]:
    with open_verifier(HERE.model_copy(update={"workers": 2})) as verifier:
        yield verifier


def wait_until(reached: Callable[[], bool]) -> None:
    until = time.monotonic() + 120
    while not reached():
        assert time.monotonic() < until, "waited for two minutes"
        time.sleep(0.02)


def judging(actor: psutil.Process) -> bool:
    """Whether guests of this actor have spent the CPU time of some programs."""
    times = [one.cpu_times() for one in actor.children(recursive=True)]
    return sum(one.user + one.children_user for one in times) > 0.5


def test_verdicts_outputs_and_columns_are_those_of_one_machine(nodes: RayCluster, local: Verifier) -> None:
    programs, tests = ["print(input())", "print(1 / 0)"], [{"stdin": "1", "expected": "1"}]
    labels = {str(at): {"answer": one.answer, "tests": one.tests} for at, one in enumerate(QUESTIONS)}
    drawn = [
        {"problem_id": str(at), "domain": one.domain, "completion": one.completion} for at, one in enumerate(QUESTIONS)
    ]
    with metered(over(nodes)) as (verifier, meter):
        assert verifier.judge(QUESTIONS) == local.judge(QUESTIONS)
        assert verifier.outputs(programs, ["1", "2"]) == local.outputs(programs, ["1", "2"])
        assert verifier.caught(programs, tests) == local.caught(programs, tests) == [False, True]
        assert judge(drawn, labels, "problem_id", verifier) == judge(drawn, labels, "problem_id", local)
        assert meter.figures()["programs_cpu_s"] > 1.0  # `while True` alone
        with pytest.raises(ValueError, match="without tests"):
            verifier.judge([Question("code", fenced("pass"))])
        assert verifier.judge([]) == []
    with open_verifier(over(nodes, actors=1)) as verifier:
        assert isinstance(verifier, RayVerifier)
    assert nodes.actors() == []


def test_a_lost_node_costs_its_shard_and_no_verdict(nodes: RayCluster, local: Verifier) -> None:
    with RayVerifier(over(nodes, actors=2)) as verifier, ThreadPoolExecutor(1) as thread:
        working = thread.submit(verifier.judge, MANY)
        wait_until(lambda: all(judging(actor) for actor in nodes.actors()))
        nodes.kill(next(iter(nodes.nodes)))
        assert working.result() == local.judge(MANY)
        assert verifier.redone == 1


def test_when_all_nodes_are_lost_there_is_no_verdict(nodes: RayCluster) -> None:
    with RayVerifier(over(nodes, placement_s=10.0)) as verifier, ThreadPoolExecutor(1) as thread:
        working = thread.submit(verifier.judge, MANY)
        wait_until(lambda: any(judging(actor) for actor in nodes.actors()))
        for node in list(nodes.nodes):
            nodes.kill(node)
        with pytest.raises(SandboxUnavailable, match="no actor is left"):
            working.result()


def test_a_node_without_isolation_fails_the_job(ray_cluster: RayCluster) -> None:
    for node in list(ray_cluster.nodes):
        ray_cluster.kill(node)
    ray_cluster.grow(1, SANDBOX_PYTHON="/nowhere/python3")
    try:
        with (
            pytest.raises(SandboxUnavailable, match=r"sandbox on node [\d.]+: .*/nowhere/python3"),
            open_verifier(over(ray_cluster)),
        ):
            pass
        assert ray_cluster.actors() == []
    finally:
        ray_cluster.kill(next(iter(ray_cluster.nodes)))
