"""Inputs of an asset, named once: Dagster's dependencies and the exact versions that are read both follow.

seed_problems               a table without partitions; of a table of the same unit, the partition that is made; of
                            another unit all partitions that exist, where the table declares it (`reads_every`)
problem_generator[round_02] this partition
em_bounds[-1]               the partition before the one that is made, of an EM round
teacher_model[=]            the partition of the same name, of another unit
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import dagster as dg

from promptcot_assets.assets.partitions import keys_of
from promptcot_assets.lake import Lake, LakeError, Ref, Row
from promptcot_assets.lake.ref import UNPARTITIONED
from promptcot_assets.lineage.backfill import TOGETHER, Run
from promptcot_assets.settings import Settings
from promptcot_assets.tables import TABLES, Table, Unit

INPUT = re.compile(r"(?P<asset>\w+)(?:\[(?P<partition>[^\]]+)\])?")
EVERY, SAME, BEFORE = "*", "=", "-1"


def split(name: str) -> tuple[str, str | None]:
    """Asset and partition of an input's name. Raises: ValueError when it is no name of an input."""
    match = INPUT.fullmatch(name)
    if match is None:
        raise ValueError(f"input {name!r} is not `asset` or `asset[partition]`")
    return match["asset"], match["partition"]


def named(asset: str, partition: str) -> str:
    return asset if partition == UNPARTITIONED else f"{asset}[{partition}]"


def resolved(own: Table, name: str, partition: str) -> str:
    """`asset`, `asset[partition]`, or `asset[*]` for all that exist: what `name` means where `partition` is made."""
    asset, of = split(name)
    if of == SAME:
        return named(asset, partition)
    if of is not None or asset not in TABLES or TABLES[asset].unit is Unit.HOME:
        return name
    if asset in own.reads_every:
        return named(asset, EVERY)
    if TABLES[asset].unit is own.unit:
        return named(asset, partition)
    raise ValueError(f"{own.name} reads {asset} of another unit: name a partition, or declare it in reads_every")


def dependencies(own: Table, names: Iterable[str]) -> list[dg.AssetDep]:
    """Dagster's edges for these inputs."""
    single: dict[str, list[str]] = {}
    found: list[dg.AssetDep] = []
    for name in dict.fromkeys(names):
        asset, of = split(name)
        every = of == EVERY or (of is None and asset in own.reads_every)
        if every:
            found.append(dg.AssetDep(asset, partition_mapping=dg.AllPartitionMapping()))
        elif of == BEFORE:
            before = dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1)
            found.append(dg.AssetDep(asset, partition_mapping=before))
        elif of == SAME:
            found.append(dg.AssetDep(asset, partition_mapping=dg.IdentityPartitionMapping()))
        elif of is None:
            found.append(dg.AssetDep(asset))
        else:
            single.setdefault(asset, []).append(of)
    return found + [
        dg.AssetDep(asset, partition_mapping=dg.SpecificPartitionsPartitionMapping(sorted(keys)))
        for asset, keys in single.items()
    ]


def refs_of(lake: Lake, name: str, wanted_by: str, settings: Settings | None = None) -> list[Ref]:
    """The newest versions that a resolved input names.

    Raises: LakeError when there is none, with the command that makes it.
    """
    asset, of = split(name)
    every = sorted({commit.ref.partition for commit in lake.history(asset)})  # those with no row too
    partitions: Sequence[str] = every if of == EVERY else [of or UNPARTITIONED]
    refs = [ref for ref in (lake.newest(asset, one) for one in partitions) if ref is not None]
    if not refs:
        raise LakeError(
            f"{wanted_by} needs {name}, which is not in the lake yet; materialize it first: "
            f"{_command(asset, of, settings)}"
        )
    return refs


def newest_rows(lake: Lake, name: str, settings: Settings | None = None) -> list[Row]:
    """The newest rows of one partition, for checks and gates. Raises: LakeError when there are none."""
    (ref,) = refs_of(lake, name, "a check", settings)
    return lake.table(ref).to_pylist()


def _command(asset: str, partition: str | None, settings: Settings | None) -> str:
    """What makes an input: the whole step where several assets are made in one, and a partition that there is."""
    selection = next((one for one, assets in TOGETHER.items() if asset in assets), asset)
    if partition == EVERY:
        keys = keys_of(TABLES[asset].unit, settings) if settings and asset in TABLES else []
        partition = keys[0] if keys else None
    return Run((selection,), partition or UNPARTITIONED).command
