"""How large a profile's models are: from their own config where this machine has it, else from a table (costs.yaml)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from promptcot_assets.settings.profile import BaseModel, TinyModel

BILLION = 10**9
BF16, FLOAT32 = 2.0, 4.0
MXFP4 = 0.56  # bytes a weight with its scales, the few that stay bf16 included


@dataclass(frozen=True)
class ModelSize:
    """Weights in all and used for one token; what a token's keys and values take; bytes that a weight is stored in."""

    total: float
    active: float
    layers: int
    kv_heads: int
    head_dim: int
    weight_bytes: float = BF16

    @property
    def weights(self) -> float:
        """Bytes of the checkpoint."""
        return self.total * self.weight_bytes

    @property
    def cache_of_a_token(self) -> float:
        """Bytes of keys and values, in bf16."""
        return 2 * self.layers * self.kv_heads * self.head_dim * BF16

    @property
    def has_experts(self) -> bool:
        return self.active < 0.9 * self.total


@cache
def costs() -> dict[str, Any]:
    """The content of costs.yaml."""
    content: dict[str, Any] = yaml.safe_load((files("promptcot_assets.reports") / "costs.yaml").read_text())
    return content


def size_of(model: BaseModel) -> ModelSize | None:
    """The size of a profile's model; None for one of the hub that nobody here knows."""
    if model.scratch:
        return of_config(_tiny(model.scratch)) if model.scratch else None
    assert model.hub_id is not None
    config = Path(model.hub_id) / "config.json" if Path(model.hub_id).is_dir() else cached(model, "config.json")
    if config and config.is_file():
        return of_config(json.loads(config.read_text()))
    known = costs()["models"].get(model.hub_id)
    if known is None:
        return None
    shape = {name: known[name] for name in ("layers", "kv_heads", "head_dim")}
    stored = known.get("weight_bytes", BF16)
    return ModelSize(known["total"] * BILLION, known["active"] * BILLION, **shape, weight_bytes=stored)


def cached(model: BaseModel, file: str) -> Path | None:
    """A file of the model's pinned commit in the hub's cache, if it is there."""
    from huggingface_hub import try_to_load_from_cache

    if not model.hub_id or Path(model.hub_id).is_dir():
        return None
    found = try_to_load_from_cache(model.hub_id, file, revision=model.revision)
    return Path(found) if isinstance(found, str) else None


def of_config(config: dict[str, Any]) -> ModelSize:
    """From a config.json of the Llama family: Qwen2, Qwen3 with and without experts, Llama, Phi-3, gpt-oss."""
    width, layers, heads = config["hidden_size"], config["num_hidden_layers"], config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads") or heads
    head_dim = config.get("head_dim") or width // heads
    attention = width * head_dim * (2 * heads + 2 * kv_heads)
    experts = config.get("num_experts") or config.get("num_local_experts") or 1
    chosen = config.get("num_experts_per_tok") or config.get("experts_per_token") or 1
    inner = config.get("moe_intermediate_size") or config["intermediate_size"]
    expert = 3 * width * inner
    words = config["vocab_size"] * width * (1 if config.get("tie_word_embeddings") else 2)
    total = words + layers * (attention + experts * expert + (experts * width if experts > 1 else 0))
    active = words + layers * (attention + (chosen if experts > 1 else 1) * expert)
    quantized = (config.get("quantization_config") or {}).get("quant_method") == "mxfp4"
    kind = str(config.get("dtype") or config.get("torch_dtype") or "bfloat16")
    stored = MXFP4 if quantized else FLOAT32 if kind == "float32" else BF16
    return ModelSize(total, active, layers, kv_heads, head_dim, stored)


def _tiny(model: TinyModel) -> dict[str, Any]:
    return {
        "hidden_size": model.hidden_size,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "intermediate_size": model.intermediate_size,
        "vocab_size": model.vocab_size,
        "tie_word_embeddings": True,
        "dtype": "float32",
    }
