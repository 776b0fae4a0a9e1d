"""One materialization in the making: exact inputs in, a new version out.

A `Step` knows its exact inputs before anything runs, so it has a fingerprint:
what a killed run left in the spool or in a work folder under that fingerprint is continued, and a finished one is
recognised (`unchanged`).
"""

import json
import shlex
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa

from promptcot_assets.assets.describe import links, page, plot, sample, whole_rows
from promptcot_assets.assets.inputs import named, refs_of, split
from promptcot_assets.assets.progress import Progress
from promptcot_assets.assets.sampled import Sampled
from promptcot_assets.inference import Usage
from promptcot_assets.lake import Lake, LakeError, Provenance, Ref, Row, Rows, RowStream
from promptcot_assets.lake.ref import UNPARTITIONED, canonical_json
from promptcot_assets.lake.stream import batched
from promptcot_assets.lineage.changes import in_words
from promptcot_assets.reports import plots
from promptcot_assets.reports.lineage_picture import lineage_picture
from promptcot_assets.settings import Settings
from promptcot_assets.tables import SCHEMAS, TABLES

RESUME_TAG = "promptcot/resume"  # a run with this tag leaves finished work alone instead of doing it again
ROWS_A_TABLE = 2048  # of a commit, or of what a trainer reads


class Step:
    """One materialization in the making. Rows are read from and written to exact versions."""

    def __init__(
        self,
        context: dg.AssetExecutionContext,
        lake: Lake,
        asset: str,
        inputs: Sequence[str],
        uses: Sequence[Any],
        settings: Settings,
    ) -> None:
        """inputs: resolved names (inputs.py); uses: what is recorded as the settings that the rows depend on."""
        self.context, self.lake, self.asset = context, lake, asset
        self.settings, self.seed = settings, settings.seed
        self.partition = context.partition_key if context.has_partition_key else UNPARTITIONED
        self.refs = {name: refs_of(lake, name, asset, settings) for name in inputs}
        self.tokens = 0
        self.usage = Usage()  # of all engines of this step; a resumed one has not run those of its finished shards
        self.dropped: Counter[str] = Counter()
        self.shards_at_once = 1  # as many as the engine that is open can work on
        self._began = time.perf_counter()
        self._settings = canonical_json(list(uses))
        spec = context.assets_def.specs_by_key[dg.AssetKey(asset)]
        self._code_version = spec.code_version or "1"
        self._spool = lake.spool(asset, self.partition, self.provenance.fingerprint)

    @property
    def title(self) -> str:
        """What is made, as progress lines name it."""
        return named(self.asset, self.partition)

    @property
    def provenance(self) -> Provenance:
        """What is recorded beside the rows; its fingerprint is fixed from the start."""
        return Provenance(
            code_version=self._code_version,
            settings=self._settings,
            seed=self.seed,
            run_id=self.context.run_id,
            inputs=tuple(ref for refs in self.refs.values() for ref in refs),
            tokens=self.tokens,
            seconds=round(time.perf_counter() - self._began, 3),
        )

    # ---- inputs
    def rows(self, name: str, columns: Sequence[str] | None = None) -> list[Row]:
        """All rows of an input, partitions in their order; of the named columns only, so that long texts stay on disk.

        Raises: LakeError naming a column that the input does not have.
        """
        return [row for ref in self._of(name) for row in self.lake.table(ref, columns).to_pylist()]

    def rows_of(self, name: str) -> list[Row]:
        """All rows of the input written exactly like this; for a step that reads two partitions of one asset."""
        return [row for ref in self.refs[name] for row in self.lake.table(ref).to_pylist()]

    def stream(self, name: str, columns: Sequence[str] | None = None) -> RowStream:
        """The same rows without holding them all: for tables of millions."""
        refs, named_ = self._of(name), None if columns is None else list(columns)
        return RowStream(
            lambda: (batch for ref in refs for batch in self.lake.batches(ref, named_)), sum(ref.rows for ref in refs)
        )

    def versions(self, name: str) -> Sequence[Ref]:
        """The exact versions of an input, one a partition; of a model, what `model` and `EngineResource.load` take."""
        return self._of(name)

    def version(self, name: str | Ref) -> Ref:
        """The one version of an input; of an input with several partitions give the Ref itself."""
        if isinstance(name, Ref):
            return name
        (ref,) = self._of(name)
        return ref

    def model(self, name: str | Ref) -> Path:
        """The folder of an input checkpoint, its files verified."""
        return self.lake.checkpoint(self.version(name))

    def model_id(self, name: str | Ref) -> str:
        return str(self.lake.table(self.version(name), ["model_id"])["model_id"][0].as_py())

    def _of(self, name: str) -> Sequence[Ref]:
        found = {key: refs for key, refs in self.refs.items() if split(key)[0] == name}
        own = named(name, self.partition)
        if len(found) > 1 and own in found:  # beside those of other partitions
            return found[own]
        if len(found) != 1:
            raise KeyError(f"{self.asset} has {len(found)} inputs named {name!r}; it has {', '.join(self.refs)}")
        return next(iter(found.values()))

    # ---- work
    def unchanged(self) -> dg.MaterializeResult | None:
        """The existing result, when the run only resumes (or a step is at its second try) and the same inputs, settings
        and code already made it."""
        return next(iter(all_unchanged(self)), None)

    def made_already(self) -> Ref | None:
        """The newest version, where it is of the same computation and intact."""
        return self.lake.find(self.asset, self.provenance.fingerprint, self.partition)

    def keep(self, ref: Ref) -> dg.MaterializeResult:
        """The result of a version that was made already."""
        self.lake.publish_if_stale()  # the run that made it may have been killed before it did
        self.context.log.info(f"{ref} is up to date: same inputs, settings and code")
        return self._result(ref, {}, self._shown_before(ref))

    def say_why_anew(self) -> None:
        """In the run's log, where there is a version already."""
        newest = self.lake.newest(self.asset, self.partition)
        if newest is None:
            return
        before = self.lake.commit_of(newest)
        why = in_words(before.provenance, self.provenance, self.partition)
        if before.fingerprint == self.provenance.fingerprint:
            why = "its step makes another anew, and both together" if self.made_already() else "damaged files"
        self.context.log.info(f"{self.title} is made anew: {why}")

    def _shown_before(self, ref: Ref) -> Mapping[str, Any]:
        """What the page shows of this version: plots, samples and rates are of the run that computed it."""
        partitions = None if self.partition == UNPARTITIONED else [self.partition]
        of_asset = dg.AssetRecordsFilter(asset_key=dg.AssetKey(self.asset), asset_partitions=partitions)
        for record in self.context.instance.fetch_materializations(of_asset, limit=1).records:
            shown = record.asset_materialization
            if shown and (shown.tags or {}).get("dagster/data_version") == ref.data_version:
                return shown.metadata
        return {}

    def map(self, phase: str, rows: Rows, function: Callable[[list[Row]], list[Row]], shard_rows: int) -> RowStream:
        """`function` over shards of `rows`; finished shards are files, a killed run goes on at the first missing.

        All is computed when this returns, and what comes back is read from the files: it is never in memory as a whole.
        """
        progress = Progress(f"{self.title} · {phase}", len(rows), "rows", self.context.log.info)
        return self._spool.collect(
            phase,
            batched(rows, shard_rows),
            lambda shard: pa.Table.from_pylist(function(shard)),
            self.shards_at_once,
            lambda index: progress.advance(min(shard_rows, len(rows) - index * shard_rows)),
        )

    # ---- results
    def commit(self, rows: Iterable[Row], **metadata: Any) -> dg.MaterializeResult:
        """Commit the rows as the new version of this asset's partition and describe them."""
        schema = SCHEMAS[self.asset]
        some = Sampled(schema)
        tables = some.passing(_tables(self.asset, rows, schema))
        ref = self.lake.commit(self.asset, tables, schema, self.provenance, self.partition)
        self._spool.clear()
        return self._result(ref, metadata | {"sample": sample(some.table), "whole rows": whole_rows(some.table)})

    def work_folder(self) -> Path:
        """Where a checkpoint is made; the same folder after a kill."""
        return self.lake.work_folder(self.asset, self.provenance.fingerprint)

    def commit_checkpoint(
        self, folder: Path, base: str | None, report: Mapping[str, Any], **metadata: Any
    ) -> dg.MaterializeResult:
        """Seal `folder` as this asset's new checkpoint. `report`: what the trainer says (training/loop.py)."""
        row = {
            "base": base,
            "examples": report.get("rows", 0),
            "steps": report.get("steps", 0),
            "tokens": report.get("tokens", 0),
            "loss": report.get("loss"),
        }
        self.tokens += row["tokens"]
        ref = self.lake.commit_checkpoint(self.asset, folder, SCHEMAS[self.asset], row, self.provenance, self.partition)
        shown: dict[str, Any] = {"loss": row["loss"], "steps": row["steps"], "training_examples": row["examples"]}
        curve = report.get("loss_curve")
        if curve:
            shown["loss_curve"] = plot(plots.loss_curve(curve, self.asset))
        self.dropped.update(report.get("dropped", {}))
        return self._result(ref, {key: value for key, value in shown.items() if value is not None} | metadata)

    def commit_copy(self, name: str) -> dg.MaterializeResult:
        """This asset's new checkpoint is an input checkpoint, unchanged."""
        work, ref = self.work_folder() / "model", self.version(name)
        self.lake.copy_checkpoint(ref, work)
        (row,) = self.lake.table(ref).to_pylist()
        # the same asset's earlier partition keeps its id, and so its base
        return self.commit_checkpoint(work, row["base"] if ref.asset == self.asset else row["model_id"], {})

    def _result(
        self, ref: Ref, metadata: Mapping[str, Any], before: Mapping[str, Any] | None = None
    ) -> dg.MaterializeResult:
        provenance = self.lake.commit_of(ref).provenance
        common: dict[str, Any] = {
            "dagster/row_count": ref.rows,
            "ref": dg.MetadataValue.json(json.loads(ref.json())),
            "inputs": dg.MetadataValue.md(links(provenance.inputs) or "nothing: it is made from sources alone"),
            "exact lineage": dg.MetadataValue.md(lineage_picture(ref, provenance.inputs, self.lake.ancestors(ref))),
            "exact versions behind it": f"promptcot lineage {shlex.quote(str(ref))}",
            "tokens": provenance.tokens,
            "seconds": provenance.seconds,
            "profile": self.settings.profile,
            "settings": dg.MetadataValue.json(json.loads(provenance.settings)),
            **self.usage.rates(),
        }
        if self.dropped:
            common["dropped"] = dg.MetadataValue.json(dict(sorted(self.dropped.items())))
        if TABLES[self.asset].checkpoint:  # in the home, wherever that has gone since
            common["checkpoint"] = f"{self.lake.checkpoint(ref).relative_to(self.lake.home)}, in the home"
        return dg.MaterializeResult(
            asset_key=self.asset,
            data_version=dg.DataVersion(ref.data_version),
            metadata=page(self.asset, self.partition, {**(before or {}), **common, **metadata}),
        )


def all_unchanged(*steps: Step) -> list[dg.MaterializeResult]:
    """What the steps of one computation made before, where the run only resumes and all of it is up to date."""
    context = steps[0].context
    if context.run.tags.get(RESUME_TAG) != "true" and not context.retry_number:
        return []
    made = [step.made_already() for step in steps]
    if all(made):
        return [step.keep(ref) for step, ref in zip(steps, made, strict=True) if ref]
    for step in steps:
        step.say_why_anew()
    return []


def _tables(asset: str, rows: Iterable[Row], schema: pa.Schema) -> Iterator[pa.Table]:
    """Rows as tables of the declared schema, at least one; a missing or extra column is an error, not a null."""
    expected, done = set(schema.names), 0
    for batch in batched(rows, ROWS_A_TABLE):
        for at, row in enumerate(batch, done):
            if differing := row.keys() ^ expected:
                state = "misses" if min(differing) in expected else "has an undeclared"
                raise LakeError(f"{asset}: row {at} {state} column {min(differing)!r}; see promptcot_assets/tables")
        done += len(batch)
        yield pa.Table.from_pylist(batch, schema)
    if not done:
        yield schema.empty_table()
