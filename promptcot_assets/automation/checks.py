"""Asset checks: what must hold before data flows on. Blocking where wrong data would reach a model or a score.

The lake refuses wrong schemas, nulls and repeated ids before a commit (lake/rows.py); `rows_are_as_declared` reads what
models learn from back from the disk. The EM gates are checks too: they stand beside their assets (assets/em.py).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
import pyarrow as pa

from promptcot_assets.assets.everything import in_use
from promptcot_assets.assets.partitions import BATCHES, partitions_of
from promptcot_assets.assets.resources import LakeResource, SettingsResource
from promptcot_assets.lake import Lake, LakeError, Ref, Row
from promptcot_assets.lake.ref import UNPARTITIONED
from promptcot_assets.lineage.backfill import Run
from promptcot_assets.settings import Settings
from promptcot_assets.tables import MODEL_ROLES, SCHEMAS, Unit

Partitions = dg.PartitionsDefinition | None
SHOWN, SHOWN_TEXT = 10, 160  # faults of a table, characters of a text
# Checks that guard more than their own asset: what is made of seeds does not start while a benchmark item is a seed.
GUARDED_BY = {
    "seed_problems": ("benchmark_items", "no_seed_is_a_benchmark_item"),
    "seed_triples": ("benchmark_items", "no_seed_is_a_benchmark_item"),
}


@dg.asset_check(
    asset="problems",
    blocking=True,
    partitions_def=BATCHES,
    description="No kept problem shares an n-gram, or all its text, with an item of a benchmark.",
)
def no_benchmark_contamination(
    context: dg.AssetCheckExecutionContext, lake: LakeResource, settings: SettingsResource
) -> dg.AssetCheckResult:
    """No kept problem shares an n-gram, or all its text, with an item of a benchmark in use."""
    problems = _columns(lake, "problems", context.partition_key, "raw_problem_id", "problem", "domain", "batch")
    rows = [{"id": row["raw_problem_id"], "from": f"batch {row['batch']}", **row} for row in problems]
    mend = (
        "the benchmark has changed since the batch was deduplicated: make problems of this batch anew, which drops them"
    )
    return _contamination(rows, lake, settings, dg.AssetCheckSeverity.ERROR, "problem", mend)


@dg.asset_check(asset="math_answers", blocking=True, partitions_def=BATCHES,
                description="Every label has the votes that the settings ask for.")  # fmt: skip
def labels_have_the_votes(
    context: dg.AssetCheckExecutionContext, lake: LakeResource, settings: SettingsResource
) -> dg.AssetCheckResult:
    """Every label has the votes the settings ask for."""
    batch, least = context.partition_key, settings.values.labels.min_votes
    every = _columns(lake, "math_answers", batch, "label_id", "problem_id", "answer", "votes", "share")
    labels = [row for row in every if row["answer"] is not None]
    weak = [row for row in labels if row["votes"] < least]
    share = sum(row["share"] for row in labels) / len(labels) if labels else 0.0
    texts = _texts(lake, "problems", batch, "problem_id", [row["problem_id"] for row in weak[:SHOWN]])
    found = [
        {"label": row["label_id"], "answer": row["answer"], "votes": row["votes"],
         "problem": texts.get(row["problem_id"], row["problem_id"])}
        for row in weak
    ]  # fmt: skip
    mend = f"make math_answers[{batch}] anew under these settings, or set labels.min_votes to what they were made with"
    return _result(
        found,
        f"labels with fewer than {least} votes",
        mend,
        {"mean vote share": round(share, 3), "labels": len(labels)},
    )


def pairs_are_sound(students: Partitions) -> dg.AssetChecksDefinition:
    """The check of preference pairs, of these students."""

    @dg.asset_check(
        asset="preference_pairs",
        blocking=True,
        partitions_def=students,
        description="Chosen and rejected differ, have opposite verdicts, and no rollout is used twice.",
    )
    def pairs_are_sound(context: dg.AssetCheckExecutionContext, lake: LakeResource) -> dg.AssetCheckResult:
        """Chosen and rejected differ, are usable rollouts with opposite verdicts, and none is used twice."""
        student = context.partition_key
        judged = _columns(lake, "verdicts", student, "rollout_id", "usable", "passed")
        won = {row["rollout_id"]: row["passed"] for row in judged if row["usable"]}
        pairs, used, found = lake.rows("preference_pairs", student), set[str](), []
        for row in pairs:
            for fault in _faults_of_pair(row, won, used):
                found.append({"pair": row["pair_id"], "fault": fault, "problem": _cut(row["prompt"])})
        mend = f"make verdicts[{student}] anew, then preference_pairs[{student}]: pairs were made of other verdicts"
        return _result(found, "faults of pairs", mend, {"pairs": len(pairs)})

    return pairs_are_sound


def _faults_of_pair(row: Row, won: Mapping[str, bool], used: set[str]) -> Iterator[str]:
    """What is wrong with a pair; its rollouts are added to those used."""
    if row["chosen"] == row["rejected"]:
        yield "chosen and rejected are one text"
    for side, verdict in (("chosen", True), ("rejected", False)):
        rollout = row[f"{side}_rollout_id"]
        if won.get(rollout) is not verdict:
            fault = "has the other verdict" if rollout in won else "is not judged usable"
            yield f"{side} rollout {rollout} {fault}"
        if rollout in used:
            yield f"{side} rollout {rollout} is used twice"
        used.add(rollout)


@dg.asset_check(
    asset="benchmark_items",
    description="No seed shares an n-gram with a benchmark item. A warning: stock phrases do too.",
)
def no_seed_shares_words_with_a_benchmark_item(
    context: dg.AssetCheckExecutionContext, lake: LakeResource, settings: SettingsResource
) -> dg.AssetCheckResult:
    """No seed that is trained or played on shares an n-gram with a benchmark item. A warning: stock phrases do too."""
    seeds = [row for row in _seeds(lake, "seed_problems") if row["split"] != "held_out"]
    return _contamination(seeds, lake, settings, dg.AssetCheckSeverity.WARN, "seed", MEND_OF_A_LEAK)


MEND_OF_A_LEAK = (
    "delete these rows from the seeds' file or from the benchmark's (an entry `{source: ..., where: ...}` of the "
    "profile leaves rows out), then make seed_problems, seed_triples and benchmark_items anew (job corpus_job)"
)


@dg.asset_check(asset="benchmark_items", blocking=True,
                description="No benchmark item is also a seed, so no model is trained on one.")  # fmt: skip
def no_seed_is_a_benchmark_item(context: dg.AssetCheckExecutionContext, lake: LakeResource) -> dg.AssetCheckResult:
    """No benchmark item is also a seed problem, in normalised text, so no model is trained on one."""
    return _leaks(lake, "seed_problems")


# It waits for the items where one run makes both; where they are made later, the check on them looks.
@dg.asset_check(asset="seed_triples", blocking=True, additional_deps=["benchmark_items"],
                description="No problem that EM learns from is a benchmark item.")  # fmt: skip
def no_triple_is_a_benchmark_item(context: dg.AssetCheckExecutionContext, lake: LakeResource) -> dg.AssetCheckResult:
    """No problem of a triple, which is what EM learns from, is a benchmark item, in normalised text."""
    return _leaks(lake, "seed_triples")


def _leaks(lake: LakeResource, asset: str) -> dg.AssetCheckResult:
    """Seeds (or triples) whose normalised text is that of a benchmark item."""
    if lake.lake.newest("benchmark_items") is None:
        return dg.AssetCheckResult(passed=True, description="there are no benchmark items yet; they are compared then")
    items = _columns(lake, "benchmark_items", UNPARTITIONED, "item_id", "benchmark", "problem", "source")
    seeds = list({row["id"]: row for row in _seeds(lake, asset)}.values())
    by_text: dict[int, Row] = dict(zip(_normalised(items), items, strict=True))
    shared = [(row, by_text[text]) for row, text in zip(seeds, _normalised(seeds), strict=True) if text in by_text]
    found = [
        {"problem": _cut(row["problem"]), "seed": row["id"], "from": row["from"], "benchmark": item["benchmark"],
         "item": item["item_id"], "item from": item["source"]}
        for row, item in shared
    ]  # fmt: skip
    return _result(found, "seeds that are benchmark items", MEND_OF_A_LEAK, {"items": len(items), "seeds": len(seeds)})


def _seeds(lake: LakeResource, asset: str) -> list[Row]:
    """Seeds, or the problems of triples, with the file and row that they come from."""
    rows = _columns(lake, "seed_problems", UNPARTITIONED, "problem_id", "problem", "domain", "split", "source",
                    "source_row")  # fmt: skip
    at = {row["problem_id"]: f"{row['source']}, row {row['source_row']}" for row in rows}
    if asset != "seed_problems":
        rows = _columns(lake, asset, UNPARTITIONED, "problem_id", "problem", "domain", "source")
    return [{"id": row["problem_id"], "from": at.get(row["problem_id"], row["source"]), **row} for row in rows]


def _normalised(rows: Sequence[Row]) -> list[int]:
    """One number a row, equal where the texts are: in letter case, white space, punctuation and framing they differ."""
    from promptcot_assets.stages.decontamination import text_fingerprints

    return text_fingerprints(row["problem"] for row in rows)


def _result(
    found: Sequence[Row], what: str, mend: str, measured: Mapping[str, Any],
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR,
) -> dg.AssetCheckResult:  # fmt: skip
    """Passed where nothing was found; else a sentence with the first fault and its mend, and a table of the first."""
    numbers: dict[str, Any] = {"found": len(found), **measured}
    if not found:
        return dg.AssetCheckResult(passed=True, severity=severity, metadata=numbers)
    first = ", ".join(f"{name} {value}" for name, value in found[0].items())
    table = [dg.TableRecord({name: str(value) for name, value in row.items()}) for row in found[:SHOWN]]
    return dg.AssetCheckResult(
        passed=False, severity=severity, description=f"{len(found)} {what}, the first: {first}. To mend it: {mend}",
        metadata={"examples": dg.MetadataValue.table(table), "mend": mend, **numbers},
    )  # fmt: skip


def _cut(text: str) -> str:
    """Enough of a text to know it by, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= SHOWN_TEXT else line[: SHOWN_TEXT - 1] + "…"


def _texts(lake: LakeResource, asset: str, partition: str, key: str, ids: Sequence[str]) -> dict[str, str]:
    """The problems of these rows, cut; of those that are there."""
    ref = lake.lake.newest(asset, partition)
    rows = lake.lake.table(ref, (key, "problem")).to_pylist() if ref and ids else []
    return {row[key]: _cut(row["problem"]) for row in rows if row[key] in ids}


def rows_are_as_declared(asset: str, partitions: Partitions) -> dg.AssetChecksDefinition:
    """The rows on the disk are those committed: declared columns, no forbidden null, no id twice."""

    @dg.asset_check(asset=asset, name="rows_are_as_declared", blocking=True, partitions_def=partitions,
                    description=rows_are_as_declared.__doc__)  # fmt: skip
    def check(context: dg.AssetCheckExecutionContext, lake: LakeResource) -> dg.AssetCheckResult:
        ref = _newest(lake.lake, asset, context.partition_key if partitions else UNPARTITIONED)
        faults = list(_faults(lake.lake, ref, SCHEMAS[asset]))
        again = Run((asset,), ref.partition).command
        return _result(
            [{"version": str(ref), "fault": fault} for fault in faults], "faults in the rows on the disk",
            f"make {asset} anew ({again}); `promptcot doctor --data` looks at the whole lake", {"rows": ref.rows},
        )  # fmt: skip

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
            description=None
            if known
            else (f"the base {base} of {ref} is none of its ancestors. To mend it: make {role} anew"),
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
        wrong = [{"probe": probe.probe, "verdict": probe.got} for probe in probes if not probe.holds]
        mend = (
            "what is judged here cannot be trusted. `promptcot doctor` tries the sandbox and every grader by itself; "
            "where it passes, execute this check again"
        )
        return _result(wrong, "planted answers judged wrong", mend, {"probes": len(probes), "tier": tier})

    return check


def _contamination(
    rows: list[Row], lake: LakeResource, settings: SettingsResource, severity: dg.AssetCheckSeverity, what: str,
    mend: str,
) -> dg.AssetCheckResult:  # fmt: skip
    """Rows with id, problem and `from` that share an n-gram with a benchmark item."""
    from promptcot_assets.stages.synthesis.problem_set import contamination

    ngram = settings.values.deduplication.decontamination_ngram
    items = _columns(lake, "benchmark_items", UNPARTITIONED, "benchmark", "item_id", "problem", "source")
    hits = contamination([{"raw_problem_id": row["id"], **row} for row in rows], items, ngram)
    by_id, source = {row["id"]: row for row in rows}, {item["item_id"]: item["source"] for item in items}
    found = [
        {what: _cut(by_id[one]["problem"]), "id": one, "from": by_id[one]["from"], "benchmark": hit["benchmark"],
         "item": hit["item_id"], "item from": source[hit["item_id"]], "shared words": _cut(hit["matched_span"])}
        for one, hit in hits.items()
    ]  # fmt: skip
    measured = {f"{what}s": len(rows), "words in a row": ngram}
    return _result(found, f"{what}s share {ngram} words in a row with a benchmark item", mend, measured, severity)


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


# Not the models of EM rounds: a check is a step after the round's, and a backfill goes on to the next round when the
# round's assets are there, so that two runs would overlap. The next round verifies them as it loads them, and what is
# made of the last round's has them among its ancestors.
def checks(settings: Settings) -> list[dg.AssetChecksDefinition]:
    """Every check of a profile's graph."""
    tables = [table for step in in_use(settings) for table in (member.table for member in step.members)]
    of = {table.name: partitions_of(table.unit, settings) for table in tables}
    return [
        no_benchmark_contamination,
        labels_have_the_votes,
        pairs_are_sound(of["preference_pairs"]),
        no_seed_is_a_benchmark_item,
        no_triple_is_a_benchmark_item,
        no_seed_shares_words_with_a_benchmark_item,
        *(rows_are_as_declared(table.name, of[table.name]) for table in tables if table.learned_from),
        *(
            every_input_resolves(table.name, of[table.name])
            for table in tables
            if table.checkpoint and table.unit is not Unit.ROUND
        ),
        *(graders_reject_cheats(table.name, of[table.name]) for table in tables if table.judged),
    ]


def blocking(checks: Iterable[dg.AssetChecksDefinition]) -> dict[str, list[str]]:
    """The names of those that block, by asset; of another asset's check as `asset:name`.

    The EM gates are looked at by what they guard (assets/em.py).
    """
    names: dict[str, list[str]] = {}
    for spec in (spec for check in checks for spec in check.check_specs if spec.blocking):
        names.setdefault(spec.asset_key.path[-1], []).append(spec.name)
    for guarded, (asset, name) in GUARDED_BY.items():
        if name in names.get(asset, []):
            names.setdefault(guarded, []).append(f"{asset}:{name}")
    return names
