"""From settings to an engine. An engine's module is imported when it is opened: the rest stays light."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from promptcot_assets.inference.protocol import EngineError, EngineSettings, InferenceEngine


def open_engine(settings: EngineSettings, model: Path) -> InferenceEngine:
    """The engine `settings.name` with `model` (a Hugging Face folder) loaded.

    Raises: EngineError for an unknown name or a model that cannot be loaded.
    """
    if settings.name not in ENGINES:
        raise EngineError(f"engine.name: {settings.name!r} is not an engine; known: {', '.join(ENGINES)}")
    return ENGINES[settings.name](settings, model)


def _transformers(settings: EngineSettings, model: Path) -> InferenceEngine:
    from promptcot_assets.inference.transformers_engine import TransformersEngine

    return TransformersEngine.from_settings(model, settings)


def _vllm(settings: EngineSettings, model: Path) -> InferenceEngine:
    from promptcot_assets.inference.vllm_engine import VllmEngine

    return VllmEngine(model, settings)


def _server(settings: EngineSettings, model: Path) -> InferenceEngine:
    from promptcot_assets.inference.server_engine import ServerEngine

    return ServerEngine(model, settings)


def _chat_api(settings: EngineSettings, model: Path) -> InferenceEngine:
    from promptcot_assets.inference.chat_api_engine import ChatApiEngine

    return ChatApiEngine(model, settings)


def _ray(settings: EngineSettings, model: Path) -> InferenceEngine:
    from promptcot_assets.inference.ray_engine import RayEngine

    return RayEngine(model, settings, open_engine)


ENGINES: dict[str, Callable[[EngineSettings, Path], InferenceEngine]] = {
    "transformers": _transformers,
    "vllm": _vllm,
    "server": _server,
    "chat_api": _chat_api,
    "ray": _ray,
}
