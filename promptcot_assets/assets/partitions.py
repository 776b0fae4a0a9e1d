"""What is materialized piece by piece: EM rounds, synthesis batches, students, teachers. Never one partition a problem.

Which rounds, students and teachers there are follows from the settings. Dagster lets an asset depend on its own earlier
partition only when partitions are time windows. So rounds are yearly windows with the keys `round_01`, `round_02`, ...;
their dates mean nothing.
"""

from __future__ import annotations

import dagster as dg

from promptcot_assets.settings import Settings
from promptcot_assets.tables import Unit

BATCHES = dg.DynamicPartitionsDefinition(name="synthesis_batch")
FIRST_BATCH = "first"


def round_key(number: int) -> str:
    return f"round_{number:02d}"


def round_number(key: str) -> int:
    return int(key.removeprefix("round_"))


def last_round(settings: Settings) -> str:
    return round_key(settings.em.rounds)


def keys_of(unit: Unit, settings: Settings) -> list[str]:
    """The partitions that a profile names; of batches, which come and go, the first."""
    return {
        Unit.HOME: [],
        Unit.TEACHER: sorted(settings.teachers),
        Unit.ANNOTATOR: sorted(one.teacher for one in settings.annotators),
        Unit.ROUND: [round_key(number) for number in range(1, settings.em.rounds + 1)],
        Unit.BATCH: [FIRST_BATCH],
        Unit.STUDENT: sorted(settings.students),
    }[unit]


def partitions_of(unit: Unit, settings: Settings) -> dg.PartitionsDefinition | None:
    """The partitions of the tables of this unit; None for those without."""
    if unit is Unit.HOME:
        return None
    if unit is Unit.BATCH:
        return BATCHES
    if unit is Unit.ROUND:
        after_the_last = round_key(settings.em.rounds + 1)
        return dg.TimeWindowPartitionsDefinition(
            start=round_key(1), end=after_the_last, fmt="round_%y", cron_schedule="0 0 1 1 *"
        )
    return dg.StaticPartitionsDefinition(keys_of(unit, settings))
