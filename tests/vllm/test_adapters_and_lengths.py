"""A LoRA adapter's folder, and positions stretched by YaRN: vLLM against the embedded engine or transformers itself."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from promptcot_assets.inference import EngineError, SamplingParams
from promptcot_assets.inference.model_folder import read_model_folder
from promptcot_assets.inference.transformers_engine import TransformersEngine
from promptcot_assets.inference.vllm_engine import VllmEngine, engine_arguments
from tests.tiny_models import tiny_texts
from tests.vllm.conftest import SIZES, engine_settings

PROMPTS = tiny_texts(12, seed=3, shortest=2, longest=12)
CONTINUATIONS = [" " + text for text in tiny_texts(12, seed=4)]
GREEDY = SamplingParams(temperature=0, max_new_tokens=20)


@pytest.fixture(scope="module")
def adapter(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of rank 4 that changes what the model says; no tokenizer of its own."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False)
    folder = tmp_path_factory.mktemp("adapter")
    get_peft_model(AutoModelForCausalLM.from_pretrained(model), config).save_pretrained(folder)
    return folder


def test_an_adapter_is_its_base_with_the_adapter(adapter: Path, model: Path) -> None:
    with VllmEngine(adapter, engine_settings()) as ours, TransformersEngine(adapter) as theirs:
        found, expected = ours.generate(PROMPTS, GREEDY), theirs.generate(PROMPTS, GREEDY)
        assert [one.text for (one,) in found] == [one.text for (one,) in expected]
        for one, other in zip(ours.score(PROMPTS, CONTINUATIONS), theirs.score(PROMPTS, CONTINUATIONS), strict=True):
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-3)
    with TransformersEngine(model) as base:
        assert base.generate(PROMPTS, GREEDY) != expected


def test_an_adapter_of_the_head_is_not_scored_with(adapter: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(adapter, tmp_path / "head")
    weights = load_file(folder / "adapter_model.safetensors")
    weights |= {f"base_model.model.lm_head.lora_{side}.weight": torch.ones(4, 4) for side in "AB"}
    save_file(weights, folder / "adapter_model.safetensors")
    with VllmEngine(folder, engine_settings()) as engine, pytest.raises(EngineError, match="adapts lm_head"):
        engine.score(["let"], [" A"])


def test_an_adapter_of_any_rank_finds_room(adapter: Path, tmp_path: Path) -> None:
    for rank, room in ((1, 1), (4, 8), (16, 16), (17, 32)):
        folder = shutil.copytree(adapter, tmp_path / f"rank{rank}")
        change(folder / "adapter_config.json", r=rank)
        assert engine_arguments(read_model_folder(folder), engine_settings(), 256)["max_lora_rank"] == room
    change(folder / "adapter_config.json", rank_pattern={"q_proj": 1000})
    with pytest.raises(EngineError, match="up to rank 512; this one has 1000"):
        VllmEngine(folder, engine_settings())


def test_yarn_stretches_what_the_model_was_made_for(model: Path, tmp_path: Path) -> None:
    """As transformers computes a checkpoint whose own config says so."""
    stretched = shutil.copytree(model, tmp_path / "stretched")
    rope = json.loads((model / "config.json").read_text())["rope_parameters"]
    rope |= {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": SIZES.max_position}
    change(stretched / "config.json", rope_parameters=rope, max_position_embeddings=2 * SIZES.max_position)

    words = " ".join(tiny_texts(40, seed=5)).split()
    long = " ".join(words[:330])
    length = len(AutoTokenizer.from_pretrained(model)(long)["input_ids"])
    assert SIZES.max_position < length < 2 * SIZES.max_position - 30
    prefixes = [*PROMPTS[:5], long, long]
    with VllmEngine(model, engine_settings(vllm={"yarn_factor": 2.0})) as ours:
        found = ours.score(prefixes, CONTINUATIONS[:7])
        ((cut,),) = ours.generate([long], SamplingParams(temperature=0, max_new_tokens=5))
        with pytest.raises(EngineError, match=f"max_model_len {2 * SIZES.max_position}"):
            ours.generate(["let " * 2 * SIZES.max_position], GREEDY)
    with TransformersEngine(stretched) as theirs, TransformersEngine(model) as plain:
        assert cut.text == theirs.generate([long], SamplingParams(temperature=0, max_new_tokens=5))[0][0].text
        for one, other in zip(found, theirs.score(prefixes, CONTINUATIONS[:7]), strict=True):
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-3)
        unstretched = plain.score(prefixes[:5], CONTINUATIONS[:5])
        assert max(abs(a.logprobs[0] - b.logprobs[0]) for a, b in zip(found, unstretched, strict=False)) > 1e-2


def test_only_plain_positions_can_be_stretched(model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model, tmp_path / "linear")
    rope = json.loads((model / "config.json").read_text())["rope_parameters"]
    change(folder / "config.json", rope_parameters=rope | {"rope_type": "linear", "factor": 2.0})
    with pytest.raises(EngineError, match=r"engine\.vllm\.yarn_factor: .*linear.*only plain ones"):
        VllmEngine(folder, engine_settings(vllm={"yarn_factor": 2.0}))


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
