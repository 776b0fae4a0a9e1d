"""What an asset is handed: lake, engine, trainer, settings. Thin; the work is done in lake, inference and training.

`Step` is one materialization in the making. It knows its exact inputs before anything runs, so it has a fingerprint:
what a killed run left in the spool or in a work folder under that fingerprint is continued, and a finished one is
recognised (`unchanged`). Inputs are named `asset` (unpartitioned), `asset[partition]`, or `asset[*]` (all that exist).
"""

import contextlib
import itertools
import json
import re
import shlex
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pydantic

from promptcot_assets.assets.describe import plot, sample
from promptcot_assets.assets.gates import refuse_failed
from promptcot_assets.assets.progress import Progress
from promptcot_assets.inference import InferenceEngine, Usage, open_engine
from promptcot_assets.inference.chat import ChatEngine, open_template
from promptcot_assets.lake import Lake, LakeError, Provenance, Ref, Rows, RowStream
from promptcot_assets.lake.ref import UNPARTITIONED, canonical_json
from promptcot_assets.lake.schemas import MODEL, SCHEMAS
from promptcot_assets.lake.stream import batched
from promptcot_assets.reports import plots
from promptcot_assets.settings import Settings, load_settings
from promptcot_assets.settings.engines import Engine
from promptcot_assets.settings.profile import Chat, Training
from promptcot_assets.settings.section import Section
from promptcot_assets.stages import Row
from promptcot_assets.stages.training_examples import with_template
from training.child import CHILD_ENVIRONMENT, SpecError
from training.launch import command

RESUME_TAG = "promptcot/resume"  # a run with this tag leaves finished work alone instead of doing it again
ROWS_A_TABLE = 2048  # of a commit, or of what a trainer reads
TRAINED_ON = ("prompt", "completion", "chosen", "rejected")  # columns
INPUT = re.compile(r"(?P<asset>\w+)(?:\[(?P<partition>[^\]]+)\])?")


class SettingsResource(dg.ConfigurableResource):
    """The profile's settings."""

    profile: str

    @property
    def values(self) -> Settings:
        return load_settings(self.profile)


class EngineResource(dg.ConfigurableResource):
    """Loads a checkpoint into the engine that the profile names."""

    settings: SettingsResource

    @contextlib.contextmanager
    def load(
        self, step: "Step", model: str | Ref, chat: Chat | None = None, settings: Engine | None = None
    ) -> Iterator[InferenceEngine]:
        """The checkpoint that `step` takes as input `model`; what it did is added to the step's bill.

        chat: prompts are put as users' turns (inference/chat.py). settings: another engine than the profile's.
        """
        folder = step.model(model)
        template = open_template(folder, chat)
        with open_engine(settings or self.settings.values.engine, folder) as engine:
            step.shards_at_once = engine.parallel_calls
            try:
                yield ChatEngine(engine, template) if template else engine
            finally:
                step.shards_at_once = 1
            step.tokens += engine.usage.completion_tokens + engine.usage.scored_tokens
            step.usage += engine.usage


class LakeResource(dg.ConfigurableResource):
    """The lake of this home. blocking_checks: by asset, those that an input must not have failed."""

    home: str
    settings: SettingsResource
    blocking_checks: dict[str, list[str]] = pydantic.Field(default_factory=dict)

    @property
    def lake(self) -> Lake:
        return Lake(Path(self.home))

    def rows(self, asset: str, partition: str = UNPARTITIONED) -> list[Row]:
        """The newest rows of one partition, for checks and gates; `asset[partition]` in one names it as well."""
        (ref,) = _refs(self.lake, _named(asset, partition), "a check")
        return self.lake.table(ref).to_pylist()

    def earlier_batches(self, asset: str, batch: str) -> list[str]:
        """Partitions of `asset` first committed before `batch` was (all of them, when it never was), in that order."""
        order = list(dict.fromkeys(commit.ref.partition for commit in self.lake.history(asset)))
        return order[: order.index(batch)] if batch in order else order

    def step(
        self,
        context: dg.AssetExecutionContext,
        asset: str,
        *inputs: str,
        uses: Sequence[Section | Mapping[str, Any]] = (),
    ) -> "Step":
        """Begin to make `asset` (of the run's partition). `uses`: the settings that its rows depend on.

        Raises: LakeError naming the input that has not been materialized yet; dagster.Failure naming the one that
        failed a blocking check.
        """
        step = Step(context, self.lake, asset, inputs, uses, self.settings.values.seed)
        for ref in itertools.chain.from_iterable(step.refs.values()):
            if checks := self.blocking_checks.get(ref.asset):
                refuse_failed(context.instance, asset, self.lake.commit_of(ref), checks)
        return step


class Step:
    """One materialization in the making. Rows are read from and written to exact versions."""

    def __init__(
        self,
        context: dg.AssetExecutionContext,
        lake: Lake,
        asset: str,
        inputs: Sequence[str],
        uses: Sequence[Section | Mapping[str, Any]],
        seed: int,
    ) -> None:
        self.context, self.lake, self.asset, self.seed = context, lake, asset, seed
        self.partition = context.partition_key if context.has_partition_key else UNPARTITIONED
        self.refs = {name: _refs(lake, name, asset) for name in inputs}
        self.tokens = 0
        self.usage = Usage()  # of all engines of this step; a resumed one has not run those of its finished shards
        self.dropped: Counter[str] = Counter()
        self.shards_at_once = 1  # as many as the engine that is open can work on
        self._began = time.perf_counter()
        used = [json.loads(one.canonical()) if isinstance(one, Section) else one for one in uses]
        self._settings = canonical_json(used)
        spec = context.assets_def.specs_by_key[dg.AssetKey(asset)]
        self._code_version = spec.code_version or "1"
        self._spool = lake.spool(asset, self.partition, self.provenance.fingerprint)

    @property
    def title(self) -> str:
        """What is made, as progress lines name it."""
        return _named(self.asset, self.partition)

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

    def stream(self, name: str) -> RowStream:
        """The same rows without holding them all: for tables of millions."""
        refs = self._of(name)
        return RowStream(
            lambda: (batch for ref in refs for batch in self.lake.batches(ref)), sum(ref.rows for ref in refs)
        )

    def versions(self, name: str) -> Sequence[Ref]:
        """The exact versions of an input, one a partition; of a model, what `model` and `EngineResource.load` take."""
        return self._of(name)

    def model(self, name: str | Ref) -> Path:
        """The folder of an input checkpoint, its files verified."""
        return self.lake.checkpoint(self._one(name))

    def model_id(self, name: str | Ref) -> str:
        return str(self.lake.table(self._one(name), ["model_id"])["model_id"][0].as_py())

    def _of(self, name: str) -> Sequence[Ref]:
        found = [refs for key, refs in self.refs.items() if INPUT.fullmatch(key)["asset"] == name]  # type: ignore[index]
        if len(found) != 1:
            raise KeyError(f"{self.asset} has {len(found)} inputs named {name!r}; it has {', '.join(self.refs)}")
        return found[0]

    def _one(self, name: str | Ref) -> Ref:
        if isinstance(name, Ref):
            return name
        (ref,) = self._of(name)
        return ref

    # ---- work
    def unchanged(self) -> dg.MaterializeResult | None:
        """The existing result, when the run only resumes (or a step is at its second try) and the same inputs, settings
        and code already made it."""
        if self.context.run.tags.get(RESUME_TAG) != "true" and not self.context.retry_number:
            return None
        ref = self.lake.find(self.asset, self.provenance.fingerprint, self.partition)
        if ref is None:
            return None
        self.context.log.info(f"{ref} is up to date: same inputs, settings and code")
        return self._result(ref, {}, self._shown_before(ref))

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
        tables = _tables(self.asset, rows, schema)
        first = next(tables)
        ref = self.lake.commit(self.asset, itertools.chain([first], tables), schema, self.provenance, self.partition)
        self._spool.clear()
        return self._result(ref, metadata | {"sample": sample(first)})

    def work_folder(self) -> Path:
        """Where a checkpoint is made; the same folder after a kill."""
        return self.lake.work_folder(self.asset, self.provenance.fingerprint)

    def commit_checkpoint(self, folder: Path, base: str | None, report: Mapping[str, Any]) -> dg.MaterializeResult:
        """Seal `folder` as this asset's new checkpoint. `report`: what the trainer says (training/loop.py)."""
        row = {
            "base": base,
            "examples": report.get("rows", 0),
            "steps": report.get("steps", 0),
            "tokens": report.get("tokens", 0),
            "loss": report.get("loss"),
        }
        self.tokens += row["tokens"]
        ref = self.lake.commit_checkpoint(self.asset, folder, MODEL, row, self.provenance, self.partition)
        shown: dict[str, Any] = {"loss": row["loss"], "steps": row["steps"], "training_examples": row["examples"]}
        curve = report.get("loss_curve")
        if curve:
            shown["loss_curve"] = plot(plots.loss_curve(curve, self.asset))
        self.dropped.update(report.get("dropped", {}))
        path = dg.MetadataValue.path(str(self.lake.checkpoint(ref)))
        return self._result(
            ref, {key: value for key, value in shown.items() if value is not None} | {"checkpoint": path}
        )

    def commit_copy(self, name: str) -> dg.MaterializeResult:
        """This asset's new checkpoint is an input checkpoint, unchanged."""
        work, ref = self.work_folder() / "model", self._one(name)
        if not work.exists():
            shutil.copytree(self.model(name), work, ignore=shutil.ignore_patterns("manifest.json"))
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
            "inputs": dg.MetadataValue.json([str(one) for one in provenance.inputs]),
            "exact versions behind it": f"promptcot lineage {shlex.quote(str(ref))}",
            "tokens": provenance.tokens,
            "seconds": provenance.seconds,
            **self.usage.rates(),
        }
        if self.dropped:
            common["dropped"] = dg.MetadataValue.json(dict(sorted(self.dropped.items())))
        return dg.MaterializeResult(
            asset_key=self.asset,
            data_version=dg.DataVersion(ref.data_version),
            metadata={**(before or {}), **common, **metadata},
        )


class TrainerResource(dg.ConfigurableResource):
    """Runs a trainer of `training/` as a child process under Dagster Pipes; it dies with the step."""

    pipes: dg.ResourceDependency[dg.PipesSubprocessClient]

    def train(
        self,
        step: "Step",
        method: str,
        base: str | Path,
        examples: Rows,
        training: Training,
        chat: Chat | None = None,
    ) -> dg.MaterializeResult:
        """Train and commit the checkpoint. A killed run continues from its last trainer checkpoint.

        method: module of `training` (sft, grpo: prompt, completion; dpo: prompt, chosen, rejected). base: the step's
        input that training starts from, or a folder. chat: examples are users' turns in its template. What the run cost
        is on the page, and in no version: a resumed run's figures are its own only, those of one found finished are
        missing.
        """
        if not examples:
            raise dg.Failure(
                f"{step.asset}: no examples to train on; see the drop reasons of its inputs", allow_retries=False
            )
        work = step.work_folder()
        output, data, spec = work / "model", work / "examples.parquet", work / "spec.json"
        figures: Mapping[str, float] = {}
        if not output.exists():
            start = base if isinstance(base, Path) else step.model(base)
            if template := open_template(start, chat):
                template.check_trainable()
                _write_examples(with_template(method, examples, template), data)
            else:
                _write_examples(examples, data)
            spec.write_text(
                json.dumps(
                    {
                        "base": str(start),
                        "data": str(data),
                        "output": str(output),
                        "checkpoints": str(work / "trainer"),
                        "title": step.title,
                        "seed": step.seed,
                        "threads": training.threads,
                        "save_steps": training.save_steps,
                        "lora": training.lora and training.lora.model_dump(),
                        "arguments": training.arguments,
                    }
                )
            )
            try:
                started = command(method, spec, training.launcher)
            except SpecError as error:
                raise dg.Failure(f"{step.asset}: {error}", allow_retries=False) from error
            run = self.pipes.run(context=step.context, command=started, env=CHILD_ENVIRONMENT)
            if not (said := run.get_custom_messages()):
                raise dg.Failure(f"{step.title}: {' '.join(started)} ended well, but trained nothing; see its output")
            figures = said[-1]["figures"]
        report = json.loads((output / "training.json").read_text())
        made = step.commit_checkpoint(output, None if isinstance(base, Path) else step.model_id(base), report)
        shown = {f"training_{name}": value for name, value in figures.items()}
        return made._replace(metadata={**(made.metadata or {}), **shown})


def _write_examples(examples: Iterable[Row], data: Path) -> None:
    """What a trainer reads of the examples, a table at a time."""
    writer: pq.ParquetWriter | None = None
    for batch in batched(examples, ROWS_A_TABLE):
        columns = [name for name in TRAINED_ON if name in batch[0]]
        table = pa.table({name: pa.array([row[name] for row in batch], pa.string()) for name in columns})
        writer = writer or pq.ParquetWriter(data, table.schema)
        writer.write_table(table)
    if writer:
        writer.close()


def _named(asset: str, partition: str) -> str:
    return asset if partition == UNPARTITIONED else f"{asset}[{partition}]"


def _refs(lake: Lake, name: str, wanted_by: str) -> list[Ref]:
    match = INPUT.fullmatch(name)
    if not match:
        raise ValueError(f"{wanted_by}: input {name!r} is not `asset`, `asset[partition]` or `asset[*]`")
    asset, partition = match["asset"], match["partition"] or UNPARTITIONED
    every = sorted({commit.ref.partition for commit in lake.history(asset)})  # those with no row too
    partitions = every if partition == "*" else [partition]
    refs = [ref for ref in (lake.newest(asset, one) for one in partitions) if ref is not None]
    if not refs:
        at = "" if partition == UNPARTITIONED else f" --partition {partition}"
        raise LakeError(
            f"{wanted_by} needs {name}, which is not in the lake yet; materialize it first: "
            f"dagster asset materialize -m promptcot_assets.definitions --select {asset}{at}"
        )
    return refs


def _tables(asset: str, rows: Iterable[Row], schema: pa.Schema) -> Iterator[pa.Table]:
    """Rows as tables of the declared schema, at least one; a missing or extra column is an error, not a null."""
    expected, done = set(schema.names), 0
    for batch in batched(rows, ROWS_A_TABLE):
        for at, row in enumerate(batch, done):
            if differing := row.keys() ^ expected:
                state = "misses" if min(differing) in expected else "has an undeclared"
                raise LakeError(
                    f"{asset}: row {at} {state} column {min(differing)!r}; see promptcot_assets/lake/schemas.py"
                )
        done += len(batch)
        yield pa.Table.from_pylist(batch, schema)
    if not done:
        yield schema.empty_table()
