"""The engine over a Ray cluster: one actor a device, each with an ordinary engine of its own (`ray_actors.py`).

A call goes whole to one actor, so its result is the one that the actor's engine gives by itself: which actor it was,
and how many there are, changes nothing. `parallel_calls` of them run side by side.
"""

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import astuple, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from promptcot_assets.inference.closing import Closing
from promptcot_assets.inference.metering import Metered
from promptcot_assets.inference.model_folder import base_of
from promptcot_assets.inference.protocol import (
    Completion,
    EngineError,
    InferenceEngine,
    SamplingParams,
    TokenScores,
    Usage,
)
from promptcot_assets.inference.ray_actors import Needs, RayActors

Opener = Callable[[Any, Path], InferenceEngine]  # factory.open_engine, which a node opens its own engine with


class RayEngine(Closing, Metered):
    """`InferenceEngine` over the actors that `settings.ray` describes. Every method may be called from any thread.

    model: a folder that every node sees at the same path.
    open_engine: how a node opens its own engine.
    Raises: EngineError, also when a call's actor was lost
    `settings.ray.attempts` times, when the cluster has no place for the actors, and when a node does not see `model`.
    """

    def __init__(self, model: Path, settings: Any, open_engine: Opener) -> None:
        super().__init__()
        cluster, model = settings.ray, Path(model).absolute()
        if cluster.engine == "vllm" and 1 <= cluster.gpus_an_actor < settings.vllm.tensor_parallel:
            raise EngineError(
                f"engine.ray.gpus_an_actor is {cluster.gpus_an_actor:g} and a model is split over "
                f"engine.vllm.tensor_parallel {settings.vllm.tensor_parallel}: set both to the same number"
            )
        settings = settings.model_copy(update={"name": cluster.engine})
        make = partial(EngineOnNode, open_engine, settings, _files(model), model, on_cpu=not cluster.gpus_an_actor)
        needs = Needs(cluster.cpus_an_actor, cluster.gpus_an_actor)
        at_once = _calls_at_once(cluster.engine)
        self._actors = RayActors(make, needs, cluster, EngineError, f"engine ray ({cluster.engine})", at_once)
        self.parallel_calls = self._actors.count * at_once

    @property
    def redone(self) -> int:
        """Calls done again because their actor or node was lost."""
        return self._actors.redone

    def generate(
        self, prompts: Sequence[str], params: SamplingParams, seeds: Sequence[int] | None = None
    ) -> list[list[Completion]]:
        """See `InferenceEngine.generate`."""
        return self._call("sampling_seconds", "generate", list(prompts), params, None if seeds is None else list(seeds))

    def score(self, prefixes: Sequence[str], continuations: Sequence[str], end: bool = True) -> list[TokenScores]:
        """See `InferenceEngine.score`."""
        return self._call("scoring_seconds", "score", list(prefixes), list(continuations), end)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """See `InferenceEngine.embed`."""
        return self._call("embedding_seconds", "embed", list(texts))

    def close(self) -> None:
        self._actors.close()

    def _call(self, seconds: str, method: str, *arguments: Any) -> Any:
        with self._timed(seconds):
            result, usage = self._actors.call("measured", method, arguments)
        # what lost actors did is not known; seconds of actors side by side are no wall clock, those of devices add up
        self._count(replace(usage, sampling_seconds=0.0, scoring_seconds=0.0, embedding_seconds=0.0))
        return result


class EngineOnNode:
    """What an actor holds. Raises: EngineError naming the first file of the model that this node does not see."""

    def __init__(self, open_engine: "Opener", settings: Any, files: dict[Path, int], model: Path, on_cpu: bool) -> None:
        for path, size in files.items():
            here = path.stat().st_size if path.is_file() else None
            if here != size:
                raise EngineError(
                    f"{path} has {size} bytes where the step runs and {'is not there' if here is None else here} here: "
                    "the home must be on a file system that every node sees at the same path"
                )
        if on_cpu:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Ray hides devices only from those that ask for some
        self._engine = open_engine(settings, model)
        self._telling = threading.Lock()
        self._told = Usage()

    def measured(self, method: str, arguments: tuple[Any, ...]) -> tuple[Any, Usage]:
        """The result of the engine's `method`, and what the engine has used that no call has told yet."""
        result = getattr(self._engine, method)(*arguments)
        with self._telling:
            before, self._told = self._told, self._engine.usage
            return result, Usage(*(new - old for new, old in zip(astuple(self._told), astuple(before), strict=True)))

    def close(self) -> None:
        self._engine.close()


def _calls_at_once(engine: str) -> int:
    """How many calls one engine of this kind takes side by side."""
    from promptcot_assets.inference.transformers_engine import TransformersEngine
    from promptcot_assets.inference.vllm_engine import VllmEngine

    return VllmEngine.parallel_calls if engine == "vllm" else TransformersEngine.parallel_calls


def _files(model: Path) -> dict[Path, int]:
    """The files of a model's folder, an adapter's base included, with their sizes: what a node is asked for."""
    folders = {model, base_of(model)}
    return {path: path.stat().st_size for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()}
