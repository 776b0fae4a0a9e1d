"""What a table is, said once: its columns, what its rows come from, where it stands in the flow, and how it is used.

Whatever lists tables (catalogue, references, legs, jobs, checks, retention, funnel, groups) derives its list from these
declarations or from the asset graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa

from promptcot_assets.tables.columns import Column


class Unit(StrEnum):
    """What one partition of a table is."""

    HOME = "home"  # the table has no partitions
    TEACHER = "teacher"
    ANNOTATOR = "annotator"  # a teacher that annotates seeds
    ROUND = "EM round"
    BATCH = "synthesis batch"
    STUDENT = "student"


@dataclass(frozen=True)
class Shared:
    """A row comes from all rows of the table `to` whose values equal its own: {own column: column there}.

    Without columns it comes from every row of that table.
    """

    to: str
    columns: Mapping[str, str]


@dataclass(frozen=True)
class Table:
    """One table of the lake; a table of checkpoints has a row a version.

    What the names mean that are not plain:

    - group: Dagster's group; the asset is in the file of `assets/` that has this name.
    - leg: the run of the whole arc, and the job, that makes it together with the others of the leg.
    - made_of: groups of rows of other tables that a row comes from, besides those that its columns name.
    - reads_every: tables of which it reads all partitions that exist, where it reads them at all.
    - gist: the column that shows best what a row is.
    - trained_on: SQL condition on the rows that models learn from, where that is not all of them.
    - optional: its asset is in the graph only where a profile asks for it.
    - report: it needs no device and may follow its data by itself.
    - learned_from: it flows into models and scores, so its rows are read back from the disk by a blocking check.
    - judged: its rows hold verdicts of the sandbox, which is probed with known cheats by a blocking check.
    - counted: the columns that the funnel and the ledger of a batch look at.
    - ordered: who reads it depends on the order of the rows, as a trainer does, so that order is part of its version.
    - pins: its versions keep what they were made from, as those of checkpoints do.
    - together: the step that makes it in one go with other tables.
    - prompts: of a checkpoint, the prompts that the model reads (stages/prompts.py).
    """

    name: str
    comment: str
    columns: tuple[Column, ...]
    group: str
    leg: str
    gist: str
    unit: Unit = Unit.HOME
    made_of: tuple[Shared, ...] = ()
    reads_every: tuple[str, ...] = ()
    trained_on: str | None = None
    optional: bool = False
    report: bool = False
    learned_from: bool = False
    judged: bool = False
    counted: tuple[str, ...] = ()
    ordered: bool = False
    pins: bool = False
    together: str | None = None
    checkpoint: bool = False
    prompts: tuple[str, ...] = ()

    @property
    def schema(self) -> pa.Schema:
        says: dict[bytes | str, bytes | str] = {"comment": self.comment}
        if self.ordered:
            says["ordered"] = "true"
        return pa.schema([column.field for column in self.columns], says)

    @property
    def id_column(self) -> Column:
        """The column that names a row."""
        return next(column for column in self.columns if column.unique)
