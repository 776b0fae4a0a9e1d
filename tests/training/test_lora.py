"""Adapters end up in the model: what is left is a whole checkpoint that scores as base and adapter did."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from tests.training.runs import hashes, run, write_spec
from training.child import OutputError
from training.lora import merge

LORA = {"r": 4, "alpha": 8, "target_modules": ["q_proj", "down_proj"]}


def test_a_merged_model_scores_as_the_base_with_its_adapter(tiny_model: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    ids = torch.arange(20)[None]
    with torch.inference_mode():
        before = base(ids).logits
    adapted = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)).eval()
    with torch.inference_mode():
        expected = adapted(ids).logits
    adapted.save_pretrained(tmp_path / "adapter")
    merge(tiny_model, tmp_path / "adapter", tmp_path / "merged", "float32")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    with torch.inference_mode():
        found = merged(ids).logits
    assert torch.allclose(found, expected, atol=1e-4) and not torch.allclose(found, before, atol=1e-2)
    assert set(load_file(tmp_path / "merged" / "model.safetensors")) == set(load_file(tiny_model / "model.safetensors"))


def test_an_adapter_without_its_weights_is_an_error(tiny_model: Path, tmp_path: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    get_peft_model(base, LoraConfig(r=4, target_modules="all-linear")).save_pretrained(tmp_path / "adapter")
    save_file({}, tmp_path / "adapter" / "adapter_model.safetensors")
    with pytest.raises(OutputError, match=r"saved without its weights \(FSDP needs fsdp_activation_checkpointing: fal"):
        merge(tiny_model, tmp_path / "adapter", tmp_path / "merged", "float32")


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_training_an_adapter_moves_the_named_weights_only(
    kind: str, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = {"max_steps": 16, "warmup_steps": 0, "learning_rate": 1e-2}
    result = run(kind, write_spec(tmp_path, tiny_model, lora=LORA, arguments=arguments), capsys)
    assert result["lora"] == LORA | {"dropout": 0.0}
    losses = [loss for _, loss in result["loss_curve"]]
    assert sum(losses[-4:]) / 4 < losses[0]
    assert set(hashes(tmp_path / "model")) == set(result["files"]) | {"training.json"}
    assert "adapter_model.safetensors" not in result["files"] and "tokenizer.json" in result["files"]
    before, after = (load_file(folder / "model.safetensors") for folder in (tiny_model, tmp_path / "model"))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if "q_proj" in name or "down_proj" in name}


def test_another_adapter_is_another_run(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("sft", write_spec(tmp_path, tiny_model, lora=LORA, arguments={"max_steps": 1}), capsys)
    first = json.loads((tmp_path / "model" / "training.json").read_text())
    with pytest.raises(SystemExit):
        run("sft", write_spec(tmp_path, tiny_model, lora=LORA | {"r": 8}, arguments={"max_steps": 1}), capsys)
    assert json.loads((tmp_path / "model" / "training.json").read_text()) == first
