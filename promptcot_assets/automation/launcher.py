"""Launching runs on this machine so that a killed one is noticed, and its retry goes on instead of beginning again.

Dagster's own launcher cannot tell a working run from one whose process is gone: after a power cut or a `kill -9` of
everything, such a run stays "started" for ever and a backfill waits for it for ever. This one can, so the daemon's run
monitoring fails the run and, as dagster.yaml asks, launches a retry.
"""

from __future__ import annotations

import dagster as dg
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, LaunchRunContext, WorkerStatus
from dagster._core.storage.tags import RESUME_RETRY_TAG
from dagster._grpc.client import DagsterGrpcClient
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import deserialize_value

from promptcot_assets.assets.step import RESUME_TAG
from promptcot_assets.automation.processes import PID_TAG, is_gone

ANSWER_S = 30


class LocalRunLauncher(DefaultRunLauncher):
    """Runs as processes of the code server, like DefaultRunLauncher's, with a health check.

    A code server that is gone counts as gone with its runs, and so does one that was started again at the same place
    (a container on a fixed port): it does not know them.
    """

    def launch_run(self, context: LaunchRunContext) -> None:
        if context.dagster_run.tags.get(RESUME_RETRY_TAG) == "true":  # "from failure": by the daemon or by a person
            self._instance.add_run_tags(context.dagster_run.run_id, {RESUME_TAG: "true"})
        super().launch_run(context)

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether the code server that started `run` lives; a living one reports the end of its runs itself.

        A run that no code server started names its process (processes.py).
        """
        server = self._get_grpc_client_for_termination(run.run_id)
        if server is None and is_gone(run.tags):
            return CheckRunHealthResult(WorkerStatus.NOT_FOUND, f"its process {run.tags[PID_TAG]} is gone")
        if server is None:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "finished, or the command line's and at work")
        try:
            known = _knows(server, run)
        except DagsterUserCodeUnreachableError as error:
            if "UNAVAILABLE" in str(error):
                return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "the code server that started it is gone")
            return CheckRunHealthResult(WorkerStatus.RUNNING, f"the code server is too busy to tell: {error}")
        if not known:
            return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "the code server was started again since")
        return CheckRunHealthResult(WorkerStatus.RUNNING)


def _knows(server: DagsterGrpcClient, run: dg.DagsterRun) -> bool:
    """Whether the run is one of the server's processes. (If it ended just now, run monitoring sees its new status.)"""
    request = CanCancelExecutionRequest(run_id=run.run_id)
    answer = server.can_cancel_execution(request, timeout=ANSWER_S)
    return deserialize_value(answer, CanCancelExecutionResult).can_cancel
