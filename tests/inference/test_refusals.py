"""A request at fault has a result that says why, and the others are served: every engine, every method, every fault."""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from promptcot_assets.inference import EngineError, InferenceEngine, SamplingParams
from promptcot_assets.inference.chat import ChatEngine, ChatTemplate
from promptcot_assets.inference.endpoints import WRONG_REPLIES
from promptcot_assets.inference.many_requests import HOPELESS
from promptcot_assets.inference.refusals import (
    EMPTY,
    FILTERED,
    NOT_UNICODE,
    REASONS,
    REFUSED,
    TOO_LONG,
    UNUSABLE,
    embedded,
    is_logprob,
)
from promptcot_assets.inference.server_engine import ServerEngine
from promptcot_assets.inference.transformers_engine import TransformersEngine
from promptcot_assets.settings.profile import Chat
from tests.chat_models import make_chat_model
from tests.inference.openai_endpoint import OpenAIEndpoint, Wrong
from tests.inference.test_server_engine import settings
from tests.tiny_models import tiny_texts

PROMPTS = tiny_texts(6, seed=3, shortest=2, longest=8)
CONTINUATIONS = [" " + text for text in tiny_texts(6, seed=4, longest=8)]
PARAMS = SamplingParams(max_new_tokens=5, n=2)
BAD = {TOO_LONG: " let" * 300, EMPTY: "", NOT_UNICODE: "let \ud800"}
Lie = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def alone(taught_model: Path) -> Iterator[TransformersEngine]:
    with TransformersEngine(taught_model) as engine:
        yield engine


@pytest.fixture(params=["transformers", "workers", "server"])
def engine(taught_model: Path, request: pytest.FixtureRequest) -> Iterator[InferenceEngine]:
    if request.param == "server":
        with OpenAIEndpoint(taught_model) as endpoint, ServerEngine(taught_model, settings(endpoint.url)) as engine:
            yield engine
        return
    with TransformersEngine(taught_model, workers=2 if request.param == "workers" else 1) as engine:
        yield engine


def test_bad_requests_are_results_at_their_places(engine: InferenceEngine, alone: TransformersEngine) -> None:
    good = [PROMPTS[0], PROMPTS[1]]
    mixed = [BAD[TOO_LONG], good[0], BAD[EMPTY], good[1], BAD[NOT_UNICODE]]
    drawn = engine.generate(mixed, PARAMS)
    assert [len(of_prompt) for of_prompt in drawn] == [2] * 5
    assert [[one.finish_reason for one in drawn[place]] for place in (0, 2, 4)] == [[reason] * 2 for reason in BAD]
    assert all((one.text, one.tokens, one.logprob) == ("", 0, 0.0) for place in (0, 2, 4) for one in drawn[place])
    assert [one.text for place in (1, 3) for one in drawn[place]] == [
        one.text for of_prompt in alone.generate(good, PARAMS) for one in of_prompt
    ]
    assert len({one.seed for of_prompt in drawn for one in of_prompt}) == 10, "a refused row keeps its own seed"

    prefixes = ["let", PROMPTS[0], "", "let", "let"]
    scores = engine.score(prefixes, [BAD[TOO_LONG], CONTINUATIONS[0], " a", BAD[NOT_UNICODE], ""], end=False)
    reasons = [one.refusal and one.refusal.reason for one in scores]
    assert reasons == [TOO_LONG, None, EMPTY, NOT_UNICODE, EMPTY]
    (expected,) = alone.score([PROMPTS[0]], CONTINUATIONS[:1], end=False)
    assert scores[1].logprobs == pytest.approx(expected.logprobs, abs=1e-4)

    vectors = engine.embed(mixed)
    assert embedded(vectors).tolist() == [False, True, False, True, False]
    np.testing.assert_allclose(vectors[[1, 3]], alone.embed(good), atol=1e-5)


@pytest.mark.parametrize("reason", BAD)
def test_nothing_but_bad_requests_is_no_error(engine: InferenceEngine, reason: str) -> None:
    """It is the rows' fault still, whoever else is in the call."""
    assert [one.finish_reason for one in engine.generate([BAD[reason]], PARAMS)[0]] == [reason, reason]
    (score,) = engine.score([BAD[reason]], [" a"])
    assert score.refusal and score.refusal.reason == reason
    assert embedded(engine.embed([BAD[reason]])).tolist() == [False]


def test_a_template_adds_nothing_to_a_refused_completion(tmp_path: Path) -> None:
    folder = make_chat_model(tmp_path / "model", "thinking")
    with ChatEngine(TransformersEngine(folder), ChatTemplate(folder, Chat())) as engine:
        (refused,), (served,) = engine.generate([" let" * 600, "let"], SamplingParams(max_new_tokens=3))
    assert (refused.text, refused.finish_reason) == ("", TOO_LONG)
    assert served.text.startswith("<think>\n")


# ---- a model that gives no numbers
def break_rows(engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch, every: bool) -> None:
    """The model's logits overflow wherever a prompt has the token of `{`; or everywhere."""
    model = engine._models._model.model  # type: ignore[union-attr]
    token = engine._requests._tokenizer(" seven")["input_ids"][0]
    embedding = model.get_input_embeddings()
    whole = embedding.forward

    def overflowing(ids: torch.Tensor) -> torch.Tensor:
        vectors = whole(ids).clone()
        vectors[torch.ones_like(ids, dtype=torch.bool) if every else ids == token] = math.nan
        return vectors

    monkeypatch.setattr(embedding, "forward", overflowing)


def test_a_row_of_nan_is_refused_and_the_others_are_served(taught_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with TransformersEngine(taught_model) as engine:
        break_rows(engine, monkeypatch, every=False)
        drawn = engine.generate(["let", " seven", "the sum"], PARAMS)
        assert [{one.finish_reason == UNUSABLE for one in of_prompt} for of_prompt in drawn] == [
            {False},
            {True},
            {False},
        ]
        first, second = engine.score(["let", "let"], [" the", " seven the"])
        assert first.refusal is None and second.refusal and second.refusal.reason == UNUSABLE
        assert embedded(engine.embed(["let", " seven"])).tolist() == [True, False]


def test_a_model_of_nan_is_an_error(taught_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with TransformersEngine(taught_model) as engine:
        break_rows(engine, monkeypatch, every=True)
        with pytest.raises(EngineError, match=r"log-probability of nan: the model's weights are broken"):
            engine.generate(["let", "the"], PARAMS)
        with pytest.raises(EngineError, match="the model's weights are broken"):
            engine.score(["let"], [" the"])
        with pytest.raises(EngineError, match="vectors are not finite"):
            engine.embed(["let"])


# ---- a server that says what cannot be
class Liar(OpenAIEndpoint):
    """Changes its replies to one prompt (or to all) by `lie`, or raises what that raises."""

    def __init__(self, model: Path, lie: Lie, about: list[int] | None, **more: Any) -> None:
        super().__init__(model, **more)
        self._lie, self._about = lie, about
        self.lies = 0

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        prompt = body["prompt"]
        if self._about is not None and prompt[: len(self._about)] != self._about:
            return super().complete(body)
        self.lies += 1
        reply = copy.deepcopy(super().complete(body))
        self._lie(reply)
        return reply


def changed(*path: Any, to: Any) -> Lie:
    """A lie: what stands at `path` of the reply (-1: the last place of a list) is something else."""

    def lie(reply: dict[str, Any]) -> None:
        at: Any = reply
        for name in path[:-1]:
            at = at[name]
        at[path[-1]] = to

    return lie


def refusal(message: str, status: int = 400) -> Lie:
    def lie(reply: dict[str, Any]) -> None:
        raise Wrong(message, status)

    return lie


LOGPROB = ("choices", 0, "logprobs", "token_logprobs", -1)
LIES: dict[str, tuple[Lie, str]] = {
    **{
        f"a log-probability of {value!r}": (changed(*LOGPROB, to=value), UNUSABLE)
        for value in (math.nan, math.inf, -math.inf, 0.5, None, True, "-1", [], 10**400, -(10**400))
    },
    "no log-probabilities": (changed("choices", 0, "logprobs", to=None), UNUSABLE),
    "log-probabilities of another type": (changed("choices", 0, "logprobs", to=[-1.0]), UNUSABLE),
    "a list of none": (changed("choices", 0, "logprobs", "token_logprobs", to=[]), UNUSABLE),
    "more of them than tokens": (changed("choices", 0, "logprobs", "token_logprobs", to=[-1.0] * 99), UNUSABLE),
    **{
        f"{name} {value!r}": (changed("usage", name, to=value), UNUSABLE)
        for name in ("prompt_tokens",)
        for value in (-1, 0, 99, 10**12, 3.5, "3", None, True)
    },
    **{
        f"cached tokens {value!r}": (changed("usage", "prompt_tokens_details", to=value), UNUSABLE)
        for value in ({"cached_tokens": -1}, {"cached_tokens": 10**9}, {"cached_tokens": "4"}, [1], "none")
    },
    "no usage": (changed("usage", to=None), UNUSABLE),
    "no choice": (changed("choices", to=[]), UNUSABLE),
    "two choices": (changed("choices", to=[{}, {}]), UNUSABLE),
    "a choice that is none": (changed("choices", to=["text"]), UNUSABLE),
    "choices of another type": (changed("choices", to={"0": {}}), UNUSABLE),
    "a text of another type": (changed("choices", 0, "text", to=7), UNUSABLE),
    "a text that is not Unicode": (changed("choices", 0, "text", to="\ud800"), UNUSABLE),
    "no finish reason": (changed("choices", 0, "finish_reason", to=None), UNUSABLE),
    "an unknown finish reason": (changed("choices", 0, "finish_reason", to=["stop"]), UNUSABLE),
    "a filtered text": (changed("choices", 0, "finish_reason", to="content_filter"), FILTERED),
    "a filtered prompt": (refusal("The response was filtered (content_filter)"), FILTERED),
    "a filtered prompt, as Azure says it": (refusal("triggering Azure OpenAI's content management policy"), FILTERED),
    "a prompt that is too long for it": (refusal("This model's maximum context length is 8 tokens"), TOO_LONG),
    "an unprocessable prompt": (refusal("Unprocessable", 422), REFUSED),
    "a bad request": (refusal("Bad request"), REFUSED),
}  # fmt: skip
OF_TOKENS = {
    **{
        f"completion_tokens {value!r}": (changed("usage", "completion_tokens", to=value), UNUSABLE)
        for value in (-1, 0, 99, 10**12, 3.5, "3", None, True)
    }
}
OF_VLLM = {
    "another prompt": (changed("choices", 0, "prompt_token_ids", to=[1, 2]), UNUSABLE),
    "a part of the prompt": (lambda reply: reply["choices"][0]["prompt_token_ids"].pop(), UNUSABLE),
    "no token ids": (changed("choices", 0, "token_ids", to=None), UNUSABLE),
    "token ids of another type": (changed("choices", 0, "token_ids", to=["1"]), UNUSABLE),
    "negative token ids": (changed("choices", 0, "token_ids", -1, to=-5), UNUSABLE),
    "more tokens than asked for": (changed("choices", 0, "token_ids", to=[1] * 99), UNUSABLE),
    "another model": (changed("model", to="another"), UNUSABLE),
}


def cases() -> Iterator[Any]:
    for vllm, lies in ((True, LIES | OF_VLLM), (False, LIES | OF_TOKENS)):
        for name, (lie, reason) in lies.items():
            yield pytest.param(vllm, lie, reason, id=f"{'vLLM' if vllm else 'another server'}: {name}")


def lied_to(
    model: Path, lie: Lie, vllm: bool, alone: TransformersEngine
) -> tuple[Liar, AbstractContextManager[InferenceEngine]]:
    about = alone._requests._tokenizer(PROMPTS[2])["input_ids"]
    endpoint = Liar(model, lie, about, vllm=vllm, name="taught")
    return endpoint, ServerEngine(model, settings(endpoint.url, model="taught"))


@pytest.mark.parametrize(("vllm", "lie", "reason"), cases())
def test_a_reply_that_cannot_be_is_a_row_with_its_reason(
    taught_model: Path, alone: TransformersEngine, monkeypatch: pytest.MonkeyPatch, vllm: bool, lie: Lie, reason: str
) -> None:
    monkeypatch.setattr("promptcot_assets.inference.endpoints.FIRST_WAIT_S", 0.001)
    params = SamplingParams(max_new_tokens=5)
    expected = alone.generate(PROMPTS, params)
    endpoint, opened = lied_to(taught_model, lie, vllm, alone)
    with endpoint, opened as engine:
        drawn = engine.generate(PROMPTS, params)
        assert endpoint.lies == (WRONG_REPLIES if reason == UNUSABLE else 1), "it is asked for again, alone"
        usage = engine.usage
    assert drawn[2][0].finish_reason == reason in REASONS and drawn[2][0].text == ""
    others = [place for place in range(len(PROMPTS)) if place != 2]
    assert [drawn[place][0].text for place in others] == [expected[place][0].text for place in others]
    assert all(is_logprob(one.logprob) for of_prompt in drawn for one in of_prompt)
    assert usage.completion_tokens == sum(expected[place][0].tokens for place in others)


SCORE_LIES = {
    **{
        f"vLLM: a log-probability of {value!r}": (True, lambda reply, value=value: all_prompt_logprobs(reply, value))
        for value in (math.nan, math.inf, -math.inf, 0.5, None, True, "-1")
    },
    **{
        f"another server: a log-probability of {value!r}": (False, changed(*LOGPROB, to=value))
        for value in (math.nan, math.inf, -math.inf, 0.5, None, True, "-1")
    },
    "vLLM: none": (True, changed("choices", 0, "prompt_logprobs", to=None)),
    "vLLM: of a shorter prompt": (True, lambda reply: reply["choices"][0]["prompt_logprobs"].pop()),
    "vLLM: of other tokens": (True, changed("choices", 0, "prompt_logprobs", -1, to={"0": {"logprob": -1.0}})),
    "vLLM: of another type": (True, changed("choices", 0, "prompt_logprobs", -1, to=[-1.0])),
    "vLLM: a prompt of another length": (True, changed("usage", "prompt_tokens", to=1)),
    "another server: none": (False, changed("choices", 0, "logprobs", to=None)),
    "another server: of a shorter prompt": (
        False, lambda reply: reply["choices"][0]["logprobs"]["token_logprobs"].pop()),
    "another server: of a longer prompt": (
        False, lambda reply: reply["choices"][0]["logprobs"]["token_logprobs"].extend([-1.0, -1.0])),
    "another server: a prompt of another length": (False, changed("usage", "prompt_tokens", to=99)),
}  # fmt: skip


def all_prompt_logprobs(reply: dict[str, Any], value: Any) -> None:
    for place in reply["choices"][0]["prompt_logprobs"][1:]:
        for one in place.values():
            one["logprob"] = value


@pytest.mark.parametrize("name", SCORE_LIES)
def test_a_score_that_cannot_be_is_a_row_with_its_reason(
    taught_model: Path, alone: TransformersEngine, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("promptcot_assets.inference.endpoints.FIRST_WAIT_S", 0.001)
    vllm, lie = SCORE_LIES[name]
    endpoint, opened = lied_to(taught_model, lie, vllm, alone)
    with endpoint, opened as engine:
        scores = engine.score(PROMPTS, CONTINUATIONS)
        assert endpoint.lies == WRONG_REPLIES
    assert [one.refusal and one.refusal.reason for one in scores] == [None, None, UNUSABLE, None, None, None]
    for place, expected in enumerate(alone.score(PROMPTS, CONTINUATIONS)):
        assert scores[place].logprobs == (pytest.approx(expected.logprobs, abs=1e-4) if place != 2 else [])


@pytest.mark.parametrize(("lie", "said"), [
    (changed(*LOGPROB, to=math.nan), "a log-probability of nan"),
    (changed("choices", to=[]), "0 choices where one was asked for"),
    (refusal("logprobs are not supported"), "logprobs are not supported"),
])  # fmt: skip
@pytest.mark.parametrize("rows", [1, 3, 3 * HOPELESS])
def test_a_server_that_answers_nobody_is_an_error_and_no_rows(
    taught_model: Path, monkeypatch: pytest.MonkeyPatch, lie: Lie, said: str, rows: int
) -> None:
    """A feature that it lacks is not the rows' fault; of a long call not all of it is tried."""
    monkeypatch.setattr("promptcot_assets.inference.endpoints.FIRST_WAIT_S", 0.001)
    with Liar(taught_model, lie, None) as endpoint, ServerEngine(taught_model, settings(endpoint.url)) as engine:
        prompts = [f"{PROMPTS[place % 6]} {place}" for place in range(rows)]
        with pytest.raises(EngineError, match=f"no request of the call was served; the first: .*{said}"):
            engine.generate(prompts, SamplingParams(max_new_tokens=3))
        if rows > HOPELESS:
            assert endpoint.lies < rows * WRONG_REPLIES, "not all of them are tried"


@pytest.mark.parametrize("lie", [changed(*LOGPROB, to=math.nan), refusal("Bad request")])
def test_nothing_but_a_request_at_fault_is_no_error_of_a_server_that_works(
    taught_model: Path, alone: TransformersEngine, monkeypatch: pytest.MonkeyPatch, lie: Lie
) -> None:
    """As in the last shard of a table, of one row: the same command would never pass."""
    monkeypatch.setattr("promptcot_assets.inference.endpoints.FIRST_WAIT_S", 0.001)
    endpoint, opened = lied_to(taught_model, lie, True, alone)
    with endpoint, opened as engine:
        ((one,),) = engine.generate([PROMPTS[2]], SamplingParams(max_new_tokens=3))
        assert one.refusal and one.text == ""


def test_nothing_but_a_row_of_nan_is_no_error_of_a_model_that_works(
    taught_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TransformersEngine(taught_model) as engine:
        break_rows(engine, monkeypatch, every=False)
        ((one, other),) = engine.generate([" seven"], PARAMS)
        (score,) = engine.score([" seven"], [" the"])
        vectors = engine.embed([" seven"])
    assert one.finish_reason == other.finish_reason == UNUSABLE and score.refusal
    assert embedded(vectors).tolist() == [False]


def test_a_filter_that_stops_every_text_is_no_error(taught_model: Path) -> None:
    lie = changed("choices", 0, "finish_reason", to="content_filter")
    with Liar(taught_model, lie, None) as endpoint, ServerEngine(taught_model, settings(endpoint.url)) as engine:
        drawn = engine.generate(PROMPTS * 4, SamplingParams(max_new_tokens=3))
    assert {one.finish_reason for of_prompt in drawn for one in of_prompt} == {FILTERED}


# ---- credentials
def test_a_key_that_a_server_repeats_is_not_shown(taught_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Repeats(OpenAIEndpoint):
        def complete(self, body: dict[str, Any]) -> dict[str, Any]:
            raise Wrong("Incorrect API key provided: sk-123456", 401)

    monkeypatch.setenv("KEY_OF_TESTS", "sk-123456")
    with (
        Repeats(taught_model) as endpoint,
        ServerEngine(taught_model, settings(endpoint.url, api_key_variable="KEY_OF_TESTS")) as engine,
        pytest.raises(EngineError, match=r"HTTP 401 .*Incorrect API key provided: \*\*\*"),
    ):
        engine.generate(["let"], PARAMS)


@pytest.mark.parametrize(
    "url",
    ["alice:secret@10.0.0.1:8000", "ftp://alice:secret@10.0.0.1/v1", "http://alice:secret@10.0.0.1/v1",
     "http://alice:secret@[::1/v1", "http://10.0.0.1/v1?key=secret"],
)  # fmt: skip
def test_an_address_with_a_login_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError, match=r"address|URL") as error:
        settings(url)
    assert "secret" not in str(error.value)
