"""What ends a run: a verdict of stages/em/gates.py, shown as a blocking check, and an input that failed its checks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import dagster as dg
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecord
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus as Status

from promptcot_assets.assets.inputs import named
from promptcot_assets.lake import Commit, Lake, Ref
from promptcot_assets.lake.ref import UNPARTITIONED
from promptcot_assets.stages.em.gates import STOPPED, Verdict
from promptcot_assets.tables import TABLES


def gate(asset: str, check: str, verdict: Verdict, advice: str) -> Iterator[dg.AssetCheckResult]:
    """Yield the check's result.

    Raises: dagster.Failure when it failed, with the reason and the advice; there is nothing to retry.
    """
    failures = "; ".join(verdict.failures)
    yield dg.AssetCheckResult(
        asset_key=asset,
        check_name=check,
        passed=verdict.passed,
        metadata=dict(verdict.measured),
        description=failures or None,
    )
    if not verdict.passed:
        raise dg.Failure(f"{asset} is {STOPPED}: {failures}; {advice}", allow_retries=False)


def refuse_another_model(lake: Lake, wanted_by: str, measured: Ref, model: Ref) -> None:
    """A gate lets through the model that it looked at, and no other: a run that is killed between training and
    measuring leaves a new model beside the measures of the one before.

    measured: the gate's rows. Carried over, they are made from the rows of a model with the same weights.
    Raises: dagster.Failure naming both, and what is to be made.
    """
    own = (model.asset, model.data_version)
    inputs = lake.commit_of(measured).provenance.inputs
    made_from = itertools.chain(inputs, (commit.ref for commit in lake.ancestors(measured)))  # mostly the first few
    if all((one.asset, one.data_version) != own for one in made_from):
        raise dg.Failure(
            f"{wanted_by} does not start: {measured} was measured on another model than {model}; materialize "
            f"{named(measured.asset, measured.partition)} first",
            allow_retries=False,
        )


def refuse_failed(instance: dg.DagsterInstance, wanted_by: str, given: Commit, checks: Sequence[str]) -> None:
    """Dagster's blocking checks hold within one run; what is launched by itself looks at how its inputs came out.

    Raises: dagster.Failure when one of the `checks` of the input was last executed on this version, and failed.
    """
    ref = given.ref
    partition = PartitionKeyFilter(key=None if ref.partition == UNPARTITIONED else ref.partition)
    for check in checks:
        on, _, name = check.rpartition(":")  # `asset:check` where the check is on another asset than the input
        if on and TABLES[on].leg == TABLES[wanted_by].leg:
            continue  # the leg that is made anew to mend it
        executed = instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(dg.AssetKey(on or ref.asset), name),
            limit=1, status={Status.SUCCEEDED, Status.FAILED}, partition_filter=partition,
        )  # fmt: skip
        for last in executed:
            of_this_version = last.event and last.event.timestamp >= given.timestamp.timestamp()
            if of_this_version and last.status is Status.FAILED:
                raise dg.Failure(
                    f"{wanted_by} does not start, its input {ref} failed the check {name}{_said(last)}; "
                    f"mend what the check found (Checks, on the page of {on or ref.asset}) and make "
                    f"{' or '.join(dict.fromkeys((ref.asset, on or ref.asset)))} anew, or execute the check again",
                    allow_retries=False,
                )


def _said(executed: AssetCheckExecutionRecord) -> str:
    """What the check found, in its words."""
    evaluation = executed.evaluation
    return f": {evaluation.description}" if evaluation and evaluation.description else ""
