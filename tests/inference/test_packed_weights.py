"""Packed weights compute to the bit what the layers compute that torch's `linear` reads."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, MambaConfig, Qwen2Config

from promptcot_assets.inference.packed_weights import pack

SIZES = {"vocab_size": 300, "hidden_size": 64, "num_hidden_layers": 2}
ATTENTION = SIZES | {"intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2}
CONFIGS = {
    "llama": LlamaConfig(**ATTENTION),
    "llama, embeddings tied": LlamaConfig(**ATTENTION, tie_word_embeddings=True),
    "qwen2, with biases": Qwen2Config(**ATTENTION),
    "mamba, which reads a layer's weight itself": MambaConfig(**SIZES, state_size=8),
}
PACKS = torch.ops.mkldnn._is_mkldnn_bf16_supported()


def made(config: Any, dtype: torch.dtype = torch.bfloat16) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).to(dtype).eval()


def logits(model: Any) -> list[torch.Tensor]:
    rows = torch.arange(2 * 9).reshape(2, 9)
    with torch.inference_mode():
        return [model(input_ids=part, use_cache=False).logits for part in (rows[:1, :1], rows[:, :3], rows)]


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_packed_model_computes_the_same_to_the_bit(config: Any) -> None:
    model = made(config)
    before, names = logits(model), list(model.state_dict())
    assert pack(model) == (PACKS and config.model_type != "mamba")
    assert all(torch.equal(one, other) for one, other in zip(logits(model), before, strict=True))
    assert list(model.state_dict()) == names


def test_a_model_of_another_dtype_is_left_as_it_is() -> None:
    model = made(CONFIGS["llama"], torch.float32)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    assert not pack(model)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_without_the_operators_a_model_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(CONFIGS["llama"])
    before = logits(model)
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    assert not pack(model)
    assert all(torch.equal(one, other) for one, other in zip(logits(model), before, strict=True))
