"""The engine against naive references: Hugging Face's generate, full log-softmax, exact probabilities."""

import random
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from transformers import AutoModelForCausalLM, AutoTokenizer, Gemma2Config, GPT2Config, LlamaConfig, MistralConfig

from promptcot_assets.inference import Completion, EngineError, SamplingParams, Usage, prompt_seed
from promptcot_assets.inference.refusals import TOO_LONG, embedded
from promptcot_assets.inference.transformers_engine import (
    FORWARDS,
    TransformersEngine,
    _alike,
    _chunks,
    _score_batches,
)
from promptcot_assets.inference.workers import LocalModel
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


def full_log_softmax(model: Any, tokenizer: Any, prefix: str, continuation: str, end: bool = True) -> list[float]:
    """The naive reference: every logit of this pair alone."""
    head, tail = tokenizer(prefix)["input_ids"], tokenizer(continuation)["input_ids"]
    tail = [*tail, tokenizer.eos_token_id] if end else tail
    with torch.inference_mode():
        table = model(torch.tensor([head + tail])).logits[0].log_softmax(-1)
    return [table[len(head) + i - 1, token].item() for i, token in enumerate(tail)]


def copies(*counts: int) -> list[str]:
    """The first prompts, each so many times, one after the other as the E-step asks."""
    return [prompt for prompt, count in zip(PROMPTS, counts, strict=False) for _ in range(count)]


# with 4 rows at once a scoring batch holds 32
PREFIXES = {
    "all different": PROMPTS,
    "five candidates each": copies(5, 5, 5, 5),
    "groups of one, two and many": copies(1, 9, 2, 1, 7),
    "more candidates of one than a batch holds": copies(70, 3),
    "groups across a batch's end": copies(*[7] * 10),
    "taking turns": [*PROMPTS[:3]] * 5,
    "of one token, shared and not": ["let", "find", "let", "let", "sum"],
    "of one token and longer": ["let", "let", *copies(3, 1, 2)],
    "one candidate": ["let A be"],
}


@pytest.mark.parametrize("prefixes", PREFIXES.values(), ids=PREFIXES)
@pytest.mark.parametrize("end", [True, False])
def test_score_is_the_full_log_softmax(
    engine: TransformersEngine, reference: tuple[Any, Any], prefixes: list[str], end: bool
) -> None:
    continuations = [CONTINUATIONS[row % len(CONTINUATIONS)] for row in range(len(prefixes))]
    scores = engine.score(prefixes, continuations, end=end)
    for prefix, continuation, found in zip(prefixes, continuations, scores, strict=True):
        assert found.logprobs == pytest.approx(full_log_softmax(*reference, prefix, continuation, end), abs=1e-5)


def test_score_is_the_full_log_softmax_in_every_family(family: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(family).eval(), AutoTokenizer.from_pretrained(family)
    prefixes = [*PROMPTS[:5], *copies(5, 1, 3, 4), "let", "let"]
    continuations = CONTINUATIONS[: len(prefixes)]
    with TransformersEngine(family, score_batch_size=4) as engine:
        scores = engine.score(prefixes, continuations)
    for prefix, continuation, found in zip(prefixes, continuations, scores, strict=True):
        assert found.logprobs == pytest.approx(full_log_softmax(model, tokenizer, prefix, continuation), abs=1e-5)


tokens = st.lists(st.integers(0, 3), min_size=1, max_size=4)


@given(st.lists(st.tuples(tokens, tokens), min_size=1, max_size=80), st.integers(1, 3), st.none() | st.integers(1, 20))
def test_scoring_batches_hold_every_row_once_and_a_shared_prefix_once(
    pairs: list[tuple[list[int], list[int]]], rows_at_once: int, budget: int | None
) -> None:
    prefixes, continuations = [list(each) for each in zip(*pairs, strict=True)]
    chunks, batches = _score_batches(prefixes, continuations, rows_at_once, budget)
    assert sorted(row for chunk in chunks for row in chunk) == list(range(len(pairs)))
    assert len(batches) >= 2 or len(pairs) < 4 * rows_at_once, "several workers have something to do"
    for chunk, batch in zip(chunks, batches, strict=True):
        assert len(set(map(tuple, batch.heads))) == len(batch.heads)
        assert budget or len(batch.passes) <= FORWARDS
        for one in batch.passes if budget else ():
            whole = [len(batch.heads[head]) + len(tail) for head, tail in zip(one.head_of, one.tails, strict=True)]
            assert len(whole) == 1 or len(whole) * max(whole) <= budget
        assert all(len(one.tails) <= rows_at_once for one in batch.passes)
        rows = [each for one in batch.passes for each in zip(one.head_of, one.tails, one.starts, strict=True)]
        for row, (head, tail, start) in zip(chunk, rows, strict=True):
            assert batch.heads[head] + tail == prefixes[row] + continuations[row]
            assert tail[start:] == continuations[row]
            assert start == (1 if prefixes.count(prefixes[row]) > 1 else len(prefixes[row]))


def test_a_budget_of_tokens_makes_long_rows_go_in_smaller_batches_and_changes_no_result(
    taught_model: Path, taught: TransformersEngine
) -> None:
    texts = tiny_texts(24, seed=3, longest=40)
    params, seeds = SamplingParams(temperature=0.0, max_new_tokens=8, n=1), list(range(len(texts)))
    with TransformersEngine(taught_model, batch_size=16, score_batch_size=8, batch_tokens=64) as tight:
        drawn, scored = tight.generate(texts, params, seeds), tight.score(texts, [" root 27"] * len(texts))
        vectors = tight.embed(texts)
    wide = taught.score(texts, [" root 27"] * len(texts))
    assert [one.text for (one,) in drawn] == [one.text for (one,) in taught.generate(texts, params, seeds)]
    for one, other in zip(scored, wide, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
    assert np.allclose(vectors, taught.embed(texts), atol=1e-4)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=40), st.integers(1, 8), st.none() | st.integers(1, 90))
def test_chunks_keep_the_order_and_the_bounds(lengths: list[int], size: int, budget: int | None) -> None:
    order = list(range(len(lengths)))
    chunks = _chunks(order, size, lengths.__getitem__, budget)
    assert [row for chunk in chunks for row in chunk] == order
    for chunk in chunks:
        assert len(chunk) <= size
        assert budget is None or len(chunk) == 1 or len(chunk) * max(lengths[row] for row in chunk) <= budget
    if budget is None:
        assert all(len(chunk) == size for chunk in chunks[:-1])


@pytest.mark.parametrize(
    ("rows", "count", "size", "chunks"),
    [
        (0, 2, 8, []),
        (1, 0, 8, [1]),
        (95, 1, 256, [95]),
        (96, 2, 256, [48, 48]),
        (300, 2, 256, [150, 150]),
        (513, 2, 256, [129, 129, 129, 126]),
    ],
)
def test_chunks_of_rows_of_one_length_are_alike(rows: int, count: int, size: int, chunks: list[int]) -> None:
    assert [len(one) for one in _alike(list(range(rows)), count, size, lambda _: 7, None)] == chunks


@given(
    st.lists(st.integers(1, 300), min_size=1, max_size=60).map(sorted),
    st.integers(0, 6),
    st.integers(1, 20),
    st.none() | st.integers(1, 900),
)
def test_chunks_of_rows_of_any_length_have_about_as_many_positions(
    lengths: list[int], count: int, size: int, budget: int | None
) -> None:
    order = list(range(len(lengths)))
    chunks = _alike(order, count, size, lengths.__getitem__, budget)
    assert [row for chunk in chunks for row in chunk] == order
    assert all(len(chunk) <= size for chunk in chunks)
    positions = [len(chunk) * lengths[chunk[-1]] for chunk in chunks]
    if budget:
        assert all(len(chunk) == 1 or filled <= budget for chunk, filled in zip(chunks, positions, strict=True))
        return
    asked = max(count, -(-len(lengths) // size))
    asked += asked % 2 if asked > 1 else 0
    assert len(chunks) <= asked
    # no other cut into as many chunks makes the fullest one smaller
    fullest = max(positions)
    assert fullest == lengths[-1] or len(_chunks(order, size, lengths.__getitem__, fullest - 1)) > asked


def test_scores_come_in_the_order_of_the_requests(engine: TransformersEngine) -> None:
    pairs = list(zip(copies(*[6] * 7), CONTINUATIONS * 3, strict=False))
    shuffled = random.Random(0).sample(range(len(pairs)), len(pairs))
    in_order = engine.score(*zip(*pairs, strict=True))
    for row, found in zip(shuffled, engine.score(*zip(*(pairs[row] for row in shuffled), strict=True)), strict=True):
        assert found.offsets == in_order[row].offsets
        assert found.logprobs == pytest.approx(in_order[row].logprobs, abs=1e-5)


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
    pairs = copies(1, 20, 1, 8, 40), CONTINUATIONS * 4
    pairs = pairs[0], pairs[1][: len(pairs[0])]
    expected = engine.generate(PROMPTS, params), engine.score(*pairs), engine.embed(PROMPTS)
    for workers in (2, 3):
        with TransformersEngine(tiny_model, workers=workers, batch_size=7, score_batch_size=4) as pool:
            assert pool.generate(PROMPTS, params) == expected[0]
            assert pool.score(*pairs) == expected[1]
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


@pytest.fixture
def measured(tiny_model: Path) -> Iterator[tuple[TransformersEngine, list[int]]]:
    """An engine, and what its model was really given: the size of every batch of ids that went through it."""
    with TransformersEngine(tiny_model, batch_size=7, score_batch_size=4) as engine:
        engine.score(["let"], ["A"])  # the first time, the head is tried out
        engine.usage = Usage()
        sizes: list[int] = []
        assert isinstance(engine._models, LocalModel) and engine._models._model is not None
        decoder = engine._models._model.model.get_decoder()
        decoder.register_forward_pre_hook(
            lambda _, __, given: sizes.append(given["input_ids"].numel()), with_kwargs=True
        )
        yield engine, sizes


def test_usage_of_sampling(measured: tuple[TransformersEngine, list[int]], reference: tuple[Any, Any]) -> None:
    (engine, sizes), (_, tokenizer) = measured, reference
    lengths = [len(ids) for ids in tokenizer(PROMPTS[:2])["input_ids"]]
    completions = engine.generate(PROMPTS[:2], SamplingParams(max_new_tokens=5, n=3))  # six rows: one batch
    usage = engine.usage
    assert usage.prompt_tokens == 3 * sum(lengths) and usage.shared_tokens == 2 * sum(lengths)
    assert usage.completion_tokens == sum(one.tokens for many in completions for one in many)
    assert usage.positions == sum(sizes)
    assert usage.padded_positions == max(lengths) - min(lengths)
    assert usage.seconds == usage.sampling_seconds > 0


def test_usage_of_scoring(measured: tuple[TransformersEngine, list[int]], reference: tuple[Any, Any]) -> None:
    (engine, sizes), (_, tokenizer) = measured, reference
    prefixes = copies(8, 1, 4)
    continuations = CONTINUATIONS[: len(prefixes)]
    engine.score(prefixes, continuations)
    prompts = {prompt: len(tokenizer(prompt)["input_ids"]) for prompt in PROMPTS[:3]}
    scored = sum(len(ids) + 1 for ids in tokenizer(continuations)["input_ids"])
    usage = engine.usage
    assert usage.prompt_tokens == sum(prompts[prefix] for prefix in prefixes) and usage.scored_tokens == scored
    # all but one of a group are spared the prefix, save its last token, which predicts the first scored one
    assert usage.shared_tokens == 7 * (prompts[PROMPTS[0]] - 1) + 3 * (prompts[PROMPTS[2]] - 1)
    assert usage.positions == sum(sizes)
    tokens = usage.prompt_tokens - usage.shared_tokens + scored - len(prefixes)
    assert usage.positions - usage.padded_positions == tokens
    assert usage.seconds == usage.scoring_seconds > 0


def test_usage_of_embedding(measured: tuple[TransformersEngine, list[int]], reference: tuple[Any, Any]) -> None:
    (engine, sizes), (_, tokenizer) = measured, reference
    engine.embed(PROMPTS)
    usage = engine.usage
    assert usage.prompt_tokens == sum(len(ids) for ids in tokenizer(PROMPTS)["input_ids"])
    assert usage.positions == sum(sizes) == usage.prompt_tokens + usage.padded_positions
    assert usage.seconds == usage.embedding_seconds > 0


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
        (_, (refused,)) = engine.generate(["let", PROMPTS[0]], SamplingParams())
        assert refused.refusal and refused.finish_reason == refused.refusal.reason == TOO_LONG
        assert re.match(rf"prompt 1 has {length} tokens .* max_model_len {length}", refused.refusal.detail)
        (score,) = engine.score(PROMPTS[:1], [" and"])
        assert score.refusal and re.match(r"prefix and continuation 0 has \d+ tokens", score.refusal.detail)
        assert embedded(engine.embed([PROMPTS[0] + " and more", "let"])).tolist() == [False, True]


def test_bad_requests_are_named(engine: TransformersEngine) -> None:
    with pytest.raises(EngineError, match="3 seeds for 1 prompts"):
        engine.generate(["let"], SamplingParams(), seeds=[1, 2, 3])
    with pytest.raises(EngineError, match="seeds must be integers from 0"):
        engine.generate(["let"], SamplingParams(), seeds=[-1])
    with pytest.raises(EngineError, match="1 prefixes for 2 continuations"):
        engine.score(["let"], ["a", "b"])


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


def test_nothing_that_transformers_will_remove_is_used(taught_model: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        with TransformersEngine(taught_model, batch_size=4) as engine:
            engine.generate(["let A", "find"], SamplingParams(max_new_tokens=4, n=2))
            engine.score(["let A"] * 3, [" be", " is", " of"])
            engine.embed(["let A"])
