"""What is materialized piece by piece: EM rounds, synthesis batches, students. Never one partition a problem.

Dagster lets an asset depend on its own earlier partition only when partitions are time windows. So rounds are yearly
windows with keys `round_01`, `round_02`, ...; their dates mean nothing.
"""

from __future__ import annotations

import dagster as dg

from promptcot_assets.settings import load_settings

PROFILE = load_settings()


def round_key(number: int) -> str:
    return f"round_{number:02d}"


ROUNDS = dg.TimeWindowPartitionsDefinition(
    start=round_key(1), end=round_key(PROFILE.em.rounds + 1), fmt="round_%y", cron_schedule="0 0 1 1 *"
)
PREVIOUS_ROUND = dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1)
LAST_ROUND = round_key(PROFILE.em.rounds)
ONLY_LAST_ROUND = dg.SpecificPartitionsPartitionMapping([LAST_ROUND])

BATCHES = dg.DynamicPartitionsDefinition(name="synthesis_batch")
FIRST_BATCH = "first"
ALL_BATCHES = dg.AllPartitionMapping()

STUDENTS = dg.StaticPartitionsDefinition(sorted(PROFILE.students))
TEACHERS = dg.StaticPartitionsDefinition(sorted(PROFILE.teachers))
ANNOTATORS = dg.StaticPartitionsDefinition(sorted(one.teacher for one in PROFILE.annotators))


def round_number(key: str) -> int:
    return int(key.removeprefix("round_"))
