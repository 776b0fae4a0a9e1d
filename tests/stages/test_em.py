import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import settings as given_settings
from hypothesis import strategies as st

from promptcot_assets.domains import domain_named
from promptcot_assets.domains.layout import (
    BEGIN_PROBLEM,
    BEGIN_RATIONALE,
    END_PROBLEM,
    END_RATIONALE,
    TOKENIZER_MARKERS,
    generator_completion,
    rationale_block,
)
from promptcot_assets.inference.transformers_engine import TransformersEngine
from promptcot_assets.settings.profile import Corpus, Sampling
from promptcot_assets.stages import Row, em
from promptcot_assets.stages.base_models import from_scratch
from promptcot_assets.stages.corpus import seed_problems, seed_triples
from tests.exact_models import END, ExactModel
from tests.tiny_models import TinySettings

SEEDS = [
    {"problem_id": f"p{number}", "domain": "maths", "concepts": ["sums"], "level": "easy", "problem": x}
    for number, x in enumerate(["one?", "two?"])
]
SEED = SEEDS[0]
FREE = Sampling(temperature=1.0, max_new_tokens=8)
Laws = Mapping[str, float]


# ---- a world of few rationales, in which every probability can be worked out
def generator(prior: Laws, likelihood: Mapping[str, Laws]) -> ExactModel:
    """p: the rationale from `prior`, then the problem from `likelihood[rationale]`; all else is certain."""

    def next_token(text: str) -> Laws:
        written = text.rpartition("\n\n")[2]
        if not written:
            return {BEGIN_RATIONALE: 1.0}
        if written.endswith(BEGIN_RATIONALE):
            return prior
        if written.endswith(END_RATIONALE):
            return {BEGIN_PROBLEM: 1.0}
        if written.endswith(BEGIN_PROBLEM):
            return likelihood[written.removeprefix(BEGIN_RATIONALE).partition(END_RATIONALE)[0]]
        if written.endswith(END_PROBLEM):
            return {END: 1.0}
        return {END_PROBLEM if BEGIN_PROBLEM in written else END_RATIONALE: 1.0}

    return ExactModel(next_token)


def proposer(law: Laws) -> ExactModel:
    """q: the same law for every problem; the text ends with the marker."""
    return ExactModel(lambda text: law if text.endswith(BEGIN_RATIONALE) else {END_RATIONALE: 1.0})


def candidate_row(text: str, number: int, log_q: float, **changed: object) -> Row:
    return {
        **SEED, "concept_set_id": "c", "candidate": number, "rationale": text, "log_q": log_q, "tokens": 2,
        "lost_because": None, "copy_ratio": 0.0, "style": None, **changed,
    }  # fmt: skip


def measured(p: ExactModel, q: Laws, drawn: tuple[str, ...]) -> Row:
    """The held-out row of one draw of rationales from q."""
    rows = [candidate_row(z, k, math.log(q[z]), lost_because=em._unusable(z, True)) for k, z in enumerate(drawn)]
    (row,) = em.bounds(em.judge(rows, p), len(drawn))
    return row


def normal(weights: list[int], names: tuple[str, ...]) -> Laws:
    return {name: weight / sum(weights) for name, weight in zip(names, weights, strict=True)}


Z = ("planned", "vague", "wrong")
WEIGHTS = st.lists(st.integers(1, 9), min_size=3, max_size=3)
worlds = st.builds(
    lambda prior, fit, q: (normal(prior, Z), dict(zip(Z, (w / 10 for w in fit), strict=True)), normal(q, Z)),
    WEIGHTS, WEIGHTS, WEIGHTS,
)  # fmt: skip


def world(prior: Laws, fit: Laws) -> tuple[ExactModel, float]:
    """The generator of a world, and its exact log p(x|c)."""
    x = SEED["problem"]
    p = generator(prior, {z: {x: fit[z], "else": 1 - fit[z]} for z in prior})
    return p, math.log(math.fsum(prior[z] * fit[z] for z in prior))


# ---- rewards
@given(worlds)
def test_both_reward_terms_are_the_generators_own_probabilities(drawn: tuple) -> None:
    prior, fit, _ = drawn
    p, _ = world(prior, fit)
    for row in em.judge([candidate_row(z, k, 0.0) for k, z in enumerate(Z)], p):
        assert row["log_p_rationale"] == pytest.approx(math.log(prior[row["rationale"]]))
        assert row["log_p_problem"] == pytest.approx(math.log(fit[row["rationale"]]))
        assert row["reward"] == pytest.approx(row["log_p_rationale"] + row["log_p_problem"])


def test_an_unusable_candidate_is_kept_without_a_score() -> None:
    p, _ = world(normal([1, 1, 1], Z), dict.fromkeys(Z, 0.5))
    rows = [candidate_row("", 0, -1.0, lost_because="empty"), candidate_row("vague", 1, -1.0)]
    judged = em.judge(rows, p)
    assert [row["candidate"] for row in judged] == [0, 1]
    assert judged[0] == rows[0] | {"log_p_rationale": None, "log_p_problem": None, "reward": None}
    assert judged[1]["reward"] is not None


# ---- bounds
@given(worlds)
@given_settings(max_examples=60, deadline=None)
def test_the_bounds_of_every_possible_draw_average_to_what_theory_says(drawn: tuple) -> None:
    """All |Z|^K draws, weighted with their chances: no sampling, so equalities are exact."""
    prior, fit, q = drawn
    p, evidence = world(prior, fit)
    expected = {}
    for proposals in (1, 2, 3):
        bound = elbo = weight = 0.0
        for zs in itertools.product(Z, repeat=proposals):
            chance = math.prod(q[z] for z in zs)
            row = measured(p, q, zs)
            assert row["elbo"] <= row["iw_bound"] + 1e-12
            bound += chance * row["iw_bound"]
            elbo += chance * row["elbo"]
            weight += chance * math.exp(row["iw_bound"])
        expected[proposals] = bound
        assert weight == pytest.approx(math.exp(evidence))  # unbiased before the logarithm
        assert elbo == pytest.approx(expected[1])  # the ELBO is the bound of one proposal
    assert expected[1] <= expected[2] + 1e-12 and expected[2] <= expected[3] + 1e-12  # tightens with K
    assert expected[3] <= evidence + 1e-12


@given(worlds, st.integers(1, 4), st.data())
def test_with_the_true_posterior_every_draw_gives_the_evidence_itself(
    drawn: tuple, proposals: int, data: st.DataObject
) -> None:
    prior, fit, _ = drawn
    p, evidence = world(prior, fit)
    posterior = {z: prior[z] * fit[z] / math.exp(evidence) for z in Z}
    zs = tuple(data.draw(st.sampled_from(Z)) for _ in range(proposals))
    row = measured(p, posterior, zs)
    assert row["iw_bound"] == pytest.approx(evidence) == pytest.approx(row["elbo"])


@given(worlds)
@given_settings(max_examples=40, deadline=None)
def test_unusable_proposals_keep_the_bounds_below_the_evidence(drawn: tuple) -> None:
    """`vague` becomes a text that no generator may write: it counts in K with weight 0."""
    prior, fit, q = drawn
    p, evidence = world(prior, fit)
    marked = {"planned": q["planned"], f"see {BEGIN_PROBLEM}": q["vague"], "wrong": q["wrong"]}
    weight = 0.0
    for zs in itertools.product(marked, repeat=3):
        row = measured(p, marked, zs)
        if row["proposals_used"] == 0:
            assert row["iw_bound"] is row["elbo"] is row["log_p_problem"] is None
            continue
        assert row["proposals_used"] == sum(z != f"see {BEGIN_PROBLEM}" for z in zs)
        assert row["elbo"] <= row["iw_bound"] + 1e-12
        weight += math.prod(marked[z] for z in zs) * math.exp(row["iw_bound"])
    assert weight == pytest.approx(math.fsum(prior[z] * fit[z] for z in ("planned", "wrong")))
    assert weight <= math.exp(evidence)


def test_spaces_at_the_ends_of_a_rationale_are_part_of_it() -> None:
    """Stripped, `a` and ` a` would both carry p(a) and the bound would exceed the evidence."""
    texts = {"a": 0.5, " a": 0.25, "a\n": 0.25}
    rows = em.propose([SEED] * 1, proposer(texts), FREE, 200, seed=0)
    assert {row["rationale"] for row in rows} == set(texts)
    p, evidence = world({"a": 0.8, " a": 0.1, "a\n": 0.1}, dict.fromkeys(texts, 0.5))
    (row,) = em.bounds(em.judge(rows, p), 200)
    assert row["iw_bound"] == pytest.approx(evidence, abs=0.1)


def test_half_of_the_proposals_are_the_first_ones_in_whatever_order_rows_come() -> None:
    prior, fit, q = normal([5, 3, 2], Z), {"planned": 0.9, "vague": 0.3, "wrong": 0.1}, normal([1, 1, 2], Z)
    p, _ = world(prior, fit)
    zs = ("vague", "wrong", "planned", "planned")
    rows = em.judge([candidate_row(z, k, math.log(q[z])) for k, z in enumerate(zs)], p)
    (row,) = em.bounds(rows[::-1], 4)
    weights = [prior[z] * fit[z] / q[z] for z in zs]
    assert row["iw_bound"] == pytest.approx(math.log(sum(weights) / 4))
    assert row["iw_bound_half"] == pytest.approx(math.log(sum(weights[:2]) / 2))
    assert row["log_p_rationale"] == pytest.approx(sum(math.log(prior[z]) for z in zs) / 4)
    assert row["log_p_problem"] == pytest.approx(sum(math.log(fit[z]) for z in zs) / 4)


def test_a_bound_of_very_unlikely_texts_does_not_underflow() -> None:
    rows = [{"reward": -5000.0, "log_q": -10.0}, {"reward": -5001.0, "log_q": -11.0}]
    assert em.importance_weighted_bound(rows, 2) == pytest.approx(-4990.0)
    assert em.importance_weighted_bound([], 2) is None


def test_the_change_of_the_bound_is_paired_by_problem() -> None:
    before = [{"problem_id": k, "iw_bound": v} for k, v in (("a", -10.0), ("b", -20.0), ("c", None), ("d", -1.0))]
    after = [{"problem_id": k, "iw_bound": v} for k, v in (("b", -17.0), ("a", -9.0), ("c", -5.0), ("e", 0.0))]
    change, error, problems = em.bound_change(after, before)
    assert (change, problems) == (2.0, 2)
    assert error == pytest.approx(1.0)  # differences 1 and 3
    assert em.bound_change(after, []) == (0.0, 0.0, 0)


# ---- proposing
def test_proposals_follow_q_and_carry_its_probability() -> None:
    q = {"planned": 0.5, "vague": 0.3, "wrong": 0.2}
    rows = em.propose(SEEDS, proposer(q), FREE, 500, seed=1)
    assert [(row["problem_id"], row["candidate"]) for row in rows] == [
        (s["problem_id"], k) for s in SEEDS for k in range(500)
    ]
    counts = Counter(row["rationale"] for row in rows)
    for text, chance in q.items():
        assert abs(counts[text] - 1000 * chance) < 4 * (1000 * chance * (1 - chance)) ** 0.5
    assert all(row["log_q"] == pytest.approx(math.log(q[row["rationale"]])) for row in rows)
    assert all(row["tokens"] == 2 and row["finish_reason"] == "stop" for row in rows)


def test_a_seeds_proposals_do_not_depend_on_the_other_seeds() -> None:
    q = proposer(normal([1, 1, 1], Z))
    together = em.propose(SEEDS, q, FREE, 20, seed=3)
    assert together == em.propose(SEEDS[:1], q, FREE, 20, seed=3) + em.propose(SEEDS[1:], q, FREE, 20, seed=3)
    assert together != em.propose(SEEDS, q, FREE, 20, seed=4)
    assert [row["rationale"] for row in together[:20]] != [row["rationale"] for row in together[20:]]


def test_unusable_proposals_say_why() -> None:
    """Cut off, empty, only spaces, or with a marker inside; the reason of the first that applies."""
    texts = {"long ": 0.25, "": 0.0, " \n": 0.25, f"a{BEGIN_PROBLEM}": 0.25, "fine": 0.25}

    def q(text: str) -> Laws:
        if text.endswith("long "):
            return {"long ": 1.0}
        return {t: v for t, v in texts.items() if v} if text.endswith(BEGIN_RATIONALE) else {END_RATIONALE: 1.0}

    rows = em.propose([SEED], ExactModel(q), FREE, 60, seed=0)
    reasons = {row["rationale"][:4]: row["lost_because"] for row in rows}
    assert reasons == {"long": "cut off at the token limit", " \n": "empty", "a<!-": "contains a marker", "fine": None}
    assert {row["finish_reason"] for row in rows if row["rationale"].startswith("long")} == {"length"}


# ---- selection
def ranked_of(*rewards: tuple[str, float | None]) -> list[Row]:
    rows = [
        candidate_row(text, k, -1.0, reward=reward, lost_because=None if reward is not None else "empty")
        for k, (text, reward) in enumerate(rewards)
    ]
    return em.select(rows)


def test_the_best_reward_is_selected_and_every_other_row_says_why_it_lost() -> None:
    rows = ranked_of(("a", -3.0), ("", None), ("b", -1.0), ("a", -3.0), ("c", -2.0))
    assert [row["selected"] for row in rows] == [False, False, True, False, False]
    assert [row["rank"] for row in rows] == [3, None, 1, None, 2]
    assert [row["lost_because"] for row in rows] == [
        "lower reward", "empty", None, "same text as candidate 0", "lower reward",
    ]  # fmt: skip
    assert em.losses(rows) == {"lower reward": 2, "empty": 1, "same text as another candidate": 1}


def test_ties_go_to_the_lower_number() -> None:
    rows = ranked_of(("a", -2.0), ("b", -1.0), ("c", -1.0))
    assert [row["rank"] for row in rows] == [3, 1, 2]


def test_of_equal_texts_the_first_counts_even_when_it_wins() -> None:
    rows = ranked_of(("a", -1.0), ("a", -1.0), ("b", -2.0))
    assert [row["selected"] for row in rows] == [True, False, False]
    assert rows[1]["lost_because"] == "same text as candidate 0"


def test_a_seed_without_a_usable_candidate_has_no_winner() -> None:
    rows = ranked_of(("", None), ("", None))
    assert not any(row["selected"] for row in rows)
    assert em.e_step_summary(rows)["seeds_without_a_winner"] == 1
    assert "mean_reward" not in em.e_step_summary(rows)


GROUPS = st.lists(
    st.tuples(st.sampled_from("pqr"), st.sampled_from("abc"), st.none() | st.integers(-3, 0).map(float)), max_size=20
)


@given(GROUPS, st.randoms())
def test_selection_keeps_every_row_and_takes_the_argmax(drawn: list, rng: object) -> None:
    texts = {}  # equal texts of a seed have equal rewards
    rows = []
    for number, (problem, text, reward) in enumerate(drawn):
        reward = texts.setdefault((problem, text), reward)
        reason = None if reward is not None else "cut off at the token limit"
        rows.append(candidate_row(text, number, -1.0, problem_id=problem, reward=reward, lost_because=reason))
    ranked = em.select(rows)
    assert {row["candidate"] for row in ranked} == {row["candidate"] for row in rows} and len(ranked) == len(rows)
    for problem in {row["problem_id"] for row in rows}:
        group = [row for row in ranked if row["problem_id"] == problem]
        usable = [row for row in group if row["reward"] is not None]
        winners = [row for row in group if row["selected"]]
        assert len(winners) == min(1, len(usable))
        assert all(row["selected"] == (row["lost_because"] is None) == (row["rank"] == 1) for row in group)
        if winners:
            best = max(row["reward"] for row in usable)
            assert winners[0]["reward"] == best
            assert winners[0]["candidate"] == min(row["candidate"] for row in usable if row["reward"] == best)
            assert sorted(row["rank"] for row in group if row["rank"]) == list(
                range(1, len({r["rationale"] for r in usable}) + 1)
            )


def test_the_summary_counts_winners_by_style() -> None:
    rows = em.select([
        candidate_row("Design: a", 0, -1.0, reward=-4.0, style="planner", tokens=6, copy_ratio=0.5),
        candidate_row("Idea: b", 1, -1.0, reward=-2.0, style="chatty", tokens=4, copy_ratio=0.0),
    ])  # fmt: skip
    assert em.e_step_summary(rows) == {
        "mean_reward": -3.0, "mean_reward_of_winners": -2.0, "mean_tokens_of_winners": 4.0,
        "mean_copy_ratio_of_winners": 0.0, "seeds_without_a_winner": 0.0, "winners_chatty": 1.0,
    }  # fmt: skip


def test_rationale_ids_tell_rounds_candidates_and_texts_apart() -> None:
    rows = ranked_of(("a", -1.0), ("a", -1.0), ("b", -2.0))
    ids = [row["rationale_id"] for number in (1, 2) for row in em.candidate_rows(rows, number, "q", "p")]
    assert len(set(ids)) == 6
    assert {
        (r["round"], r["rationale_model"], r["problem_generator"]) for r in em.candidate_rows(rows, 2, "q", "p")
    } == {(2, "q", "p")}


# ---- M-step
def test_the_greedy_rationale_is_the_mode() -> None:
    rows = em.greedy(SEEDS, proposer({"vague": 0.2, "planned": 0.7, "wrong": 0.1}), FREE)
    assert [row["rationale"] for row in rows] == ["planned", "planned"]
    assert {(row["origin"], row["unusable"], row["selected_rationale_id"]) for row in rows} == {("greedy", None, None)}


def test_where_greedy_fails_the_winner_trains_p_and_every_substitution_is_counted() -> None:
    seeds = [SEED | {"problem_id": name} for name in ("fine", "cut", "lost")]
    ends = ExactModel(lambda text: {"z": 1.0} if text.endswith(BEGIN_RATIONALE) else {END_RATIONALE: 1.0})
    greedy = em.greedy(seeds, ends, FREE)
    greedy = [row | {"unusable": None if row["problem_id"] == "fine" else em.CUT_OFF} for row in greedy]
    winners = [candidate_row("w", 0, -1.0, problem_id=name, rationale_id=f"id of {name}") for name in ("fine", "cut")]
    chosen, dropped = em.with_winners(greedy, winners)
    rows = em.m_step_rows(chosen, 3, "q3")
    assert [(row["problem_id"], row["rationale"], row["origin"], row["selected_rationale_id"]) for row in rows] == [
        ("fine", "z", "greedy", None),
        ("cut", "w", "selected", "id of cut"),
    ]
    assert dropped == {
        "greedy rationale cut off at the token limit: the E-step's winner instead": 1,
        "greedy rationale cut off at the token limit, no winner: seed left out": 1,
    }
    assert all("unusable" not in row and row["round"] == 3 and row["rationale_model"] == "q3" for row in rows)
    assert len({row["rationale_id"] for row in rows}) == 2


# ---- training examples
def test_examples_train_on_what_comes_after_the_condition() -> None:
    row = SEED | {"rationale": "why"}
    (q,) = em.rationale_examples([row])
    (p,) = em.generator_examples([row])
    maths = domain_named("maths")
    assert q == {"prompt": maths.rationale_prompt(["sums"], "easy", "one?"), "completion": f"why{END_RATIONALE}"}
    assert p == {"prompt": maths.generator_prompt(["sums"], "easy"), "completion": generator_completion("why", "one?")}
    assert "one?" not in p["prompt"] and "why" not in q["prompt"] + p["prompt"]


# ---- fresh samples
def test_fresh_samples_count_the_well_posed_where_the_domain_can_tell() -> None:
    good = "Let A be 50 percent of 8. Let B be 25 percent of 36. Find A + B."
    bad = good.replace("25", "30")
    texts = {generator_completion("z", good): 0.5, generator_completion("z", bad): 0.25, "nonsense": 0.25}
    p = ExactModel(lambda text: texts if text.endswith("\n") else {END: 1.0})
    mini = {"problem_id": "m", "domain": "mini_maths", "concepts": ["percentages"], "level": "easy", "problem": good}
    (row,) = em.fresh_samples([mini], p, Sampling(max_new_tokens=4), 400, seed=0)
    assert abs(row["samples_well_posed"] - 200) < 4 * 10
    (untold,) = em.fresh_samples([SEED], p, Sampling(max_new_tokens=4), 4, seed=0)
    assert untold == {"problem_id": "p0", "samples_well_posed": None}
    assert em.fresh_samples([mini], p, Sampling(), 0, seed=0) == []


def test_bound_rows_join_the_samples_of_the_same_problem() -> None:
    bounds = [{"problem_id": "a", "iw_bound": -1.0}, {"problem_id": "b", "iw_bound": -2.0}]
    rows = em.bound_rows(bounds, [{"problem_id": "b", "samples_well_posed": 2}], 3, "em", 1, "q", "p")
    assert [(row["problem_id"], row["samples"], row["samples_well_posed"]) for row in rows] == [
        ("a", 3, None),
        ("b", 3, 2),
    ]
    assert len({row["bound_id"] for row in rows}) == 2


# ---- copying
@given(st.text("abc ", max_size=30), st.text("abc ", max_size=30))
def test_the_copy_ratio_is_the_longest_common_substring(rationale: str, problem: str) -> None:
    assume(problem)
    longest = SequenceMatcher(None, rationale, problem, autojunk=False).find_longest_match().size
    assert em.copy_ratio(rationale, problem) == longest / len(problem)


@pytest.mark.parametrize(
    ("rationale", "problem", "ratio"),
    [("", "abc", 0.0), ("xabcx", "abc", 1.0), ("abc", "", 0.0), ("ab", "abab", 0.5), ("aXbXc", "abc", 1 / 3)],
)
def test_copy_ratios(rationale: str, problem: str, ratio: float) -> None:
    assert em.copy_ratio(rationale, problem) == ratio


# ---- a real model
@pytest.fixture(scope="module")
def triples() -> list[Row]:
    corpus = Corpus(procedural={"mini_maths": {"seeds": 12, "held_out": 0}, "mini_code": {"seeds": 4, "held_out": 0}})
    return seed_triples(seed_problems(corpus, 0)[0])[0]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, triples: list[Row]) -> Iterator[tuple[TransformersEngine, Path]]:
    examples = em.generator_examples(triples) + em.rationale_examples(triples)
    texts = [row["prompt"] + row["completion"] for row in examples]
    folder = tmp_path_factory.mktemp("em") / "model"
    from_scratch(texts, TinySettings(vocab_size=360, max_position=512), folder, markers=TOKENIZER_MARKERS)
    teach_to_end(folder, em.rationale_examples(triples))
    with TransformersEngine(folder, batch_size=16, score_batch_size=4) as engine:
        yield engine, folder


def teach_to_end(folder: Path, examples: list[Row], steps: int = 30) -> None:
    """A few steps on q's examples, so that some of its rationales end with the marker and some do not."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(steps):
        texts = [one["prompt"] + one["completion"] for one in examples[step % 4 :: 4]]
        batch = tokenizer(texts, padding=True)
        ids, mask = torch.tensor(batch["input_ids"]), torch.tensor(batch["attention_mask"])
        model(input_ids=ids, labels=ids.masked_fill(mask == 0, -100)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    torch.set_num_threads(threads)
    model.save_pretrained(folder)


def naive_logprob(folder: Path, prefix: str, continuation: str, end: bool) -> float:
    """One plain forward pass over the tokens of both texts."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    head, tail = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prefix, continuation))
    tail += [tokenizer.eos_token_id] if end else []
    ids = torch.tensor([head + tail])
    with torch.no_grad():
        laws = model(ids).logits.double().log_softmax(-1)[0]
    return sum(float(laws[at - 1, ids[0, at]]) for at in range(len(head), len(head) + len(tail)))


def test_the_two_terms_of_a_real_model_are_two_separate_passes(
    real: tuple[TransformersEngine, Path], triples: list[Row]
) -> None:
    engine, folder = real
    rows = [
        candidate_row(row["rationale"], k, -1.0, **{name: row[name] for name in (*SEED, "problem_id")})
        for k, row in enumerate(triples)
    ]
    for row in em.judge(rows, engine)[::3]:
        prompt = domain_named(row["domain"]).generator_prompt(row["concepts"], row["level"])
        z, whole = rationale_block(row["rationale"]), generator_completion(row["rationale"], row["problem"])
        log_z = naive_logprob(folder, prompt, z, end=False)
        log_x = naive_logprob(folder, prompt + z, whole.removeprefix(z), end=True)
        assert row["log_p_rationale"] == pytest.approx(log_z, abs=1e-5 * abs(log_z))
        assert row["log_p_problem"] == pytest.approx(log_x, abs=1e-5 * abs(log_x))
        assert row["reward"] == pytest.approx(naive_logprob(folder, prompt, whole, end=True), rel=1e-5)


def test_a_real_e_step_keeps_every_candidate_and_is_repeatable(
    real: tuple[TransformersEngine, Path], triples: list[Row]
) -> None:
    engine, _ = real
    sampling = Sampling(max_new_tokens=40)
    first = em.select(em.judge(em.propose(triples, engine, sampling, 3, seed=5), engine))
    assert first == em.select(em.judge(em.propose(triples, engine, sampling, 3, seed=5), engine))
    assert len(first) == 3 * len(triples)
    reasons = Counter(row["lost_because"] for row in first)
    assert reasons[None] > 3 and reasons[em.CUT_OFF] > 3, reasons
    assert all((row["reward"] is None) == (row["lost_because"] in (em.CUT_OFF, em.EMPTY, em.MARKED)) for row in first)
    alone = em.propose(triples[-1:], engine, sampling, 3, seed=5)
    assert [row["rationale"] for row in alone] == [row["rationale"] for row in first[-3:]]
    greedy = em.greedy(triples, engine, sampling)
    assert greedy == em.greedy(triples, engine, sampling)
