"""Asset checks: what must hold before data flows on. Blocking where wrong data would reach a model or a score.

The lake refuses wrong schemas, nulls and repeated ids before a commit (lake/rows.py); `rows_are_as_declared` reads what
models learn from back from the disk. The EM gates are checks too: they stand beside their assets (assets/em.py).
"""

from collections import Counter
from collections.abc import Iterator

import dagster as dg
import pyarrow as pa

from promptcot_assets.assets.resources import LakeResource, SettingsResource
from promptcot_assets.automation.partitions import BATCHES, PROFILE, STUDENTS, TEACHERS
from promptcot_assets.lake import Lake, LakeError, Ref
from promptcot_assets.lake.ref import UNPARTITIONED
from promptcot_assets.lake.schemas import MODEL_ROLES, SCHEMAS
from promptcot_assets.stages import Row

Partitions = dg.PartitionsDefinition | None
LEARNED_FROM: dict[str, Partitions] = {  # what flows into models and scores, and is no model itself
    "seed_problems": None, "seed_triples": None, "benchmark_items": None,
    "problems": BATCHES, "teacher_traces": BATCHES,
    "sft_examples": STUDENTS, "preference_pairs": STUDENTS, "self_play_examples": STUDENTS,
}  # fmt: skip
# Not those of EM rounds: a check is a step after the round's, and a backfill goes on to the next round when the round's
# assets are there, so that two runs would overlap. The next round verifies them as it loads them, and what is made of
# the last round's has them among its ancestors.
MODELS: dict[str, Partitions] = {
    "base_model": None, "cold_rationale_model": None, "cold_problem_generator": None,
    "student_base": STUDENTS, "sft_model": STUDENTS, "self_play_model": STUDENTS,
}  # fmt: skip
if PROFILE.teachers:
    MODELS["teacher_model"] = TEACHERS
JUDGED: dict[str, Partitions] = {
    "code_tests": BATCHES, "teacher_traces": BATCHES, "verdicts": STUDENTS, "benchmark_verdicts": STUDENTS,
}  # fmt: skip
SHOWN = 10


@dg.asset_check(asset="problems", blocking=True, partitions_def=BATCHES)
def no_benchmark_contamination(
    context: dg.AssetCheckExecutionContext, lake: LakeResource, settings: SettingsResource
) -> dg.AssetCheckResult:
    """No kept problem shares an n-gram, or all its text, with an item of a benchmark in use."""
    problems = _columns(lake, "problems", context.partition_key, "raw_problem_id", "problem")
    return _contamination(problems, lake, settings, dg.AssetCheckSeverity.ERROR)


@dg.asset_check(asset="math_answers", blocking=True, partitions_def=BATCHES)
def labels_have_the_votes(
    context: dg.AssetCheckExecutionContext, lake: LakeResource, settings: SettingsResource
) -> dg.AssetCheckResult:
    """Every label has the votes the settings ask for."""
    every = _columns(lake, "math_answers", context.partition_key, "label_id", "answer", "votes", "share")
    labels = [row for row in every if row["answer"] is not None]
    weak = [row["label_id"] for row in labels if row["votes"] < settings.values.labels.min_votes]
    share = sum(row["share"] for row in labels) / len(labels) if labels else 0.0
    return dg.AssetCheckResult(
        passed=not weak, metadata={"too few votes": weak[:10], "mean vote share": share, "labels": len(labels)}
    )


@dg.asset_check(asset="preference_pairs", blocking=True, partitions_def=STUDENTS)
def pairs_are_sound(context: dg.AssetCheckExecutionContext, lake: LakeResource) -> dg.AssetCheckResult:
    """Chosen and rejected differ, come from usable rollouts with opposite verdicts, and no rollout is used twice."""
    pairs = lake.rows("preference_pairs", context.partition_key)
    judged = _columns(lake, "verdicts", context.partition_key, "rollout_id", "usable", "passed")
    won = {row["rollout_id"]: row["passed"] for row in judged if row["usable"]}
    used = [row[side] for row in pairs for side in ("chosen_rollout_id", "rejected_rollout_id")]
    bad = [
        row["pair_id"]
        for row in pairs
        if row["chosen"] == row["rejected"]
        or won.get(row["chosen_rollout_id"]) is not True
        or won.get(row["rejected_rollout_id"]) is not False
    ]
    return dg.AssetCheckResult(
        passed=not bad and len(used) == len(set(used)),
        metadata={"unsound": bad[:10], "rollouts used twice": len(used) - len(set(used)), "pairs": len(pairs)},
    )


@dg.asset_check(asset="benchmark_items")
def no_seed_shares_words_with_a_benchmark_item(
    context: dg.AssetCheckExecutionContext, lake: LakeResource, settings: SettingsResource
) -> dg.AssetCheckResult:
    """No seed that is trained or played on shares an n-gram with a benchmark item. A warning: stock phrases do too."""
    seeds = _columns(lake, "seed_problems", UNPARTITIONED, "problem_id", "problem", "split")
    used = [
        {"raw_problem_id": row["problem_id"], "problem": row["problem"]} for row in seeds if row["split"] != "held_out"
    ]
    return _contamination(used, lake, settings, dg.AssetCheckSeverity.WARN)


@dg.asset_check(asset="benchmark_items", blocking=True)
def no_seed_is_a_benchmark_item(context: dg.AssetCheckExecutionContext, lake: LakeResource) -> dg.AssetCheckResult:
    """No benchmark item is also a seed problem, so no model is trained on one."""
    seeds = {row["problem"] for row in _columns(lake, "seed_problems", UNPARTITIONED, "problem")}
    items = _columns(lake, "benchmark_items", UNPARTITIONED, "item_id", "problem")
    shared = [row["item_id"] for row in items if row["problem"] in seeds]
    return dg.AssetCheckResult(passed=not shared, metadata={"shared": shared[:10]})


def rows_are_as_declared(asset: str, partitions: Partitions) -> dg.AssetChecksDefinition:
    """The rows on the disk are those committed: declared columns, no forbidden null, no id twice."""

    @dg.asset_check(asset=asset, name="rows_are_as_declared", blocking=True, partitions_def=partitions,
                    description=rows_are_as_declared.__doc__)  # fmt: skip
    def check(context: dg.AssetCheckExecutionContext, lake: LakeResource) -> dg.AssetCheckResult:
        ref = _newest(lake.lake, asset, context.partition_key if partitions else UNPARTITIONED)
        faults = list(_faults(lake.lake, ref, SCHEMAS[asset]))
        return dg.AssetCheckResult(passed=not faults, metadata={"faults": faults[:SHOWN], "rows": ref.rows})

    return check


def every_input_resolves(role: str, partitions: Partitions) -> dg.AssetChecksDefinition:
    """The checkpoint is there, and so is every version of every table and model that it was made from."""

    @dg.asset_check(asset=role, name="every_input_resolves", partitions_def=partitions,
                    description=every_input_resolves.__doc__)  # fmt: skip
    def check(context: dg.AssetCheckExecutionContext, lake: LakeResource) -> dg.AssetCheckResult:
        home, ref = lake.lake, _newest(lake.lake, role, context.partition_key if partitions else UNPARTITIONED)
        try:
            home.checkpoint(ref)
            behind = [commit.ref for commit in home.ancestors(ref)]
            for one in behind:
                home.table(one, [])  # its file is there
        except LakeError as error:
            return dg.AssetCheckResult(passed=False, description=str(error))
        models = {_about(home, one)["model_id"] for one in behind if one.asset in MODEL_ROLES}
        base = _about(home, ref)["base"]
        known = base is None or base in models or base.partition("/")[0] not in MODEL_ROLES  # else of the hub
        return dg.AssetCheckResult(
            passed=known,
            description=None if known else f"its base {base} is none of its ancestors",
            metadata={"ancestors": len(behind), "base": str(base)},
        )

    return check


def graders_reject_cheats(asset: str, partitions: Partitions) -> dg.AssetChecksDefinition:
    """The sandbox passed its self-test here, every planted cheat is rejected, every honest answer accepted."""

    @dg.asset_check(asset=asset, name="graders_reject_cheats", blocking=True, partitions_def=partitions,
                    description=graders_reject_cheats.__doc__)  # fmt: skip
    def check() -> dg.AssetCheckResult:
        from sandbox import SandboxUnavailable
        from sandbox.client import open_pool
        from sandbox.probes import run_probes

        try:
            with open_pool(1) as pool:  # the one that judges
                probes, tier = run_probes(pool), pool.tier
        except SandboxUnavailable as error:
            return dg.AssetCheckResult(passed=False, description=str(error))
        wrong = [f"{probe.probe}: {probe.got}" for probe in probes if not probe.holds]
        return dg.AssetCheckResult(
            passed=not wrong, metadata={"wrong": wrong[:SHOWN], "probes": len(probes), "tier": tier}
        )

    return check


def _contamination(
    problems: list[Row], lake: LakeResource, settings: SettingsResource, severity: dg.AssetCheckSeverity
) -> dg.AssetCheckResult:
    from promptcot_assets.stages.problem_set import contamination

    ngram = settings.values.deduplication.decontamination_ngram
    items = _columns(lake, "benchmark_items", UNPARTITIONED, "benchmark", "item_id", "problem")
    hits = contamination(problems, items, ngram)
    shown = [f"{hit['problem_id']}: {hit['benchmark']} {hit['item_id']}" for hit in list(hits.values())[:SHOWN]]
    return dg.AssetCheckResult(
        passed=not hits, severity=severity,
        metadata={"contaminated": len(hits), "examples": shown, "problems": len(problems), "words in a row": ngram},
    )  # fmt: skip


def _columns(lake: LakeResource, asset: str, partition: str, *names: str) -> list[Row]:
    """The newest rows of a partition, without the columns that a check does not look at."""
    return lake.lake.table(_newest(lake.lake, asset, partition), names).to_pylist()


def _newest(lake: Lake, asset: str, partition: str) -> Ref:
    ref = lake.newest(asset, partition)
    if ref is None:
        raise LakeError(f"{asset}[{partition}] has never been committed; materialize it before its checks")
    return ref


def _about(lake: Lake, model: Ref) -> dict[str, str]:
    (row,) = lake.table(model, ["model_id", "base"]).to_pylist()
    return dict(row)


def _faults(lake: Lake, ref: Ref, schema: pa.Schema) -> Iterator[str]:
    """What is wrong with the rows of a version, read from the disk in batches; of the ids all are in memory."""
    nulls, types = Counter[str](), dict[str, pa.DataType]()
    try:
        for batch in lake.batches(ref):
            types |= {field.name: field.type for field in batch.schema}
            nulls.update(
                {name: column.null_count for name, column in zip(batch.schema.names, batch.columns, strict=True)}
            )
        for field in schema:
            if ref.rows and types.get(field.name) != field.type:
                yield f"{field.name} is not the declared {field.type}"
            if not field.nullable and nulls[field.name]:
                yield f"{field.name}: {nulls[field.name]} rows without a value"
            if (field.metadata or {}).get(b"unique") == b"true":
                ids = lake.table(ref, [field.name])[field.name]
                if len(ids.unique()) != len(ids):
                    yield f"{field.name}: an id twice"
    except LakeError as error:
        yield str(error)
    if not lake.verify(ref):
        yield "the rows are not those that were committed"


CHECKS = [
    no_benchmark_contamination,
    labels_have_the_votes,
    pairs_are_sound,
    no_seed_is_a_benchmark_item,
    no_seed_shares_words_with_a_benchmark_item,
    *(rows_are_as_declared(asset, partitions) for asset, partitions in LEARNED_FROM.items()),
    *(every_input_resolves(role, partitions) for role, partitions in MODELS.items()),
    *(graders_reject_cheats(asset, partitions) for asset, partitions in JUDGED.items()),
]


def blocking_checks() -> dict[str, list[str]]:
    """The names of those above that block, by asset. The EM gates are looked at by what they guard (assets/em.py)."""
    names: dict[str, list[str]] = {}
    for spec in (spec for check in CHECKS for spec in check.check_specs if spec.blocking):
        names.setdefault(spec.asset_key.path[-1], []).append(spec.name)
    return names
