"""What vLLM is asked to load, and what is refused before it starts; needs no vLLM. The engine itself: tests/vllm."""

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from promptcot_assets.inference import EngineError, open_engine
from promptcot_assets.inference.model_folder import read_model_folder
from promptcot_assets.inference.vllm_engine import engine_arguments
from promptcot_assets.settings.engines import Engine


def arguments(model: Path, max_len: int = 256, **vllm: Any) -> dict[str, Any]:
    return engine_arguments(read_model_folder(model), Engine.model_validate({"name": "vllm", "vllm": vllm}), max_len)


def test_settings_are_vllms_arguments(tiny_model: Path) -> None:
    found = arguments(tiny_model, tensor_parallel=4, max_running=7, enforce_eager=True, kv_cache_gib=0.5)
    assert (found["model"], found["tokenizer"]) == (str(tiny_model), str(tiny_model))
    assert (found["tensor_parallel_size"], found["max_num_seqs"], found["enforce_eager"]) == (4, 7, True)
    assert (found["kv_cache_memory_bytes"], found["max_model_len"]) == (1 << 29, 257)
    assert not {"hf_overrides", "enable_lora"} & found.keys()
    assert arguments(tiny_model, arguments={"block_size": 32, "max_model_len": 5}).items() >= {
        ("block_size", 32),
        ("max_model_len", 5),
    }


def test_yarn_keeps_the_rest_of_the_models_rotary_settings(tiny_model: Path) -> None:
    plain = json.loads((tiny_model / "config.json").read_text())["rope_parameters"]
    override = arguments(tiny_model, yarn_factor=4.0)["hf_overrides"]
    assert override["max_position_embeddings"] == 1024
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256}
    assert override["rope_parameters"] == plain | yarn


def test_a_stretched_model_is_not_stretched_again(tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "stretched")
    config = json.loads((folder / "config.json").read_text())
    config["rope_parameters"] |= {"rope_type": "linear", "factor": 2.0}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(EngineError, match=r"engine\.vllm\.yarn_factor: .*linear"):
        arguments(folder, yarn_factor=4.0)


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vllm is installed here")
def test_without_vllm_the_engine_says_what_to_install(tiny_model: Path) -> None:
    with pytest.raises(EngineError, match=r"there is no vllm in .*install the extra `gpu`"):
        open_engine(Engine(name="vllm"), tiny_model)
