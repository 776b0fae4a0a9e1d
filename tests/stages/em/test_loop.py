import itertools
import math
from collections import Counter
from collections.abc import Iterator
from difflib import SequenceMatcher
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from promptcot_assets.domains import domain_named
from promptcot_assets.domains.layout import (
    BEGIN_PROBLEM,
    BEGIN_RATIONALE,
    END_RATIONALE,
    TOKENIZER_MARKERS,
    generator_completion,
    rationale_block,
)
from promptcot_assets.inference.transformers_engine import TransformersEngine
from promptcot_assets.lake import Row
from promptcot_assets.settings.profile import Corpus, Filters, Mixture, Reward, Sampling
from promptcot_assets.stages.base_models import from_scratch
from promptcot_assets.stages.corpus.seed_tables import seed_problems, seed_triples
from promptcot_assets.stages.em import loop
from tests.exact_models import ExactModel
from tests.stages.em.toy_world import FREE, SEED, SEEDS, Laws, Z, candidate_row, normal, proposer, world, worlds
from tests.tiny_models import TinySettings


# ---- rewards
@given(worlds)
def test_both_reward_terms_are_the_generators_own_probabilities(drawn: tuple) -> None:
    prior, fit, _ = drawn
    p, _ = world(prior, fit)
    for row in loop.judge([candidate_row(z, k, 0.0) for k, z in enumerate(Z)], p, Reward()):
        assert row["log_p_rationale"] == pytest.approx(math.log(prior[row["rationale"]]))
        assert row["log_p_problem"] == pytest.approx(math.log(fit[row["rationale"]]))
        assert row["reward"] == pytest.approx(row["log_p_rationale"] + row["log_p_problem"])


def test_an_unusable_candidate_is_kept_without_a_score() -> None:
    p, _ = world(normal([1, 1, 1], Z), dict.fromkeys(Z, 0.5))
    rows = [candidate_row("", 0, -1.0, lost_because="empty"), candidate_row("vague", 1, -1.0)]
    judged = loop.judge(rows, p, Reward())
    assert [row["candidate"] for row in judged] == [0, 1]
    assert judged[0] == rows[0] | loop._NO_TERMS
    assert judged[1]["reward"] is not None


# ---- proposing
def test_proposals_follow_q_and_carry_its_probability() -> None:
    q = {"planned": 0.5, "vague": 0.3, "wrong": 0.2}
    rows = loop.propose(SEEDS, proposer(q), FREE, 500, Filters(), seed=1)
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
    together = loop.propose(SEEDS, q, FREE, 20, Filters(), seed=3)
    assert together == loop.propose(SEEDS[:1], q, FREE, 20, Filters(), seed=3) + loop.propose(
        SEEDS[1:], q, FREE, 20, Filters(), seed=3
    )
    assert together != loop.propose(SEEDS, q, FREE, 20, Filters(), seed=4)
    assert [row["rationale"] for row in together[:20]] != [row["rationale"] for row in together[20:]]


def test_unusable_proposals_say_why() -> None:
    """Cut off, empty, only spaces, or with a marker inside; the reason of the first that applies."""
    texts = {"long ": 0.25, "": 0.0, " \n": 0.25, f"a{BEGIN_PROBLEM}": 0.25, "fine": 0.25}

    def q(text: str) -> Laws:
        if text.endswith("long "):
            return {"long ": 1.0}
        return {t: v for t, v in texts.items() if v} if text.endswith(BEGIN_RATIONALE) else {END_RATIONALE: 1.0}

    rows = loop.propose([SEED], ExactModel(q), FREE, 60, Filters(), seed=0)
    reasons = {row["rationale"][:4]: row["lost_because"] for row in rows}
    assert reasons == {"long": "cut off at the token limit", " \n": "empty", "a<!-": "contains a marker", "fine": None}
    assert {row["finish_reason"] for row in rows if row["rationale"].startswith("long")} == {"length"}


# ---- selection
def ranked_of(*rewards: tuple[str, float | None]) -> list[Row]:
    rows = [
        candidate_row(text, k, -1.0, reward=reward, lost_because=None if reward is not None else "empty")
        for k, (text, reward) in enumerate(rewards)
    ]
    return loop.select(rows)


def test_the_best_reward_is_selected_and_every_other_row_says_why_it_lost() -> None:
    rows = ranked_of(("a", -3.0), ("", None), ("b", -1.0), ("a", -3.0), ("c", -2.0))
    assert [row["selected"] for row in rows] == [False, False, True, False, False]
    assert [row["rank"] for row in rows] == [3, None, 1, None, 2]
    assert [row["lost_because"] for row in rows] == [
        "lower reward", "empty", None, "same text as candidate 0", "lower reward",
    ]  # fmt: skip
    assert loop.losses(rows) == {"lower reward": 2, "empty": 1, "same text as another candidate": 1}


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
    assert loop.e_step_summary(rows)["seeds_without_a_winner"] == 1
    assert "mean_reward" not in loop.e_step_summary(rows)


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
    ranked = loop.select(rows)
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
    share = 1 / (1 + math.exp(-2.0))  # of the better candidate under softmax(R)
    rows = loop.select([
        candidate_row("Design: a", 0, -1.0, reward=-4.0, style="planner", tokens=6, copy_ratio=0.5),
        candidate_row("Idea: b", 1, -1.0, reward=-2.0, style="chatty", tokens=4, copy_ratio=0.0),
    ])  # fmt: skip
    assert loop.e_step_summary(rows) == {
        "mean_reward": -3.0, "mean_reward_of_winners": -2.0, "mean_tokens_of_winners": 4.0,
        "mean_copy_ratio_of_winners": 0.0, "seeds_without_a_winner": 0.0, "winners_chatty": 1.0,
        "acceptance_entropy": pytest.approx(-share * math.log(share) - (1 - share) * math.log(1 - share)),
    }  # fmt: skip


def test_a_random_selection_ignores_the_reward_and_is_fair() -> None:
    rows = [
        candidate_row(text, k, -1.0, reward=reward, problem_id=f"p{number}")
        for number in range(600)
        for k, (text, reward) in enumerate((("a", -1.0), ("b", -9.0), ("c", -5.0)))
    ]
    ranked = loop.select(rows, "random", seed=3)
    assert ranked == loop.select(rows, "random", seed=3)
    assert sorted(map(str, ranked)) == sorted(map(str, loop.select(rows[::-1], "random", seed=3)))
    counts = Counter(row["rationale"] for row in ranked if row["selected"])
    assert sum(counts.values()) == 600 and all(abs(count - 200) < 4 * 11.6 for count in counts.values())
    assert loop.losses(ranked) == {"not drawn": 1200}


def test_frozen_rationales_are_the_winners_of_the_round_before() -> None:
    rows = loop.candidate_rows(ranked_of(("a", -1.0), ("b", -2.0)), 1, "q", "p")
    (row,) = loop.carried(rows, 2)
    assert row["rationale"] == "a" and row["round"] == 2 and row["rationale_id"] != rows[0]["rationale_id"]
    assert loop.carried([row], 3)[0]["rationale"] == "a"


def test_a_random_selection_takes_a_text_as_often_as_q_writes_it() -> None:
    """Seven draws of eight say `a`: taken in 7/8 of the seeds, not in one of two."""
    rows = [
        candidate_row("b" if k == number % 8 else "a", k, -1.0, reward=-1.0, problem_id=f"p{number}")
        for number in range(800)
        for k in range(8)
    ]
    ranked = loop.select(rows, "random", seed=3)
    taken = Counter(row["rationale"] for row in ranked if row["selected"])
    assert taken.total() == 800 and abs(taken["a"] - 700) < 4 * (800 * 7 / 64) ** 0.5
    frozen = loop.select(rows, "frozen", seed=3)
    assert frozen == ranked


# ---- drawn by weight: em.selection posterior and weighted
def weights_by_hand(prior: Laws, fit: Laws, q: Laws, drawn: tuple[str, ...]) -> list[float]:
    ratios = [prior[z] * fit[z] / q[z] for z in drawn]
    return [ratio / sum(ratios) for ratio in ratios]


def selected_of(prior: Laws, fit: Laws, q: Laws, drawn: tuple[str, ...], rule: str, **more: int) -> list[Row]:
    p, _ = world(prior, fit)
    rows = [candidate_row(z, k, math.log(q[z])) for k, z in enumerate(drawn)]
    return loop.select(loop.judge(rows, p, Reward()), rule, **more)


@given(worlds, st.lists(st.sampled_from(Z), min_size=1, max_size=6), st.sampled_from(["posterior", "weighted"]))
def test_weights_are_those_of_the_importance_sampler(drawn: tuple, zs: list[str], rule: str) -> None:
    rows = selected_of(*drawn, tuple(zs), rule, seed=1, epochs=3)
    assert [row["weight"] for row in rows] == pytest.approx(weights_by_hand(*drawn, tuple(zs)), abs=1e-6)
    assert sum(row["copies"] for row in rows) == 3
    assert all(row["selected"] == (row["copies"] > 0) == (row["lost_because"] is None) for row in rows)
    best = min(rows, key=lambda row: row["rank"])
    assert best["weight"] == max(row["weight"] for row in rows) and best["rank"] == 1


@given(worlds)
def test_what_is_trained_on_tends_to_the_exact_posterior(drawn: tuple) -> None:
    """The expected weight of every rationale, summed over all ways in which K draws can fall: no sampling."""
    prior, fit, q = drawn
    evidence = sum(prior[z] * fit[z] for z in Z)
    posterior = {z: prior[z] * fit[z] / evidence for z in Z}

    def expected(k: int) -> dict[str, float]:
        means = dict.fromkeys(Z, 0.0)
        for counts in ((a, b, k - a - b) for a in range(k + 1) for b in range(k + 1 - a)):
            ways = math.factorial(k) // math.prod(map(math.factorial, counts))
            chance = ways * math.prod(q[z] ** n for z, n in zip(Z, counts, strict=True))
            ratios = [n * prior[z] * fit[z] / q[z] for z, n in zip(Z, counts, strict=True)]
            for z, ratio in zip(Z, ratios, strict=True):
                means[z] += chance * ratio / sum(ratios)
        return means

    few = expected(2)
    ours = dict.fromkeys(Z, 0.0)
    for zs in itertools.product(Z, repeat=2):
        for row in selected_of(prior, fit, q, zs, "weighted"):
            ours[row["rationale"]] += math.prod(q[z] for z in zs) * row["weight"]
    assert ours == pytest.approx(few, abs=1e-6)

    def far(law: Laws) -> float:
        return max(abs(law[z] - posterior[z]) for z in Z)

    assert far(expected(24)) <= far(expected(1)) + 1e-9
    if far(expected(1)) > 0.05:
        assert far(expected(24)) < far(expected(1))


def test_posterior_draws_and_weighted_copies_follow_the_weights() -> None:
    law = normal([6, 3, 1], Z), dict(zip(Z, (0.2, 0.5, 0.9), strict=True)), normal([2, 5, 3], Z)
    by_hand = dict(zip(Z, weights_by_hand(*law, Z), strict=True))
    runs, epochs = 3000, 2
    for rule in ("posterior", "weighted"):
        counts = Counter[str]()
        for number in range(runs):
            for row in selected_of(*law, Z, rule, seed=number, epochs=epochs):
                counts[row["rationale"]] += row["copies"]
                if rule == "weighted":
                    assert abs(row["copies"] - epochs * row["weight"]) < 1
        for z, weight in by_hand.items():
            assert abs(counts[z] - runs * epochs * weight) < 4 * (runs * epochs * weight * (1 - weight)) ** 0.5


def test_drawn_by_weight_equal_texts_count_for_themselves_and_unusable_ones_for_nothing() -> None:
    rows = [candidate_row(z, k, -2.0, reward=-3.0) for k, z in enumerate("aab")]
    rows.append(candidate_row("", 3, -9.0, reward=None, lost_because="empty"))
    ranked = loop.select(rows, "posterior", seed=0, epochs=30)
    assert [row["weight"] for row in ranked] == [pytest.approx(1 / 3)] * 3 + [None]
    assert ranked[3]["lost_because"] == "empty" and not ranked[3]["selected"]
    lost = loop.select(rows[3:], "weighted", epochs=2)
    assert not lost[0]["selected"] and loop.e_step_summary(lost)["seeds_without_a_winner"] == 1
    assert loop.e_step_summary(ranked)["seeds_without_a_winner"] == 0


def test_p_is_trained_on_draws_of_its_own_one_row_a_text() -> None:
    rows = [candidate_row(z, k, -2.0, reward=-3.0, rationale_id=f"r{k}", rank=1) for k, z in enumerate("aabbb")]
    ranked = loop.select(rows, "posterior", seed=0, epochs=400)
    drawn = loop.drawn_anew(ranked, "posterior", 7, 400)
    assert sorted(row["rationale"] for row in drawn) == ["a", "b"] and sum(row["copies"] for row in drawn) == 400
    assert abs(next(row["copies"] for row in drawn if row["rationale"] == "a") - 160) < 4 * 96**0.5
    assert [row["copies"] for row in loop.drawn_anew(ranked, "posterior", 8, 400)] != [row["copies"] for row in drawn]
    chosen = loop.m_step_rows([loop.winner_row(row) for row in drawn], 1, "q")
    assert len({row["rationale_id"] for row in chosen}) == 2
    assert len(loop.training_rows(chosen, [], 0.0, Mixture(), seed=0)) == 400


@given(worlds, st.floats(0, 1))
def test_the_rationales_term_weighs_as_much_as_is_set(drawn: tuple, weight: float) -> None:
    prior, fit, _ = drawn
    p, _ = world(prior, fit)
    rows = loop.judge([candidate_row(z, k, 0.0) for k, z in enumerate(Z)], p, Reward(rationale_weight=weight))
    by_hand = [math.log(fit[z]) + weight * math.log(prior[z]) for z in Z]
    assert [row["reward"] for row in rows] == pytest.approx(by_hand, abs=1e-6)


def test_filters_say_what_is_not_learned_from() -> None:
    q = proposer({"one?": 0.5, "why so": 0.5})
    rows = loop.propose([SEED], q, FREE, 30, Filters(max_copy_ratio=0.9), seed=0)
    assert {row["rationale"]: row["lost_because"] for row in rows} == {"one?": loop.QUOTES, "why so": None}
    rows = loop.propose([SEED], q, FREE, 5, Filters(max_tokens=1), seed=0)
    assert {row["lost_because"] for row in rows} == {loop.TOO_LONG}


# ---- what a model is trained on
def rows_named(*names: str, **more: str) -> list[Row]:
    return [{"rationale_id": name, "domain": "maths", "source": "a.jsonl", **more} for name in names]


def test_a_rounds_rows_are_replayed_with_triples_of_the_asked_share() -> None:
    rows, triples = rows_named(*map(str, range(30))), rows_named(*map("t{}".format, range(50)), annotator="x")
    mixed = loop.training_rows(rows, triples, 0.25, Mixture(), seed=1)
    assert mixed[:30] == rows and len(mixed) == 40
    assert mixed == loop.training_rows(rows, triples, 0.25, Mixture(), seed=1)
    assert mixed != loop.training_rows(rows, triples, 0.25, Mixture(), seed=2)
    assert len(loop.training_rows(rows, triples[:4], 0.25, Mixture(), seed=1)) == 40  # few triples come several times
    assert loop.training_rows(rows, [], 0.0, Mixture(), seed=1) == rows


def test_weights_repeat_and_thin_out_rows() -> None:
    rows = rows_named(*map(str, range(400))) + [row | {"domain": "code"} for row in rows_named("c1", "c2")]
    mixed = loop.training_rows(rows, [], 0.0, Mixture(domains={"maths": 0.5, "code": 3}), seed=0)
    counts = Counter(row["domain"] for row in mixed)
    assert counts["code"] == 6 and abs(counts["maths"] - 200) < 4 * 10
    assert not loop.training_rows(rows_named("1", annotator="x"), [], 0.0, Mixture(annotators={"x": 0}), seed=0)
    assert len(loop.training_rows(rows_named("1"), [], 0.0, Mixture(sources={"a.jsonl": 2}), seed=0)) == 2


def triples_of(seeds: int, annotators: str = "a", **more: object) -> list[Row]:
    return [
        {
            "rationale_id": f"{at}{who}",
            "problem_id": f"p{at}",
            "annotator": who,
            "domain": "maths",
            "source": "a",
            **more,
        }
        for at in range(seeds)
        for who in annotators
    ]


def test_the_control_has_as_many_examples_as_a_phase_of_em() -> None:
    one = triples_of(40)
    assert loop.control_rows(one, 1.0, 0.0, Mixture(), 0) == one  # one annotator, the whole cold start: all of them
    four = loop.control_rows(triples_of(40, "abcd"), 1.0, 0.0, Mixture(), 0)
    assert len(four) == 40 and {row["annotator"] for row in four} == set("abcd")
    assert four != loop.control_rows(triples_of(40, "abcd"), 1.0, 0.0, Mixture(), 1)
    quarter = loop.control_rows(one, 0.25, 0.0, Mixture(), 0)
    cold = {row["rationale_id"] for row in loop.sample_of(one, 0.25, 0)}
    assert len(quarter) == 40 and {row["rationale_id"] for row in quarter} == cold
    assert len(loop.control_rows(one, 1.0, 0.2, Mixture(), 0)) == 50  # EM's phase has ten replayed triples more
    assert len(loop.control_rows(one, 1.0, 0.0, Mixture(domains={"maths": 2}), 0)) == 80
    thin = Mixture(annotators={"a": 0.5})  # of triples alone: EM's rationales have no annotator
    assert len(loop.control_rows(one, 1.0, 0.0, thin, 0)) == 40
    assert loop.control_rows(one, 0.0, 0.0, Mixture(), 0) == []


def test_a_share_of_the_triples_does_not_depend_on_their_order() -> None:
    triples = rows_named(*map(str, range(40)))
    half = loop.sample_of(triples, 0.5, seed=0)
    assert len(half) == 20
    assert {row["rationale_id"] for row in half} == {
        row["rationale_id"] for row in loop.sample_of(triples[::-1], 0.5, 0)
    }
    assert loop.sample_of(triples, 1.0, seed=0) == triples and loop.sample_of(triples, 0.0, seed=0) == []


def test_rationale_ids_tell_rounds_candidates_and_texts_apart() -> None:
    rows = ranked_of(("a", -1.0), ("a", -1.0), ("b", -2.0))
    ids = [row["rationale_id"] for number in (1, 2) for row in loop.candidate_rows(rows, number, "q", "p")]
    assert len(set(ids)) == 6
    assert {
        (r["round"], r["rationale_model"], r["problem_generator"]) for r in loop.candidate_rows(rows, 2, "q", "p")
    } == {(2, "q", "p")}


# ---- M-step
def test_the_greedy_rationale_is_the_mode() -> None:
    rows = loop.greedy(SEEDS, proposer({"vague": 0.2, "planned": 0.7, "wrong": 0.1}), FREE, Filters())
    assert [row["rationale"] for row in rows] == ["planned", "planned"]
    assert {(row["origin"], row["unusable"], row["selected_rationale_id"]) for row in rows} == {("greedy", None, None)}


def test_where_greedy_fails_the_winner_trains_p_and_every_substitution_is_counted() -> None:
    seeds = [SEED | {"problem_id": name} for name in ("fine", "cut", "lost")]
    ends = ExactModel(lambda text: {"z": 1.0} if text.endswith(BEGIN_RATIONALE) else {END_RATIONALE: 1.0})
    greedy = loop.greedy(seeds, ends, FREE, Filters())
    greedy = [row | {"unusable": None if row["problem_id"] == "fine" else loop.CUT_OFF} for row in greedy]
    winners = [candidate_row("w", 0, -1.0, problem_id=name, rationale_id=f"id of {name}") for name in ("fine", "cut")]
    chosen, dropped = loop.with_winners(greedy, winners)
    rows = loop.m_step_rows(chosen, 3, "q3")
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


def test_a_sampled_rationale_follows_q() -> None:
    q = {"planned": 0.5, "vague": 0.3, "wrong": 0.2}
    seeds = [SEED | {"problem_id": f"p{number}"} for number in range(1000)]
    tempered = Sampling(temperature=0.1, top_p=0.5, max_new_tokens=8)  # of the E-step: it has no part in this
    rows = loop.sampled(seeds, proposer(q), tempered, Filters(), seed=1)
    counts = Counter(row["rationale"] for row in rows)
    for text, chance in q.items():
        assert abs(counts[text] - 1000 * chance) < 4 * (1000 * chance * (1 - chance)) ** 0.5
    assert {(row["origin"], row["unusable"], row["copies"]) for row in rows} == {("sampled", None, 1)}
    assert rows == loop.sampled(seeds, proposer(q), tempered, Filters(), seed=1)
    assert rows != loop.sampled(seeds, proposer(q), tempered, Filters(), seed=2)


# ---- training examples
def test_examples_train_on_what_comes_after_the_condition() -> None:
    row = SEED | {"rationale": "why"}
    (q,) = loop.rationale_examples([row])
    (p,) = loop.generator_examples([row])
    maths = domain_named("maths")
    assert q == {"prompt": maths.rationale_prompt(["sums"], "easy", "one?"), "completion": f"why{END_RATIONALE}"}
    assert p == {"prompt": maths.generator_prompt(["sums"], "easy"), "completion": generator_completion("why", "one?")}
    assert "one?" not in p["prompt"] and "why" not in q["prompt"] + p["prompt"]


# ---- copying
@given(st.text("abc ", max_size=30), st.text("abc ", max_size=30))
def test_the_quoted_run_is_the_longest_common_substring(rationale: str, problem: str) -> None:
    assume(problem)
    longest = SequenceMatcher(None, rationale, problem, autojunk=False).find_longest_match().size
    start, end = loop.quoted_run(rationale, problem)
    assert end - start == longest and problem[start:end] in rationale


@pytest.mark.parametrize(
    ("rationale", "problem", "run"),
    [("", "abc", ""), ("xabcx", "abc", "abc"), ("ab", "abab", "ab"), ("aXbXc", "abc", "a"), ("bcd", "abcde", "bcd")],
)
def test_quoted_runs(rationale: str, problem: str, run: str) -> None:
    start, end = loop.quoted_run(rationale, problem)
    assert problem[start:end] == run


# ---- a real model
@pytest.fixture(scope="module")
def triples() -> list[Row]:
    corpus = Corpus(procedural={"mini_maths": {"seeds": 12, "held_out": 0}, "mini_code": {"seeds": 4, "held_out": 0}})
    return seed_triples(seed_problems(corpus, 0)[0])[0]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, triples: list[Row]) -> Iterator[tuple[TransformersEngine, Path]]:
    examples = loop.generator_examples(triples) + loop.rationale_examples(triples)
    texts = [row["prompt"] + row["completion"] for row in examples]
    folder = tmp_path_factory.mktemp("em") / "model"
    from_scratch(texts, TinySettings(vocab_size=360, max_position=512), folder, markers=TOKENIZER_MARKERS)
    teach_to_end(folder, loop.rationale_examples(triples))
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
    for row in loop.judge(rows, engine, Reward())[::3]:
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
    first = loop.select(loop.judge(loop.propose(triples, engine, sampling, 3, Filters(), seed=5), engine, Reward()))
    assert first == loop.select(
        loop.judge(loop.propose(triples, engine, sampling, 3, Filters(), seed=5), engine, Reward())
    )
    assert len(first) == 3 * len(triples)
    reasons = Counter(row["lost_because"] for row in first)
    assert reasons[None] > 3 and reasons[loop.CUT_OFF] > 3, reasons
    assert all(
        (row["reward"] is None) == (row["lost_because"] in (loop.CUT_OFF, loop.EMPTY, loop.MARKED)) for row in first
    )
    alone = loop.propose(triples[-1:], engine, sampling, 3, Filters(), seed=5)
    assert [row["rationale"] for row in alone] == [row["rationale"] for row in first[-3:]]
    greedy = loop.greedy(triples, engine, sampling, Filters())
    assert greedy == loop.greedy(triples, engine, sampling, Filters())
