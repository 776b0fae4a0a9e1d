"""Memory of every phase: parts that grow with what they are of, held against a real training's, and mends that mend."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from promptcot_assets.doctor.devices import GIB, Device, named
from promptcot_assets.doctor.estimate import estimate, phase_text
from promptcot_assets.doctor.finding import Finding
from promptcot_assets.doctor.memory import Phase, phases, training_parts
from promptcot_assets.doctor.missing import missing
from promptcot_assets.doctor.model_sizes import of_config, size_of
from promptcot_assets.settings import Settings, load_settings
from promptcot_assets.settings.profile import BaseModel, Training

COMMIT = "a" * 40
QWEN = BaseModel(hub_id="Qwen/Qwen3-1.7B", revision=COMMIT)
SMOL = BaseModel(hub_id="HuggingFaceTB/SmolLM2-135M-Instruct", revision=COMMIT)


def parts(model: BaseModel, method: str = "sft", lora: bool = False, **arguments: Any) -> dict[str, float]:
    size = size_of(model)
    assert size is not None
    given = {"per_device_train_batch_size": 8, "max_length": 768, "bf16": True} | arguments
    return training_parts(size, method, Training.model_validate({"arguments": given, "lora": {} if lora else None}))


def test_a_training_that_grew_past_ten_gigabytes_is_seen_beforehand() -> None:
    """SmolLM2-135M on a CPU in float32, eight rows of 768 tokens: the kernel ended it above 10 GB."""
    found = parts(SMOL, bf16=False)
    assert 10e9 < sum(found.values()) < 16e9
    assert found["activations"] > found["logits"] > found["weights"]
    assert sum(parts(SMOL, bf16=False, per_device_train_batch_size=4, max_length=512).values()) < 8e9  # it ran


def test_each_part_grows_with_what_it_is_of() -> None:
    one = parts(QWEN)
    twice = parts(QWEN, per_device_train_batch_size=16)
    assert (twice["activations"], twice["logits"]) == (2 * one["activations"], 2 * one["logits"])
    assert all(twice[name] == one[name] for name in ("weights", "gradients", "optimiser"))
    assert parts(QWEN, max_length=1536)["logits"] == 2 * one["logits"]
    assert parts(QWEN, "dpo")["logits"] == 2 * one["logits"]  # chosen and rejected
    assert parts(QWEN, gradient_checkpointing=True)["activations"] < one["activations"] / 5
    assert parts(QWEN, optim="adamw_bnb_8bit")["optimiser"] == one["optimiser"] / 4
    adapted = parts(QWEN, lora=True)
    assert adapted["optimiser"] + adapted["gradients"] < 0.03 * (one["optimiser"] + one["gradients"])
    assert one["weights"] < adapted["weights"] < 1.05 * one["weights"]
    assert parts(QWEN, bf16=False)["activations"] == 2 * one["activations"]


def test_what_is_estimated_is_what_torch_holds(tmp_path: Path) -> None:
    """Tensors that the backward pass keeps of a real forward pass, and those of the weights, gradients and moments."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4, "num_attention_heads": 4,
              "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 8192, "tie_word_embeddings": True,
              "dtype": "float32"}  # fmt: skip
    size = of_config(config)
    model = Qwen3ForCausalLM(Qwen3Config(**config, attn_implementation="sdpa"))
    ids = torch.randint(0, 8192, (4, 256))
    kept: dict[int, int] = {}

    def hold(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    weights = {one.untyped_storage().data_ptr() for one in model.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor):
        loss = model(input_ids=ids, labels=ids).loss
    held = sum(size for pointer, size in kept.items() if pointer not in weights)
    training = Training(arguments={"per_device_train_batch_size": 4, "max_length": 256})
    found = training_parts(size, "sft", training)
    assert held == pytest.approx(found["activations"] + found["logits"], rel=0.5)
    assert held <= 1.15 * (found["activations"] + found["logits"])  # never far more than was said
    optimiser = torch.optim.AdamW(model.parameters())
    loss.backward()
    optimiser.step()
    moments = sum(value.nbytes for state in optimiser.state.values() for value in state.values() if value.dim())
    gradients = sum(one.grad.nbytes for one in model.parameters() if one.grad is not None)
    assert found["optimiser"] == pytest.approx(moments, rel=0.03)
    assert found["gradients"] == pytest.approx(gradients, rel=0.03)


def of(tmp_path: Path, model: str, training: str, more: str = "") -> Settings:
    path = tmp_path / "profile.yaml"
    path.write_text(
        f"extends: demo\nbase: {{scratch: null, hub_id: {model}, revision: {COMMIT}}}\n"
        f"em: {{cold_start: {training}}}\n{more}\n"
    )
    return load_settings(str(path))


def first(settings: Settings, device: Device) -> Phase:
    return next(one for one in phases(settings, device) if one.name == "training q and p (sft)")


BIG = "{arguments: {per_device_train_batch_size: 16, max_length: 2048, bf16: true}}"


def test_every_mend_that_is_named_mends(tmp_path: Path) -> None:
    phase = first(of(tmp_path, "Qwen/Qwen3-0.6B", BIG), named("rtx4090"))
    assert not phase.fits and len(phase.mends) >= 1
    for mend in phase.mends:
        changed: dict[str, Any] = {"per_device_train_batch_size": 16, "max_length": 2048, "bf16": True}
        if batch := re.match(r"per_device_train_batch_size: (\d+) with gradient_accumulation_steps: (\d+)", mend):
            assert int(batch[1]) * int(batch[2]) == 16  # the same batch
            changed |= {"per_device_train_batch_size": int(batch[1])}
        elif "gradient_checkpointing" in mend:
            changed |= {"gradient_checkpointing": True}
        text = f"{{arguments: {changed}}}".replace("'", "").replace("True", "true")
        assert first(of(tmp_path, "Qwen/Qwen3-0.6B", text), named("rtx4090")).fits, mend


def test_what_only_fits_together_is_said_together_and_what_never_fits_is_said_too(tmp_path: Path) -> None:
    together = first(of(tmp_path, "Qwen/Qwen3-1.7B", BIG), named("rtx4090"))
    assert together.mends[-1].startswith(
        ("all of gradient_checkpointing: true, optim: adamw_bnb_8bit", "lora: {} with")
    )
    never = first(of(tmp_path, "Qwen/Qwen2.5-32B", BIG), named("rtx4090"))
    assert not never.fits and not never.mends and "nothing here makes it fit" in phase_text(never)


def findings(settings: Settings, device: Device, home: Path) -> list[Finding]:
    return [one for one in missing(settings, estimate(settings, home, device), home) if one.name == "memory"]


def test_over_memory_is_one_sentence_with_its_mend(tmp_path: Path) -> None:
    machine = Device("cpu", 1e11, 6.1 * GIB, 2, True)
    text = "{arguments: {per_device_train_batch_size: 8, max_length: 768}}"
    settings = of(tmp_path, "HuggingFaceTB/SmolLM2-135M-Instruct", text, "lanes: 1\nengine: {batch_size: 8}")
    (found,) = findings(settings, machine, tmp_path)
    assert found.level == "fail"
    assert re.match(r"training q and p \(sft\): 1\d\.\d GiB \(.*\), 6\.1 there: does not fit$", found.found)
    assert found.mend.startswith("set per_device_train_batch_size: 2 with gradient_accumulation_steps: 4")
    assert findings(settings, Device("cpu", 1e11, 64 * GIB, 2, True), tmp_path) == []


def test_lanes_share_a_machines_memory(tmp_path: Path) -> None:
    text = "{arguments: {per_device_train_batch_size: 2, max_length: 512}}"
    settings = of(tmp_path, "HuggingFaceTB/SmolLM2-135M-Instruct", text, "lanes: 2\nengine: {batch_size: 8}")
    needed = first(settings, Device("cpu", 1e11, 64 * GIB, 2, True)).bytes
    phase = first(settings, Device("cpu", 1e11, 1.5 * needed, 2, True))
    assert not phase.fits and phase.mends[0] == "lanes: 1"


def test_a_context_that_no_device_holds_is_said_with_the_longest_that_one_does(tmp_path: Path) -> None:
    more = "engine: {name: vllm, dtype: bfloat16, max_model_len: 1000000}"
    settings = of(tmp_path, "Qwen/Qwen3-1.7B", "{arguments: {per_device_train_batch_size: 1, bf16: true}}", more)
    phase = next(one for one in phases(settings, named("rtx4090")) if one.name == "sampling from q and p")
    assert not phase.fits
    shorter = int(re.match(r"engine.max_model_len: (\d+)", phase.mends[0])[1])  # type: ignore[index]
    assert 50_000 < shorter < 300_000
    fitting = of(tmp_path, "Qwen/Qwen3-1.7B", "{arguments: {bf16: true}}", more.replace("1000000", str(shorter)))
    assert next(one for one in phases(fitting, named("rtx4090")) if one.name == "sampling from q and p").fits
