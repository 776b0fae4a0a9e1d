"""A pool as a Ray actor: one a node, away from the GPU's process. Needs the `ray` extra."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sandbox.model import Program, ProgramResult, Test
from sandbox.pool import Pool


class SandboxActor:
    """Holds one pool; `SandboxUnavailable` at construction kills the job, never a reward."""

    def __init__(self, workers: int) -> None:
        self.pool = Pool(workers)

    async def run(self, program: Program, tests: Sequence[Test], **options: Any) -> ProgramResult:
        """As `Pool.run`. Ship a program with all its tests in one call: early stopping then stays local."""
        return await self.pool.arun(program, tests, **options)


def remote_sandbox(workers: int) -> Any:
    """The handle of a started actor that keeps `workers` CPUs; `ray.get(handle.run.remote(program, tests))`."""
    import ray

    return ray.remote(SandboxActor).options(num_cpus=workers, max_concurrency=4 * workers).remote(workers)
