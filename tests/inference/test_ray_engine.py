"""The engine over a real cluster of two nodes, of which some die in the middle of a shard."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from promptcot_assets.inference import EngineError, InferenceEngine, SamplingParams, open_engine
from promptcot_assets.inference.transformers_engine import TransformersEngine
from promptcot_assets.lake import Spool
from promptcot_assets.settings.engines import Engine, Ray, Sandbox, Vllm
from promptcot_assets.settings.engines import RayCluster as RayClusterSettings
from tests.ray_cluster import RayCluster
from tests.tiny_models import tiny_texts

pytestmark = pytest.mark.slow
PROMPTS = tiny_texts(40, seed=3, shortest=2, longest=12)
SHARDS = [PROMPTS[at : at + 4] for at in range(0, 24, 4)]
LONG = SamplingParams(max_new_tokens=160, n=32)  # a shard takes a second or more, so that it can be interrupted
Rows = list[dict[str, Any]]


def settings(cluster: RayCluster, *, workers: int = 1, **changed: Any) -> Engine:
    ray = {"address": cluster.address, "engine": "transformers", "gpus_an_actor": 0, "placement_s": 60.0}
    return Engine(name="ray", workers=workers, ray=Ray.model_validate(ray | changed))


@pytest.fixture(scope="module")
def embedded(tiny_model: Path) -> Iterator[InferenceEngine]:
    with open_engine(Engine(), tiny_model) as engine:
        yield engine


@pytest.fixture(scope="module")
def undisturbed(embedded: InferenceEngine, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """The rows of SHARDS as a run on one machine gives them."""
    return list(spooled(Spool(tmp_path_factory.mktemp("spool")), embedded, []))


def spooled(spool: Spool, engine: InferenceEngine, asked: list[int]) -> Rows:
    """The rows of SHARDS, computed as a step does; `asked` gets the number of every shard that is asked for."""

    def rows(shard: tuple[int, list[str]]) -> pa.Table:
        number, prompts = shard
        asked.append(number)
        texts = engine.generate(prompts, LONG)
        return pa.Table.from_pylist(
            [
                {"prompt": prompt, "text": one.text, "tokens": one.tokens, "logprob": one.logprob, "seed": one.seed}
                for prompt, completions in zip(prompts, texts, strict=True)
                for one in completions
            ]
        )

    tables = spool.map("generate", list(enumerate(SHARDS)), rows, lambda shard: str(shard[0]), engine.parallel_calls)
    return [row for table in tables for row in table.to_pylist()]


def wait_until(reached: Callable[[], bool]) -> None:
    until = time.monotonic() + 120
    while not reached():
        assert time.monotonic() < until, "waited for two minutes"
        time.sleep(0.02)


def test_results_are_those_of_the_embedded_engine(
    nodes: RayCluster, tiny_model: Path, embedded: TransformersEngine
) -> None:
    params = SamplingParams(max_new_tokens=12, n=3, top_p=0.9)
    greedy = SamplingParams(temperature=0, max_new_tokens=12)
    continuations = [" " + text for text in PROMPTS]
    before = embedded.usage
    with open_engine(settings(nodes), tiny_model) as engine:
        assert engine.parallel_calls == 2
        assert engine.generate(PROMPTS, params) == embedded.generate(PROMPTS, params)
        assert engine.generate(PROMPTS, greedy) == embedded.generate(PROMPTS, greedy)
        assert engine.generate(["let"], params, seeds=[1]) == embedded.generate(["let"], params, seeds=[1])
        assert engine.score(PROMPTS, continuations) == embedded.score(PROMPTS, continuations)
        assert engine.score(["let"], ["a"], end=False) == embedded.score(["let"], ["a"], end=False)
        assert np.array_equal(engine.embed(PROMPTS), embedded.embed(PROMPTS))
        for measure in ("prompt_tokens", "completion_tokens", "scored_tokens", "positions"):
            assert getattr(engine.usage, measure) == getattr(embedded.usage, measure) - getattr(before, measure) > 0
        assert engine.usage.sampling_seconds > 0 and engine.usage.scoring_seconds > 0
        assert engine.generate(["let", ""], params) == embedded.generate(["let", ""], params)  # refused alike
        with pytest.raises(EngineError, match=r"engine ray \(transformers\) on node [\d.]+: 2 seeds for 1 prompts"):
            engine.generate(["let"], params, seeds=[1, 2])
        assert engine.embed(["let"]).shape == (1, 48)  # a bad request costs no actor
    assert nodes.actors() == []
    with pytest.raises(EngineError, match="closed"):
        engine.embed(["let"])


def test_a_lost_node_costs_the_shard_it_was_in_and_no_row(
    nodes: RayCluster, tiny_model: Path, undisturbed: Rows, tmp_path: Path
) -> None:
    asked: list[int] = []
    with open_engine(settings(nodes, actors=2), tiny_model) as engine, ThreadPoolExecutor(1) as thread:
        working = thread.submit(spooled, Spool(tmp_path), engine, asked)
        wait_until(lambda: len(asked) >= 3)  # the first shard is done, two are in the making
        nodes.kill(next(iter(nodes.nodes)))
        assert working.result() == undisturbed
        assert sorted(asked) == list(range(len(SHARDS)))  # the step asked for each once
        assert engine.redone == 1  # type: ignore[attr-defined]
        assert engine.usage.completion_tokens == sum(row["tokens"] for row in undisturbed)


def test_when_all_nodes_are_lost_finished_shards_stay_and_a_second_run_goes_on(
    nodes: RayCluster, tiny_model: Path, undisturbed: Rows, tmp_path: Path
) -> None:
    first: list[int] = []
    with open_engine(settings(nodes, placement_s=15.0), tiny_model) as engine, ThreadPoolExecutor(1) as thread:
        working = thread.submit(spooled, Spool(tmp_path), engine, first)
        wait_until(lambda: len(first) >= 4)
        for node in list(nodes.nodes):
            nodes.kill(node)
        with pytest.raises(EngineError, match="no actor is left"):
            working.result()
    done = len(list(tmp_path.glob("generate/*.parquet")))
    assert 1 <= done < len(SHARDS)
    nodes.grow(2)
    second: list[int] = []
    with open_engine(settings(nodes), tiny_model) as engine:
        assert spooled(Spool(tmp_path), engine, second) == undisturbed
    assert len(second) == len(SHARDS) - done


def test_an_engine_whose_worker_dies_is_replaced(
    nodes: RayCluster, tiny_model: Path, embedded: InferenceEngine
) -> None:
    with open_engine(settings(nodes, workers=2, actors=1), tiny_model) as engine, ThreadPoolExecutor(1) as thread:
        (actor,) = nodes.actors()
        below = actor.children(recursive=True)
        working = thread.submit(engine.generate, PROMPTS[:12], LONG)
        wait_until(lambda: any(child.cpu_times().user > 0.5 for child in below))
        max(below, key=lambda child: child.create_time()).kill()
        assert working.result() == embedded.generate(PROMPTS[:12], LONG)
        assert engine.redone == 1  # type: ignore[attr-defined]


def test_a_node_that_does_not_see_the_checkpoint_is_named(
    nodes: RayCluster, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_model.parent)  # another working directory than that of the nodes
    with pytest.raises(
        EngineError, match=r"on node [\d.]+: /proc/self/cwd/tiny/\S+ has \d+ bytes where .* not there here"
    ):
        open_engine(settings(nodes), Path("/proc/self/cwd") / tiny_model.name)
    assert nodes.actors() == []


def test_a_model_that_is_split_needs_as_many_devices(nodes: RayCluster, tiny_model: Path) -> None:
    split = Engine(name="ray", vllm=Vllm(tensor_parallel=2), ray=Ray(address=nodes.address))
    with pytest.raises(EngineError, match=r"is 1 and a model is split over engine\.vllm\.tensor_parallel 2"):
        open_engine(split, tiny_model)


def test_where_work_is_done_is_in_no_fingerprint() -> None:
    somewhere = Ray(address="10.0.0.1:6379", actors=3, attempts=1, placement_s=1.0, gpus_an_actor=2, cpus_an_actor=8)
    assert Engine(name="ray", ray=somewhere).canonical() == Engine(name="ray").canonical()
    assert Engine(name="ray", ray=Ray(engine="transformers")).canonical() != Engine(name="ray").canonical()
    assert Sandbox(ray=RayClusterSettings(address="10.0.0.1:6379")).canonical() == Sandbox().canonical()
