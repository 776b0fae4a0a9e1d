"""Packed rows see nothing of each other, and a packed step learns what an unpacked one does."""

import random
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

from tests.training.runs import run, write_data, write_spec
from training.child import SpecError
from training.packing import packed, refuse_mixing
from training.rows import Rows, sft_rows

SLIDING = {"use_sliding_window": True, "sliding_window": 4, "layer_types": ["full_attention", "sliding_attention"]}


def model(attention: str, **more: object) -> Qwen3ForCausalLM:
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, head_dim=16, attn_implementation=attention, **more,
    )  # fmt: skip
    return Qwen3ForCausalLM(config).eval()


@pytest.mark.parametrize("more", [{}, SLIDING], ids=["full", "sliding"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_packed_rows_are_scored_as_if_each_were_alone(attention: str, more: dict) -> None:
    network, rng = model(attention, **more), random.Random(1)
    refuse_mixing(network)
    rows = [[rng.randrange(64) for _ in range(length)] for length in (9, 1, 6, 12)]
    ids = torch.tensor([[token for row in rows for token in row]])
    positions = torch.cat([torch.arange(len(row)) for row in rows])[None]
    with torch.inference_mode():
        alone = torch.cat([network(torch.tensor([row])).logits[0] for row in rows])
        together = network(ids, position_ids=positions, use_cache=False).logits[0]
        mixed = network(ids, use_cache=False).logits[0]
    assert torch.allclose(together, alone, atol=1e-5)
    assert not torch.allclose(mixed[9:], alone[9:], atol=1e-2)  # the same rows, were they not kept apart


def test_attention_that_is_not_known_to_keep_rows_apart_is_refused() -> None:
    network = model("sdpa")
    network.config._attn_implementation_internal = "somebody's kernel"
    with pytest.raises(SpecError, match=r"attention \"somebody's kernel\" does not keep .* to one of eager, flash"):
        refuse_mixing(network)
    network = model("sdpa")
    network.config.layer_types = ["full_attention", "linear_attention"]
    with pytest.raises(SpecError, match="has layers of linear_attention"):
        refuse_mixing(network)


def test_every_row_is_in_one_pack_and_whole(tiny_model: Path, tmp_path: Path) -> None:
    rows = sft_rows(write_data(tmp_path / "data.parquet"), AutoTokenizer.from_pretrained(tiny_model), 96, tmp_path)
    packs = packed(rows, 96)
    assert all(sum(pack["seq_lengths"]) == len(pack["input_ids"]) <= 96 for pack in packs)
    assert len(packs) < len(rows.data) / 2
    unpacked = []
    for pack in packs:
        ids, labels = pack["input_ids"], pack["labels"]
        for length in pack["seq_lengths"]:
            unpacked.append((ids[:length], labels[:length]))
            ids, labels = ids[length:], labels[length:]
    assert sorted(unpacked) == sorted(zip(rows.data["input_ids"], rows.data["labels"], strict=True))
    assert packed(rows, 96).to_dict() == packs.to_dict()


def test_a_pack_never_holds_more_than_max_length() -> None:
    ids = [[1] * length for length in (5, 5, 4, 3, 2, 1)]
    packs = packed(Rows(Dataset.from_dict({"input_ids": ids, "labels": ids}), 6, {}), 10)
    assert [sum(lengths) for lengths in packs["seq_lengths"]] == [10, 10]


def test_a_packed_step_is_an_unpacked_one_without_padding(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results, weights = [], []
    for packing in (False, True):  # one step over all rows
        arguments = {"max_steps": 1, "per_device_train_batch_size": 60, "warmup_steps": 0, "packing": packing}
        spec = write_spec(tmp_path / str(packing), tiny_model, arguments=arguments)
        results.append(run("sft", spec, capsys))
        weights.append(load_file(tmp_path / str(packing) / "model" / "model.safetensors"))
    plain, packs = results
    assert packs["loss"] == pytest.approx(plain["loss"], abs=1e-5)
    assert (packs["tokens"], packs["rows"]) == (plain["tokens"], plain["rows"])
    base = AutoModelForCausalLM.from_pretrained(tiny_model).state_dict()
    for name, learned in weights[0].items():
        # Adam's first step is of one size: where a gradient is all but zero its sign is a matter of rounding
        same = torch.isclose(learned, weights[1][name], atol=1e-6).float().mean()
        assert same > 0.98, name
        assert not torch.equal(learned, base[name]), name
    assert packs["figures"]["padded_share"] == 0 < plain["figures"]["padded_share"]
