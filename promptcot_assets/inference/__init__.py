"""Language models behind one protocol: see `protocol.py`; `factory.py` opens them."""

from promptcot_assets.inference.factory import open_engine
from promptcot_assets.inference.protocol import (
    Completion,
    EngineError,
    EngineSettings,
    InferenceEngine,
    SamplingParams,
    TokenScores,
    Usage,
    completion_seed,
    prompt_seed,
)

__all__ = [
    "Completion",
    "EngineError",
    "EngineSettings",
    "InferenceEngine",
    "SamplingParams",
    "TokenScores",
    "Usage",
    "completion_seed",
    "open_engine",
    "prompt_seed",
]
