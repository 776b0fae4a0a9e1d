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

from promptcot_assets.assets.resources import RESUME_TAG


class LocalRunLauncher(DefaultRunLauncher):
    """Runs as processes of the code server, like DefaultRunLauncher's, with a health check.

    A code server that is gone counts as gone with its runs. It is found by its socket, as `dagster dev` has it; one on
    a fixed port that was started again is taken for the one that started the run.
    """

    def launch_run(self, context: LaunchRunContext) -> None:
        if context.dagster_run.tags.get(RESUME_RETRY_TAG) == "true":  # "from failure": by the daemon or by a person
            self._instance.add_run_tags(context.dagster_run.run_id, {RESUME_TAG: "true"})
        super().launch_run(context)

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether the code server that started `run` lives; a living one reports the end of its runs itself."""
        server = self._get_grpc_client_for_termination(run.run_id)
        if server is None:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "finished, or not started by a code server")
        try:
            server.ping("")
        except DagsterUserCodeUnreachableError as error:
            if "UNAVAILABLE" in str(error):
                return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "the code server that started it is gone")
            return CheckRunHealthResult(WorkerStatus.RUNNING, f"the code server is too busy to tell: {error}")
        return CheckRunHealthResult(WorkerStatus.RUNNING)
