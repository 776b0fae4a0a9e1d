"""One setting switches engines: the same stage gives the same rows, and greedy decoding the same text, from all."""

from pathlib import Path

import pyarrow as pa
import pytest

from promptcot_assets.inference import InferenceEngine, SamplingParams, open_engine
from promptcot_assets.lake import Row
from promptcot_assets.settings.profile import Synthesis
from promptcot_assets.stages.synthesis.writing import synthesize
from promptcot_assets.tables import SCHEMAS
from tests.ray_cluster import RayCluster, ray_cluster
from tests.tiny_models import tiny_texts
from tests.vllm.conftest import engine_settings

__all__ = ["ray_cluster"]

PROMPTS = tiny_texts(12, seed=3, shortest=2, longest=12)
CONTINUATIONS = [" " + text for text in tiny_texts(12, seed=4)]
GREEDY = SamplingParams(temperature=0, max_new_tokens=30)
SAMPLED = SamplingParams(max_new_tokens=10, n=2)


def rows_of_a_stage(engine: InferenceEngine) -> list[Row]:
    common = {"domain": "mini_maths", "level": "2", "batch": "b1", "named": []}
    pairs = [["ratios", "averages"], ["percentages", "ratios"]]
    sets = [common | {"concept_set_id": f"set{at}", "concepts": pair} for at, pair in enumerate(pairs)]
    synthesis = Synthesis.model_validate({"sampling": {"temperature": 0, "max_new_tokens": 20}})
    return synthesize(sets, engine, synthesis, "p/1", seed=0)


@pytest.fixture(scope="module")
def expected(model: Path) -> tuple[list[str], list[list[float]], list[Row]]:
    """Greedy texts, scores and a stage's rows, from the engine `transformers`."""
    with open_engine(engine_settings("transformers"), model) as engine:
        texts = [one.text for (one,) in engine.generate(PROMPTS, GREEDY)]
        scores = [one.logprobs for one in engine.score(PROMPTS, CONTINUATIONS)]
        return texts, scores, rows_of_a_stage(engine)


@pytest.mark.parametrize("name", ["vllm", "server", "ray"])
def test_engines_agree(
    name: str, model: Path, expected: tuple[list[str], list[list[float]], list[Row]], request: pytest.FixtureRequest
) -> None:
    settings = engine_settings(name)
    if name == "ray":  # one actor that holds vLLM, on the only node
        cluster: RayCluster = request.getfixturevalue("ray_cluster")
        cluster.grow(1)
        ray = {"address": cluster.address, "engine": "vllm", "actors": 1, "gpus_an_actor": 0.0, "placement_s": 120.0}
        settings = engine_settings(name, ray=ray)
    texts, scores, rows = expected
    with open_engine(settings, model) as engine:
        assert [one.text for (one,) in engine.generate(PROMPTS, GREEDY)] == texts
        for one, other in zip(engine.score(PROMPTS, CONTINUATIONS), scores, strict=True):
            assert one.logprobs == pytest.approx(other, abs=1e-3)
        for many in engine.generate(PROMPTS[:3], SAMPLED):
            assert len(many) == 2 and all(one.logprob < 0 and 1 <= one.tokens <= 10 for one in many)
        found = rows_of_a_stage(engine)
    schema = SCHEMAS["raw_problems"]
    assert pa.Table.from_pylist(found, schema).schema == pa.Table.from_pylist(rows, schema).schema
    for row, other_row in zip(found, rows, strict=True):
        assert row.keys() == other_row.keys() == set(schema.names)
        assert row["logprob"] == pytest.approx(other_row["logprob"], abs=1e-3)
        assert row | {"logprob": None} == other_row | {"logprob": None}
