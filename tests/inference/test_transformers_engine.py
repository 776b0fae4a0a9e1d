"""The engine against naive references: Hugging Face's generate, full log-softmax, exact probabilities."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import AutoModelForCausalLM, AutoTokenizer, Gemma2Config, GPT2Config, LlamaConfig, MistralConfig

from promptcot_assets.inference import Completion, EngineError, SamplingParams, prompt_seed
from promptcot_assets.inference.transformers_engine import TransformersEngine
from tests.tiny_models import tiny_texts

PROMPTS = tiny_texts(20, seed=3, shortest=2, longest=12)
CONTINUATIONS = [" " + text for text in tiny_texts(20, seed=4)]


@pytest.fixture(scope="module")
def engine(tiny_model: Path) -> Iterator[TransformersEngine]:
    with TransformersEngine(tiny_model, batch_size=7, score_batch_size=4) as engine:
        yield engine


@pytest.fixture(scope="module")
def reference(tiny_model: Path) -> tuple[Any, Any]:
    return AutoModelForCausalLM.from_pretrained(tiny_model).eval(), AutoTokenizer.from_pretrained(tiny_model)


@pytest.fixture(scope="module")
def taught(taught_model: Path) -> Iterator[TransformersEngine]:
    with TransformersEngine(taught_model, batch_size=7, score_batch_size=4) as engine:
        yield engine


FAMILIES = {
    "llama, grouped queries": LlamaConfig(num_key_value_heads=2),
    "mistral, sliding window shorter than the text": MistralConfig(num_key_value_heads=4, sliding_window=6),
    "gemma2, capped logits and alternating windows": Gemma2Config(
        num_key_value_heads=2, head_dim=8, sliding_window=6, final_logit_softcapping=5.0
    ),
    "gpt2, learned positions": GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=128),
}


@pytest.fixture(scope="module", params=["qwen3", *FAMILIES])
def family(request: pytest.FixtureRequest, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of each family whose attention or head differs, with the tiny tokenizer."""
    if request.param == "qwen3":
        return tiny_model
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    config = FAMILIES[request.param]
    small = {"vocab_size": len(tokenizer), "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
    if config.model_type != "gpt2":
        small |= {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
        small |= {"max_position_embeddings": 128, "initializer_range": 0.2}
    config.update(small)
    if config.model_type in ("llama", "mistral"):
        config.head_dim = 8
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:2]
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("families") / config.model_type
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_greedy_is_hugging_face_generate(family: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(family).eval(), AutoTokenizer.from_pretrained(family)
    expected = []
    for prompt in PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        whole = model.generate(ids, do_sample=False, max_new_tokens=12, pad_token_id=0)
        expected.append(tokenizer.decode(whole[0, ids.shape[1] :], skip_special_tokens=True))
    with TransformersEngine(family, batch_size=7) as engine:
        found = engine.generate(PROMPTS, SamplingParams(temperature=0, max_new_tokens=12))
    assert [one.text for (one,) in found] == expected


def test_score_is_the_full_log_softmax(family: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(family).eval(), AutoTokenizer.from_pretrained(family)
    with TransformersEngine(family, score_batch_size=4) as engine:
        for end in (True, False):
            scores = engine.score(PROMPTS, CONTINUATIONS, end=end)
            for prompt, continuation, found in zip(PROMPTS, CONTINUATIONS, scores, strict=True):
                head, tail = tokenizer(prompt)["input_ids"], tokenizer(continuation)["input_ids"]
                tail = [*tail, tokenizer.eos_token_id] if end else tail
                with torch.inference_mode():
                    table = model(torch.tensor([head + tail])).logits[0].log_softmax(-1)
                expected = [table[len(head) + i - 1, token].item() for i, token in enumerate(tail)]
                assert found.logprobs == pytest.approx(expected, abs=1e-5)


def test_offsets_say_where_each_token_starts(engine: TransformersEngine, reference: tuple[Any, Any]) -> None:
    _, tokenizer = reference
    text = " root 27<!-- BEGIN PROBLEM -->x"
    (scores,) = engine.score(["let"], [text])
    pieces = [text[i:j] for i, j in zip(scores.offsets, [*scores.offsets[1:], len(text)], strict=True)]
    assert "".join(pieces) == text and pieces[-1] == ""  # the end token
    assert "<!-- BEGIN PROBLEM -->" in pieces and pieces[-4:-2] == ["7", "<!-- BEGIN PROBLEM -->"]
    assert len(scores.logprobs) == len(scores.offsets) == len(tokenizer(text)["input_ids"]) + 1


def test_the_logprob_of_a_completion_is_what_scoring_it_gives(taught: TransformersEngine) -> None:
    params = SamplingParams(temperature=0.7, top_p=0.9, max_new_tokens=30, n=4)
    compared = 0
    for prompt, completions in zip(PROMPTS, taught.generate(PROMPTS, params), strict=True):
        for one in completions:
            (scores,) = taught.score([prompt], [one.text or " "], end=one.finish_reason == "stop")
            # a model may write a text in other tokens than the tokenizer would: those are not comparable
            if one.text and len(scores.logprobs) == one.tokens:
                compared += 1
                assert one.logprob == pytest.approx(sum(scores.logprobs), abs=1e-3)
    assert compared >= 40


def test_sampled_first_tokens_follow_the_model(engine: TransformersEngine, reference: tuple[Any, Any]) -> None:
    model, tokenizer = reference
    with torch.inference_mode():
        logits = model(tokenizer("let A be", return_tensors="pt")["input_ids"]).logits[0, -1].double()
    draws = 4000
    (completions,) = engine.generate(["let A be"], SamplingParams(temperature=0.3, max_new_tokens=1, n=draws))
    # logprob names the token: equal logits are rarer than equal texts (bytes that are no text alone)
    table = logits.log_softmax(-1).numpy()
    counts = np.zeros(len(table))
    for one in completions:
        counts[np.abs(table - one.logprob).argmin()] += 1
    exact = (logits / 0.3).softmax(-1).numpy() * draws
    common = exact >= 5
    observed = [*counts[common], counts[~common].sum()]
    assert stats.chisquare(observed, [*exact[common], exact[~common].sum()]).pvalue > 1e-3


def test_top_p_keeps_to_the_nucleus(engine: TransformersEngine, reference: tuple[Any, Any]) -> None:
    model, tokenizer = reference
    with torch.inference_mode():
        probs = model(tokenizer("let A be", return_tensors="pt")["input_ids"]).logits[0, -1].softmax(-1)
    ordered = probs.sort(descending=True).values
    least = ordered[int((ordered.cumsum(0) < 0.3).sum())].log().item()
    (completions,) = engine.generate(["let A be"], SamplingParams(top_p=0.3, max_new_tokens=1, n=500))
    assert min(one.logprob for one in completions) >= least - 1e-4


def test_results_do_not_depend_on_workers(tiny_model: Path, engine: TransformersEngine) -> None:
    params = SamplingParams(max_new_tokens=20, n=3, top_p=0.9)
    expected = engine.generate(PROMPTS, params), engine.score(PROMPTS, CONTINUATIONS), engine.embed(PROMPTS)
    for workers in (2, 3):
        with TransformersEngine(tiny_model, workers=workers, batch_size=7, score_batch_size=4) as pool:
            assert pool.generate(PROMPTS, params) == expected[0]
            assert pool.score(PROMPTS, CONTINUATIONS) == expected[1]
            assert np.array_equal(pool.embed(PROMPTS), expected[2])


def test_a_completion_does_not_depend_on_its_batch(engine: TransformersEngine) -> None:
    params = SamplingParams(max_new_tokens=15, n=2)
    together = engine.generate(PROMPTS, params)
    assert _texts(engine.generate(PROMPTS[11:12], params)) == _texts(together[11:12])


def test_any_completion_can_be_sampled_again_alone(engine: TransformersEngine) -> None:
    (completions,) = engine.generate(PROMPTS[:1], SamplingParams(max_new_tokens=15, n=4))
    assert len({one.text for one in completions}) == 4
    for one in completions:
        again = engine.generate(PROMPTS[:1], SamplingParams(max_new_tokens=15), seeds=[one.seed])
        assert again[0][0].text == one.text and again[0][0].seed == one.seed


def test_seeds(engine: TransformersEngine) -> None:
    def sample(seed: int, seeds: list[int] | None = None) -> list[list[Completion]]:
        return engine.generate(PROMPTS[:4], SamplingParams(max_new_tokens=12, seed=seed), seeds=seeds)

    assert sample(1) == sample(1)
    assert _texts(sample(1)) != _texts(sample(2))
    assert sample(1) == sample(2, seeds=[prompt_seed(1, prompt) for prompt in PROMPTS[:4]])


def test_stop_strings_end_a_completion_before_them(taught: TransformersEngine) -> None:
    whole = taught.generate(PROMPTS, SamplingParams(max_new_tokens=40))
    long = [(prompt, one) for prompt, (one,) in zip(PROMPTS, whole, strict=True) if len(one.text) > 30][:10]
    assert len(long) >= 5
    for prompt, one in long:
        stop = one.text[8:13]  # crosses tokens
        ((cut,),) = taught.generate([prompt], SamplingParams(max_new_tokens=40, stop=("never seen", stop)))
        assert cut.text == one.text[: one.text.index(stop)]
        assert cut.finish_reason == "stop"
        assert cut.tokens < one.tokens


def test_finish_reasons_and_counts(tiny_model: Path, engine: TransformersEngine) -> None:
    completions = [one for many in engine.generate(PROMPTS, SamplingParams(max_new_tokens=60, n=4)) for one in many]
    ended = [one for one in completions if one.finish_reason == "stop"]
    assert ended and all(1 <= one.tokens <= 60 and "<eos>" not in one.text for one in ended)
    cut = [one for one in completions if one.finish_reason == "length"]
    assert cut and all(one.tokens == 60 for one in cut)


def test_usage_counts_what_was_asked(tiny_model: Path, reference: tuple[Any, Any]) -> None:
    _, tokenizer = reference
    prompt_tokens = sum(len(ids) for ids in tokenizer(PROMPTS)["input_ids"])
    continuation_tokens = sum(len(ids) + 1 for ids in tokenizer(CONTINUATIONS)["input_ids"])
    with TransformersEngine(tiny_model) as engine:
        completions = engine.generate(PROMPTS, SamplingParams(max_new_tokens=5, n=2))
        assert engine.usage.prompt_tokens == prompt_tokens
        assert engine.usage.completion_tokens == sum(one.tokens for many in completions for one in many)
        engine.score(PROMPTS, CONTINUATIONS)
        assert engine.usage.scored_tokens == continuation_tokens
        assert engine.usage.seconds > 0


def test_embeddings_are_normalised_means_of_the_last_hidden_state(
    engine: TransformersEngine, reference: tuple[Any, Any]
) -> None:
    model, tokenizer = reference
    found = engine.embed(PROMPTS)
    assert found.dtype == np.float32 and found.shape == (len(PROMPTS), model.config.hidden_size)
    for prompt, row in zip(PROMPTS, found, strict=True):
        with torch.inference_mode():
            hidden = model.model(tokenizer(prompt, return_tensors="pt")["input_ids"]).last_hidden_state[0].mean(0)
        assert row == pytest.approx((hidden / hidden.norm()).numpy(), abs=1e-5)


def test_nothing_asked_is_nothing_done(engine: TransformersEngine) -> None:
    assert engine.generate([], SamplingParams()) == []
    assert engine.score([], []) == []
    assert engine.embed([]).shape[0] == 0


def test_max_model_len_cuts_completions_and_refuses_prompts(tiny_model: Path, reference: tuple[Any, Any]) -> None:
    _, tokenizer = reference
    length = len(tokenizer(PROMPTS[0])["input_ids"])
    with TransformersEngine(tiny_model, max_model_len=length + 3) as engine:
        ((one,),) = engine.generate(PROMPTS[:1], SamplingParams(temperature=0, max_new_tokens=50))
        assert (one.tokens, one.finish_reason) == (3, "length")
    with TransformersEngine(tiny_model, max_model_len=length) as engine:
        with pytest.raises(EngineError, match=rf"prompt 1 has {length} tokens .* max_model_len {length}"):
            engine.generate(["let", PROMPTS[0]], SamplingParams())
        with pytest.raises(EngineError, match=rf"prefix and continuation 0 has \d+ tokens .* max_model_len {length}"):
            engine.score(PROMPTS[:1], [" and"])
        with pytest.raises(EngineError, match="text 0 has"):
            engine.embed([PROMPTS[0] + " and more"])


def test_bad_requests_are_named(engine: TransformersEngine) -> None:
    with pytest.raises(EngineError, match="prompt 1 is empty"):
        engine.generate(["let", ""], SamplingParams())
    with pytest.raises(EngineError, match="3 seeds for 1 prompts"):
        engine.generate(["let"], SamplingParams(), seeds=[1, 2, 3])
    with pytest.raises(EngineError, match="seeds must be integers from 0"):
        engine.generate(["let"], SamplingParams(), seeds=[-1])
    with pytest.raises(EngineError, match="1 prefixes for 2 continuations"):
        engine.score(["let"], ["a", "b"])
    with pytest.raises(EngineError, match="continuation 0 has no token"):
        engine.score(["let"], [""], end=False)


def test_a_folder_that_is_no_model_is_named(tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(EngineError, match="is not a model folder"):
        TransformersEngine(tmp_path / "nothing")
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in tiny_model.iterdir():
        if file.suffix != ".safetensors":
            (broken / file.name).write_bytes(file.read_bytes())
    with pytest.raises(EngineError, match=r"cannot load .*broken"):
        TransformersEngine(broken)
    with pytest.raises(EngineError, match=r"engine\.workers must be at least 1"):
        TransformersEngine(tiny_model, workers=0)


def test_a_closed_engine_says_so(tiny_model: Path) -> None:
    with TransformersEngine(tiny_model) as engine:
        pass
    with pytest.raises(EngineError, match="closed"):
        engine.generate(["let"], SamplingParams())


def _texts(completions: list[list[Completion]]) -> list[list[str]]:
    return [[one.text for one in many] for many in completions]
