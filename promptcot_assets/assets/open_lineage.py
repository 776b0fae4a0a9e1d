"""OpenLineage events from runs, for who keeps the lineage of a whole house in one catalogue. Off without an endpoint.

Where `OPENLINEAGE_URL` (or another transport of the OpenLineage client) is set and the client is installed, every
materialization says START, then COMPLETE or FAIL: its job is the asset, its run belongs to Dagster's, its inputs and
output are the exact versions that the lake recorded, with columns, rows and data version. The endpoint is told, never
asked: one that cannot be reached costs a warning and no step.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from promptcot_assets.lake import Commit, Lake, Ref
from promptcot_assets.lake.ref import UNPARTITIONED
from promptcot_assets.tables import SCHEMAS, TABLES

NAMESPACE_VARIABLE, NAMESPACE = "OPENLINEAGE_NAMESPACE", "promptcot"
PRODUCER = "promptcot-assets"
TRANSPORTS = ("OPENLINEAGE_URL", "OPENLINEAGE_CONFIG", "OPENLINEAGE__TRANSPORT__TYPE")


def watched(
    context: dg.AssetExecutionContext, assets: Sequence[str], results: Iterator[Any]
) -> Generator[Any, None, None]:
    """The results of a step as they are; what happens to its assets is told to the endpoint, if there is one."""
    if not any(os.environ.get(name) for name in TRANSPORTS):
        yield from results
        return
    told = _Told(context, context.resources.lake.lake)
    for asset in assets:
        told.start(asset)
    waiting = set(assets)
    try:
        for result in results:
            if isinstance(result, dg.MaterializeResult) and result.asset_key and result.metadata:
                asset = dg.AssetKey.from_coercible(result.asset_key).path[-1]
                ref = Ref.from_json(result.metadata["ref"].value)  # type: ignore[union-attr, arg-type]
                told.complete(asset, ref)
                waiting.discard(asset)
            yield result
    except Exception as error:
        for asset in sorted(waiting):
            told.fail(asset, error)
        raise


class _Told:
    """Events of one step. The first that cannot be sent ends the telling, with a warning."""

    def __init__(self, context: dg.AssetExecutionContext, lake: Lake) -> None:
        self._lake, self._warn = lake, context.log.warning
        self._run, self._job = context.run_id, context.job_name
        self._retry = context.retry_number
        self._partition = context.partition_key if context.has_partition_key else UNPARTITIONED
        self._namespace = os.environ.get(NAMESPACE_VARIABLE) or NAMESPACE
        self._client: Any = None
        self._say(self._connect)

    def _connect(self) -> None:
        from openlineage.client import OpenLineageClient

        self._client = OpenLineageClient()

    def _say(self, what: Callable[[], None]) -> None:
        try:
            what()
        except ImportError as error:
            self._warn(f"no OpenLineage events: {error}; pip install 'promptcot-assets[openlineage]'")
            self._client = None
        except Exception as error:  # noqa: BLE001  whatever a transport raises: it is not the step's fault
            self._warn(f"no OpenLineage events any more of this step: {type(error).__name__}: {error}")
            self._client = None

    def start(self, asset: str) -> None:
        self._emit("START", asset, [], [])

    def complete(self, asset: str, ref: Ref) -> None:
        if self._client is not None:
            self._say(lambda: self._completed(asset, self._lake.commit_of(ref)))

    def _completed(self, asset: str, commit: Commit) -> None:
        from openlineage.client.event_v2 import InputDataset, OutputDataset
        from openlineage.client.facet_v2 import output_statistics_output_dataset as statistics

        inputs = [
            InputDataset(self._namespace, dataset(ref), facets=self._facets(ref)) for ref in commit.provenance.inputs
        ]
        rows = {"outputStatistics": statistics.OutputStatisticsOutputDatasetFacet(rowCount=commit.ref.rows)}
        output = OutputDataset(self._namespace, dataset(commit.ref), facets=self._facets(commit.ref), outputFacets=rows)
        self._emit("COMPLETE", asset, inputs, [output], _how(commit))

    def fail(self, asset: str, error: Exception) -> None:
        if self._client is not None:
            self._say(lambda: self._emit("FAIL", asset, [], [], _why(error)))

    def _facets(self, ref: Ref) -> dict[str, Any]:
        from openlineage.client.facet_v2 import dataset_version_dataset, schema_dataset

        columns = [
            schema_dataset.SchemaDatasetFacetFields(
                name=field.name, type=str(field.type), description=(field.metadata or {}).get(b"comment", b"").decode()
            )
            for field in SCHEMAS.get(ref.asset, ())
        ]
        version = dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=f"{ref} {ref.data_version}")
        return {"schema": schema_dataset.SchemaDatasetFacet(fields=columns), "version": version}

    def _emit(
        self, state: str, asset: str, inputs: list[Any], outputs: list[Any], more: dict[str, Any] | None = None
    ) -> None:
        if self._client is not None:
            self._say(lambda: self._client.emit(self._event(state, asset, inputs, outputs, more or {})))

    def _event(self, state: str, asset: str, inputs: list[Any], outputs: list[Any], more: dict[str, Any]) -> Any:
        from openlineage.client.event_v2 import Job, Run, RunEvent, RunState
        from openlineage.client.facet_v2 import documentation_job, job_type_job, parent_run

        parent = parent_run.ParentRunFacet(
            run=parent_run.Run(runId=self._run), job=parent_run.Job(namespace=self._namespace, name=self._job)
        )
        about = {
            "jobType": job_type_job.JobTypeJobFacet(processingType="BATCH", integration="DAGSTER", jobType="ASSET"),
            "documentation": documentation_job.DocumentationJobFacet(description=TABLES[asset].comment),
        }
        one = uuid.uuid5(uuid.UUID(self._run), f"{asset}[{self._partition}] {self._retry}")
        return RunEvent(
            eventType=RunState[state], eventTime=datetime.now(UTC).isoformat(), producer=PRODUCER,
            run=Run(str(one), {"parent": parent, **more}), job=Job(self._namespace, asset, about),
            inputs=inputs, outputs=outputs,
        )  # fmt: skip


def dataset(ref: Ref) -> str:
    """What a catalogue calls one partition of a table."""
    return ref.asset if ref.partition == UNPARTITIONED else f"{ref.asset}[{ref.partition}]"


def _why(error: Exception) -> dict[str, Any]:
    from openlineage.client.facet_v2 import error_message_run

    cause = error.__cause__ or error
    return {"errorMessage": error_message_run.ErrorMessageRunFacet(message=str(cause), programmingLanguage="PYTHON")}


def _how(commit: Commit) -> dict[str, Any]:
    """Facet `promptcot`: what the commit records beside its rows."""
    import attr
    from openlineage.client.generated.base import RunFacet

    @attr.define
    class ProvenanceRunFacet(RunFacet):
        codeVersion: str
        settingsHash: str
        seed: int
        tokens: int
        seconds: float

        @staticmethod
        def _get_schema() -> str:
            return "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunFacet"

    made = commit.provenance
    return {
        "promptcot": ProvenanceRunFacet(made.code_version, made.settings_hash, made.seed, made.tokens, made.seconds)
    }
