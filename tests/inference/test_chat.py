"""Chat templates between plain text and the model: what is read, what is written, and what a trainer is given."""

import datetime
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from promptcot_assets.inference import SamplingParams
from promptcot_assets.inference.chat import ChatEngine, ChatError, ChatTemplate, open_template
from promptcot_assets.inference.transformers_engine import TransformersEngine
from promptcot_assets.settings.profile import Chat
from tests.chat_models import TEMPLATES, make_chat_model
from tests.tiny_models import TinySettings, make_tiny_model

Model = Callable[[str], Path]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("chat")

    def of(template: str) -> Path:
        if not (folder / template).exists():
            make_chat_model(folder / template, template)
        return folder / template

    return of


# template, chat settings, what the model reads of the user's "Find it.", what of that begins its own thoughts
PROMPTS = [
    ("chatml", {}, "<|im_start|>user\nFind it.<|im_end|>\n<|im_start|>assistant\n", ""),
    (
        "chatml",
        {"system": "Be brief."},
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nFind it.<|im_end|>\n<|im_start|>assistant\n",
        "",
    ),
    ("thinking", {}, "<|im_start|>user\nFind it.<|im_end|>\n<|im_start|>assistant\n<think>\n", "<think>\n"),
    ("switch", {}, "<|im_start|>user\nFind it.<|im_end|>\n<|im_start|>assistant\n", ""),
    (
        "switch",
        {"arguments": {"enable_thinking": False}},
        "<|im_start|>user\nFind it.<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
        "",
    ),
    (  # without the beginning-of-text token, which the tokenizer puts before every text itself
        "llama",
        {"today": "2024-07-26", "system": "Be brief."},
        "<|start_header_id|>system<|end_header_id|>\n\nToday Date: 26 Jul 2024\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nFind it.<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "",
    ),
    (
        "harmony",
        {"arguments": {"reasoning_effort": "high"}},
        "<|start|>system<|message|>Current date: 2025-09-01\n\nReasoning: high<|end|>"
        "<|start|>user<|message|>Find it.<|end|><|start|>assistant",
        "",
    ),
]


@pytest.mark.parametrize(("template", "chat", "prompt", "opened"), PROMPTS)
def test_what_a_model_reads(model: Model, template: str, chat: dict[str, object], prompt: str, opened: str) -> None:
    turn = ChatTemplate(model(template), Chat.model_validate(chat)).turn("Find it.")
    assert (turn.prompt, turn.opened) == (prompt, opened)


def test_the_first_token_comes_once(model: Model) -> None:
    turn = ChatTemplate(model("llama"), Chat()).turn("Find it.")
    tokenizer = AutoTokenizer.from_pretrained(model("llama"))
    ids = tokenizer(turn.prompt)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id and tokenizer.bos_token_id not in ids[1:]


def test_a_prompt_is_the_same_tomorrow(model: Model) -> None:
    """A template that asks for the date is told that of the settings, wherever it asks."""
    assert f"{datetime.date.today():%Y-%m-%d}" not in ChatTemplate(model("harmony"), Chat()).turn("a").prompt
    later = ChatTemplate(model("harmony"), Chat(today=datetime.date(2026, 1, 2))).turn("a").prompt
    assert "Current date: 2026-01-02\n" in later


def test_without_a_template_prompts_go_as_they_stand_only_where_that_is_said(tmp_path: Path) -> None:
    plain = make_tiny_model(tmp_path / "plain", TinySettings(layers=1))
    assert open_template(plain, None) is None and open_template(plain, Chat(required=False)) is None
    with pytest.raises(ChatError, match=r"plain has no chat template: set `chat` to null .*chat.required"):
        open_template(plain, Chat())


def test_what_a_template_refuses_is_one_error_that_names_the_setting(model: Model) -> None:
    assert ChatTemplate(model("strict"), Chat()).turn("a").prompt
    with pytest.raises(ChatError, match=r"chat.system 'Be brief.': only the user speaks"):
        ChatTemplate(model("strict"), Chat(system="Be brief."))


# template, completion in a table, what the trainer is to teach after the prompt
EXAMPLES = [
    ("chatml", "<think>so</think>4", "<think>so</think>4"),
    ("thinking", "<think>\nso\n</think>\n\n4", "so\n</think>\n\n4"),  # its own: exactly what it wrote
    ("thinking", "<think>so</think>4", "so</think>4"),  # a teacher's, in the students' form
    ("thinking", "4", "</think>4"),
]


@pytest.mark.parametrize(("template", "completion", "taught"), EXAMPLES)
def test_a_trainer_is_given_what_the_model_reads_and_writes(
    model: Model, template: str, completion: str, taught: str
) -> None:
    chat = ChatTemplate(model(template), Chat())
    chat.check_trainable()
    assert chat.example("Find it.", completion) == (chat.turn("Find it.").prompt, taught)


def test_a_student_whose_end_of_turn_is_not_its_end_token_is_not_trained(tmp_path: Path, model: Model) -> None:
    folder = make_chat_model(tmp_path / "base", "chatml", ends=False)
    with pytest.raises(ChatError, match=r"ends an answer with '<\|im_end\|>', its tokenizer a text with '<eos>'"):
        ChatTemplate(folder, Chat()).check_trainable()
    with pytest.raises(ChatError, match="channels"):
        ChatTemplate(model("harmony"), Chat()).check_trainable(online=True)


@pytest.mark.parametrize("template", sorted(TEMPLATES))
def test_the_engine_samples_what_the_template_leads_to_and_a_trainer_gets_just_that_back(
    model: Model, template: str
) -> None:
    params, questions = SamplingParams(max_new_tokens=12, n=2, seed=3), ["Find it.", "And now?"]
    with TransformersEngine(model(template), batch_size=4) as engine:
        chat = ChatTemplate(model(template), Chat())
        asked = ChatEngine(engine, chat)
        drawn = asked.generate(questions, params, [1, 2])
        assert asked.usage == engine.usage and asked.usage.completion_tokens > 0
        raw = engine.generate([chat.turn(one).prompt for one in questions], params, [1, 2])
        for question, completions, written in zip(questions, drawn, raw, strict=True):
            for one, other in zip(completions, written, strict=True):
                assert (one.seed, one.tokens, one.logprob) == (other.seed, other.tokens, other.logprob)
                if template != "harmony":
                    assert chat.example(question, one.text) == (chat.turn(question).prompt, other.text)
        scores = asked.score(questions[:1], [drawn[0][0].text], end=False)
        assert scores == engine.score([chat.turn(questions[0]).prompt], [chat.example("", drawn[0][0].text)[1]], False)
        assert asked.embed(questions).shape == engine.embed(questions).shape


def test_a_model_that_writes_channels_answers_in_the_one_form(model: Model) -> None:
    chat = ChatTemplate(model("harmony"), Chat())
    turn = chat.turn("Find it.")
    assert chat.completion(turn, "analysis2+2assistantfinal4") == "<think>2+2</think>4"
    assert chat.completion(turn, "analysis2+2") == "<think>2+2"


def test_an_adapter_without_a_tokenizer_has_that_of_its_base(model: Model, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(f'{{"base_model_name_or_path": "{model("thinking")}"}}')
    assert ChatTemplate(adapter, Chat()).turn("a").opened == "<think>\n"
