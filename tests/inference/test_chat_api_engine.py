"""Models that others serve, over a real HTTP server that speaks the chat API (`openai_endpoint.py`)."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from promptcot_assets.inference import Completion, EngineError, SamplingParams, open_engine
from promptcot_assets.inference.chat import ChatEngine, ChatTemplate
from promptcot_assets.inference.chat_api import read_chat, write_served
from promptcot_assets.inference.endpoints import Refused, WrongReply
from promptcot_assets.inference.refusals import EMPTY, FILTERED, NOT_UNICODE, TOO_LONG
from promptcot_assets.inference.transformers_engine import TransformersEngine
from promptcot_assets.settings import SettingsError, load_settings
from promptcot_assets.settings.engines import ChatApi, Engine
from promptcot_assets.settings.profile import Chat
from tests.chat_families import FAMILIES, make_family
from tests.inference.faulty_proxy import FAULTS, FaultyProxy
from tests.inference.openai_endpoint import OpenAIEndpoint
from tests.tiny_models import tiny_texts

PROMPTS, SEEDS = tiny_texts(8, seed=3, shortest=2, longest=8), list(range(8))
SAMPLED = SamplingParams(temperature=1.0, top_p=0.95, max_new_tokens=8)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_family(tmp_path_factory.mktemp("served") / "smollm2", FAMILIES["smollm2"])


@pytest.fixture(scope="module")
def endpoint(model: Path) -> Iterator[OpenAIEndpoint]:
    with OpenAIEndpoint(model, vllm=False, name="others/model") as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def expected(model: Path) -> list[list[Completion]]:
    with TransformersEngine(model) as engine:
        return ChatEngine(engine, ChatTemplate(model, Chat())).generate(PROMPTS, SAMPLED, SEEDS)


def engine(*urls: str, **more: Any) -> Engine:
    own = ChatApi.model_validate({"urls": list(urls), "timeout_s": 30, "patience_s": 60, "concurrency": 8} | more)
    return Engine(name="chat_api", chat_api=own)


@pytest.fixture
def served(tmp_path: Path) -> Path:
    write_served(tmp_path / "served", "others/model")
    return tmp_path / "served"


def texts(drawn: list[list[Completion]]) -> list[list[tuple[str, int, str, int]]]:
    return [[(one.text, one.tokens, one.finish_reason, one.seed) for one in row] for row in drawn]


def test_a_served_model_writes_what_it_writes_in_its_own_template(
    endpoint: OpenAIEndpoint, expected: list[list[Completion]], served: Path
) -> None:
    with open_engine(engine(endpoint.url), served) as asked:
        drawn = asked.generate(PROMPTS, SAMPLED, SEEDS)
        assert texts(drawn) == texts(expected)
        assert all(math.isnan(one.logprob) for row in drawn for one in row)  # nobody told it
        assert asked.usage.completion_tokens == sum(one.tokens for row in expected for one in row)
        several = asked.generate(PROMPTS[:2], SamplingParams(max_new_tokens=4, n=3), SEEDS[:2])
        assert [len(row) for row in several] == [3, 3]
        assert len({one.seed for row in several for one in row}) == 6


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_cost_time_and_no_row(
    endpoint: OpenAIEndpoint, expected: list[list[Completion]], served: Path, fault: str
) -> None:
    faults = [fault, None, fault, None, None, fault]
    with (
        FaultyProxy(endpoint.url, faults, stalled_s=8.0) as proxy,
        open_engine(engine(proxy.url, timeout_s=4.0), served) as asked,
    ):
        assert texts(asked.generate(PROMPTS, SAMPLED, SEEDS)) == texts(expected)
        assert proxy.suffered[fault] > 0


def test_a_system_message_and_further_fields_go_with_every_request(model: Path, tmp_path: Path) -> None:
    with OpenAIEndpoint(model, name="m") as endpoint:
        write_served(tmp_path / "m", "m")
        more = {"system": "Be brief.", "arguments": {"chat_template_kwargs": {"x": 1}, "top_p": None}}
        with open_engine(engine(endpoint.url, **more), tmp_path / "m") as asked:
            asked.generate(["Find it."], SAMPLED)
        told = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Find it."}]
        assert endpoint.messages == [told]
        with (
            open_engine(engine(endpoint.url, arguments={"effort": "high"}), tmp_path / "m") as asked,
            pytest.raises(EngineError, match="Unrecognized request arguments supplied: effort"),
        ):
            asked.generate(["Find it."], SAMPLED)


def test_a_row_that_cannot_be_asked_has_its_reason(endpoint: OpenAIEndpoint, served: Path) -> None:
    with open_engine(engine(endpoint.url), served) as asked:
        rows = asked.generate(["", "a", "\ud800", "find it " * 200], SAMPLED)
    reasons = [one.refusal.reason if one.refusal else None for (one,) in rows]
    assert reasons == [EMPTY, None, NOT_UNICODE, TOO_LONG]


def test_it_only_writes(endpoint: OpenAIEndpoint, served: Path, model: Path) -> None:
    with open_engine(engine(endpoint.url), served) as asked:
        for ask in (lambda: asked.score(["a"], ["b"]), lambda: asked.embed(["a"])):
            with pytest.raises(EngineError, match=r"over a chat API, which .* give a checkpoint \(model.hub_id\)"):
                ask()
    with pytest.raises(EngineError, match=r"is a checkpoint, and engine chat_api asks models that others serve"):
        open_engine(engine(endpoint.url), model)


def test_another_model_a_wrong_key_and_no_server_are_one_sentence_each(
    model: Path, served: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with OpenAIEndpoint(model, vllm=False, name="another", key="secret") as endpoint:
        with pytest.raises(EngineError, match=r"Unauthorized"):
            open_engine(engine(endpoint.url), served)
        monkeypatch.setenv("TEACHER_KEY", "secret")
        with pytest.raises(
            EngineError, match=r"serves 'another' and not 'others/model': set the teacher's model.served"
        ):
            open_engine(engine(endpoint.url, api_key_variable="TEACHER_KEY"), served)
        named = engine(endpoint.url, api_key_variable="TEACHER_KEY", model="another")
        with open_engine(named, served) as asked:
            assert asked.generate(["Find it."], SAMPLED)[0][0].tokens
    with pytest.raises(EngineError, match=r"127.0.0.1:9/v1/ failed the list of models"):
        open_engine(engine("http://127.0.0.1:9/v1", patience_s=0.2), served)


def reply(message: Any, reason: Any = "stop", usage: Any = None) -> dict[str, Any]:
    usage = {"prompt_tokens": 3, "completion_tokens": 5} if usage is None else usage
    return {"choices": [{"index": 0, "message": message, "finish_reason": reason}], "usage": usage}


# what a server says, and the text in the tables
FORMS = [
    ({"content": "4"}, "4"),
    ({"content": "<think>so</think>4"}, "<think>so</think>4"),
    ({"content": "so</think>4"}, "<think>so</think>4"),  # its template had begun the thoughts
    ({"content": "4", "reasoning_content": "so"}, "<think>so</think>4"),
    ({"content": "4", "reasoning": "so", "reasoning_content": None}, "<think>so</think>4"),
    ({"content": None, "reasoning": "so \\boxed{3}?"}, "<think>so \\boxed{3}?"),  # cut off: no answer
    ({"content": None}, ""),
]


@pytest.mark.parametrize(("message", "text"), FORMS)
def test_thoughts_and_answer_come_in_the_one_form(message: dict[str, Any], text: str) -> None:
    assert read_chat(reply({"role": "assistant"} | message)).text == text


WRONG = [
    None, [], {}, {"choices": []}, {"choices": [1], "usage": {}}, reply(None), reply("4"), reply({"content": 4}),
    reply({"content": "\ud800"}), reply({"content": "4"}, "tool_calls"), reply({"content": "4"}, None),
    reply({"content": "4"}, usage={}), reply({"content": "4"}, usage={"prompt_tokens": 1, "completion_tokens": 0}),
    reply({"content": "4"}, usage={"prompt_tokens": 1, "completion_tokens": True}),
    reply({"content": "4", "reasoning": ["so"]}),
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=lambda one: json.dumps(one)[:40])
def test_a_reply_of_another_shape_is_none(wrong: Any) -> None:
    with pytest.raises(WrongReply):
        read_chat(wrong)


@pytest.mark.parametrize("refusing", [reply({"content": None, "refusal": "I cannot."}), reply({}, "content_filter")])
def test_what_is_refused_is_a_row_with_its_reason(refusing: dict[str, Any]) -> None:
    with pytest.raises(Refused) as caught:
        read_chat(refusing)
    assert caught.value.refusal.reason == FILTERED


API = "engine: {name: chat_api, chat_api: {urls: ['http://127.0.0.1:9/v1']}}"
REFUSED = [
    ("base: {scratch: null, served: gpt}", "base: a model that others serve cannot be trained"),
    ("students: {tiny: {base: {scratch: null, served: gpt}}}", "students.tiny.base: a model that others serve"),
    (API, "engine.name: chat_api only asks models that others serve"),
    ("teachers: {one: {model: {served: gpt}}}", "teachers.one: model.served and engine.name: chat_api go together"),
    (f"teachers: {{one: {{model: {{hub_id: a/b}}, {API}}}}}", "teachers.one: model.served and engine.name: chat_api"),
    (
        "teachers: {one: {model: {served: gpt}, engine: {name: chat_api}}}",
        "teachers.one: engine.chat_api.urls is empty",
    ),
    (f"teachers: {{one: {{model: {{served: gpt}}, chat: {{}}, {API}}}}}", "teachers.one: the server applies its own"),
    (f"teachers: {{one: {{model: {{served: gpt, hub_id: a/b}}, {API}}}}}", "set exactly one of hub_id"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_settings_that_do_not_go_together_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "profile.yaml"
    path.write_text(f"extends: demo\n{text}\n")
    with pytest.raises(SettingsError, match=message):
        load_settings(str(path))


def test_a_served_teacher_changes_no_record_of_another_model() -> None:
    assert '"served"' not in load_settings("demo").base.canonical()
