"""Every prompt as the model reads it and every completion, written down as they pass: `promptcot preview` shows it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from promptcot_assets.inference.protocol import Completion, InferenceEngine, SamplingParams

TRANSCRIPT = "PROMPTCOT_TRANSCRIPT"  # environment variable: the file to append to; nothing is written without it


def transcribed(engine: InferenceEngine, model: str) -> InferenceEngine:
    """The engine itself, or one that also writes what passes through it, where the environment names a file."""
    file = os.environ.get(TRANSCRIPT)
    return _Transcript(engine, model, Path(file)) if file else engine


def _shown(completion: Completion) -> dict[str, Any]:
    return {"text": completion.text, "finish_reason": completion.finish_reason, "tokens": completion.tokens}


class _Transcript:
    """An engine around another. model: which one it holds, as the transcript names it."""

    def __init__(self, engine: InferenceEngine, model: str, file: Path) -> None:
        self._engine, self._model, self._file = engine, model, file

    def generate(
        self, prompts: Sequence[str], params: SamplingParams, seeds: Sequence[int] | None = None
    ) -> list[list[Completion]]:
        drawn = self._engine.generate(prompts, params, seeds)
        lines = [
            json.dumps({"model": self._model, "prompt": prompt, "completions": [_shown(one) for one in own]})
            for prompt, own in zip(prompts, drawn, strict=True)
        ]
        with self._file.open("a") as file:  # one write: lanes and threads append side by side
            file.write("".join(f"{line}\n" for line in lines))
        return drawn

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def __enter__(self) -> Self:
        self._engine.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._engine.__exit__(kind, error, trace)
