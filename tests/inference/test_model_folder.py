"""What a checkpoint's folder says, and an adapter's folder as a model of its own."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from promptcot_assets.inference import EngineError, SamplingParams
from promptcot_assets.inference.model_folder import base_of, read_model_folder
from promptcot_assets.inference.transformers_engine import TransformersEngine
from tests.tiny_models import tiny_texts

PROMPTS = tiny_texts(8, seed=3, shortest=2, longest=12)


@pytest.fixture(scope="module")
def adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter that changes what the model says, as peft saves it."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    folder = tmp_path_factory.mktemp("adapter")
    get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model), config).save_pretrained(folder)
    return folder


def test_an_adapter_is_its_base_with_the_adapter_added(adapter: Path, tiny_model: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    merged = shutil.copytree(tiny_model, tmp_path / "merged")
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(merged)
    params = SamplingParams(max_new_tokens=12, n=2)
    with TransformersEngine(adapter) as found, TransformersEngine(merged) as expected:
        for ours, theirs in zip(found.generate(PROMPTS, params), expected.generate(PROMPTS, params), strict=True):
            assert [one.text for one in ours] == [one.text for one in theirs]
            assert [one.logprob for one in ours] == pytest.approx([one.logprob for one in theirs], abs=1e-3)
        with TransformersEngine(tiny_model) as plain:
            assert found.score(PROMPTS, PROMPTS) != plain.score(PROMPTS, PROMPTS)


def test_an_adapter_works_in_several_workers(adapter: Path) -> None:
    params = SamplingParams(temperature=0, max_new_tokens=8)
    with TransformersEngine(adapter) as one, TransformersEngine(adapter, workers=2, batch_size=3) as two:
        assert [x.text for (x,) in two.generate(PROMPTS, params)] == [x.text for (x,) in one.generate(PROMPTS, params)]


def test_the_base_of_an_adapter(adapter: Path, tiny_model: Path, tmp_path: Path) -> None:
    assert base_of(tiny_model) == tiny_model
    assert base_of(adapter) == tiny_model
    near = shutil.copytree(adapter, tmp_path / "near")
    config = json.loads((near / "adapter_config.json").read_text())
    shutil.copytree(tiny_model, tmp_path / "base")
    (near / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "../base"}))
    assert base_of(near).resolve() == (tmp_path / "base").resolve()
    (near / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "someone/somewhere"}))
    with pytest.raises(EngineError, match="base_model_name_or_path 'someone/somewhere' is no folder"):
        TransformersEngine(near)


def test_lengths_end_tokens_and_texts(tiny_model: Path) -> None:
    folder = read_model_folder(tiny_model)
    assert (folder.max_len(None), folder.max_len(None, stretch=4.0), folder.max_len(100, stretch=4.0)) == (
        256,
        1024,
        100,
    )
    end = folder.tokenizer.eos_token_id
    assert folder.end_tokens == {end} and not folder.is_adapter
    ids = folder.tokenizer("let A be 7 and B")["input_ids"]
    assert folder.text_of([*ids, end], ()) == folder.text_of(ids, ()) == "let A be 7 and B"
    assert folder.text_of([*ids, end], ("never", " and", " 7")) == "let A be"
    assert folder.text_of([end], ()) == folder.text_of([], ()) == ""


def test_every_end_token_of_the_generation_config_ends_a_text(tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [5, 7]}))
    assert read_model_folder(folder).end_tokens == {5, 7, read_model_folder(tiny_model).tokenizer.eos_token_id}
