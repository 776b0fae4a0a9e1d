"""A real Ray cluster on this machine: a head without CPUs and nodes with one each, which a test may kill.

Use the fixtures (import them in a conftest): one cluster serves a package's tests, and `nodes` has two live nodes.
"""

from collections.abc import Iterator
from typing import Any

import psutil
import pytest

STORE = 80 << 20
END_WAIT_S = 30
CONFIG = {
    "worker_niceness": 0,  # of actors; Ray's 15 starves them where other processes are busy
    # a dead node, which refuses connections, is noticed in seconds and not in half a minute; a slow one is let be
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 300,
    "health_check_timeout_ms": 20_000,
    "health_check_failure_threshold": 5,
}


class RayCluster:
    """`ray.cluster_utils.Cluster` with what tests ask of it."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE}
        self._cluster = Cluster(initialize_head=True, head_node_args=head | {"_system_config": CONFIG})
        self._seen: set[psutil.Process] = set()
        self.nodes: dict[str, Any] = {}

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def grow(self, count: int, **variables: str) -> None:
        """Until it has `count` nodes besides the head. variables: environment of what runs on the new ones."""
        while len(self.nodes) < count:
            node = self._cluster.add_node(num_cpus=1, object_store_memory=STORE, env_vars=variables)
            self.nodes[node.node_id] = node

    def kill(self, node_id: str) -> None:
        """Like a machine that loses power: nothing on it is told."""
        self.processes()
        self._cluster.remove_node(self.nodes.pop(node_id), allow_graceful=False)

    def processes(self) -> set[psutil.Process]:
        """Ray's own servers, and all that they have started and that runs now."""
        nodes = (self._cluster.head_node, *self.nodes.values())
        infos = [info for node in nodes for infos in node.all_processes.values() for info in infos]
        servers = [psutil.Process(info.process.pid) for info in infos if psutil.pid_exists(info.process.pid)]
        found = {*servers, *(child for server in servers for child in _children(server))}
        self._seen |= found
        return found

    def actors(self) -> list[psutil.Process]:
        """Processes that are an actor of ours."""
        return [process for process in self.processes() if _title(process) == "ray::Host"]

    def shutdown(self) -> list[psutil.Process]:
        """What is still there half a minute later; it should be nothing."""
        self.processes()
        self._cluster.shutdown()
        _, left = psutil.wait_procs(self._seen, timeout=END_WAIT_S)
        return left


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()[:1])
    except psutil.Error:  # it has just ended
        return ""


@pytest.fixture(scope="package")
def ray_cluster() -> Iterator[RayCluster]:
    pytest.importorskip("ray", reason="the `ray` extra is not installed")
    cluster = RayCluster()
    yield cluster
    assert cluster.shutdown() == []


@pytest.fixture
def nodes(ray_cluster: RayCluster) -> RayCluster:
    """The cluster with two live nodes of one CPU each."""
    ray_cluster.grow(2)
    return ray_cluster
