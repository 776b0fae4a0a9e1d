"""Actors of a Ray cluster that do calls. A call whose actor or node is lost is done again by another one.

Belongs here: connecting to the cluster, placing actors, noticing that one is lost, ending them. Does not belong here:
what they do (`ray_engine.py`, `judging/ray_verifier.py`); that is a picklable `make`, called where an actor runs.
ray is imported only inside functions.
"""

import logging
import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

from promptcot_assets.inference.closing import Closing
from promptcot_assets.inference.protocol import EngineLost

NAMESPACE = "promptcot"
END_WAIT_S = 60.0  # for actors told to end; one that does not, or that is in a call, is killed
CONNECT_S = 30.0
LONGEST_CAUSE = 1000
LOG = logging.getLogger(__name__)


class ClusterSettings(Protocol):
    """Where actors run; the pydantic object is `RayCluster` of `promptcot_assets.settings`."""

    address: str | None
    actors: int | None
    attempts: int
    placement_s: float


@dataclass(frozen=True)
class Needs:
    """What Ray keeps for one actor."""

    cpus: float
    gpus: float = 0.0

    def __str__(self) -> str:
        return _resources({"CPU": self.cpus, "GPU": self.gpus})


class Host:
    """What Ray runs. It is placed before it loads anything, so that waiting for a node is told from loading."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def node(self) -> str:
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def load(self) -> None:
        self._made = self._make()

    def call(self, method: str, arguments: tuple[Any, ...]) -> Any:
        return getattr(self._made, method)(*arguments)

    def close(self) -> None:
        self._made.close()


@dataclass(eq=False)
class _Actor:
    handle: Any
    node: str | None = None  # id of the node it was placed on


class RayActors(Closing):
    """`settings.actors` actors that each hold what `make` returns; with null as many as the cluster has room for.

    With a number, all of them have loaded when this returns; with null at least one has, and others join as they are
    placed. A lost actor is replaced, if need be as soon as the cluster has a place again. `failure` is the exception
    for whatever goes wrong with the cluster; what `make` or a call raises is raised as it is, with the node named.
    at_once: calls that one actor does side by side, in threads of its own if more than one.
    """

    def __init__(
        self,
        make: Callable[[], Any],
        needs: Needs,
        settings: ClusterSettings,
        failure: type[Exception],
        what: str,
        at_once: int = 1,
    ) -> None:
        self._make, self._needs, self._settings, self._at_once = make, needs, settings, at_once
        self._failure, self._what = failure, what
        self._state = threading.Condition()
        self._live: set[_Actor] = set()
        self._free: deque[_Actor] = deque()  # a live one stands here once for every call that it could do now
        self._starting: set[threading.Thread] = set()
        self._pending: set[_Actor] = set()  # of those that start
        self._opening, self._closed = True, False
        self._broken: Exception | None = None  # raised to every caller: an actor that cannot load what it must
        self.redone = 0  # calls done again because their actor was lost
        _connection.join(settings.address, failure)
        try:
            self.count = settings.actors or self._room()
            for thread in [self._registered() for _ in range(self.count)]:
                thread.start()
            self._wait_until_open(settings.actors or 1)
        except BaseException:
            self.close()
            raise

    def call(self, method: str, *arguments: Any) -> Any:
        """What `method` of one actor returns. Waits for a free one; may be called from any thread.

        Raises: what the method raises; `failure` when actors were lost `attempts` times or none is left.
        """
        import ray

        for attempt in range(1, self._settings.attempts + 1):
            actor = self._take()
            try:
                result = ray.get(actor.handle.call.remote(method, arguments))
            except ray.exceptions.RayTaskError as error:
                engine_lost = isinstance(error.cause, EngineLost)
                if not engine_lost and actor in self._live:
                    self._give_back(actor)
                    raise _own(error, self._where(actor)) from error
                lost: Exception = error  # what an actor says that was given up meanwhile is no answer either
            except ray.exceptions.RayError as error:
                engine_lost, lost = False, error
            except BaseException:  # interrupted: the actor works on for nobody
                self._lose(actor)
                raise
            else:
                self._give_back(actor)
                return result
            self._lose(actor, can_close=engine_lost)
            self._raise_if_closed()
            LOG.warning("%s: attempt %d of %s lost its actor: %s", self._what, attempt, method, _said(lost))
            with self._state:
                self.redone += attempt < self._settings.attempts
        raise self._failure(
            f"{self._what}: {method} was tried {self._settings.attempts} times and each time the actor or its node was "
            f"lost, the last time with: {_said(lost)}"
        ) from lost

    def close(self) -> None:
        """End every actor and wait until Ray knows it dead. A call that still runs raises `failure`."""
        with self._state:
            if self._closed:
                return
            self._closed = True
            idle = [one for one in self._live if self._free.count(one) == self._at_once]
            running = [*self._live.difference(idle), *self._pending]
            self._live.clear()
            self._free.clear()
            self._state.notify_all()
        self._end(idle, running)
        for thread in list(self._starting):
            if thread.is_alive():
                thread.join(END_WAIT_S)
        _connection.leave()

    # ---- taking and losing
    def _take(self) -> _Actor:
        with self._state:
            self._state.wait_for(
                lambda: self._closed or self._broken or self._free or not (self._live or self._starting)
            )
            self._raise_if_closed()
            if self._broken:
                raise self._broken
            if not self._free:
                raise self._failure(f"{self._what}: no actor is left. {self._unplaced()}")
            return self._free.popleft()

    def _give_back(self, actor: _Actor) -> None:
        with self._state:
            if actor in self._live:
                self._free.append(actor)
                self._state.notify_all()

    def _lose(self, actor: _Actor, can_close: bool = False) -> None:
        """Take this actor out, those on dead nodes with it, and start another for each. Once, whatever calls it did.

        can_close: it still answers, so have it close what it holds: its device must be free for the next.
        """
        dead = set() if self._closed else _dead_nodes()
        with self._state:
            lost = {one for one in self._live if one is actor or one.node in dead}
            self._live -= lost
            self._free = deque(one for one in self._free if one not in lost)
            successors = [self._registered() for _ in lost if not self._closed]
        if can_close and lost:
            self._close([actor])
        for one in lost:
            _kill(one)
        for thread in successors:
            thread.start()

    def _raise_if_closed(self) -> None:
        if self._closed:
            raise self._failure(f"{self._what} is closed; open it again to use it")

    # ---- starting
    def _registered(self) -> threading.Thread:
        """A thread that brings an actor up, counted as starting before it does."""
        thread = threading.Thread(target=self._bring_up, name="ray-actor", daemon=True)
        self._starting.add(thread)
        return thread

    def _bring_up(self) -> None:
        """In a thread of its own: an actor is asked for, placed and loaded, and then waits for calls."""
        try:
            for attempt in range(1, self._settings.attempts + 1):
                lost = self._lost_while_brought_up()
                if lost is None:
                    return
                cause = _said(lost)
                LOG.warning("%s: attempt %d to start an actor lost it: %s", self._what, attempt, cause)
            raise self._failure(f"{self._what}: every attempt to start an actor lost it, the last with: {cause}")
        except Exception as error:  # noqa: BLE001 - raised to the callers
            with self._state:
                self._broken = self._broken or error
        finally:
            with self._state:
                self._starting.discard(threading.current_thread())
                self._state.notify_all()

    def _lost_while_brought_up(self) -> Exception | None:
        """None when there is nothing more to do: the actor is there, or no place was found, or all is over.

        Raises: what `make` raises there.
        """
        import ray

        if self._closed:
            return None
        actor = _Actor(
            ray.remote(Host)
            .options(
                num_cpus=self._needs.cpus,
                num_gpus=self._needs.gpus,
                scheduling_strategy="SPREAD",
                max_concurrency=self._at_once,
            )
            .remote(self._make)
        )
        with self._state:
            self._pending.add(actor)
            closed = self._closed
        try:
            if closed or not self._placed(actor):
                _kill(actor)
                return None
            try:
                ray.get(actor.handle.load.remote())
            except ray.exceptions.RayTaskError as error:
                _kill(actor)
                raise _own(error, self._where(actor)) from error
            with self._state:
                if not self._closed:
                    self._live.add(actor)
                    self._free.extend([actor] * self._at_once)
                    return None
            _kill(actor)
            return None
        except ray.exceptions.RayTaskError:
            raise
        except ray.exceptions.RayError as error:  # lost before it was of use
            return None if self._closed else error
        finally:
            with self._state:
                self._pending.discard(actor)

    def _placed(self, actor: _Actor) -> bool:
        """Wait for a node. Given up after `placement_s` when all wait for this, or when no actor is left to work."""
        import ray

        where = actor.handle.node.remote()
        while True:
            try:
                actor.node = ray.get(where, timeout=self._settings.placement_s)
                return True
            except ray.exceptions.GetTimeoutError:
                with self._state:
                    if self._closed or self._opening or not self._live:
                        return False

    def _wait_until_open(self, needed: int) -> None:
        with self._state:
            self._state.wait_for(lambda: self._broken or len(self._live) >= needed or not self._starting)
            if self._broken:
                raise self._broken
            if len(self._live) < needed:
                raise self._failure(f"{self._what}: {self._unplaced()}")
            self._opening = False

    # ---- what is said of the cluster
    def _room(self) -> int:
        """How many actors the nodes have devices for, whoever uses them now."""
        needs = {name: amount for name, amount in (("CPU", self._needs.cpus), ("GPU", self._needs.gpus)) if amount}
        if not needs:
            raise self._failure(f"{self._what}: actors that need no CPU and no GPU can be any number; set `actors`")
        room = sum(
            min(int(node["Resources"].get(name, 0) / amount) for name, amount in needs.items())
            for node in _nodes()
            if node["Alive"]
        )
        if not room:
            raise self._failure(
                f"{self._what}: no node has room for an actor of {self._needs}. {_described()}. Start nodes that have, "
                "ask for less an actor, or set `actors` where an autoscaler is to start them"
            )
        return room

    def _unplaced(self) -> str:
        return (
            f"Asked for {self.count} actors of {self._needs} each, of which {len(self._live)} are "
            f"there: the cluster found no place for others within {self._settings.placement_s:g} s. {_described()}. "
            "Start nodes, or set fewer `actors`"
        )

    def _where(self, actor: _Actor) -> str:
        node = next((node for node in _nodes() if node["NodeID"] == actor.node), None)
        return f"{self._what} on node {node['NodeManagerAddress'] if node else actor.node}"

    # ---- ending
    def _close(self, actors: list[_Actor]) -> None:
        """Have them close what they hold; one that is lost already has."""
        import ray

        with suppress(ray.exceptions.RayError):
            if closing := [one.handle.close.remote() for one in actors]:
                ray.wait(closing, num_returns=len(closing), timeout=END_WAIT_S)

    def _end(self, idle: list[_Actor], running: list[_Actor]) -> None:
        import ray

        self._close(idle)
        for one in [*idle, *running]:
            _kill(one)
        for one in [*idle, *running]:
            with suppress(ray.exceptions.RayError):  # what a dead actor answers
                ray.get(one.handle.node.remote(), timeout=END_WAIT_S)


class _Connection:
    """This process's connection to a cluster: made for the first who needs it, ended with the last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._address: str | None = None  # None: somebody else connected this process, who also ends that

    def join(self, address: str | None, failure: type[Exception]) -> None:
        """address: as in the settings; null: RAY_ADDRESS, else a local cluster that ends with us."""
        os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # a late call must not start a cluster by itself
        try:
            import ray
        except ImportError as error:
            raise failure("Ray is not installed: pip install 'promptcot-assets[ray]'") from error
        address = address or os.environ.get("RAY_ADDRESS") or "local"
        with self._lock:
            if self._users == 0 and not ray.is_initialized():
                try:
                    _assert_listening(address)
                    with _sigterm_kept():
                        ray.init(
                            address=address,
                            namespace=NAMESPACE,
                            include_dashboard=False,
                            log_to_driver=False,
                            logging_level=logging.ERROR,
                        )
                except (ConnectionError, RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
                    raise failure(f"cannot reach the Ray cluster at {address}: {_said(error)}") from error
                self._address = address
            elif self._address not in (None, address):
                raise failure(f"this process works on the Ray cluster at {self._address} and cannot join {address} too")
            self._users += 1

    def leave(self) -> None:
        import ray

        with self._lock:
            self._users -= 1
            if self._users == 0 and self._address is not None:
                self._address = None
                ray.shutdown()


_connection = _Connection()


def _assert_listening(address: str) -> None:
    """Raises OSError at once where Ray would try for a quarter of an hour."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()


@contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Connecting replaces the handler of SIGTERM by a bare exit; whoever runs this process has a better one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _own(error: Any, where: str) -> Exception:
    """The exception that was raised in an actor, with the node in its message."""
    cause = error.cause
    if isinstance(cause, Exception) and len(cause.args) == 1 and isinstance(cause.args[0], str):
        with suppress(TypeError):
            return type(cause)(f"{where}: {cause}")
    return error if cause is None else cause


def _kill(actor: _Actor) -> None:
    import ray

    with suppress(ray.exceptions.RayError, ValueError):
        ray.kill(actor.handle)


def _nodes() -> list[dict[str, Any]]:
    import ray

    try:
        return list(ray.nodes())
    except ray.exceptions.RayError:  # the head is gone: nothing is known
        return []


def _dead_nodes() -> set[str]:
    return {node["NodeID"] for node in _nodes() if not node["Alive"]}


def _described() -> str:
    """What the cluster has, node by node, and what of that is free."""
    import ray

    nodes = [f"{node['NodeManagerAddress']} {_resources(node['Resources'])}" for node in _nodes() if node["Alive"]]
    return f"The cluster has {len(nodes)} nodes: {'; '.join(nodes)}. Free now: {_resources(ray.available_resources())}"


def _resources(amounts: dict[str, float]) -> str:
    named = [f"{amounts[name]:g} {name}" for name in ("CPU", "GPU") if amounts.get(name)]
    return " and ".join(named) or "no CPU and no GPU"


def _said(error: BaseException) -> str:
    """An error's message in one line; Ray's go over many, and the cause may be the last."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= LONGEST_CAUSE else f"{text[: LONGEST_CAUSE // 2]} ... {text[-LONGEST_CAUSE // 2 :]}"
