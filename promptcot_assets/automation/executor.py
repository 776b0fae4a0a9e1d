"""How a run's steps are executed: as Dagster's multiprocess executor does, by a process that ends with its launcher,
says on the run who it is, and does not let the run choose another home, profile or gate than the code location's. After
the steps it writes the home's front page; a failure is the last thing that `dagster asset materialize` prints.

Whoever reaches the webserver can write a run's configuration in its launchpad. Resources are part of that, and with
another `settings.profile` a run would execute a launcher command of somebody's own file.
"""

from __future__ import annotations

import atexit
import multiprocessing
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.definitions.executor_definition import MULTI_PROC_CONFIG, multiple_process_executor_requirements
from dagster._core.execution.context.system import PlanOrchestrationContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode
from dagster._core.execution.step_dependency_config import StepDependencyConfig
from dagster._core.executor.base import Executor

from promptcot_assets.automation.failures import error_of
from promptcot_assets.automation.front_page import followed_by_page
from promptcot_assets.automation.processes import own_tags
from training.child import die_with_starter

DAGSTER = "dagster"  # the program, or the module that is run as one
STEPS_AT_ONCE = 2  # of a run; those that need a device wait for its pool


class OverrideRefused(RuntimeError):
    """The run's configuration sets a resource; the message names the setting and what sets it instead."""


class RunExecutor(Executor):
    """`steps` executes; this is what happens in the run's process before."""

    def __init__(self, steps: Executor, resources: Mapping[str, Any]) -> None:
        self._steps, self._resources = steps, resources

    @property
    def retries(self) -> RetryMode:
        return self._steps.retries

    @property
    def step_dependency_config(self) -> StepDependencyConfig:
        return self._steps.step_dependency_config

    def execute(
        self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan
    ) -> Iterator[dg.DagsterEvent]:
        """Raises: OverrideRefused."""
        die_with_starter()  # the code server: it is what knows the run to be alive
        plan_context.instance.add_run_tags(plan_context.run_id, own_tags())
        refuse_overrides(plan_context.run_config, self._resources)
        steps = self._steps.execute(plan_context, execution_plan)
        if lake := self._resources.get("lake"):
            steps = followed_by_page(steps, Path(lake.home), plan_context.run_id, plan_context.log.warning)
        for event in steps:
            if event.is_step_failure and (said := error_of(event)):
                last_words(f"{event.step_key} failed: {said}")
            yield event


def last_words(sentence: str) -> None:
    """Say it when this process ends, where that is Dagster's command line, whose traceback is long."""
    program = Path(sys.argv[0])
    if multiprocessing.parent_process() is None and DAGSTER in (program.stem, program.parent.name):
        atexit.register(print, f"\n{sentence}", file=sys.stderr)


def run_executor(resources: Mapping[str, Any]) -> dg.ExecutorDefinition:
    """resources: those of the definitions, as they are bound there."""

    @dg.executor(
        name="multiprocess", config_schema=MULTI_PROC_CONFIG, requirements=multiple_process_executor_requirements()
    )
    def multiprocess(context: dg.InitExecutorContext) -> Executor:
        create = dg.multiprocess_executor.executor_creation_fn
        assert create is not None
        return RunExecutor(create(context), resources)

    return multiprocess.configured({"max_concurrent": STEPS_AT_ONCE})


def refuse_overrides(run_config: Mapping[str, Any], resources: Mapping[str, Any]) -> None:
    """Raises: OverrideRefused naming the first setting of a resource that a run gives another value."""
    for name, given in (run_config.get("resources") or {}).items():
        for setting, value in ((given or {}).get("config") or {}).items():
            if value != getattr(resources.get(name), setting, None):
                raise OverrideRefused(
                    f"a run cannot set resources.{name}.config.{setting}: home and profile are those of the process "
                    "that serves this code location (PROMPTCOT_HOME, PROMPTCOT_PROFILE), and gates are the code's. "
                    "Delete `resources` from the run's configuration; for another profile start another code location"
                )
