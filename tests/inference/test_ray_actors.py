"""Actors on a real cluster of two nodes: placed, lost with their node or by themselves, replaced, ended."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from promptcot_assets.inference.protocol import EngineLost
from promptcot_assets.inference.ray_actors import Needs, RayActors
from promptcot_assets.settings.engines import RayCluster as RayClusterSettings
from tests.ray_cluster import RayCluster

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


class Failure(Exception):
    """What these tests have the cluster's failures raised as."""


class Noted:
    """Notes every call in a file before it does anything, so that calls are counted where they happen."""

    def __init__(self, notes: Path) -> None:
        self._notes = notes

    def work(self, name: str, seconds: float = 0.0) -> str:
        import ray

        self._note(name)
        time.sleep(seconds)
        return str(ray.get_runtime_context().get_node_id())

    def die(self, name: str) -> None:
        self._note(name)
        os._exit(1)

    def lose(self, name: str) -> int:
        """As an engine whose worker died, the first time."""
        self._note(name)
        if noted(self._notes)[name] == 1:
            raise EngineLost("a worker died")
        return os.getpid()

    def refuse(self, name: str) -> None:
        self._note(name)
        raise ValueError("no such thing")

    def close(self) -> None:
        self._note("closed")

    def _note(self, name: str) -> None:
        with self._notes.open("a") as file:
            file.write(f"{name}\n")


class Unloadable:
    def __init__(self) -> None:
        raise ValueError("no weights")


def noted(notes: Path) -> Counter[str]:
    return Counter(notes.read_text().split()) if notes.exists() else Counter()


def pool(
    cluster: RayCluster, make: Callable[[], Any], cpus: float = 1.0, at_once: int = 1, **changed: Any
) -> RayActors:
    settings = {"address": cluster.address, "placement_s": 60.0} | changed
    return RayActors(make, Needs(cpus), RayClusterSettings.model_validate(settings), Failure, "test", at_once)


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


def wait_until(reached: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < until, "waited for a minute"
        time.sleep(0.02)


def side_by_side(actors: RayActors, names: list[str], seconds: float) -> list[str]:
    """`work` for every name, as many at once as there are actors; the nodes they ran on."""
    with ThreadPoolExecutor(actors.count) as threads:
        return list(threads.map(lambda name: actors.call("work", name, seconds), names))


def test_calls_run_side_by_side_and_all_end_with_the_pool(nodes: RayCluster, notes: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pool(nodes, partial(Noted, notes)) as actors:
        assert actors.count == 2
        wait_until(lambda: len(set(side_by_side(actors, ["x", "y"], 0.5))) == 2)  # it is open when the first has loaded
        assert set(side_by_side(actors, ["a", "b"], 1.0)) == set(nodes.nodes)
        with pytest.raises(ValueError, match=r"test on node [\d.]+: no such thing"):
            actors.call("refuse", "c")
        assert signal.getsignal(signal.SIGTERM) == before
    assert nodes.actors() == []
    assert noted(notes) == noted(notes) | {"a": 1, "b": 1, "c": 1, "closed": 2}
    with pytest.raises(Failure, match="closed"):
        actors.call("work", "d")


def test_a_lost_node_costs_the_call_it_was_in_and_no_other(nodes: RayCluster, notes: Path) -> None:
    names = [f"call{index}" for index in range(4)]
    with pool(nodes, partial(Noted, notes), actors=2) as actors, ThreadPoolExecutor(1) as thread:
        working = thread.submit(side_by_side, actors, names, 4.0)
        wait_until(lambda: len(noted(notes)) == 2)
        victim = next(iter(nodes.nodes))
        nodes.kill(victim)
        ran_on = working.result()
        assert victim not in ran_on and len(ran_on) == len(names)
        assert sorted(noted(notes).values()) == [1, 1, 1, 2] and actors.redone == 1
        nodes.grow(2)  # the lost actor's successor waits for a place
        wait_until(lambda: len(nodes.actors()) == 2)
        wait_until(lambda: len(set(side_by_side(actors, ["x", "y"], 0.5))) == 2)
    assert nodes.actors() == []


def test_when_all_nodes_are_lost_that_is_said(nodes: RayCluster, notes: Path) -> None:
    with pool(nodes, partial(Noted, notes), placement_s=10.0) as actors, ThreadPoolExecutor(1) as thread:
        working = thread.submit(actors.call, "work", "a", 60.0)
        wait_until(lambda: bool(noted(notes)))
        for node in list(nodes.nodes):
            nodes.kill(node)
        with pytest.raises(Failure, match=r"no actor is left.*The cluster has 1 nodes: .* no CPU and no GPU"):
            working.result()
    assert noted(notes)["a"] == 1


def test_an_actor_that_dies_of_a_call_is_replaced_and_the_call_given_up(nodes: RayCluster, notes: Path) -> None:
    with pool(nodes, partial(Noted, notes), actors=1, attempts=2) as actors:
        with pytest.raises(Failure, match="die was tried 2 times and each time the actor or its node was lost"):
            actors.call("die", "a")
        assert actors.call("work", "b") in nodes.nodes
    assert noted(notes) == {"a": 2, "b": 1, "closed": 1}


def test_an_engine_that_lost_its_worker_counts_as_a_lost_actor(nodes: RayCluster, notes: Path) -> None:
    with pool(nodes, partial(Noted, notes), actors=1) as actors:
        (before,) = nodes.actors()
        assert actors.call("lose", "a") != before.pid
        assert actors.redone == 1 and noted(notes) == {"a": 2, "closed": 1}  # so that its device was free


def test_an_actor_that_does_two_calls_at_once_loses_both_and_is_replaced_once(nodes: RayCluster, notes: Path) -> None:
    with pool(nodes, partial(Noted, notes), actors=1, at_once=2) as actors, ThreadPoolExecutor(1) as thread:
        working = thread.submit(actors.call, "work", "a", 3.0)
        wait_until(lambda: bool(noted(notes)))
        actors.call("lose", "b")  # beside "a"
        assert working.result() in nodes.nodes
        assert noted(notes) == {"a": 2, "b": 2, "closed": 1} and actors.redone == 2
        assert len(nodes.actors()) == 1


def test_what_cannot_be_placed_or_loaded_ends_with_a_reason_and_without_actors(nodes: RayCluster, notes: Path) -> None:
    with pytest.raises(Failure, match=r"Asked for 3 actors of 1 CPU each, of which 2 are there.*has 3 nodes: .* 1 CPU"):
        pool(nodes, partial(Noted, notes), actors=3, placement_s=10.0)
    with pytest.raises(Failure, match=r"no node has room for an actor of 2 CPU\. The cluster has 3 nodes"):
        pool(nodes, partial(Noted, notes), cpus=2)
    with pytest.raises(Failure, match="set `actors`"):
        pool(nodes, partial(Noted, notes), cpus=0)
    with pytest.raises(ValueError, match=r"test on node [\d.]+: no weights"):
        pool(nodes, Unloadable)
    with pytest.raises(Failure, match=r"cannot reach the Ray cluster at 127\.0\.0\.1:1"):
        pool(nodes, partial(Noted, notes), address="127.0.0.1:1")
    assert nodes.actors() == []


def test_closing_ends_a_call_that_runs(nodes: RayCluster, notes: Path) -> None:
    actors = pool(nodes, partial(Noted, notes))
    with ThreadPoolExecutor(1) as thread:
        working = thread.submit(actors.call, "work", "a", 60.0)
        wait_until(lambda: bool(noted(notes)))
        actors.close()
        with pytest.raises(Failure, match="closed"):
            working.result()
    assert nodes.actors() == [] and noted(notes)["a"] == 1


def test_actors_die_with_the_process_that_asked_for_them(nodes: RayCluster, notes: Path) -> None:
    code = f"""
import threading
from functools import partial
from pathlib import Path
from tests.inference.test_ray_actors import Failure, Needs, Noted, RayActors, RayClusterSettings
settings = RayClusterSettings(address={nodes.address!r})
RayActors(partial(Noted, Path({str(notes)!r})), Needs(1), settings, Failure, "test")
print("ready", flush=True)
threading.Event().wait()
"""
    driver = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert driver.stdout and driver.stdout.readline() == "ready\n"
    assert len(nodes.actors()) >= 1
    driver.kill()
    driver.communicate()
    wait_until(lambda: nodes.actors() == [])


def test_two_pools_share_one_connection_which_ends_with_the_last(nodes: RayCluster, notes: Path) -> None:
    import ray

    with pool(nodes, partial(Noted, notes), actors=1) as first:
        with pool(nodes, partial(Noted, notes), actors=1) as second:
            assert {first.call("work", "a"), second.call("work", "b")} == set(nodes.nodes)
            with pytest.raises(Failure, match="cannot join"):
                pool(nodes, partial(Noted, notes), address="10.0.0.1:6379")
        assert first.call("work", "c") in nodes.nodes
    assert not ray.is_initialized()


def test_without_an_address_the_cluster_is_this_machine_and_ends_with_the_pool(notes: Path) -> None:
    # in a process of its own: Ray has one that started a cluster use tokens from then on
    code = f"""
from functools import partial
from pathlib import Path
import psutil
from tests.inference.test_ray_actors import Failure, Needs, Noted, RayActors, RayClusterSettings, wait_until
with RayActors(partial(Noted, Path({str(notes)!r})), Needs(1), RayClusterSettings(actors=1), Failure, "test") as actors:
    assert actors.call("work", "a")
    raylets = [one for one in psutil.Process().children(recursive=True) if one.name() == "raylet"]
    assert raylets
wait_until(lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in raylets))
"""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, timeout=300)
    assert noted(notes) == {"a": 1, "closed": 1}
