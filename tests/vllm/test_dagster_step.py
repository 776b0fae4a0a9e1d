"""vLLM in a step of Dagster's multiprocess executor: a spawned process whose main module is not ours."""

import os
import sys
from pathlib import Path

import dagster as dg
import pytest

from promptcot_assets.inference import SamplingParams
from promptcot_assets.inference.transformers_engine import TransformersEngine
from promptcot_assets.inference.vllm_engine import VllmEngine
from promptcot_assets.inference.vllm_process import alive_in
from tests.tiny_models import tiny_texts
from tests.vllm.conftest import engine_settings

PROMPTS = tiny_texts(6, seed=3)
GREEDY = SamplingParams(temperature=0, max_new_tokens=20)
MODEL = "PROMPTCOT_TEST_MODEL"


@dg.op
def ask() -> list[str]:
    with VllmEngine(Path(os.environ[MODEL]), engine_settings()) as engine:
        texts = [one.text for (one,) in engine.generate(PROMPTS, GREEDY)]
        assert engine._process is not None
        child = engine._process._child.pid
    assert not alive_in(child)
    return [*texts, "vllm in the step" if "vllm" in sys.modules else "no vllm in the step"]


@dg.job(executor_def=dg.multiprocess_executor)
def step() -> None:
    ask()


@pytest.mark.slow
def test_a_step_samples_and_leaves_nothing(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MODEL, str(model))
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")  # with a core and a worker of its own, as on a device
    with (
        dg.instance_for_test() as instance,
        dg.execute_job(dg.reconstructable(step), instance=instance, raise_on_error=True) as result,
    ):
        found = result.output_for_node("ask")
    with TransformersEngine(model) as engine:
        expected = [one.text for (one,) in engine.generate(PROMPTS, GREEDY)]
    assert found == [*expected, "no vllm in the step"]
