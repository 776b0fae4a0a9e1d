"""The server engine on a real `vllm serve`, by its address, behind a faulty proxy, and as a child of ours."""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from promptcot_assets.inference import Completion, EngineError, SamplingParams, TokenScores
from promptcot_assets.inference.event_loop import EventLoop
from promptcot_assets.inference.model_folder import read_model_folder
from promptcot_assets.inference.protocol import EngineLost
from promptcot_assets.inference.server_engine import ServerEngine
from promptcot_assets.inference.serving import VllmServer, serve_arguments
from promptcot_assets.inference.transformers_engine import TransformersEngine
from promptcot_assets.settings.engines import Engine
from tests.inference.faulty_proxy import FAULTS, FaultyProxy
from tests.tiny_models import tiny_texts
from tests.vllm.conftest import SIZES, engine_settings

ROOT = Path(__file__).parents[2]
PROMPTS = tiny_texts(20, seed=3, shortest=2, longest=12)
CONTINUATIONS = [" " + text for text in tiny_texts(20, seed=4)]
GREEDY = SamplingParams(temperature=0, max_new_tokens=30)
SAMPLED = SamplingParams(temperature=0.9, top_p=0.95, max_new_tokens=12, n=2, stop=("of",))
MARK = "PROMPTCOT_TEST_SERVER"  # an environment variable that all processes of a server inherit
KEY = "PROMPTCOT_TEST_KEY"


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[VllmServer]:
    """One that knows no more than the model: max_model_len is the model's own, as of a server that others started."""
    loop = EventLoop("test")
    arguments = serve_arguments(read_model_folder(model), engine_settings("server"), SIZES.max_position)

    async def start() -> VllmServer:
        return VllmServer(arguments | {"max_model_len": SIZES.max_position}, threads=1)

    server = loop.run(start())
    os.environ[KEY] = server.key
    yield server
    server.close()
    loop.close()


@pytest.fixture(scope="module")
def engine(server: VllmServer, model: Path) -> Iterator[ServerEngine]:
    with ServerEngine(model, at(server.url, patience_s=400.0)) as engine:
        yield engine


def at(*urls: str, **server: object) -> Engine:
    defaults = {"timeout_s": 60.0, "patience_s": 60.0, "concurrency": 16, "api_key_variable": KEY}
    return engine_settings("server", server={"urls": list(urls), **defaults, **server})


def assert_same(found: list[list[Completion]], expected: list[list[Completion]]) -> None:
    for one, other in zip(itertools.chain(*found), itertools.chain(*expected), strict=True):
        assert (one.text, one.tokens, one.finish_reason, one.seed) == (
            other.text,
            other.tokens,
            other.finish_reason,
            other.seed,
        )
        assert one.logprob == pytest.approx(other.logprob, abs=1e-3)


def assert_same_scores(found: list[TokenScores], expected: list[TokenScores]) -> None:
    assert [one.offsets for one in found] == [one.offsets for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-3)


def test_greedy_is_the_embedded_engines(engine: ServerEngine, embedded: TransformersEngine) -> None:
    assert_same(engine.generate(PROMPTS, GREEDY), embedded.generate(PROMPTS, GREEDY))


def test_stop_strings_end_a_completion_where_they_do_in_the_embedded_engine(
    engine: ServerEngine, embedded: TransformersEngine
) -> None:
    params = SamplingParams(temperature=0, max_new_tokens=30, stop=("er", "oot"))
    assert_same(engine.generate(PROMPTS, params), embedded.generate(PROMPTS, params))


@pytest.mark.parametrize("end", [True, False])
def test_scores_are_the_embedded_engines(engine: ServerEngine, embedded: TransformersEngine, end: bool) -> None:
    assert_same_scores(engine.score(PROMPTS, CONTINUATIONS, end=end), embedded.score(PROMPTS, CONTINUATIONS, end=end))


def test_texts_as_long_as_the_model_allows(engine: ServerEngine, embedded: TransformersEngine) -> None:
    words = " let" * (SIZES.max_position - 2)
    assert_same_scores(engine.score(["let"], [words]), embedded.score(["let"], [words]))
    params = SamplingParams(temperature=0, max_new_tokens=50)
    prompt = [" let" * (SIZES.max_position - 5)]
    assert_same(engine.generate(prompt, params), embedded.generate(prompt, params))


def test_any_completion_is_sampled_again_alone(engine: ServerEngine) -> None:
    stored = engine.generate(PROMPTS, SamplingParams(max_new_tokens=12, n=4))
    assert len({one.text for one in itertools.chain(*stored)}) > 60
    params = SamplingParams(max_new_tokens=12)
    for prompt, completions in zip(PROMPTS[:4], stored, strict=False):
        seeds = [one.seed for one in completions]
        assert_same(engine.generate([prompt] * 4, params, seeds), [[one] for one in completions])


def test_seeds_of_64_bits(engine: ServerEngine) -> None:
    """On a CPU torch's generator reads the lower half of a seed only, so these differ there."""
    seeds = [1, 2**63 - 2, 2**63 + 3, 2**64 - 4]
    found = engine.generate([PROMPTS[0]] * 4, SamplingParams(max_new_tokens=12), seeds)
    assert [one.seed for (one,) in found] == seeds and len({one.text for (one,) in found}) == 4


def test_the_server_reports_what_its_prefix_cache_spared(engine: ServerEngine) -> None:
    before = engine.usage
    engine.generate([" ".join(tiny_texts(8, seed=9))], SamplingParams(max_new_tokens=2, n=4))
    assert engine.usage.prompt_tokens - before.prompt_tokens > 4 * 64
    assert engine.usage.shared_tokens - before.shared_tokens >= 32, "whole blocks, of those that came later"


def test_embeddings_are_the_embedded_engines(engine: ServerEngine, embedded: TransformersEngine) -> None:
    np.testing.assert_allclose(engine.embed(PROMPTS), embedded.embed(PROMPTS), atol=1e-5)


def test_every_fault_costs_time_and_no_row(server: VllmServer, engine: ServerEngine, model: Path) -> None:
    expected = engine.generate(PROMPTS, SAMPLED)
    scores = engine.score(PROMPTS, CONTINUATIONS)
    with (
        FaultyProxy(server.url, FAULTS * 2, stalled_s=30.0) as proxy,
        ServerEngine(model, at(proxy.url, timeout_s=10.0)) as faulty,
    ):
        assert_same(faulty.generate(PROMPTS, SAMPLED), expected)
        assert_same_scores(faulty.score(PROMPTS, CONTINUATIONS), scores)
        assert proxy.suffered == dict.fromkeys(FAULTS, 2)


def test_an_endpoint_that_is_down_for_20_seconds(server: VllmServer, engine: ServerEngine, model: Path) -> None:
    expected = engine.generate(PROMPTS, SAMPLED)
    with (
        FaultyProxy(server.url, itertools.repeat("slow")) as proxy,
        ServerEngine(model, at(proxy.url, concurrency=4)) as interrupted,
    ):
        found: list[list[list[Completion]]] = []
        call = threading.Thread(target=lambda: found.append(interrupted.generate(PROMPTS, SAMPLED)))
        call.start()
        wait_until(lambda: proxy.posts >= 10)
        proxy.down_for(20.0).join()
        call.join()
        assert_same(found[0], expected)
        assert 2 * len(PROMPTS) < proxy.posts <= 2 * len(PROMPTS) + 4, "only those in flight were sent again"


def test_a_request_that_vllm_refuses_fails_with_its_words(engine: ServerEngine) -> None:
    with pytest.raises(EngineError, match=r"refused prompt 0, .*: HTTP 400 Bad Request: .*temperature"):
        engine.generate(PROMPTS[:1], SamplingParams(temperature=2.5))


# ---- a server of our own


@pytest.fixture(scope="module")
def adapter(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False)
    folder = tmp_path_factory.mktemp("adapter")
    get_peft_model(AutoModelForCausalLM.from_pretrained(model), config).save_pretrained(folder)
    return folder


def test_a_server_of_ours_serves_an_adapter_and_nothing_of_it_is_left(
    adapter: Path, embedded: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MARK, "ours")
    with ServerEngine(adapter, engine_settings("server")) as engine, TransformersEngine(adapter) as theirs:
        assert not marked("ours"), "it starts with the first call that needs it"
        expected = theirs.generate(PROMPTS, GREEDY)
        assert_same(engine.generate(PROMPTS, GREEDY), expected)
        assert_same_scores(engine.score(PROMPTS, CONTINUATIONS), theirs.score(PROMPTS, CONTINUATIONS))
        assert expected != embedded.generate(PROMPTS, GREEDY), "the adapter changes what the model says"
        assert len(marked("ours")) >= 2
    assert not marked("ours")


def test_a_server_that_dies_is_an_engine_lost_and_leaves_nothing(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MARK, "dies")
    with ServerEngine(model, engine_settings("server")) as engine:
        engine.generate(PROMPTS[:1], GREEDY)
        assert engine._own is not None
        for pid in marked("dies"):
            if pid != engine._own.pid:  # all but the guardian
                with contextlib.suppress(ProcessLookupError):  # it ended with another
                    os.kill(pid, signal.SIGKILL)
        with pytest.raises(EngineLost, match=r"vllm serve .* ended with exit code 137; the end of its log:\n"):
            engine.generate(PROMPTS, GREEDY)
    assert not marked("dies")


def test_a_server_that_cannot_start_says_why(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MARK, "wrong")
    with ServerEngine(model, engine_settings("server", vllm={"arguments": {"no_such_argument": 3}})) as engine:
        with pytest.raises(EngineError, match=r"ended with exit code 2; (.|\n)*--no-such-argument"):
            engine.generate(PROMPTS, GREEDY)
        assert not marked("wrong")


def test_a_server_ends_when_we_are_killed(model: Path) -> None:
    code = f"""
        from pathlib import Path
        from promptcot_assets.inference import SamplingParams
        from promptcot_assets.inference.server_engine import ServerEngine
        from tests.vllm.conftest import engine_settings
        ServerEngine(Path({str(model)!r}), engine_settings("server")).generate(["let A"], SamplingParams())
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, env=os.environ | {MARK: "killed"}
    )
    wait_until(lambda: len(marked("killed")) >= 4)  # we, the guardian, the server, and what the server starts
    parent.kill()
    assert parent.wait() == -signal.SIGKILL
    wait_until(lambda: not marked("killed"))


def marked(value: str) -> list[int]:
    """Processes with that mark in the environment they were started with; not this one, which only sets it."""
    mark, found = f"{MARK}={value}".encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:  # it ended, or is another user's
            continue
    return found


def wait_until(condition: Callable[[], bool], at_most_s: float = 300.0) -> None:
    deadline = time.monotonic() + at_most_s
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.1)
