"""Every asset, in the order the data flows. A group of Dagster's graph is a file of this folder."""

from __future__ import annotations

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
    tuning,
    zero_shot,
)
from promptcot_assets.assets.table_asset import JointAssets, TableAsset
from promptcot_assets.settings import Settings

_FILES = (
    teaching, annotation, corpus, cold_start, em, em_curves, synthesis, labels, distillation, self_play, tuning,
    evaluation, analysis, zero_shot,
)  # fmt: skip


def _steps() -> list[TableAsset | JointAssets]:
    """What Dagster makes in one go: joint assets, and every other asset by itself."""
    declared = dict.fromkeys(
        one for file in _FILES for one in vars(file).values() if isinstance(one, TableAsset | JointAssets)
    )
    members = {member for one in declared if isinstance(one, JointAssets) for member in one.members}
    return [one for one in declared if one not in members]


STEPS = _steps()
ASSETS: dict[str, TableAsset] = {member.name: member for step in STEPS for member in step.members}


def in_use(settings: Settings) -> list[TableAsset | JointAssets]:
    """The steps of a profile's graph."""
    return [step for step in STEPS if all(member.when(settings) for member in step.members)]
