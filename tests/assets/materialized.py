"""Materializing declared assets by themselves, with the resources of the code location."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from promptcot_assets.assets.em import em_round, extra_training
from promptcot_assets.assets.resources import LakeResource, SettingsResource
from promptcot_assets.assets.table_asset import JointAssets, TableAsset
from promptcot_assets.automation.failures import error_of
from promptcot_assets.definitions import build_definitions, resources
from promptcot_assets.settings import load_settings

ROUND_OUTPUTS = tuple(one.name for one in em_round.members)
CONTROL_OUTPUTS = tuple(one.name for one in extra_training.members)


def resources_of(profile: str | Path, home: Path, checks: Mapping[str, list[str]] | None = None) -> dict[str, Any]:
    settings = SettingsResource(profile=str(profile))
    lake = LakeResource(home=str(home), settings=settings, blocking_checks=dict(checks or {}))
    return dict(resources(settings, lake))


def built(profile: str | Path, *assets: TableAsset | JointAssets | dg.AssetsDefinition) -> list[dg.AssetsDefinition]:
    """The assets as they are in the graph of a profile."""
    values = load_settings(str(profile))
    return [one if isinstance(one, dg.AssetsDefinition) else one.build(values) for one in assets]


def materialize(home: Path, profile: str | Path, assets: Sequence[str], partition: str | None = None) -> str:
    """Assets with their checks as the profile's code location has them, in this process; why a step failed, or nothing.

    The command line of Dagster does it in processes of its own, and takes three times as long.
    """
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        result = (
            build_definitions(str(profile), str(home))
            .resolve_implicit_global_asset_job_def()
            .execute_in_process(
                instance=instance,
                asset_selection=[dg.AssetKey(name) for name in assets],
                partition_key=partition,
                run_config={"loggers": {"console": {}}},
                raise_on_error=False,
            )
        )
    failed = [error_of(event) or str(event.message) for event in result.all_events if event.is_failure]
    assert result.success == (not failed)
    return "; ".join(failed)
