"""vLLM against the embedded engine: the same words for the same request, and the same numbers to 1e-3."""

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from promptcot_assets.inference import (
    Completion,
    EngineError,
    InferenceEngine,
    SamplingParams,
    TokenScores,
    Usage,
    prompt_seed,
    refusals,
)
from promptcot_assets.inference.refusals import Refusal
from promptcot_assets.inference.transformers_engine import TransformersEngine
from promptcot_assets.inference.vllm_engine import CPU_TOKENS_A_STEP, VllmEngine
from promptcot_assets.inference.vllm_process import Sample
from promptcot_assets.settings.profile import Synthesis
from promptcot_assets.stages.synthesis.writing import synthesize
from promptcot_assets.tables import SCHEMAS
from tests.tiny_models import tiny_texts
from tests.vllm.conftest import SIZES, engine_settings

PROMPTS = tiny_texts(20, seed=3, shortest=2, longest=12)
CONTINUATIONS = [" " + text for text in tiny_texts(20, seed=4)]
LONG = " ".join(tiny_texts(8, seed=9))  # three blocks of the prefix cache


def texts(completions: list[list[Completion]]) -> list[list[str]]:
    return [[one.text for one in many] for many in completions]


def assert_close(found: list[TokenScores], expected: list[TokenScores]) -> None:
    assert [one.offsets for one in found] == [one.offsets for one in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.logprobs == pytest.approx(theirs.logprobs, abs=1e-3)


# ---- sampling
def test_greedy_is_the_embedded_engines(engine: VllmEngine, embedded: TransformersEngine) -> None:
    params = SamplingParams(temperature=0, max_new_tokens=40)
    for (ours,), (theirs,) in zip(engine.generate(PROMPTS, params), embedded.generate(PROMPTS, params), strict=True):
        assert (ours.text, ours.tokens, ours.finish_reason) == (theirs.text, theirs.tokens, theirs.finish_reason)
        assert ours.logprob == pytest.approx(theirs.logprob, abs=1e-3) and ours.seed == theirs.seed


def test_a_sampled_logprob_is_the_models_own(engine: VllmEngine, embedded: TransformersEngine) -> None:
    compared = 0
    params = SamplingParams(temperature=0.7, top_p=0.9, max_new_tokens=30, n=4)
    for prompt, completions in zip(PROMPTS, engine.generate(PROMPTS, params), strict=True):
        for one in completions:
            (scores,) = embedded.score([prompt], [one.text or " "], end=one.finish_reason == "stop")
            if one.text and len(scores.logprobs) == one.tokens:  # else written in other tokens than the tokenizer's
                compared += 1
                assert one.logprob == pytest.approx(sum(scores.logprobs), abs=1e-3)
    assert compared >= 40


def test_any_completion_can_be_sampled_again_alone(engine: VllmEngine) -> None:
    params = SamplingParams(max_new_tokens=15, n=4)
    together = engine.generate(PROMPTS, params)
    for completions, prompt in zip(together[:3], PROMPTS, strict=False):
        assert len({one.text for one in completions}) > 1
        for one in completions:
            ((again,),) = engine.generate([prompt], SamplingParams(max_new_tokens=15), seeds=[one.seed])
            assert (again.text, again.tokens, again.seed) == (one.text, one.tokens, one.seed)
            assert again.logprob == pytest.approx(one.logprob, abs=1e-3)


def test_seeds(engine: VllmEngine) -> None:
    def sample(seed: int, seeds: list[int] | None = None) -> list[list[str]]:
        return texts(engine.generate(PROMPTS[:4], SamplingParams(max_new_tokens=12, seed=seed), seeds=seeds))

    assert sample(1) == sample(1) != sample(2)
    assert sample(1) == sample(2, seeds=[prompt_seed(1, prompt) for prompt in PROMPTS[:4]])
    assert len(sample(0, seeds=[0, 2**63 - 1, 2**63, 2**64 - 1])) == 4


def test_prompts_may_be_more_than_a_step_reads(engine: VllmEngine) -> None:
    """vLLM then reads prompts in parts, and on a CPU a seeded one would end it."""
    words = " ".join(tiny_texts(40, seed=5)).split()
    prompts = [" ".join(words[at : at + 190]) for at in range(32)]
    asked = engine._requests.to_sample(prompts, SamplingParams(), None)
    assert asked.prompt_tokens > CPU_TOKENS_A_STEP
    params = SamplingParams(max_new_tokens=4)
    together = engine.generate(prompts, params)
    assert texts(engine.generate(prompts[-2:], params)) == texts(together[-2:])


def test_stop_strings_end_a_completion_before_them(engine: VllmEngine) -> None:
    whole = engine.generate(PROMPTS, SamplingParams(max_new_tokens=40))
    long = [(prompt, one) for prompt, (one,) in zip(PROMPTS, whole, strict=True) if len(one.text) > 30][:10]
    assert len(long) >= 5
    for prompt, one in long:
        stop = one.text[8:13]  # crosses tokens
        ((cut,),) = engine.generate([prompt], SamplingParams(max_new_tokens=40, stop=("never seen", stop)))
        assert cut.text == one.text[: one.text.index(stop)]
        assert cut.finish_reason == "stop"
        assert 0 < cut.tokens < one.tokens


def test_stop_strings_of_greedy_are_the_embedded_engines(engine: VllmEngine, embedded: TransformersEngine) -> None:
    params = SamplingParams(temperature=0, max_new_tokens=40, stop=(" average", "9"))
    ours, theirs = engine.generate(PROMPTS, params), embedded.generate(PROMPTS, params)
    assert texts(ours) == texts(theirs)
    assert [(one.tokens, one.finish_reason) for (one,) in ours] == [
        (one.tokens, one.finish_reason) for (one,) in theirs
    ]


def test_a_completion_is_cut_where_the_model_ends(engine: VllmEngine, embedded: TransformersEngine) -> None:
    prompt = next(" ".join(tiny_texts(40, seed=5))[:at] for at in range(400, 2000) if room(engine, at) == 5)
    greedy = SamplingParams(temperature=0, max_new_tokens=50)
    assert texts(engine.generate([prompt], greedy)) == texts(embedded.generate([prompt], greedy))
    (completions,) = engine.generate([prompt], SamplingParams(max_new_tokens=50, n=20))
    cut = [one for one in completions if one.finish_reason == "length"]
    assert cut and all(one.tokens == 5 for one in cut)
    assert all(one.tokens <= 5 for one in completions)


def room(engine: VllmEngine, characters: int) -> int:
    ids = engine._folder.tokenizer(" ".join(tiny_texts(40, seed=5))[:characters])["input_ids"]
    return SIZES.max_position - len(ids)


def test_temperatures_that_vllm_would_change_are_refused(engine: VllmEngine) -> None:
    for temperature in (0.001, 2.5):
        with pytest.raises(EngineError, match="temperature 0 or from"):
            engine.generate(["let"], SamplingParams(temperature=temperature))


# ---- scoring
PREFIXES = {
    "all different": PROMPTS,
    "eight candidates each": [prompt for prompt in (LONG, LONG[:150], PROMPTS[0]) for _ in range(8)],
    "of one token": ["let", "find", "let", "let"],
    "taking turns": [LONG, PROMPTS[1], LONG, PROMPTS[2]] * 3,
}


@pytest.mark.parametrize("prefixes", PREFIXES.values(), ids=PREFIXES)
@pytest.mark.parametrize("end", [True, False])
def test_score_is_the_embedded_engines(
    engine: VllmEngine, embedded: TransformersEngine, prefixes: list[str], end: bool
) -> None:
    continuations = [CONTINUATIONS[row % len(CONTINUATIONS)] for row in range(len(prefixes))]
    assert_close(engine.score(prefixes, continuations, end), embedded.score(prefixes, continuations, end))


def test_what_the_cache_holds_of_a_continuation_is_scored_again(
    engine: VllmEngine, embedded: TransformersEngine
) -> None:
    """The same pair twice, and pairs whose continuations begin alike for more than a block."""
    alike = " " + " ".join(tiny_texts(6, seed=11))
    prefixes = [LONG[:180]] * 4 + ["find"] * 4
    continuations = [alike, alike, alike + " percent", alike[:-10]] * 2
    expected = embedded.score(prefixes, continuations)
    for _ in range(2):
        assert_close(engine.score(prefixes, continuations), expected)


def test_a_pair_may_fill_the_model_to_its_last_place(engine: VllmEngine, embedded: TransformersEngine) -> None:
    text = " ".join(tiny_texts(40, seed=5))
    full = next(text[:at] for at in range(400, 2000) if room(engine, at) == 3)
    (scores,) = engine.score([full], [" 12"])
    assert len(scores.logprobs) == 3
    assert_close([scores], embedded.score([full], [" 12"]))


# ---- what is refused
BAD_CALLS = {
    "too few seeds": lambda engine: engine.generate(["let"], SamplingParams(), seeds=[1, 2, 3]),
    "a negative seed": lambda engine: engine.generate(["let"], SamplingParams(), seeds=[-1]),
    "a prefix too few": lambda engine: engine.score(["let"], ["a", "b"]),
}
BAD_ROWS = {
    "empty prompt": lambda engine: [row[0].refusal for row in engine.generate(["let", ""], SamplingParams())],
    "no room": lambda engine: [row[0].refusal for row in engine.generate(["let", "let " * 400], SamplingParams())],
    "nothing to score": lambda engine: [row.refusal for row in engine.score(["let"] * 2, [" a", ""], end=False)],
    "a pair too long": lambda engine: [row.refusal for row in engine.score(["let"] * 2, [" a", "let " * 400])],
}


@pytest.mark.parametrize("ask", BAD_CALLS.values(), ids=BAD_CALLS)
def test_bad_calls_are_named_in_the_embedded_engines_words(
    engine: VllmEngine, embedded: TransformersEngine, ask: object
) -> None:
    with pytest.raises(EngineError) as theirs:
        ask(embedded)  # type: ignore[operator]
    with pytest.raises(EngineError) as ours:
        ask(engine)  # type: ignore[operator]
    assert str(ours.value) == str(theirs.value)


@pytest.mark.parametrize("ask", BAD_ROWS.values(), ids=BAD_ROWS)
def test_a_row_at_fault_is_refused_in_the_embedded_engines_words_and_the_other_is_served(
    engine: VllmEngine, embedded: TransformersEngine, ask: Callable[[InferenceEngine], list[Refusal | None]]
) -> None:
    served, refused = ask(engine)
    assert served is None and refused is not None
    assert [None, refused] == ask(embedded)


def test_a_text_too_long_has_no_vector_and_the_other_has_one(engine: VllmEngine) -> None:
    assert refusals.embedded(engine.embed(["let", "let " * 400])).tolist() == [True, False]


def test_what_vllm_refuses_is_refused_alone(engine: VllmEngine) -> None:
    texts(engine.generate(["let"], SamplingParams(max_new_tokens=2)))
    unknown = Sample([[5], [5], [1 << 20]], seeds=[1, 2, 3], limits=[50] * 3, end_tokens=[], params=SamplingParams())
    first, second, refused = engine._ask("sampling_seconds", unknown)
    assert isinstance(refused, Refusal) and refused.reason == refusals.REFUSED and "out of vocabulary" in refused.detail
    assert first.ids and second.ids
    assert len(engine.generate(PROMPTS, SamplingParams(max_new_tokens=2))) == len(PROMPTS)


def test_nothing_asked_is_nothing_done(engine: VllmEngine) -> None:
    assert engine.generate([], SamplingParams()) == []
    assert engine.score([], []) == []
    assert engine.embed([]).shape[0] == 0


# ---- embedding, usage, calls side by side
def test_embeddings_are_the_embedded_engines(engine: VllmEngine, embedded: TransformersEngine) -> None:
    assert np.allclose(engine.embed(PROMPTS), embedded.embed(PROMPTS), atol=1e-5)


def test_usage(engine: VllmEngine) -> None:
    tokens = engine._folder.tokenizer
    engine.usage = Usage()
    completions = engine.generate([LONG, "find"], SamplingParams(max_new_tokens=5, n=3))
    sampling = engine.usage
    prompts = [len(tokens(text)["input_ids"]) for text in (LONG, "find")]
    assert sampling.prompt_tokens == 3 * sum(prompts)
    assert sampling.completion_tokens == sum(one.tokens for many in completions for one in many)
    # blocks of 32, found by two of the three at least
    assert 2 * (prompts[0] // 32) * 32 <= sampling.shared_tokens <= 3 * (prompts[0] // 32) * 32
    assert sampling.sampling_seconds == sampling.seconds > 0 and sampling.device_seconds == 0

    engine.usage = Usage()
    prefix = LONG + " when"  # its last block was never seen
    engine.score([prefix] * 8, CONTINUATIONS[:8])
    scoring, length = engine.usage, len(tokens(prefix)["input_ids"])
    assert scoring.prompt_tokens == 8 * length
    assert scoring.scored_tokens == sum(len(tokens(text)["input_ids"]) + 1 for text in CONTINUATIONS[:8])
    assert 7 * ((length - 1) // 32) * 32 <= scoring.shared_tokens <= 8 * ((length - 1) // 32) * 32
    assert scoring.scoring_seconds == scoring.seconds > 0

    engine.usage = Usage()
    engine.embed(PROMPTS)
    assert engine.usage.prompt_tokens == sum(len(ids) for ids in tokens(PROMPTS)["input_ids"])
    assert engine.usage.embedding_seconds == engine.usage.seconds > 0


def test_calls_of_two_threads_run_side_by_side(engine: VllmEngine) -> None:
    params = SamplingParams(max_new_tokens=25, n=2)
    expected = texts(engine.generate(PROMPTS, params)), engine.score(PROMPTS, CONTINUATIONS)
    assert engine.parallel_calls == 2
    engine.usage = Usage()
    found: dict[str, object] = {}
    threads = [
        threading.Thread(target=lambda: found.update(sampled=texts(engine.generate(PROMPTS, params)))),
        threading.Thread(target=lambda: found.update(scored=engine.score(PROMPTS, CONTINUATIONS))),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found["sampled"] == expected[0]
    assert_close(found["scored"], expected[1])  # type: ignore[arg-type]


def test_a_stage_gives_the_same_rows(engine: VllmEngine, embedded: TransformersEngine) -> None:
    common = {"domain": "mini_maths", "level": "2", "batch": "b1", "named": []}
    pairs = [["ratios", "averages"], ["percentages", "ratios"]]
    sets = [common | {"concept_set_id": f"set{at}", "concepts": pair} for at, pair in enumerate(pairs)]
    settings = Synthesis.model_validate({"sampling": {"temperature": 0, "max_new_tokens": 20}})
    ours, theirs = (synthesize(sets, one, settings, "p/1", seed=0) for one in (engine, embedded))
    assert len(ours) == len(theirs) >= 2
    for row, other in zip(ours, theirs, strict=True):
        assert set(row) == set(SCHEMAS["raw_problems"].names)
        assert row.pop("logprob") == pytest.approx(other.pop("logprob"), abs=1e-3)
        assert row == other


def test_an_engine_that_only_embeds_starts_no_vllm(model: Path) -> None:
    with VllmEngine(model, engine_settings()) as engine:
        engine.embed(PROMPTS[:2])
        assert engine._process is None
    with pytest.raises(EngineError, match="closed"):
        engine.embed(["let"])
