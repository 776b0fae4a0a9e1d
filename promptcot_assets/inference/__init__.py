"""Language models behind one protocol: see `engine.py`."""

from promptcot_assets.inference.engine import (
    Completion,
    EngineError,
    EngineSettings,
    InferenceEngine,
    SamplingParams,
    TokenScores,
    Usage,
    completion_seed,
    open_engine,
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
