"""How large a profile's models are: from their own config where this machine has it, else from a table (costs.yaml)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from promptcot_assets.settings.profile import BaseModel, TinyModel

BILLION = 10**9
BF16, FLOAT32 = 2.0, 4.0
MXFP4 = 0.56  # bytes a weight with its scales, the few that stay bf16 included


@dataclass(frozen=True)
class ModelSize:
    """Weights in all and used for one token; what a token's keys and values take; bytes that a weight is stored in.

    hidden, inner, vocab: width of a layer, of what lies inside it for one token, and of the output.
    """

    total: float
    active: float
    layers: int
    kv_heads: int
    head_dim: int
    weight_bytes: float = BF16
    hidden: int = 0
    inner: int = 0
    vocab: int = 0

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
    content: dict[str, Any] = yaml.safe_load((files("promptcot_assets.doctor") / "costs.yaml").read_text())
    return content


def size_of(model: BaseModel) -> ModelSize | None:
    """The size of a profile's model; None for one of the hub that nobody here knows."""
    if model.scratch:
        return of_config(_tiny(model.scratch))
    if model.gguf:
        return of_gguf(Path(model.gguf)) or _listed(Path(model.gguf).name)
    if model.hub_id is None:  # others serve it
        return None
    config = Path(model.hub_id) / "config.json" if Path(model.hub_id).is_dir() else cached(model, "config.json")
    if config and config.is_file():
        return of_config(json.loads(config.read_text()))
    return _listed(model.hub_id)


def _listed(name: str) -> ModelSize | None:
    """Of the table: a model of the hub by its id, a GGUF file by the name of its model before the first dot."""
    models = costs()["models"]
    by_file = (known for hub, known in models.items() if name.startswith(f"{hub.partition('/')[2]}."))
    known = models.get(name) or next(by_file, None)
    if known is None:
        return None
    shape = {name: known[name] for name in ("layers", "kv_heads", "head_dim", "hidden", "inner", "vocab")}
    stored = known.get("weight_bytes", BF16)
    return ModelSize(known["total"] * BILLION, known["active"] * BILLION, **shape, weight_bytes=stored)


@cache
def of_gguf(file: Path) -> ModelSize | None:
    """From a GGUF file's own metadata; None where there is no such file, or the package that reads it is not there.

    Its weights are dequantised when the model is fetched, so what counts is how it is stored then: in bf16.
    """
    if not file.is_file() or find_spec("gguf") is None:
        return None
    from gguf import GGUFReader

    try:
        reader = GGUFReader(file)
    except (OSError, ValueError, KeyError, IndexError):  # no GGUF file: who fetches it says what is wrong with it
        return None

    def of(name: str) -> Any:
        field = reader.get_field(name)
        return None if field is None else field.contents()

    family = of("general.architecture")
    width, heads = of(f"{family}.embedding_length"), of(f"{family}.attention.head_count")
    layers = of(f"{family}.block_count")
    named = {one.name: one for one in reader.tensors}
    are_counts = all(isinstance(one, int) and one > 0 for one in (width, heads, layers))  # heads: some have a list
    if not are_counts or "token_embd.weight" not in named:
        return None
    total = float(sum(int(one.n_elements) for one in named.values()))
    return ModelSize(
        total,
        total,
        layers,
        of(f"{family}.attention.head_count_kv") or heads,
        of(f"{family}.attention.key_length") or width // heads,
        BF16,
        width,
        of(f"{family}.feed_forward_length") or 4 * width,
        int(named["token_embd.weight"].n_elements) // width,
    )


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
    inside = inner * (chosen if experts > 1 else 1)
    return ModelSize(total, active, layers, kv_heads, head_dim, stored, width, inside, config["vocab_size"])


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
