"""What a user of a real model runs into first: each is one sentence that names the cause and the mend.

Over memory is in tests/doctor/test_memory.py; gated models and no network are in tests/stages/test_hub_errors.py.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from promptcot_assets.inference import EngineError, SamplingParams
from promptcot_assets.inference.chat import ChatError, open_template
from promptcot_assets.inference.refusals import TOO_LONG
from promptcot_assets.inference.transformers_engine import TransformersEngine
from promptcot_assets.settings import SettingsError, load_settings
from promptcot_assets.settings.profile import Chat
from tests.training.runs import write_spec
from training import sft
from training.child import SpecError, read_spec
from training.rows import sft_rows


def one_sentence(text: str) -> str:
    assert text and "\n" not in text and not text.rstrip(".").count(". ")
    return text


def test_a_missing_template(tiny_model: Path) -> None:
    with pytest.raises(ChatError) as caught:
        open_template(tiny_model, Chat())
    said = one_sentence(str(caught.value))
    assert "has no chat template" in said and "set `chat` to null" in said and "chat.required to false" in said


def test_a_dtype_that_there_is_not(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: demo\nengine: {dtype: fp16}\n")
    with pytest.raises(SettingsError) as caught:
        load_settings(str(tmp_path / "mine.yaml"))
    assert "engine.dtype: Value error, 'fp16' is not one of float32, bfloat16, float16, auto" in one_sentence(
        str(caught.value)
    )


def test_a_dtype_that_the_models_numbers_overflow_in(tiny_model: Path, tmp_path: Path) -> None:
    """Weights that float32 and bfloat16 hold and float16 does not."""
    large = shutil.copytree(tiny_model, tmp_path / "large")
    weights = load_file(large / "model.safetensors")
    weights["model.norm.weight"] = torch.full_like(weights["model.norm.weight"], 1e5)
    save_file(weights, large / "model.safetensors", {"format": "pt"})
    with TransformersEngine(large, dtype="float16") as engine, pytest.raises(EngineError) as caught:
        engine.score(["find the sum"], [" of the root"])
    assert one_sentence(str(caught.value)).endswith(
        "the model's weights are broken, or numbers overflow in its dtype: try engine.dtype float32"
    )
    with TransformersEngine(large, dtype="bfloat16") as engine:
        assert engine.score(["find the sum"], [" of the root"])[0].logprobs


def test_a_prompt_that_is_over_length_is_a_row_with_its_numbers(tiny_model: Path) -> None:
    with TransformersEngine(tiny_model, max_model_len=16) as engine:
        (served,), (refused,) = engine.generate(["find", "find the sum of " * 20], SamplingParams(max_new_tokens=4))
    assert served.tokens and refused.refusal and refused.finish_reason == TOO_LONG
    said = one_sentence(refused.refusal.detail)
    assert "tokens" in said and "engine.max_model_len" in said and "16" in said


def test_rows_that_are_all_over_length_end_a_training_before_it_starts(tiny_model: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    spec = read_spec(write_spec(tmp_path, tiny_model))
    with pytest.raises(SpecError) as caught:
        sft_rows(spec.data, AutoTokenizer.from_pretrained(tiny_model), 2, spec.checkpoints)
    assert "no row to train on (60 longer_than_max_length; max_length 2)" in one_sentence(str(caught.value))


def test_a_dtype_that_a_trainer_does_not_have(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = write_spec(tmp_path, tiny_model, arguments={"bf16": True, "fp16": True})
    with pytest.raises(SystemExit):
        sft.main(["sft", str(path)])
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("training.sft: arguments: SFTConfig refuses them: ") and "fp16" in said and "bf16" in said
    assert json.loads(path.read_text())["arguments"]["bf16"]
