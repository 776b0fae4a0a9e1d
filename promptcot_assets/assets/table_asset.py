"""An asset as one declaration: it names each input once and its own settings, and computes; the rest follows.

    @table_asset(inputs=lambda settings: ["rollouts", "verdicts"])
    def difficulty(step: Step) -> dg.MaterializeResult:
        '''Pass rate of the student on every problem it played on.'''
        return step.commit(hardness.difficulty(step.rows("rollouts"), step.rows("verdicts")))

From the inputs follow Dagster's dependencies, the exact versions that are read, and whether a result is up to date.
From the function's parameters after `step` (engine, trainer, sandbox) follow the resources, and with the models among
the inputs what enters the fingerprint by itself (fingerprint.py). Group, partitions and columns are those of the table.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from promptcot_assets.assets.fingerprint import Used, entering, recorded
from promptcot_assets.assets.inputs import BEFORE, dependencies, resolved, split
from promptcot_assets.assets.open_lineage import watched
from promptcot_assets.assets.partitions import partitions_of
from promptcot_assets.assets.step import Step
from promptcot_assets.lake.ref import UNPARTITIONED
from promptcot_assets.settings import Settings
from promptcot_assets.tables import TABLES, Table

Result = dg.MaterializeResult
Results = Iterator[dg.MaterializeResult | dg.AssetCheckResult]
Names = Callable[[Settings], Sequence[str]]
Uses = Callable[[Settings, str], Iterable[Used]]  # settings, partition
Reads = Callable[[Settings, str], Sequence[str]]


def _none(*_: Any) -> tuple[()]:
    return ()


@dataclass(frozen=True, eq=False)
class TableAsset:
    """What `table_asset` makes of a function. See there."""

    name: str
    description: str
    run: Callable[..., Any] | None  # None: made by a joint step only
    code_version: str
    inputs: Names
    uses: Uses
    reads: Reads | None
    asks: tuple[str, ...] | None
    takes: tuple[str, ...]
    pool: str | None
    gates: dict[str, str]
    when: Callable[[Settings], Any]

    @property
    def table(self) -> Table:
        return TABLES[self.name]

    @property
    def members(self) -> tuple["TableAsset", ...]:
        return (self,)

    # ---- one materialization
    def read(self, settings: Settings, partition: str) -> list[str]:
        """The resolved names of what is read for one partition."""
        names = self.reads(settings, partition) if self.reads else self.inputs(settings)
        return [resolved(self.table, name, partition) for name in dict.fromkeys(names)]

    def edges(self, settings: Settings, partition: str) -> list[str]:
        """The resolved names of what Dagster's graph says that one partition depends on, besides itself a round ago."""
        names = [name for name in self.inputs(settings) if split(name)[1] != BEFORE]
        return [resolved(self.table, name, partition) for name in names]

    def recorded(self, settings: Settings, partition: str, inputs: Sequence[str]) -> list[Any]:
        """What a commit of one partition records as its settings."""
        entered = entering(settings, self.table, partition, inputs, self.takes, self.asks)
        return recorded(self.uses(settings, partition), entered)

    def begin(self, context: dg.AssetExecutionContext, more: Sequence[str] = ()) -> Step:
        """The step that makes the run's partition. more: inputs that only the lake knows, such as earlier batches."""
        lake = context.resources.lake
        settings: Settings = lake.settings.values
        partition = context.partition_key if context.has_partition_key else UNPARTITIONED
        inputs = [*self.read(settings, partition), *more]
        step: Step = lake.step(context, self.name, inputs, self.recorded(settings, partition, inputs))
        return step

    def make(self, context: dg.AssetExecutionContext) -> Results:
        """The result of the run: the existing one where it is up to date, else what the function computes."""
        step = self.begin(context)
        given = [getattr(context.resources, name) for name in self.takes]
        assert self.run
        if inspect.isgeneratorfunction(self.run):  # it has checks to say, which it does of an existing result too
            yield from self.run(step, *given)
        else:
            yield step.unchanged() or self.run(step, *given)

    # ---- Dagster
    def spec(self, settings: Settings) -> dg.AssetSpec:
        return dg.AssetSpec(
            self.name,
            code_version=self.code_version,
            description=self.description,
            deps=dependencies(self.table, self.inputs(settings)),
            group_name=self.table.group,
        )

    def check_specs(self, settings: Settings) -> list[dg.AssetCheckSpec]:
        partitions = partitions_of(self.table.unit, settings)
        return [
            dg.AssetCheckSpec(name, asset=self.name, blocking=True, description=says, partitions_def=partitions)
            for name, says in self.gates.items()
        ]

    def build(self, settings: Settings) -> dg.AssetsDefinition:
        """The asset of one profile's graph."""

        def compute(context: dg.AssetExecutionContext) -> Results:
            yield from self.make(context)

        return _built(self.name, [self], compute, settings)


@dataclass(frozen=True, eq=False)
class JointAssets:
    """Assets that one step makes in one go; `run` yields their results in order."""

    run: Callable[[dg.AssetExecutionContext], Results]
    members: tuple[TableAsset, ...]

    def build(self, settings: Settings) -> dg.AssetsDefinition:
        def compute(context: dg.AssetExecutionContext) -> Results:
            yield from self.run(context)

        return _built(self.run.__name__, self.members, compute, settings, inspect.getdoc(self.run))


def table_asset(
    code_version: str = "1",
    *,
    inputs: Names = _none,
    uses: Uses = _none,
    reads: Reads | None = None,
    asks: tuple[str, ...] | None = None,
    pool: str | None = None,
    gates: dict[str, str] | None = None,
    when: Callable[[Settings], Any] = lambda _: True,
) -> Callable[[Callable[..., Any]], TableAsset]:
    """Declare the asset of the table that has the function's name.

    inputs: names (inputs.py) under these settings. uses: the settings, its own, that its rows depend on, by partition.
    reads: where it depends on the partition which of the inputs are read. asks: kinds of prompts (stages/prompts.py),
    where they do not follow from the models. gates: blocking checks that the function yields, with what they say.
    when: whether the asset is in the graph of a profile.
    """

    def declare(run: Callable[..., Any]) -> TableAsset:
        takes = tuple(inspect.signature(run).parameters)[1:]
        description = inspect.getdoc(run) or ""
        return TableAsset(
            run.__name__, description, run, code_version, inputs, uses, reads, asks, takes, pool, gates or {}, when
        )

    return declare


def joint_part(
    name: str, description: str, code_version: str, inputs: Names, uses: Uses, takes: tuple[str, ...], pool: str | None
) -> TableAsset:
    """An asset that has no computation of its own: a joint step makes it together with others."""
    return TableAsset(name, description, None, code_version, inputs, uses, None, (), takes, pool, {}, lambda _: True)


def joint_assets(*members: TableAsset) -> Callable[[Callable[[dg.AssetExecutionContext], Results]], JointAssets]:
    """Declare a step that makes several assets in one go."""
    return lambda run: JointAssets(run, members)


def _built(
    name: str,
    members: Sequence[TableAsset],
    compute: Callable[[dg.AssetExecutionContext], Any],
    settings: Settings,
    description: str | None = None,
) -> dg.AssetsDefinition:
    first = members[0]

    def told(context: dg.AssetExecutionContext) -> Results:
        yield from watched(context, [member.name for member in members], compute(context))

    declare = dg.multi_asset(
        name=name,
        description=description,
        specs=[member.spec(settings) for member in members],
        check_specs=[spec for member in members for spec in member.check_specs(settings)],
        partitions_def=partitions_of(first.table.unit, settings),
        required_resource_keys={"lake", *(key for member in members for key in member.takes)},
        pool=first.pool,
    )
    return declare(told)
