"""What sees how near two texts are: the sentence model that the settings name, else the last round's generator."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from promptcot_assets.assets.partitions import last_round
from promptcot_assets.assets.resources import EngineResource
from promptcot_assets.assets.step import Step
from promptcot_assets.inference.sentence_encoder import Embedder, SentenceEncoder, folder_version
from promptcot_assets.settings import Settings
from promptcot_assets.settings.profile import SentenceModel
from promptcot_assets.stages.base_models import from_hub


def last_generator(settings: Settings) -> str:
    return f"problem_generator[{last_round(settings)}]"


def embedder_inputs(settings: Settings) -> list[str]:
    """The checkpoint that embeds, as an input, where no sentence model is named."""
    return [] if settings.synthesis.embedding else [last_generator(settings)]


def embedder_version(model: SentenceModel | None) -> dict[str, Any]:
    """What the vectors depend on, besides inputs: a pinned revision, or the content of a local folder."""
    if model is None:
        return {}
    folder = Path(model.name)
    return {"embedding": folder_version(folder) if folder.is_dir() else model.model_dump()}


@contextlib.contextmanager
def embedder(step: Step, engine: EngineResource, model: SentenceModel | None) -> Iterator[Embedder]:
    if model is None:
        with engine.load(step, "problem_generator") as generator:
            yield generator
    elif Path(model.name).is_dir():
        yield SentenceEncoder(Path(model.name))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            yield SentenceEncoder(from_hub(model.name, model.revision, Path(scratch) / "model"))
