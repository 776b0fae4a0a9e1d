"""Attention with grouped queries says what torch's own says, and stands in for it in bfloat16 only."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from promptcot_assets.inference import SamplingParams
from promptcot_assets.inference.grouped_attention import NAME, _attend
from promptcot_assets.inference.language_model import LanguageModel
from promptcot_assets.inference.transformers_engine import TransformersEngine
from promptcot_assets.stages.base_models import train_tokenizer
from tests.tiny_models import MARKERS, tiny_texts

ROWS, LENGTH, SIZE = 3, 7, 8


def grouped_model(folder: Path, key_heads: int) -> Path:
    """A tiny Llama whose four query heads share this many heads of keys."""
    tokenizer = train_tokenizer(tiny_texts(), 320, MARKERS)
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=key_heads, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None, initializer_range=0.3,
        )
    ).save_pretrained(folder)  # fmt: skip
    tokenizer.save_pretrained(folder)
    return folder


def mask_of(kind: str, width: int) -> torch.Tensor | None:
    seen = torch.ones(ROWS, 1, width, LENGTH, dtype=torch.bool).tril(LENGTH - width)
    seen[0, :, :, :2] = False  # the first row is shorter
    if kind == "none":
        return None
    return seen if kind == "flags" else torch.zeros(seen.shape).masked_fill(~seen, -torch.inf)


@pytest.mark.parametrize("heads", [(6, 2), (6, 1), (4, 4)])
@pytest.mark.parametrize(("kind", "width"), [("flags", 1), ("flags", 3), ("numbers", 3), ("none", 1), ("none", LENGTH)])
def test_the_attention_is_that_of_torch(heads: tuple[int, int], kind: str, width: int) -> None:
    generator = torch.Generator().manual_seed(0)
    queries, keys = heads
    query = torch.randn(ROWS, queries, width, SIZE, generator=generator)
    key, value = (torch.randn(ROWS, keys, LENGTH, SIZE, generator=generator) for _ in range(2))
    module = SimpleNamespace(num_key_value_groups=queries // keys, is_causal=True)
    given = {"dropout": 0.0, "scaling": 0.4}
    mask = mask_of(kind, width)
    ours, _ = _attend(module, query, key, value, mask, **given)
    theirs, _ = sdpa_attention_forward(module, query, key, value, mask, **given)
    assert ours.shape == theirs.shape == (ROWS, width, queries, SIZE)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(("dtype", "name"), [("bfloat16", NAME), ("float32", "sdpa")])
def test_only_models_in_bfloat16_attend_this_way(dtype: str, name: str, tmp_path: Path) -> None:
    """The digits of a model in float32 are pinned, and stay as they are."""
    model = LanguageModel(grouped_model(tmp_path / "model", 2), 1, dtype, "cpu")
    assert model.model.config._attn_implementation == name


def test_a_model_samples_and_scores_as_with_torchs_attention(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the digits that bfloat16 has: greedy texts are the same, log-probabilities nearly."""
    folder, prompts = grouped_model(tmp_path / "model", 2), tiny_texts(4, seed=1)
    greedy = SamplingParams(temperature=0.0, max_new_tokens=12, n=2)
    said = {}
    for name in (NAME, "sdpa"):
        if name == "sdpa":
            monkeypatch.setattr("promptcot_assets.inference.language_model.group_queries", lambda _: None)
        with TransformersEngine(folder, dtype="bfloat16") as engine:
            texts = [one.text for some in engine.generate(prompts, greedy) for one in some]
            said[name] = texts, engine.score([prompts[0]] * 3, [f" {text}" for text in prompts[1:]])
    (texts, scores), (other_texts, other_scores) = said.values()
    assert texts == other_texts
    for ours, theirs in zip(scores, other_scores, strict=True):
        assert ours.logprobs == pytest.approx(theirs.logprobs, abs=0.1)
