"""Jobs for each natural unit of work: what the UI's launchpad, schedules and CI name.

A run of a job carries its unit as a tag, and brings the unit up to date: what the same inputs, settings and code have
made already is left alone, as by `promptcot run`. To make one thing anew, materialize the asset. A step that failed is
tried once more after a minute (an endpoint was restarted, a device was full): nobody may be looking. The second try
takes finished outputs and shards from the first; a gate that failed is not tried again.
"""

import os
import subprocess
import sys
from collections import deque
from collections.abc import Collection, Sequence
from functools import partial

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from promptcot_assets.assets.step import RESUME_TAG
from promptcot_assets.settings import Settings
from promptcot_assets.tables import TABLES
from training.child import die_with_parent, own_mark

UNIT_TAG = "promptcot/unit"
LAST_LINES = 3  # of `promptcot run`: what failed, what is kept, where to read on
RETRY = dg.RetryPolicy(max_retries=1, delay=60)


def _job(unit: str, legs: Sequence[str], description: str, more: Collection[str] = ()) -> UnresolvedAssetJobDefinition:
    """A job over the legs of the whole arc that make its unit (tables/). more: optional tables that belong to it."""
    own = (table for table in TABLES.values() if table.leg in legs)
    assets = [table.name for table in own if not table.optional or table.name in more]
    return dg.define_asset_job(
        f"{unit}_job",
        dg.AssetSelection.assets(*assets),
        description=description,
        tags={UNIT_TAG: unit, RESUME_TAG: "true"},
        op_retry_policy=RETRY,
    )


WEEKLY = [table.name for table in TABLES.values() if table.leg == "batch"]  # what a new batch makes


def whole_arc(home: str, profile: str) -> dg.OpDefinition:
    """The op that runs the whole arc of a profile in a home."""

    @dg.op(description="`promptcot run` as a child: every leg is a run of its own, what is finished is left alone.")
    def whole_arc(context: dg.OpExecutionContext) -> None:
        """Raises: dagster.Failure with the leg that failed and how to go on."""
        _promptcot(context, home, profile, ["run"])

    return whole_arc


def _promptcot(context: dg.OpExecutionContext, home: str, profile: str, arguments: Sequence[str]) -> None:
    """A command of ours as a child; its lines are the step's. Raises: dagster.Failure with its last ones."""
    environment = os.environ | {"PROMPTCOT_HOME": home, "PROMPTCOT_PROFILE": profile}
    child = subprocess.Popen(
        [sys.executable, "-m", "promptcot_assets.cli", *arguments], env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, bufsize=1, preexec_fn=partial(die_with_parent, own_mark()),
    )  # fmt: skip
    last = deque[str](maxlen=LAST_LINES)
    try:
        assert child.stdout
        for line in child.stdout:
            if line.strip():
                last.append(line.rstrip())
                context.log.info(last[-1])
        code = child.wait()
    except BaseException:  # a cancelled run ends here: its child must not go on
        child.terminate()
        child.wait()
        raise
    if code:
        raise dg.Failure(f"promptcot {arguments[0]} ended with exit code {code}: {' '.join(last)}", allow_retries=False)


def everything_job(home: str, profile: str) -> dg.JobDefinition:
    """`promptcot run` from the UI. There is nothing to set: home and profile are those of the code location."""
    nothing = dg.ConfigMapping(config_schema={}, config_fn=lambda _: {})
    arc = whole_arc(home, profile)

    @dg.job(
        tags={UNIT_TAG: "everything"},
        config=nothing,
        description=f"The whole arc of the profile {profile}, from seeds to scores. Nothing is to be configured.",
    )
    def everything_job() -> None:
        arc()

    return everything_job


def improve_job(home: str, profile: str) -> dg.JobDefinition:
    """`promptcot improve` from the UI: whose failures, how many rounds, how many tokens."""
    asked = {
        "student": dg.Field(str, description="Whose stable failures the first round is about."),
        "rounds": dg.Field(int, default_value=1, description="At most so many."),
        "budget": dg.Field(int, is_required=False, description="Tokens of all rounds together."),
    }

    @dg.op(
        config_schema=asked,
        description="`promptcot improve` as a child: every leg of a round is a run of its own.",
    )
    def improve(context: dg.OpExecutionContext) -> None:
        """Raises: dagster.Failure with the leg that failed and how to go on."""
        given = context.op_config
        budget = ["--budget", str(given["budget"])] if "budget" in given else []
        arguments = ["improve", "--rounds", str(given["rounds"]), *budget, "--", given["student"]]
        _promptcot(context, home, profile, arguments)

    @dg.job(
        tags={UNIT_TAG: "improve"},
        description="Rounds of new problems about what a student stably fails, with a test of the gain.",
    )
    def improve_job() -> None:
        improve()

    return improve_job


def units(settings: Settings) -> list[UnresolvedAssetJobDefinition]:
    """The jobs of the units of work; which optional tables belong to them, and whether p is tuned, follows from the
    settings."""
    played, judges = settings.self_play, settings.labels.judges
    more = {"rollouts_online": played.learning.online, "relabelled": played.relabel}
    tables = [table.name for table in TABLES.values() if table.leg == "tuning"]
    tuning = _job("tuning", ["tuning"], "EM's last p, tuned on what one student solves.", tables)
    return [
        _job("corpus", ["corpus"], "Seeds, concepts, triples, benchmark items and standings."),
        _job(
            "cold_start",
            ["base model", "cold start q", "cold start p", "cold start bounds"],
            "The base model, both models trained on the triples, their held-out bounds.",
        ),
        _job("em_round", ["EM"], "One EM round."),
        _job(
            "synthesis_batch",
            ["batch"],
            "One batch, from concept sets to verified traces.",
            ["written_judges", "tested_judges"] if judges else [],
        ),
        _job(
            "post_training",
            ["base", "SFT", "self-play"],
            "One student: its base, SFT, self-play.",
            [name for name, is_there in more.items() if is_there],
        ),
        _job("evaluation", ["evaluation"], "Benchmarks of one student."),
        *([tuning] if settings.tuning else []),
    ]


def jobs(home: str, profile: str, settings: Settings) -> list[dg.JobDefinition | UnresolvedAssetJobDefinition]:
    """Every job of a code location."""
    return [*units(settings), everything_job(home, profile), improve_job(home, profile)]
