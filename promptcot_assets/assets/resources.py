"""What an asset is handed: lake, engine and settings as resources. Thin; the work is done in lake and inference."""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pydantic

from promptcot_assets.assets.fingerprint import how_asked
from promptcot_assets.assets.gates import refuse_failed
from promptcot_assets.assets.inputs import named, newest_rows
from promptcot_assets.assets.step import Step
from promptcot_assets.inference import InferenceEngine, open_engine
from promptcot_assets.inference.chat import ChatEngine, open_template
from promptcot_assets.inference.transcript import transcribed
from promptcot_assets.judging.opening import metered
from promptcot_assets.judging.ray_verifier import RayVerifier
from promptcot_assets.judging.verdicts import MeteredPool
from promptcot_assets.judging.verifier import Verifier
from promptcot_assets.lake import Lake, Ref, Row
from promptcot_assets.lake.ref import UNPARTITIONED
from promptcot_assets.settings import Settings, load_settings
from promptcot_assets.tables import open_lake
from training.child import die_with_starter


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
    def load(self, step: Step, model: str | Ref) -> Iterator[InferenceEngine]:
        """The checkpoint that `step` takes as input `model`, with the engine and the chat template it is asked with.

        What it did is added to the step's bill.
        """
        ref = step.version(model)
        folder = step.model(ref)
        settings, chat = how_asked(self.settings.values, ref.asset, ref.partition, step.asset)
        template = open_template(folder, chat)
        with transcribed(open_engine(settings, folder), str(ref)) as engine:
            step.shards_at_once = engine.parallel_calls
            try:
                yield ChatEngine(engine, template) if template else engine
            finally:
                step.shards_at_once = 1
            step.tokens += engine.usage.completion_tokens + engine.usage.scored_tokens
            step.usage += engine.usage


class SandboxResource(dg.ConfigurableResource):
    """Opens what judges untrusted answers and programs, within the profile's limits."""

    settings: SettingsResource

    @contextlib.contextmanager
    def open(self) -> Iterator[tuple[Verifier, MeteredPool | RayVerifier]]:
        """A verifier, and what meters the programs it judges. Raises: sandbox.SandboxUnavailable."""
        with metered(self.settings.values.sandbox) as opened:
            yield opened


class LakeResource(dg.ConfigurableResource):
    """The lake of this home. blocking_checks: by asset, those that an input must not have failed."""

    home: str
    settings: SettingsResource
    blocking_checks: dict[str, list[str]] = pydantic.Field(default_factory=dict)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """A step in a process of its own ends with its run's: its retry would work beside it, and on the same device.

        Every step has a lake, and is handed it before it does anything.
        """
        die_with_starter()

    @property
    def lake(self) -> Lake:
        return open_lake(Path(self.home))

    def rows(self, asset: str, partition: str = UNPARTITIONED) -> list[Row]:
        """The newest rows of one partition, for checks and gates; `asset[partition]` in one names it as well."""
        return newest_rows(self.lake, named(asset, partition), self.settings.values)

    def earlier_batches(self, asset: str, batch: str) -> list[str]:
        """Partitions of `asset` first committed before `batch` was (all of them, when it never was), in that order."""
        order = list(dict.fromkeys(commit.ref.partition for commit in self.lake.history(asset)))
        return order[: order.index(batch)] if batch in order else order

    def step(self, context: dg.AssetExecutionContext, asset: str, inputs: Sequence[str], uses: Sequence[Any]) -> Step:
        """Begin to make `asset` (of the run's partition) from inputs with resolved names (inputs.py).

        Raises: LakeError naming the input that has not been materialized yet; dagster.Failure naming the one that
        failed a blocking check.
        """
        step = Step(context, self.lake, asset, inputs, uses, self.settings.values)
        for ref in itertools.chain.from_iterable(step.refs.values()):
            if checks := self.blocking_checks.get(ref.asset):
                refuse_failed(context.instance, asset, self.lake.commit_of(ref), checks)
        return step
