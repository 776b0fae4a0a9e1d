"""Verdicts over a Ray cluster: one verifier with its pool of guests an actor, the rows the same as of one machine.

A whole verifier and not only a pool is in the actor, so that maths answers, whose symbolic comparison costs as much as
a program, are judged there too, and one call carries a shard of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from promptcot_assets.inference.closing import Closing
from promptcot_assets.inference.ray_actors import Needs, RayActors
from promptcot_assets.judging.verdicts import MeteredPool, cpu_figures
from promptcot_assets.judging.verifier import Checked, Judgement, Question, Verifier
from promptcot_assets.settings.engines import Sandbox
from sandbox import Pool, SandboxUnavailable
from sandbox.client import open_pool

SHARD = 64  # questions a call: what is judged again when an actor is lost


class RayVerifier(Closing, Verifier):
    """As `Verifier`, in the actors that `settings.ray` describes, each with `settings.workers` guests and CPUs.

    Raises: SandboxUnavailable, when it is opened or when it judges: no isolation on a node, no place for the actors, a
    shard whose actor was lost `attempts` times, or nodes whose guests differ. None of these is ever a verdict.
    """

    def __init__(self, settings: Sandbox) -> None:
        if settings.ray is None:
            raise ValueError("sandbox.ray is not set")
        make = partial(JudgeOnNode, settings.model_copy(update={"ray": None}))
        self._actors = RayActors(make, Needs(settings.workers), settings.ray, SandboxUnavailable, "sandbox")
        self._guests: str | None = None
        self._cpu_s: list[float] = []

    def judge(self, questions: Sequence[Question]) -> list[Judgement]:
        """One judgement a question, in order. A verdict does not depend on its neighbours: shards go to any actor."""
        shards = [list(questions[at : at + SHARD]) for at in range(0, len(questions), SHARD)]
        with ThreadPoolExecutor(self._actors.count) as threads:
            return [one for judged in threads.map(partial(self._call, "judge"), shards) for one in judged]

    def outputs(self, programs: Sequence[str], stdins: Sequence[str]) -> list[list[str | None]]:
        """As `Verifier.outputs`, by one actor."""
        outputs: list[list[str | None]] = self._call("outputs", list(programs), list(stdins))
        return outputs

    def accepted(self, checker: str, outputs: Sequence[Checked], patience: int | None = None) -> list[bool | None]:
        """As `Verifier.accepted`, by one actor."""
        accepted: list[bool | None] = self._call("accepted", checker, list(outputs), patience)
        return accepted

    def caught(
        self, programs: Sequence[str], tests: Sequence[Mapping[str, str]], checker: str | None = None
    ) -> list[bool]:
        """As `Verifier.caught`, by one actor."""
        caught: list[bool] = self._call("caught", list(programs), list(tests), checker)
        return caught

    def figures(self) -> dict[str, float]:
        """As `MeteredPool.figures`, of all actors."""
        return cpu_figures(self._cpu_s)

    @property
    def redone(self) -> int:
        """Shards judged again because their actor or node was lost."""
        return self._actors.redone

    def close(self) -> None:
        self._actors.close()

    def _call(self, method: str, *arguments: Any) -> Any:
        result, cpu_s, guests = self._actors.call("measured", method, arguments)
        self._guests = self._guests or guests
        if guests != self._guests:
            raise SandboxUnavailable(
                "the nodes' guests differ (Python, numpy, system-call filter or judging code), so a verdict would "
                "depend on where it falls: install the same image on every node"
            )
        self._cpu_s += cpu_s
        return result


class JudgeOnNode:
    """What an actor holds. Raises: SandboxUnavailable when no isolation holds on its node."""

    def __init__(self, settings: Sandbox) -> None:
        self._pool = open_pool(settings.workers)
        self._metered = MeteredPool(self._pool)
        self._verifier = Verifier(self._metered, settings)

    def measured(self, method: str, arguments: tuple[Any, ...]) -> tuple[Any, list[float], str]:
        """The result of the verifier's `method`, CPU seconds of the programs, and a hash of what judged them."""
        self._metered.cpu_s = []
        result = getattr(self._verifier, method)(*arguments)
        return result, self._metered.cpu_s, self._pool.environment if isinstance(self._pool, Pool) else ""

    def close(self) -> None:
        self._pool.close()
