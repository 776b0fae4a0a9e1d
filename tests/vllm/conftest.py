"""The engines on the real vLLM, with tiny checkpoints: `make test-vllm`. Skipped where vLLM is not installed."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from promptcot_assets.inference.transformers_engine import TransformersEngine
from promptcot_assets.inference.vllm_engine import VllmEngine
from promptcot_assets.settings.engines import Engine
from tests.tiny_models import TinySettings, make_tiny_model, one_thread, teach

__all__ = ["one_thread"]

HERE = Path(__file__).parent
# vLLM's attention on a CPU: heads of 32 at least, cached in blocks of 32 at least
SIZES = TinySettings(hidden_size=64, heads=2)
FAST = {"enforce_eager": True, "kv_cache_gib": 0.25, "max_running": 32, "arguments": {"block_size": 32}}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if importlib.util.find_spec("vllm") is None:
        for item in items:
            if item.path.is_relative_to(HERE):
                item.add_marker(pytest.mark.skip(reason="no vllm in this environment: make test-vllm"))


def engine_settings(name: str = "vllm", vllm: dict[str, Any] | None = None, **changed: Any) -> Engine:
    return Engine(name=name, dtype="float32", vllm=FAST | (vllm or {}), **changed)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that vLLM's kernels take; it has learned to write words and numbers."""
    return teach(make_tiny_model(tmp_path_factory.mktemp("models") / "taught", SIZES))


@pytest.fixture(scope="module")
def engine(model: Path) -> Iterator[VllmEngine]:
    with VllmEngine(model, engine_settings()) as engine:
        yield engine


@pytest.fixture(scope="module")
def embedded(model: Path) -> Iterator[TransformersEngine]:
    with TransformersEngine(model) as engine:
        yield engine
