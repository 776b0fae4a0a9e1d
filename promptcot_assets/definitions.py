"""The code location: every asset, check, job and resource, for the profile and home of the environment.

Imports nothing heavy: torch, transformers, trl, sympy and their like are imported inside steps.
"""

from __future__ import annotations

import dagster as dg

from promptcot_assets.assets import (
    analysis,
    annotation,
    cold_start,
    corpus,
    distillation,
    em,
    em_curves,
    evaluation,
    labels,
    self_play,
    synthesis,
    teaching,
    zero_shot,
)
from promptcot_assets.assets.describe import KINDS_OF_A_MODEL, KINDS_OF_A_TABLE, asset_page
from promptcot_assets.assets.resources import EngineResource, LakeResource, SettingsResource, TrainerResource
from promptcot_assets.automation.checks import CHECKS, blocking_checks
from promptcot_assets.automation.console import console
from promptcot_assets.automation.jobs import JOBS
from promptcot_assets.automation.partitions import PROFILE
from promptcot_assets.automation.schedules import FRESH_FOR_A_WEEK, SCHEDULES, WEEKLY
from promptcot_assets.automation.sensors import REPORTS, SENSORS, WHEN_ITS_DATA_IS_NEW
from promptcot_assets.lake.schemas import MODEL_ROLES, SCHEMAS
from promptcot_assets.settings import home, profile_name

GROUPS = {  # in the order the data flows; a group is a file of assets/
    "teachers": teaching,
    "annotation": annotation,
    "corpus": corpus,
    "cold_start": cold_start,
    "em": em,
    "em_curves": em_curves,
    "synthesis": synthesis,
    "labels": labels,
    "distillation": distillation,
    "self_play": self_play,
    "evaluation": evaluation,
    "analysis": analysis,
    "zero_shot": zero_shot,
}
IN_USE = {  # of the tables that a profile may do without
    "teacher_model": bool(PROFILE.teachers),
    "seed_annotations": PROFILE.annotation is not None,
    "zero_shot_difficulty": PROFILE.zero_shot is not None,
}
MOVED = {"benchmark_items": "corpus"}  # synthesis reads it: among the scores it would make the flow a circle
OWNERS = ["team:promptcot"]


def build_definitions(profile: str | None = None, lake_home: str | None = None) -> dg.Definitions:
    """Everything, for one profile (default PROMPTCOT_PROFILE) and home (default PROMPTCOT_HOME)."""
    settings = SettingsResource(profile=profile or profile_name())
    assets = [
        asset.map_asset_specs(_described)
        for group, module in GROUPS.items()
        for asset in dg.load_assets_from_modules([module], group_name=group)
        if isinstance(asset, dg.AssetsDefinition) and all(IN_USE.get(key.path[-1], True) for key in asset.keys)
    ]
    return dg.Definitions(
        assets=assets,
        asset_checks=CHECKS,
        jobs=JOBS,
        schedules=SCHEDULES,
        sensors=SENSORS,
        resources={
            "settings": settings,
            "lake": LakeResource(home=lake_home or str(home()), settings=settings, blocking_checks=blocking_checks()),
            "engine": EngineResource(settings=settings),
            "trainer": TrainerResource(pipes=dg.PipesSubprocessClient()),
        },
        loggers={"console": console},
        executor=dg.multiprocess_executor.configured({"max_concurrent": 2}),
    )


def _described(spec: dg.AssetSpec) -> dg.AssetSpec:
    """Group, owner, kinds, when it is late, and what stands on the page of an asset before it is materialized."""
    name = spec.key.path[-1]
    return spec.replace_attributes(
        group_name=MOVED.get(name, spec.group_name),
        owners=OWNERS,
        kinds=KINDS_OF_A_MODEL if name in MODEL_ROLES else KINDS_OF_A_TABLE,
        freshness_policy=FRESH_FOR_A_WEEK if name in WEEKLY else None,
        automation_condition=WHEN_ITS_DATA_IS_NEW if name in REPORTS else None,
        metadata={**spec.metadata, **asset_page(name, SCHEMAS[name])},
    )


defs = build_definitions()
