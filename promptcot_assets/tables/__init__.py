"""Every table of the lake, in the order the data flows. Each is declared once, in the file of its stage."""

from __future__ import annotations

from pathlib import Path

from promptcot_assets.lake import Declared, Lake
from promptcot_assets.tables import analysis, corpus, em, evaluation, labels, models, students, synthesis, tuning
from promptcot_assets.tables.table import Shared, Table, Unit

_STAGES = (models, corpus, em, synthesis, labels, students, tuning, evaluation, analysis)
TABLES: dict[str, Table] = {table.name: table for stage in _STAGES for table in stage.TABLES}
SCHEMAS = {name: table.schema for name, table in TABLES.items()}
PINNING = tuple(name for name, table in TABLES.items() if table.pins)  # besides every table of checkpoints
MODEL_ROLES = tuple(name for name, table in TABLES.items() if table.checkpoint)


def open_lake(home: Path) -> Lake:
    """The lake of a home, with these tables declared. Raises: LakeError when the home cannot be written."""
    return Lake(home, Declared(SCHEMAS, PINNING))


def made_with(name: str) -> tuple[str, ...]:
    """The tables that one step makes together with this one, itself included, in their order."""
    step = TABLES[name].together
    return (name,) if step is None else tuple(one.name for one in TABLES.values() if one.together == step)


__all__ = ["MODEL_ROLES", "PINNING", "SCHEMAS", "TABLES", "Shared", "Table", "Unit", "made_with", "open_lake"]
