"""The server engine over a real HTTP server (`openai_endpoint.py`), with and without a proxy that injects faults."""

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from promptcot_assets.inference import Completion, EngineError, SamplingParams, TokenScores, open_engine
from promptcot_assets.inference.server_engine import ServerEngine
from promptcot_assets.inference.transformers_engine import TransformersEngine
from promptcot_assets.lake.spool import Spool
from promptcot_assets.settings.engines import Engine, Server
from tests.inference.faulty_proxy import FAULTS, FaultyProxy
from tests.inference.openai_endpoint import OpenAIEndpoint
from tests.tiny_models import tiny_texts

PROMPTS = tiny_texts(12, seed=3, shortest=2, longest=8)
CONTINUATIONS = [" " + text for text in tiny_texts(12, seed=4, longest=8)]
SAMPLED = SamplingParams(temperature=1.0, top_p=0.95, max_new_tokens=8)


@pytest.fixture(scope="module")
def endpoint(taught_model: Path) -> Iterator[OpenAIEndpoint]:
    with OpenAIEndpoint(taught_model) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def embedded(taught_model: Path) -> Iterator[TransformersEngine]:
    with TransformersEngine(taught_model) as engine:
        yield engine


@pytest.fixture(scope="module")
def expected(embedded: TransformersEngine) -> list[list[Completion]]:
    return embedded.generate(PROMPTS, SAMPLED)


def settings(*urls: str, max_model_len: int | None = None, **server: Any) -> Engine:
    defaults = {"timeout_s": 30.0, "patience_s": 60.0, "concurrency": 8}
    return Engine(name="server", max_model_len=max_model_len, server=Server(urls=list(urls), **defaults | server))


def assert_same(found: list[list[Completion]], expected: list[list[Completion]]) -> None:
    """Nothing is missing, nothing is there twice, each at its place."""
    assert [len(of_prompt) for of_prompt in found] == [len(of_prompt) for of_prompt in expected]
    for one, other in zip(itertools.chain(*found), itertools.chain(*expected), strict=True):
        assert (one.text, one.tokens, one.finish_reason, one.seed) == (
            other.text,
            other.tokens,
            other.finish_reason,
            other.seed,
        )
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4)


def assert_same_scores(found: list[TokenScores], expected: list[TokenScores]) -> None:
    assert [one.offsets for one in found] == [one.offsets for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


# ---- without faults


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=0, max_new_tokens=10),
        SamplingParams(max_new_tokens=6, n=3, seed=5),
        SamplingParams(temperature=0.7, top_p=0.9, max_new_tokens=10, n=2, stop=("of", "and")),
    ],
    ids=["greedy", "sampled", "nucleus, stop strings"],
)
def test_completions_are_those_of_the_embedded_engine(
    endpoint: OpenAIEndpoint, taught_model: Path, embedded: TransformersEngine, params: SamplingParams
) -> None:
    with open_engine(settings(endpoint.url), taught_model) as engine:
        assert_same(engine.generate(PROMPTS, params), embedded.generate(PROMPTS, params))


@pytest.mark.parametrize("end", [True, False])
def test_scores_are_those_of_the_embedded_engine(
    endpoint: OpenAIEndpoint, taught_model: Path, embedded: TransformersEngine, end: bool
) -> None:
    with ServerEngine(taught_model, settings(endpoint.url)) as engine:
        assert_same_scores(
            engine.score(PROMPTS, CONTINUATIONS, end=end), embedded.score(PROMPTS, CONTINUATIONS, end=end)
        )


def test_a_pair_that_fills_the_servers_length_is_scored(
    endpoint: OpenAIEndpoint, taught_model: Path, embedded: TransformersEngine
) -> None:
    """vLLM wants room for a token that it samples after a prompt."""
    longer, shorter = " let" * 254, " let" * 253
    with ServerEngine(taught_model, settings(endpoint.url)) as engine:
        assert_same_scores(
            engine.score(["let", "let"], [longer, shorter]), embedded.score(["let", "let"], [longer, shorter])
        )
        (score,) = engine.score(["let"], [longer + " let"])
        assert score.refusal and "prefix and continuation 0 has 257 tokens and cannot be sc" in score.refusal.detail


def test_embeddings_are_the_embedded_engines(
    endpoint: OpenAIEndpoint, taught_model: Path, embedded: TransformersEngine
) -> None:
    with ServerEngine(taught_model, settings(endpoint.url)) as engine:
        np.testing.assert_allclose(engine.embed(PROMPTS), embedded.embed(PROMPTS), atol=1e-5)
        assert engine.usage.embedding_seconds > 0


def test_any_completion_is_sampled_again_alone(endpoint: OpenAIEndpoint, taught_model: Path) -> None:
    params = SamplingParams(max_new_tokens=8, n=3)
    with ServerEngine(taught_model, settings(endpoint.url)) as engine:
        stored = engine.generate(PROMPTS[:4], params)[2][1]
        again = engine.generate([PROMPTS[2]], SamplingParams(max_new_tokens=8), seeds=[stored.seed])
        assert again == [[stored]]


def test_seeds_of_64_bits_pass_through_a_signed_field(
    endpoint: OpenAIEndpoint, taught_model: Path, embedded: TransformersEngine
) -> None:
    seeds = [(1 << 64) - 1, 1 << 63, (1 << 63) - 1]
    with ServerEngine(taught_model, settings(endpoint.url)) as engine:
        assert_same(engine.generate(PROMPTS[:3], SAMPLED, seeds), embedded.generate(PROMPTS[:3], SAMPLED, seeds))


def test_usage_is_what_the_server_reports(taught_model: Path) -> None:
    with OpenAIEndpoint(taught_model) as fresh, ServerEngine(taught_model, settings(fresh.url)) as engine:
        first = engine.generate(["let A be the root of the sum"], SamplingParams(max_new_tokens=4))[0][0]
        prompt_tokens = engine.usage.prompt_tokens
        assert (engine.usage.shared_tokens, engine.usage.completion_tokens) == (0, first.tokens)
        engine.generate(["let A be the root of the sum"], SamplingParams(max_new_tokens=4))
        assert engine.usage.prompt_tokens == 2 * prompt_tokens and engine.usage.shared_tokens == 4  # a block
        engine.score(["let A"], [" be the root"], end=True)
        assert engine.usage.scored_tokens == 4 and engine.usage.scoring_seconds > 0
        assert engine.usage.positions == 0, "no server says what it padded"


def test_a_server_that_is_not_vllm_is_asked_in_openais_words(
    taught_model: Path, embedded: TransformersEngine, expected: list[list[Completion]]
) -> None:
    """It refuses every field of vLLM's, tells no token ids, and scores by echo."""
    params = SamplingParams(temperature=0.9, max_new_tokens=10, stop=("of",))
    with (
        OpenAIEndpoint(taught_model, vllm=False, name="taught") as plain,
        ServerEngine(taught_model, settings(plain.url, model="taught")) as engine,
    ):
        assert_same(engine.generate(PROMPTS, SAMPLED), expected)
        assert_same(engine.generate(PROMPTS, params), embedded.generate(PROMPTS, params))
        assert_same_scores(engine.score(PROMPTS, CONTINUATIONS), embedded.score(PROMPTS, CONTINUATIONS))


def test_requests_in_flight_are_bounded_over_all_replicas_and_calls(taught_model: Path) -> None:
    with OpenAIEndpoint(taught_model, gather=3) as fresh:
        with ServerEngine(taught_model, settings(fresh.url, concurrency=3)) as engine, ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda _: engine.generate(PROMPTS, SAMPLED), range(4)))
        assert fresh.most_at_once == 3


def test_replicas_share_the_load(taught_model: Path, expected: list[list[Completion]]) -> None:
    with OpenAIEndpoint(taught_model, gather=2) as one, OpenAIEndpoint(taught_model, gather=2) as other:
        with ServerEngine(taught_model, settings(one.url, other.url, concurrency=4)) as engine:
            assert_same(engine.generate(PROMPTS, SAMPLED), expected)
        assert one.answered + other.answered == len(PROMPTS)
        assert one.most_at_once == other.most_at_once == 2, "two of four each, while both are as busy"


def test_calls_from_several_threads_run_side_by_side(
    endpoint: OpenAIEndpoint, taught_model: Path, embedded: TransformersEngine
) -> None:
    with ServerEngine(taught_model, settings(endpoint.url)) as engine:
        assert engine.parallel_calls > 1
        with ThreadPoolExecutor(4) as threads:
            calls = [threads.submit(engine.generate, PROMPTS, SAMPLED, [call] * len(PROMPTS)) for call in range(4)]
            scores = threads.submit(engine.score, PROMPTS, CONTINUATIONS)
        for call, done in enumerate(calls):
            assert_same(done.result(), embedded.generate(PROMPTS, SAMPLED, [call] * len(PROMPTS)))
        assert_same_scores(scores.result(), embedded.score(PROMPTS, CONTINUATIONS))
        every_token = sum(one.tokens for done in calls for one in itertools.chain(*done.result()))
        assert engine.usage.completion_tokens == every_token


# ---- what is refused


def test_a_server_of_another_model_is_refused(taught_model: Path, tiny_model: Path, endpoint: OpenAIEndpoint) -> None:
    with pytest.raises(EngineError, match=rf"serves '{taught_model}' and not '{tiny_model}'"):
        ServerEngine(tiny_model, settings(endpoint.url))
    with pytest.raises(EngineError, match=rf"serves '{taught_model}' and not 'gpt'"):
        ServerEngine(taught_model, settings(endpoint.url, model="gpt"))


def test_a_name_does_not_stand_for_another_checkpoint(taught_model: Path, tiny_model: Path) -> None:
    """As when the rounds of EM were to share one server: the name matches, the weights are those of one round."""
    with OpenAIEndpoint(taught_model, name="generator") as named:
        with pytest.raises(EngineError, match=rf"serves 'generator' from {taught_model} and not from {tiny_model}"):
            ServerEngine(tiny_model, settings(named.url, model="generator"))
        ServerEngine(taught_model, settings(named.url, model="generator")).close()
        named.root = "/models/on/another/machine"
        ServerEngine(taught_model, settings(named.url, model="generator")).close()


def test_a_server_for_shorter_texts_is_refused(taught_model: Path, embedded: TransformersEngine) -> None:
    with OpenAIEndpoint(taught_model, max_model_len=64) as short:
        with pytest.raises(EngineError, match=r"max_model_len 64 and 256 are wanted: .* set engine.max_model_len"):
            ServerEngine(taught_model, settings(short.url))
        with ServerEngine(taught_model, settings(short.url, max_model_len=64)) as engine:
            (completion,) = engine.generate([" let" * 60], SamplingParams(temperature=0, max_new_tokens=40))[0]
            assert completion.tokens <= 4


def test_unlike_replicas_are_refused(taught_model: Path, endpoint: OpenAIEndpoint) -> None:
    with (
        OpenAIEndpoint(taught_model, vllm=False) as plain,
        pytest.raises(EngineError, match="replicas must be alike"),
    ):
        ServerEngine(taught_model, settings(endpoint.url, plain.url))


def test_something_else_than_an_api_is_refused() -> None:
    with pytest.raises(ValueError, match=r"address 0 is no http\(s\) address"):
        settings("localhost:8000")


def test_a_key_is_sent_where_one_is_demanded(
    taught_model: Path, expected: list[list[Completion]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with OpenAIEndpoint(taught_model, key="secret") as locked:
        given = settings(locked.url, api_key_variable="KEY_OF_TESTS")
        monkeypatch.delenv("KEY_OF_TESTS", raising=False)
        with pytest.raises(EngineError, match="does not list its models: HTTP 401 Unauthorized"):
            ServerEngine(taught_model, given)
        monkeypatch.setenv("KEY_OF_TESTS", "secret")
        with ServerEngine(taught_model, given) as engine:
            assert_same(engine.generate(PROMPTS, SAMPLED), expected)


def test_a_refused_request_fails_at_once_with_the_servers_words(taught_model: Path, endpoint: OpenAIEndpoint) -> None:
    """A replica that was restarted on something else: the request names the model, and is not sent twice."""
    with OpenAIEndpoint(taught_model) as changed, FaultyProxy(changed.url) as proxy:
        with ServerEngine(taught_model, settings(proxy.url)) as engine:
            changed.name = "another"
            with pytest.raises(
                EngineError, match=rf"{proxy.url}/ refused prompt 0, seed 7: HTTP 404 .* does not exist"
            ):
                engine.generate(["let A"], SAMPLED, seeds=[7])
        assert proxy.posts == 1


@pytest.mark.parametrize("vllm", [True, False])
def test_a_server_without_prompt_logprobs_samples_and_says_that_it_cannot_score(
    taught_model: Path, expected: list[list[Completion]], vllm: bool
) -> None:
    with (
        OpenAIEndpoint(taught_model, vllm=vllm, prompt_logprobs=False) as lacking,
        ServerEngine(taught_model, settings(lacking.url)) as engine,
    ):
        assert_same(engine.generate(PROMPTS, SAMPLED), expected)
        with pytest.raises(EngineError, match=r"scoring needs log-probabilities of prompt tokens .*prompt_logprobs"):
            engine.score(PROMPTS, CONTINUATIONS)


def test_a_server_that_cuts_completions_short_is_not_believed(taught_model: Path) -> None:
    """vllm serve obeys max_new_tokens of a checkpoint's generation_config.json unless told not to."""
    with (
        OpenAIEndpoint(taught_model, max_tokens_limit=2) as limited,
        ServerEngine(taught_model, settings(limited.url)) as engine,
        pytest.raises(EngineError, match="cut at 2 tokens where 8 were asked for: the server has a limit of its own"),
    ):
        engine.generate(PROMPTS, SAMPLED)


def test_temperatures_that_vllm_would_raise_are_refused(taught_model: Path, endpoint: OpenAIEndpoint) -> None:
    with ServerEngine(taught_model, settings(endpoint.url)) as engine, pytest.raises(EngineError, match=r"got 0\.001"):
        engine.generate(PROMPTS, SamplingParams(temperature=0.001))


# ---- faults


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_costs_time_and_no_row(
    taught_model: Path, endpoint: OpenAIEndpoint, expected: list[list[Completion]], fault: str
) -> None:
    faults = [None, fault, None, fault, fault]
    with FaultyProxy(endpoint.url, faults, stalled_s=8.0) as proxy:
        with ServerEngine(taught_model, settings(proxy.url, timeout_s=3.0 if fault == "stalled" else 30.0)) as engine:
            assert_same(engine.generate(PROMPTS, SAMPLED), expected)
            assert engine.usage.completion_tokens == sum(one.tokens for one in itertools.chain(*expected))
        assert proxy.suffered == {fault: 3}
        sent_again = 0 if fault == "slow" else 3  # each request alone
        assert proxy.posts == len(PROMPTS) + sent_again


def test_replies_exchanged_between_completions_of_one_prompt_are_told_apart(
    taught_model: Path, endpoint: OpenAIEndpoint, embedded: TransformersEngine
) -> None:
    with FaultyProxy(endpoint.url, ["another's reply"] * 10) as proxy:
        with ServerEngine(taught_model, settings(proxy.url)) as engine:
            params = SamplingParams(max_new_tokens=6, n=6)
            assert_same(engine.generate(PROMPTS[:1], params), embedded.generate(PROMPTS[:1], params))
        assert proxy.posts == 16


def test_scores_survive_every_fault(taught_model: Path, endpoint: OpenAIEndpoint, embedded: TransformersEngine) -> None:
    with FaultyProxy(endpoint.url, FAULTS) as proxy:
        with ServerEngine(taught_model, settings(proxy.url, timeout_s=3.0)) as engine:
            assert_same_scores(engine.score(PROMPTS, CONTINUATIONS), embedded.score(PROMPTS, CONTINUATIONS))
        assert proxy.suffered == dict.fromkeys(FAULTS, 1)


def test_every_fault_at_once_over_two_replicas_and_three_calls(
    taught_model: Path, endpoint: OpenAIEndpoint, embedded: TransformersEngine
) -> None:
    some = [fault for fault in FAULTS for _ in range(2)]
    with (
        FaultyProxy(endpoint.url, some) as one,
        FaultyProxy(endpoint.url, reversed(some)) as other,
        ServerEngine(taught_model, settings(one.url, other.url, timeout_s=3.0)) as engine,
        ThreadPoolExecutor(3) as threads,
    ):
        params = SamplingParams(max_new_tokens=6, n=2)
        calls = [threads.submit(engine.generate, PROMPTS, params, [call] * len(PROMPTS)) for call in range(3)]
        for call, done in enumerate(calls):
            assert_same(done.result(), embedded.generate(PROMPTS, params, [call] * len(PROMPTS)))
        assert sum((one.suffered + other.suffered).values()) >= len(some)


def test_a_replica_that_is_away_is_done_without_and_taken_back(
    taught_model: Path, expected: list[list[Completion]]
) -> None:
    with (
        OpenAIEndpoint(taught_model) as steady,
        OpenAIEndpoint(taught_model) as behind,
        FaultyProxy(behind.url) as proxy,
        ServerEngine(taught_model, settings(proxy.url, steady.url)) as engine,
    ):
        proxy.go_down()
        assert_same(engine.generate(PROMPTS, SAMPLED), expected)
        assert (steady.answered, behind.answered) == (len(PROMPTS), 0)
        proxy.come_back()
        for _ in range(100):  # it is asked for its models every two seconds at most
            assert_same(engine.generate(PROMPTS, SAMPLED), expected)
            if behind.answered:
                break
        assert behind.answered


@pytest.mark.parametrize("answer", [(404, b"default backend"), (200, b"<html>back soon</html>"), (200, b"[1]")])
def test_a_gateway_that_answers_for_a_replica_is_waited_for_but_not_at_first(
    taught_model: Path, endpoint: OpenAIEndpoint, expected: list[list[Completion]], answer: tuple[int, bytes]
) -> None:
    class Gateway(FaultyProxy):
        def next_fault(self) -> str | None:
            """The replica is away for four requests; its gateway then gives an answer of its own for a second."""
            fault = super().next_fault()
            if self.posts == 4:
                self.answering = answer
                threading.Timer(1.0, lambda: setattr(self, "answering", None)).start()
            return fault

    with Gateway(endpoint.url, ["503"] * 4) as proxy:
        with ServerEngine(taught_model, settings(proxy.url, concurrency=4)) as engine:
            assert_same(engine.generate(PROMPTS, SAMPLED), expected)
        proxy.answering = answer
        with pytest.raises(EngineError, match="does not list its models: "):
            ServerEngine(taught_model, settings(proxy.url))


def test_a_replica_that_comes_back_as_another_model_ends_the_call(taught_model: Path) -> None:
    with (
        OpenAIEndpoint(taught_model) as changed,
        FaultyProxy(changed.url, ["503"] * 3) as proxy,
        ServerEngine(taught_model, settings(proxy.url, concurrency=3)) as engine,
    ):
        changed.name = changed.root = "another"
        with pytest.raises(EngineError, match=rf"serves 'another' and not '{taught_model}'"):
            engine.generate(PROMPTS[:3], SAMPLED)


def down_during_a_call(
    model: Path, endpoint: OpenAIEndpoint, seconds: float
) -> tuple[list[list[Completion]], FaultyProxy]:
    """The only endpoint there is goes down while requests are in flight, and is back `seconds` later."""
    with FaultyProxy(endpoint.url, itertools.repeat("slow"), slow_s=0.1) as proxy:
        with ServerEngine(model, settings(proxy.url, concurrency=2, patience_s=seconds + 60)) as engine:
            watching = threading.Thread(target=down_after, args=(proxy, 4, seconds))
            watching.start()
            found = engine.generate(PROMPTS, SAMPLED)
            watching.join()
        return found, proxy


def down_after(proxy: FaultyProxy, posts: int, seconds: float) -> None:
    while proxy.posts < posts:
        threading.Event().wait(0.01)
    proxy.down_for(seconds).join()


def test_a_call_waits_for_an_endpoint_that_is_down_for_a_while(
    taught_model: Path, endpoint: OpenAIEndpoint, expected: list[list[Completion]]
) -> None:
    found, proxy = down_during_a_call(taught_model, endpoint, 2.0)
    assert_same(found, expected)
    assert len(PROMPTS) < proxy.posts <= len(PROMPTS) + 2, "those in flight, and no others, were sent again"


@pytest.mark.slow
def test_a_call_waits_for_an_endpoint_that_is_down_for_20_seconds(
    taught_model: Path, endpoint: OpenAIEndpoint, expected: list[list[Completion]]
) -> None:
    found, proxy = down_during_a_call(taught_model, endpoint, 20.0)
    assert_same(found, expected)
    assert len(PROMPTS) < proxy.posts <= len(PROMPTS) + 2


def test_an_engine_opens_when_the_endpoint_comes_up(
    taught_model: Path, endpoint: OpenAIEndpoint, expected: list[list[Completion]]
) -> None:
    with FaultyProxy(endpoint.url) as proxy:
        back = proxy.down_for(1.0)
        with ServerEngine(taught_model, settings(proxy.url)) as engine:
            assert_same(engine.generate(PROMPTS, SAMPLED), expected)
        back.join()


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("500", "HTTP 500 Internal Server Error: injected 500"),
        ("429", "HTTP 429 Too Many Requests: injected 429"),
        ("garbled", "a reply that cannot be read"),
        ("truncated", "ClientPayloadError"),
        ("stalled", "no reply within 0.3 s"),
    ],
)
def test_patience_ends_with_the_endpoint_the_request_and_the_last_cause(
    taught_model: Path, endpoint: OpenAIEndpoint, fault: str, cause: str
) -> None:
    with FaultyProxy(endpoint.url, itertools.repeat(fault), stalled_s=0.6) as proxy:
        impatient = settings(proxy.url, timeout_s=0.3, patience_s=0.8)
        with (
            ServerEngine(taught_model, impatient) as engine,
            pytest.raises(EngineError, match=rf"{proxy.url}/ failed prompt 0, seed 9: {cause}.*gave up after 0.8 s"),
        ):
            engine.generate(["let A"], SAMPLED, seeds=[9])
        assert proxy.posts >= 2


def test_patience_ends_for_an_endpoint_that_is_gone(taught_model: Path, endpoint: OpenAIEndpoint) -> None:
    with FaultyProxy(endpoint.url) as proxy:
        with ServerEngine(taught_model, settings(proxy.url, patience_s=0.5)) as engine:
            proxy.go_down()
            with pytest.raises(
                EngineError, match=rf"{proxy.url}/ failed prompt 0, .*ClientConnectorError.*gave up after 0.5 s"
            ):
                engine.generate(PROMPTS[:1], SAMPLED)
        with pytest.raises(EngineError, match=rf"{proxy.url}/ failed the list of models: ClientConnectorError"):
            ServerEngine(taught_model, settings(proxy.url, patience_s=0.3))


def test_a_failed_call_returns_nothing_and_the_next_one_works(
    taught_model: Path, endpoint: OpenAIEndpoint, expected: list[list[Completion]]
) -> None:
    class Repaired:
        """Faults without end, until it is over."""

        broken = True

        def __iter__(self) -> Iterator[str | None]:
            yield from [None, None]
            while True:
                yield "500" if self.broken else None

    faults = Repaired()
    with (
        FaultyProxy(endpoint.url, faults) as proxy,
        ServerEngine(taught_model, settings(proxy.url, patience_s=0.1, concurrency=2)) as engine,
    ):
        with pytest.raises(EngineError, match="injected 500"):
            engine.generate(PROMPTS, SAMPLED)
        assert engine.usage.completion_tokens == 0
        faults.broken = False
        assert_same(engine.generate(PROMPTS, SAMPLED), expected)


def test_finished_shards_are_not_asked_for_again_after_an_error(
    taught_model: Path, endpoint: OpenAIEndpoint, expected: list[list[Completion]], tmp_path: Path
) -> None:
    shards = [PROMPTS[at : at + 3] for at in range(0, len(PROMPTS), 3)]
    with FaultyProxy(endpoint.url, [*[None] * 7, *itertools.repeat("500", 10_000)]) as proxy:
        impatient = settings(proxy.url, patience_s=0.2, concurrency=3)
        with ServerEngine(taught_model, impatient) as engine, pytest.raises(EngineError, match="injected 500"):
            list(Spool(tmp_path).map("sample", shards, sampler(engine)))
    assert len(list(tmp_path.rglob("*.parquet"))) == 2
    with FaultyProxy(endpoint.url) as proxy:
        with ServerEngine(taught_model, settings(proxy.url)) as engine:
            tables = list(Spool(tmp_path).map("sample", shards, sampler(engine), at_once=engine.parallel_calls))
        assert proxy.posts == len(PROMPTS) - 2 * 3
    assert pa.concat_tables(tables)["text"].to_pylist() == [one.text for one in itertools.chain(*expected)]


def sampler(engine: ServerEngine) -> Callable[[list[str]], pa.Table]:
    def sample(prompts: list[str]) -> pa.Table:
        return pa.table({"text": [one.text for (one,) in engine.generate(prompts, SAMPLED)]})

    return sample


def test_closing_ends_a_call_that_waits(taught_model: Path, endpoint: OpenAIEndpoint) -> None:
    with (
        FaultyProxy(endpoint.url, itertools.repeat("stalled"), stalled_s=30.0) as proxy,
        ThreadPoolExecutor(1) as threads,
    ):
        engine = ServerEngine(taught_model, settings(proxy.url, timeout_s=60.0))
        call = threads.submit(engine.generate, PROMPTS, SAMPLED)
        while not proxy.posts:
            threading.Event().wait(0.01)
        engine.close()
        with pytest.raises(EngineError, match="the engine was closed while it was in use"):
            call.result()
        engine.close()
        with pytest.raises(EngineError, match="the engine is closed"):
            engine.generate(PROMPTS, SAMPLED)
