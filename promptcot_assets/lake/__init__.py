"""The lake: versioned tables, checkpoints, catalogue and lineage under one home folder."""

from promptcot_assets.lake.declared import Declared
from promptcot_assets.lake.errors import LakeError
from promptcot_assets.lake.lake import Lake
from promptcot_assets.lake.ref import Commit, Provenance, Ref
from promptcot_assets.lake.retention import Garbage
from promptcot_assets.lake.spool import Spool
from promptcot_assets.lake.stream import Row, Rows, RowStream

__all__ = [
    "Commit",
    "Declared",
    "Garbage",
    "Lake",
    "LakeError",
    "Provenance",
    "Ref",
    "Row",
    "RowStream",
    "Rows",
    "Spool",
]
