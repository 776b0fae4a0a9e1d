"""Jobs for each natural unit of work: what the UI's launchpad, schedules and CI name.

A run of a job carries its unit as a tag, and brings the unit up to date: what the same inputs, settings and code have
made already is left alone, as by `promptcot run`. To make one thing anew, materialize the asset. A step that failed is
tried once more after a minute (an endpoint was restarted, a device was full): nobody may be looking. The second try
takes finished outputs and shards from the first; a gate that failed is not tried again.
"""

import os
import subprocess
import sys

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from promptcot_assets.assets.resources import RESUME_TAG, LakeResource, SettingsResource
from training.child import die_with_parent

ROUND = ("em_rationales", "rationale_model", "em_m_step", "problem_generator", "em_bounds")
EVALUATION = ("benchmark_generations", "benchmark_verdicts", "benchmark_scores", "codeforces_ratings", "scaling")
GROUPS, ASSETS = dg.AssetSelection.groups, dg.AssetSelection.assets
UNIT_TAG = "promptcot/unit"
RETRY = dg.RetryPolicy(max_retries=1, delay=60)


def _job(unit: str, selection: dg.AssetSelection, description: str) -> UnresolvedAssetJobDefinition:
    return dg.define_asset_job(
        f"{unit}_job",
        selection,
        description=description,
        tags={UNIT_TAG: unit, RESUME_TAG: "true"},
        op_retry_policy=RETRY,
    )


@dg.op(description="`promptcot run` as a child: every leg is a run of its own, what is finished is left alone.")
def whole_arc(context: dg.OpExecutionContext, lake: LakeResource, settings: SettingsResource) -> None:
    """Raises: dagster.Failure with the leg that failed and how to go on."""
    environment = os.environ | {"PROMPTCOT_HOME": lake.home, "PROMPTCOT_PROFILE": settings.profile}
    command = [sys.executable, "-m", "promptcot_assets.cli", "run"]
    child = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1,
        preexec_fn=die_with_parent,
    )  # fmt: skip
    last = ""
    try:
        assert child.stdout
        for line in child.stdout:
            if line.strip():
                last = line.rstrip()
                context.log.info(last)
        code = child.wait()
    except BaseException:  # a cancelled run ends here: its child must not go on
        child.terminate()
        child.wait()
        raise
    if code:
        raise dg.Failure(f"promptcot run ended with exit code {code}: {last}", allow_retries=False)


@dg.job(tags={UNIT_TAG: "everything"}, description="The whole arc of the profile, from seeds to scores.")
def everything_job() -> None:
    whole_arc()


JOBS: list[dg.JobDefinition | UnresolvedAssetJobDefinition] = [
    _job(
        "corpus",
        GROUPS("corpus") | ASSETS("contest_standings"),
        "Seeds, concepts, triples, benchmark items and standings.",
    ),
    _job(
        "cold_start",
        GROUPS("cold_start") - ASSETS("student_base"),
        "The base model, both models trained on the triples, their held-out bounds.",
    ),
    _job("em_round", ASSETS(*ROUND), "One EM round."),
    _job(
        "synthesis_batch",
        GROUPS("synthesis", "labels") | ASSETS("teacher_traces", "yield_report"),
        "One batch, from concept sets to verified traces.",
    ),
    _job(
        "post_training",
        ASSETS("student_base", "sft_examples", "sft_model", "difficulty") | GROUPS("self_play"),
        "One student: its base, SFT, self-play.",
    ),
    _job("evaluation", ASSETS(*EVALUATION), "Benchmarks of one student."),
    everything_job,
]
