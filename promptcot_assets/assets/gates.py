"""A verdict of stages/em_gates.py as Dagster shows it: a blocking check, and a run that ends with the reason."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg

from promptcot_assets.stages.em_gates import STOPPED, Verdict


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
