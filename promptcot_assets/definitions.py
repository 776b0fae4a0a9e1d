"""The code location: every asset, check, job and resource, for one profile and one home.

Imports nothing heavy: torch, transformers, trl, sympy and their like are imported inside steps.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg

from promptcot_assets.assets.describe import KINDS_OF_A_MODEL, KINDS_OF_A_TABLE, asset_page
from promptcot_assets.assets.everything import in_use
from promptcot_assets.assets.resources import EngineResource, LakeResource, SandboxResource, SettingsResource
from promptcot_assets.assets.start_here import start_here
from promptcot_assets.assets.trainer import TrainerResource
from promptcot_assets.automation.checks import blocking, checks
from promptcot_assets.automation.console import console
from promptcot_assets.automation.executor import run_executor
from promptcot_assets.automation.jobs import WEEKLY, jobs
from promptcot_assets.automation.schedules import FRESH_FOR_A_WEEK
from promptcot_assets.automation.sensors import WHEN_ITS_DATA_IS_NEW, sensors
from promptcot_assets.settings import home, load_settings, profile_name
from promptcot_assets.tables import TABLES

OWNERS = ["team:promptcot"]


def build_definitions(profile: str | None = None, lake_home: str | None = None) -> dg.Definitions:
    """Everything, for one profile (default PROMPTCOT_PROFILE) and home (default PROMPTCOT_HOME)."""
    name = profile or profile_name()
    values = load_settings(name)
    settings, own_checks = SettingsResource(profile=name), checks(values)
    lake = LakeResource(home=lake_home or str(home()), settings=settings, blocking_checks=blocking(own_checks))
    handed, steps = resources(settings, lake), in_use(values)
    feeds: dict[str, set[str]] = {}
    for spec in (member.spec(values) for step in steps for member in step.members):
        for dep in spec.deps:
            feeds.setdefault(dep.asset_key.path[-1], set()).add(spec.key.path[-1])
    described = partial(_described, home=Path(lake.home), profile=name, feeds=feeds)
    return dg.Definitions(
        assets=[
            start_here(Path(lake.home), name).replace_attributes(owners=OWNERS),
            *(step.build(values).map_asset_specs(described) for step in steps),
        ],
        asset_checks=own_checks,
        jobs=jobs(str(lake.home), name, values),
        sensors=sensors(values),
        resources=handed,
        loggers={"console": console},
        executor=run_executor(handed),
    )


def resources(settings: SettingsResource, lake: LakeResource) -> Mapping[str, Any]:
    """What assets and checks are handed."""
    return {
        "settings": settings,
        "lake": lake,
        "engine": EngineResource(settings=settings),
        "sandbox": SandboxResource(settings=settings),
        "trainer": TrainerResource(),
    }


def _described(spec: dg.AssetSpec, home: Path, profile: str, feeds: Mapping[str, Collection[str]]) -> dg.AssetSpec:
    """Owner, kinds, when it is late, and what stands on the page of an asset before it is materialized."""
    table = TABLES[spec.key.path[-1]]
    return spec.replace_attributes(
        owners=OWNERS,
        kinds=KINDS_OF_A_MODEL if table.checkpoint else KINDS_OF_A_TABLE,
        freshness_policy=FRESH_FOR_A_WEEK if table.name in WEEKLY else None,
        automation_condition=WHEN_ITS_DATA_IS_NEW if table.report else None,
        metadata={**spec.metadata, **asset_page(table.name, table.schema, home, profile, feeds.get(table.name, ()))},
    )


defs = build_definitions()


def definitions() -> dg.Definitions:
    """Those of this process's profile and home; a function, so that another process can be handed it by name."""
    return defs
