"""Every usual family as a teacher and as a student: what it reads and writes, where it stops, what it is taught."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer

from promptcot_assets.inference import SamplingParams
from promptcot_assets.inference.chat import ChatEngine, ChatError, ChatTemplate
from promptcot_assets.inference.model_folder import read_model_folder
from promptcot_assets.inference.transformers_engine import TransformersEngine
from promptcot_assets.judging.verifier import extract
from promptcot_assets.settings.profile import Chat
from tests.chat_families import FAMILIES, Family, make_family
from tests.training.runs import run, write_spec
from training.rows import _completions

Made = Callable[[str], tuple[Path, Family]]
THOUGHTS, ANSWER = "<think>\nTwo and two.\n</think>", "\n\nSo \\boxed{4}."


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("families")

    def of(name: str) -> tuple[Path, Family]:
        own = folder / name.replace(" ", "")
        return own if own.exists() else make_family(own, FAMILIES[name]), FAMILIES[name]

    return of


def chat(family: Family, system: str | None = None) -> Chat:
    return Chat(arguments=family.arguments, system=system)


def as_written(template: ChatTemplate, family: Family) -> str:
    """What a model of the family writes for a thought and an answer."""
    if family.has_channels:
        return (
            "<|channel|>analysis<|message|>Two and two.<|end|><|start|>assistant"
            "<|channel|>final<|message|>So \\boxed{4}."
        )
    if family.closed:
        return "So \\boxed{4}."
    return (THOUGHTS + ANSWER).removeprefix(family.opened)


@pytest.mark.parametrize("name", FAMILIES)
def test_what_a_family_reads(made: Made, name: str) -> None:
    folder, family = made(name)
    turn = ChatTemplate(folder, chat(family)).turn("Find it.")
    assert (turn.prompt, turn.opened, turn.closed) == (family.prompt, family.opened, family.closed)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(turn.prompt)["input_ids"]
    first = tokenizer.convert_tokens_to_ids(family.begins) if family.begins else None
    assert ids.count(first) == bool(family.begins) and (ids[0] == first) == bool(family.begins)
    known = set(tokenizer.convert_tokens_to_ids(list(family.special)))
    assert any(one in known for one in ids)  # as tokens, and not as letters


@pytest.mark.parametrize("name", FAMILIES)
def test_a_system_turn_is_put_where_the_family_wants_it_or_refused(made: Made, name: str) -> None:
    folder, family = made(name)
    if family.with_system is None:
        with pytest.raises(ChatError, match=r"chat.system 'Be brief.': System role not supported"):
            ChatTemplate(folder, chat(family, "Be brief."))
    else:
        assert ChatTemplate(folder, chat(family, "Be brief.")).turn("Find it.").prompt == family.with_system


@pytest.mark.parametrize("name", FAMILIES)
def test_what_a_family_writes_is_a_think_block_and_an_answer_in_tables_and_comes_back_to_a_trainer(
    made: Made, name: str
) -> None:
    folder, family = made(name)
    template = ChatTemplate(folder, chat(family))
    turn, written = template.turn("Find it."), as_written(template, family)
    completion = template.completion(turn, written)
    if not family.closed:
        assert completion.count("<think>") == completion.count("</think>") == 1
        assert "Two and two." in completion.partition("</think>")[0]
    assert extract("maths", completion) == "4"
    assert template.written(turn, completion) == written
    assert template.example("Find it.", completion) == (family.prompt, written)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_thought_that_was_cut_off_is_no_answer(made: Made, name: str) -> None:
    folder, family = made(name)
    template = ChatTemplate(folder, chat(family))
    turn = template.turn("Find it.")
    begun = "<|channel|>analysis<|message|>" if family.has_channels else "<think>\n".removeprefix(family.opened)
    completion = template.completion(turn, begun + "so \\boxed{3}?")
    assert extract("maths", completion) is None
    assert template.written(turn, completion) == begun + "so \\boxed{3}?"


@pytest.mark.parametrize("name", FAMILIES)
def test_a_student_is_taught_what_it_would_sample_up_to_the_end_of_its_turn(
    made: Made, name: str, tmp_path: Path
) -> None:
    """A teacher's trace of whatever family, in the form of the tables."""
    folder, family = made(name)
    template = ChatTemplate(folder, chat(family))
    template.check_trainable()
    assert template.end == family.turn_end
    base = template.ends_turns(tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(base)
    prompt, taught = template.example("Find it.", "<think>Two and two.</think>So \\boxed{4}.")
    (ids,) = _completions([taught], tokenizer)
    stops = read_model_folder(folder).end_tokens
    assert tokenizer.convert_ids_to_tokens(ids[-1:]) == [family.turn_end] and ids[-1] in stops
    assert not stops & set(ids[:-1])  # sampled, it would not have ended before
    assert prompt == family.prompt
    again = template.completion(template.turn("Find it."), tokenizer.decode(ids[:-1]))
    assert extract("maths", again) == "4"
    assert family.closed or "<think>" in again
    assert read_model_folder(base).end_tokens >= stops - {AutoTokenizer.from_pretrained(folder).eos_token_id}


@pytest.mark.parametrize("name", FAMILIES)
def test_it_stops_at_each_of_its_end_tokens_and_its_turn_is_scored_to_the_end(made: Made, name: str) -> None:
    folder, family = made(name)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    stops = {tokenizer.convert_tokens_to_ids(one) for one in (*family.stops, family.eos)}
    with TransformersEngine(folder, batch_size=4) as engine:
        assert read_model_folder(folder).end_tokens == stops
        template = ChatTemplate(folder, chat(family))
        asked = ChatEngine(engine, template)
        drawn = asked.generate(["Find it.", "And now?"], SamplingParams(max_new_tokens=12, n=2, seed=3))
        assert [one.finish_reason in ("stop", "length") for row in drawn for one in row] == [True] * 4
        completion = template.completion(template.turn("a"), as_written(template, family))
        (scores,) = asked.score(["a"], [completion])
        prompt, written = template.example("a", completion)
        (expected,) = engine.score([prompt], [written + family.turn_end], end=False)
        assert scores.logprobs == pytest.approx(expected.logprobs, abs=1e-4)


def test_a_model_that_does_not_stop_where_its_template_ends_a_turn_is_not_trained(tmp_path: Path) -> None:
    """Qwen2.5's base models carry a template, and end texts with `<|endoftext|>`."""
    base = replace(FAMILIES["qwen2.5"], eos="<|endoftext|>", stops=("<|endoftext|>",))
    with pytest.raises(ChatError, match=r"ends an answer with '<\|im_end\|>'.* generation_config.json"):
        ChatTemplate(make_family(tmp_path / "base", base), Chat()).check_trainable()


def test_channels_are_not_learned_online(made: Made) -> None:
    folder, family = made("gpt-oss")
    with pytest.raises(ChatError, match=r"set self_play.optimiser to dpo or sft"):
        ChatTemplate(folder, chat(family)).check_trainable(online=True)


def test_a_trained_gemma_ends_its_turns_as_it_was_sampled(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its tokenizer ends texts with `<eos>`: trained by the real trainer on `<end_of_turn>` and sampled."""
    folder, family = made("gemma-2")
    template = ChatTemplate(folder, chat(family))
    examples = [template.example(f"Find {n}.", "So 4.") for n in range(4)] * 10
    spec = write_spec(tmp_path, template.ends_turns(tmp_path / "base"), arguments={"num_train_epochs": 6})
    texts = {"prompt": [prompt for prompt, _ in examples], "completion": [more for _, more in examples]}
    pq.write_table(pa.table(texts), tmp_path / "data.parquet")
    run("sft", spec, capsys)
    student = tmp_path / "model"
    assert read_model_folder(student).end_tokens >= read_model_folder(folder).end_tokens
    again = ChatTemplate(student, chat(family))
    assert again.ends_texts and again.turn("a") == template.turn("a")
    with TransformersEngine(student) as engine:
        ((one,),) = ChatEngine(engine, again).generate(["Find 2."], SamplingParams(temperature=0, max_new_tokens=20))
    assert (one.text, one.finish_reason) == ("So 4.", "stop")
