"""Embeddings for engines that give no hidden states: by the embedded engine, opened for the call."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from promptcot_assets.inference.protocol import EngineSettings, Usage
from promptcot_assets.inference.transformers_engine import TransformersEngine


def embed_with_transformers(model: Path, settings: EngineSettings, texts: Sequence[str]) -> tuple[np.ndarray, Usage]:
    """What the embedded engine's `embed` gives for `texts`, and what that took.

    It loads the model here (in `settings.workers` processes), on this machine's devices: free them first.
    """
    with TransformersEngine.from_settings(model, settings) as engine:
        return engine.embed(texts), engine.usage
