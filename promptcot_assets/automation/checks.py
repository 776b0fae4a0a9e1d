"""Asset checks: what must hold before data flows on. Blocking where wrong data would reach a model.

The lake validates schema, nulls and unique ids before a commit (lake/rows.py); here stands what a schema cannot say.
"""

import dagster as dg

from promptcot_assets.assets.resources import LakeResource, SettingsResource
from promptcot_assets.automation.partitions import BATCHES, STUDENTS


@dg.asset_check(asset="problems", blocking=True, partitions_def=BATCHES)
def no_benchmark_contamination(
    context: dg.AssetCheckExecutionContext, lake: LakeResource, settings: SettingsResource
) -> dg.AssetCheckResult:
    """No kept problem shares an n-gram, or all its text, with an item of a benchmark in use."""
    from promptcot_assets.stages.problem_set import contamination

    problems = lake.rows("problems", context.partition_key)
    hits = contamination(problems, lake.rows("benchmark_items"), settings.values.deduplication.decontamination_ngram)
    shown = [f"{hit['problem_id']}: {hit['benchmark']} {hit['item_id']}" for hit in list(hits.values())[:10]]
    return dg.AssetCheckResult(
        passed=not hits, metadata={"contaminated": len(hits), "first": shown, "problems": len(problems)}
    )


@dg.asset_check(asset="math_answers", partitions_def=BATCHES)
def labels_have_the_votes(
    context: dg.AssetCheckExecutionContext, lake: LakeResource, settings: SettingsResource
) -> dg.AssetCheckResult:
    """Every label has the votes the settings ask for."""
    labels = [row for row in lake.rows("math_answers", context.partition_key) if row["answer"] is not None]
    weak = [row["label_id"] for row in labels if row["votes"] < settings.values.labels.min_votes]
    share = sum(row["share"] for row in labels) / len(labels) if labels else 0.0
    return dg.AssetCheckResult(
        passed=not weak, metadata={"too few votes": weak[:10], "mean vote share": share, "labels": len(labels)}
    )


@dg.asset_check(asset="preference_pairs", blocking=True, partitions_def=STUDENTS)
def pairs_are_sound(context: dg.AssetCheckExecutionContext, lake: LakeResource) -> dg.AssetCheckResult:
    """Chosen and rejected differ, come from usable rollouts with opposite verdicts, and no rollout is used twice."""
    pairs = lake.rows("preference_pairs", context.partition_key)
    verdicts = {row["rollout_id"]: row for row in lake.rows("verdicts", context.partition_key)}
    used = [row[side] for row in pairs for side in ("chosen_rollout_id", "rejected_rollout_id")]
    bad = [
        row["pair_id"]
        for row in pairs
        if row["chosen"] == row["rejected"]
        or not (verdicts[row["chosen_rollout_id"]]["usable"] and verdicts[row["rejected_rollout_id"]]["usable"])
        or verdicts[row["chosen_rollout_id"]]["passed"] is not True
        or verdicts[row["rejected_rollout_id"]]["passed"] is not False
    ]
    return dg.AssetCheckResult(
        passed=not bad and len(used) == len(set(used)),
        metadata={"unsound": bad[:10], "rollouts used twice": len(used) - len(set(used)), "pairs": len(pairs)},
    )


@dg.asset_check(asset="benchmark_items", blocking=True)
def no_seed_is_a_benchmark_item(context: dg.AssetCheckExecutionContext, lake: LakeResource) -> dg.AssetCheckResult:
    """No benchmark item is also a seed problem, so no model is trained on one."""
    seeds = {row["problem"] for row in lake.rows("seed_problems")}
    shared = [row["item_id"] for row in lake.rows("benchmark_items") if row["problem"] in seeds]
    return dg.AssetCheckResult(passed=not shared, metadata={"shared": shared[:10]})


CHECKS = [no_benchmark_contamination, labels_have_the_votes, pairs_are_sound, no_seed_is_a_benchmark_item]
