import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from promptcot_assets.inference import EngineError, SamplingParams, Usage, completion_seed, open_engine, prompt_seed

WRONG_PARAMS = [
    ({"temperature": -0.1}, "temperature"),
    ({"top_p": 0.0}, "top_p"),
    ({"top_p": 1.1}, "top_p"),
    ({"max_new_tokens": 0}, "max_new_tokens"),
    ({"n": 0}, "n"),
    ({"stop": "Problem:"}, "stop"),  # a string is a sequence of one-letter stops
    ({"stop": ("",)}, "stop"),
]


@pytest.mark.parametrize(("given", "name"), WRONG_PARAMS)
def test_wrong_sampling_parameters_are_named(given: dict, name: str) -> None:
    with pytest.raises(ValueError, match=rf"SamplingParams\.{name} must"):
        SamplingParams(**given)


def test_seeds_are_stable_and_fit_a_signed_column() -> None:
    assert prompt_seed(0, "x") == prompt_seed(0, "x") != prompt_seed(1, "x") != prompt_seed(0, "y")
    assert completion_seed(5, 0) == 5
    seeds = {completion_seed(prompt_seed(0, "x"), k) for k in range(100)}
    assert len(seeds) == 100 and all(0 <= seed < 2**63 for seed in seeds)


def test_usage_adds_up_and_shows_only_what_was_measured() -> None:
    assert Usage().rates() == {}
    sampling = Usage(prompt_tokens=30, shared_tokens=20, completion_tokens=90, positions=100, sampling_seconds=2.0)
    assert sampling.rates() == {
        "sampled_tokens_per_second": 45.0,
        "padded_share": 0.0,
        "shared_prompt_share": pytest.approx(2 / 3),
    }
    both = sampling + Usage(prompt_tokens=10, scored_tokens=50, positions=60, padded_positions=8, scoring_seconds=0.5)
    assert both.seconds == 2.5 and both.rates() == {
        "sampled_tokens_per_second": 45.0,
        "scored_tokens_per_second": 100.0,
        "padded_share": 0.05,
        "shared_prompt_share": 0.5,
    }


def test_accelerators_are_shown_where_some_were_held() -> None:
    assert Usage(device_seconds=3.0).rates() == {"device_seconds": 3.0}


def engine_settings(**changed: object) -> SimpleNamespace:
    defaults = {
        "name": "transformers",
        "workers": 1,
        "threads": 1,
        "batch_size": 8,
        "score_batch_size": 8,
        "batch_tokens": None,
    }
    others = {"vllm": None, "server": None, "ray": None}
    return SimpleNamespace(**{**defaults, **others, "max_model_len": None, "dtype": "auto", **changed})


def test_open_engine_opens_what_the_settings_name(tiny_model: Path) -> None:
    with open_engine(engine_settings(), tiny_model) as engine:
        assert len(engine.generate(["let A"], SamplingParams(max_new_tokens=2))) == 1


def test_an_unknown_engine_is_refused_with_the_known_names(tiny_model: Path) -> None:
    known = "transformers, vllm, server, chat_api, ray"
    with pytest.raises(EngineError, match=f"'tensorrt' is not an engine; known: {known}"):
        open_engine(engine_settings(name="tensorrt"), tiny_model)


def test_importing_inference_imports_nothing_heavy() -> None:
    code = (
        "import sys, promptcot_assets.inference.transformers_engine, promptcot_assets.stages.base_models;"
        "print(sorted({'torch', 'transformers', 'tokenizers'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
