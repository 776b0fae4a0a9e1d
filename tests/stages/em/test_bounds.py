import itertools
import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import settings as given_settings
from hypothesis import strategies as st

from promptcot_assets.domains import domain_named
from promptcot_assets.domains.layout import BEGIN_PROBLEM, END_RATIONALE, generator_completion
from promptcot_assets.settings.profile import Filters, Reward, Sampling
from promptcot_assets.stages.em import bounds, loop
from tests.exact_models import END, ExactModel
from tests.stages.em.toy_world import (
    FREE,
    SEED,
    SEEDS,
    Z,
    candidate_row,
    generator,
    measured,
    normal,
    proposer,
    world,
    worlds,
)


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
    rows = loop.propose([SEED] * 1, proposer(texts), FREE, 200, Filters(), seed=0)
    assert {row["rationale"] for row in rows} == set(texts)
    p, evidence = world({"a": 0.8, " a": 0.1, "a\n": 0.1}, dict.fromkeys(texts, 0.5))
    (row,) = bounds.bounds(loop.judge(rows, p, Reward()), 200)
    assert row["iw_bound"] == pytest.approx(evidence, abs=0.1)


def test_half_of_the_proposals_are_the_first_ones_in_whatever_order_rows_come() -> None:
    prior, fit, q = normal([5, 3, 2], Z), {"planned": 0.9, "vague": 0.3, "wrong": 0.1}, normal([1, 1, 2], Z)
    p, _ = world(prior, fit)
    zs = ("vague", "wrong", "planned", "planned")
    rows = loop.judge([candidate_row(z, k, math.log(q[z])) for k, z in enumerate(zs)], p, Reward())
    (row,) = bounds.bounds(rows[::-1], 4)
    weights = [prior[z] * fit[z] / q[z] for z in zs]
    assert row["iw_bound"] == pytest.approx(math.log(sum(weights) / 4))
    assert row["iw_bound_half"] == pytest.approx(math.log(sum(weights[:2]) / 2))
    assert row["log_p_rationale"] == pytest.approx(sum(math.log(prior[z]) for z in zs) / 4)
    assert row["log_p_problem"] == pytest.approx(sum(math.log(fit[z]) for z in zs) / 4)


def test_a_bound_of_very_unlikely_texts_does_not_underflow() -> None:
    rows = [
        {"log_p_rationale": -5000.0, "log_p_problem": 0.0, "log_q": -10.0},
        {"log_p_rationale": -5001.0, "log_p_problem": 0.0, "log_q": -11.0},
    ]
    assert bounds.importance_weighted_bound(rows, 2) == pytest.approx(-4990.0)
    assert bounds.importance_weighted_bound([], 2) is None


def test_the_change_of_the_bound_is_paired_by_problem() -> None:
    before = [
        {"problem_id": k, "iw_bound": v, "split": "held_out"}
        for k, v in (("a", -10.0), ("b", -20.0), ("c", None), ("d", -1.0))
    ]
    after = [
        {"problem_id": k, "iw_bound": v, "split": "held_out"}
        for k, v in (("b", -17.0), ("a", -9.0), ("c", -5.0), ("e", 0.0))
    ]
    after.append({"problem_id": "d", "iw_bound": 50.0, "split": "train"})
    change, error, problems = bounds.bound_change(after, before)
    assert (change, problems) == (2.0, 2)
    assert error == pytest.approx(1.0)  # differences 1 and 3
    assert bounds.bound_change(after, []) == (0.0, 0.0, 0)


# ---- exact EM: every expectation is a sum over all rationales
LIKELIHOOD = {
    "planned": {"one?": 0.6, "two?": 0.4},
    "vague": {"one?": 0.3, "two?": 0.7},
    "wrong": {"one?": 0.5, "two?": 0.5},
}
PROBLEMS = {"one?": 0.7, "two?": 0.3}  # how often each seed occurs
Law = Mapping[str, float]


def log_p(prior: Law, likelihood: Mapping[str, Law], x: str, z: str) -> tuple[float, float]:
    """Both reward terms as `judge` measures them."""
    p = generator(prior, likelihood)
    (row,) = loop.judge([candidate_row(z, 0, 0.0, problem=x)], p, Reward())
    return row["log_p_rationale"], row["log_p_problem"]


def expected_elbo(prior: Law, likelihood: Mapping[str, Law], q: Mapping[str, Law]) -> float:
    """Mean over seeds and over q of the ELBO that `bounds` reports for one proposal."""
    total = 0.0
    for x, often in PROBLEMS.items():
        for z in Z:
            rows = loop.judge(
                [candidate_row(z, 0, math.log(q[x][z]), problem=x)], generator(prior, likelihood), Reward()
            )
            (row,) = bounds.bounds(rows, 1)
            total += often * q[x][z] * row["elbo"]
    return total


def posterior(prior: Law, likelihood: Mapping[str, Law], power: int = 1) -> dict[str, dict[str, float]]:
    """q of an exact E-step; with power 2 that of the paper's printed bound, which counts log p(z|c) twice."""
    laws = {}
    for x in PROBLEMS:
        weights = {
            z: math.exp(power * log_p(prior, likelihood, x, z)[0] + log_p(prior, likelihood, x, z)[1]) for z in Z
        }
        laws[x] = {z: weight / sum(weights.values()) for z, weight in weights.items()}
    return laws


def test_the_standard_elbo_rises_under_exact_em_up_to_the_evidence() -> None:
    prior, likelihood, elbos = normal([1, 7, 2], Z), LIKELIHOOD, []
    q = {x: normal([1, 1, 1], Z) for x in PROBLEMS}
    for _ in range(8):
        elbos.append(expected_elbo(prior, likelihood, q))
        q = posterior(prior, likelihood)
        elbos.append(expected_elbo(prior, likelihood, q))
        evidence = sum(
            often * math.log(math.fsum(prior[z] * likelihood[z][x] for z in Z)) for x, often in PROBLEMS.items()
        )
        assert elbos[-1] == pytest.approx(evidence, abs=1e-6)  # tight after the E-step
        joint = {z: {x: PROBLEMS[x] * q[x][z] for x in PROBLEMS} for z in Z}
        prior = {z: math.fsum(joint[z].values()) for z in Z}
        likelihood = {z: {x: joint[z][x] / prior[z] for x in PROBLEMS} for z in Z}
    assert all(after >= before - 1e-9 for before, after in itertools.pairwise(elbos))
    assert elbos[-1] > elbos[0] + 0.1
    entropy = -sum(often * math.log(often) for often in PROBLEMS.values())
    assert elbos[-1] == pytest.approx(-entropy, abs=1e-6)  # the best there is: p(x) is how often x occurs


def test_the_papers_printed_bound_is_not_what_is_measured() -> None:
    """Printed: E_q[log p(x|z,c) + log p(z|c)] - KL(q || p(z|c)); its maximum over q is not the posterior."""
    prior = normal([1, 7, 2], Z)
    right, printed = posterior(prior, LIKELIHOOD), posterior(prior, LIKELIHOOD, power=2)
    best = expected_elbo(prior, LIKELIHOOD, right)
    assert best > expected_elbo(prior, LIKELIHOOD, printed) + 0.01
    twice = sum(
        often * right[x][z] * (sum(log_p(prior, LIKELIHOOD, x, z)) + math.log(prior[z]) - math.log(right[x][z]))
        for x, often in PROBLEMS.items()
        for z in Z
    )
    assert best != pytest.approx(twice, abs=0.1)


def test_the_argmax_of_the_reward_is_the_mode_of_the_posterior() -> None:
    prior = normal([1, 7, 2], Z)
    for x, law in posterior(prior, LIKELIHOOD).items():
        rows = [candidate_row(z, k, -1.0, problem=x) for k, z in enumerate(Z)]
        ranked = loop.select(loop.judge(rows, generator(prior, LIKELIHOOD), Reward()))
        (winner,) = [row for row in ranked if row["selected"]]
        assert winner["rationale"] == max(law, key=law.__getitem__)
        assert winner["reward"] == pytest.approx(
            math.log(prior[winner["rationale"]] * LIKELIHOOD[winner["rationale"]][x]), abs=1e-6
        )


# ---- one pool of proposals for every p
@given(worlds, worlds)
@given_settings(max_examples=30, deadline=None)
def test_a_common_pools_bound_is_unbiased_whoever_proposed(one: tuple, other: tuple) -> None:
    """All |Z|^2 pools of one proposal from each of two q's: before the logarithm the mean is the evidence."""
    prior, fit, _ = one
    p, evidence = world(prior, fit)
    laws = {"q one": one[2], "q other": other[2]}
    mean = 0.0
    for zs in itertools.product(Z, repeat=2):
        pool = bounds.pooled({q: [candidate_row(z, 0, 0.0)] for q, z in zip(laws, zs, strict=True)})
        densities = [bounds.proposal_densities(pool, proposer(law)) for law in laws.values()]
        pool = bounds.with_mixture_density(pool, densities)
        for row in pool:
            mixture = sum(law[row["rationale"]] for law in laws.values()) / 2
            assert row["log_q"] == pytest.approx(math.log(mixture), abs=1e-6)
        of = {"series": "em", "round": 1, "problem_generator": "p"}
        (bound,) = bounds.common_bounds(pool, bounds.score_pool(pool, p), of)
        mean += math.prod(law[z] for law, z in zip(laws.values(), zs, strict=True)) * math.exp(bound["iw_bound"])
        assert 1 - 1e-9 <= bound["effective_proposals"] <= 2 + 1e-9
    assert mean == pytest.approx(math.exp(evidence))


def test_an_unusable_proposal_stays_in_the_pool_with_weight_zero() -> None:
    p, _ = world(normal([1, 1, 1], Z), dict.fromkeys(Z, 0.5))
    rows = [candidate_row("vague", 0, -1.0), candidate_row("", 1, -1.0, lost_because="empty")]
    pool = bounds.pooled({"q": rows})
    pool = bounds.with_mixture_density(pool, [bounds.proposal_densities(pool, proposer(normal([1, 1, 1], Z)))])
    assert [row["log_q"] for row in pool] == [pytest.approx(math.log(1 / 3)), None]
    (bound,) = bounds.common_bounds(
        pool, bounds.score_pool(pool, p), {"series": "em", "round": 1, "problem_generator": "p"}
    )
    assert (bound["proposals"], bound["proposals_used"]) == (2, 1)
    assert bound["iw_bound"] == pytest.approx(math.log(0.5 / 2))


def test_a_growing_pool_is_the_same_mixture_and_keeps_its_first_rows() -> None:
    small = {q: [candidate_row(f"{q}{k}", k, 0.0) for k in range(2)] for q in ("a", "b")}
    large = {q: [candidate_row(f"{q}{k}", k, 0.0) for k in range(5)] for q in ("a", "b")}
    first, grown = bounds.pooled(small), bounds.pooled(large, first=2)
    assert grown[:4] == first == bounds.pooled(small, first=2)
    assert [row["rationale"] for row in grown] == ["a0", "a1", "b0", "b1", "a2", "b2", "a3", "b3", "a4", "b4"]
    assert [row["candidate"] for row in grown] == list(range(10))


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((16, 256), [16, 64, 256]),
        ((16, 0), [16]),
        ((16, 16), [16]),
        ((16, 40), [16, 40]),
        ((8, 256), [8, 32, 128, 256]),
    ],
)
def test_pool_sizes_grow_fourfold(sizes: tuple[int, int], expected: list[int]) -> None:
    assert bounds.pool_sizes(*sizes) == expected


@given(worlds, st.lists(st.sampled_from(Z), min_size=4, max_size=4))
@given_settings(max_examples=30, deadline=None)
def test_a_bound_at_every_pool_size_is_that_of_the_first_proposals(drawn: tuple, zs: list[str]) -> None:
    prior, fit, q = drawn
    p, _ = world(prior, fit)
    pool = bounds.pooled({"q": [candidate_row(z, k, 0.0) for k, z in enumerate(zs)]})
    pool = bounds.with_mixture_density(pool, [bounds.proposal_densities(pool, proposer(q))])
    of = {"series": "em", "round": 1, "problem_generator": "p"}
    rows = bounds.common_bounds(pool, bounds.score_pool(pool, p), of, sizes=(2, 4, 8))
    assert [row["proposals"] for row in rows] == [2, 4]  # a problem has no row of a size that it was not drawn for
    for row in rows:
        weights = [prior[z] * fit[z] / q[z] for z in zs[: row["proposals"]]]
        shares = [weight / sum(weights) for weight in weights]
        assert row["iw_bound"] == pytest.approx(math.log(sum(weights) / len(weights)), abs=1e-6)
        assert row["effective_proposals"] == pytest.approx(math.exp(-sum(w * math.log(w) for w in shares)), abs=1e-6)
        assert row["log_weights"] == pytest.approx([math.log(weight) for weight in weights], abs=1e-6)
    alone = bounds.common_bounds(pool[:2], bounds.score_pool(pool[:2], p), of)
    assert alone == rows[:1] and rows[0]["bound_id"] != rows[1]["bound_id"]


def test_the_large_pool_is_of_some_problems_of_every_domain() -> None:
    seeds = [SEED | {"problem_id": f"{domain}{k}", "domain": domain} for domain in ("maths", "code") for k in range(9)]
    chosen = bounds.large_pool_seeds(seeds, 4)
    assert sorted(row["domain"] for row in chosen) == ["code"] * 4 + ["maths"] * 4
    assert {row["problem_id"] for row in chosen} == {r["problem_id"] for r in bounds.large_pool_seeds(seeds[::-1], 4)}
    assert len(bounds.large_pool_seeds(seeds, 60)) == 18


# ---- problems that lost every proposal
def test_without_a_usable_proposal_a_problem_keeps_its_place() -> None:
    p, evidence = world(normal([1, 1, 1], Z), dict.fromkeys(Z, 0.5))
    lost = measured(p, {"": 1.0}, ("", ""))
    more = [{"problem_id": "p0", "log_p_problem_alone": -7.0}]
    of = {"series": "em", "round": 1, "rationale_model": "q", "problem_generator": "p"}
    (row,) = bounds.bound_rows([lost], more, {"p0": "held_out"}, 0, of)
    assert (row["iw_bound"], row["iw_bound_half"], row["elbo"]) == (-7.0, -7.0, -7.0)
    assert row["proposals_used"] == 0 and row["log_p_problem"] is None and row["information"] is None
    found = measured(p, normal([1, 1, 1], Z), ("planned", "vague"))
    (row,) = bounds.bound_rows([found], more, {"p0": "held_out"}, 0, of)
    assert row["iw_bound"] == pytest.approx(evidence)  # never raised or lowered where there is a bound


def test_a_pool_without_a_usable_proposal_is_floored_too() -> None:
    p, _ = world(normal([1, 1, 1], Z), dict.fromkeys(Z, 0.5))
    pool = bounds.pooled({"q": [candidate_row("", k, 0.0, lost_because="empty") for k in range(2)]
                          + [candidate_row("planned", 2, 0.0)]})  # fmt: skip
    pool = bounds.with_mixture_density(pool, [bounds.proposal_densities(pool, proposer(normal([1, 1, 1], Z)))])
    assert [row["problem_id"] for row in bounds.without_usable(pool, 2)] == ["p0"]
    assert bounds.without_usable(pool, 3) == []
    of, floors = (
        {"series": "em", "round": 1, "problem_generator": "p"},
        [{"problem_id": "p0", "log_p_problem_alone": -9.0}],
    )
    small, all_ = bounds.common_bounds(pool, bounds.score_pool(pool, p), of, (2, 3), floors)
    assert (small["iw_bound"], small["proposals_used"], small["effective_proposals"]) == (-9.0, 0, None)
    assert all_["iw_bound"] == pytest.approx(math.log(0.5 / 3)) and all_["log_weights"][:2] == [None, None]


def test_the_change_of_a_single_problem_has_no_finite_error() -> None:
    row = {"problem_id": "a", "iw_bound": -1.0, "split": "held_out"}
    assert bounds.bound_change([row], [row | {"iw_bound": -2.0}]) == (1.0, math.inf, 1)


# ---- the information of z
def test_the_information_of_z_is_what_it_tells_beyond_another_problems() -> None:
    """p writes `one?` from `planned` with chance .6, from `wrong` with .2; q writes `planned` for it, else `wrong`."""
    likelihood = {"planned": {"one?": 0.6, "two?": 0.4}, "wrong": {"one?": 0.2, "two?": 0.8}}
    p = generator({"planned": 0.5, "wrong": 0.5}, likelihood)
    seeds = [row | {"split": "held_out"} for row in SEEDS]
    swapped = bounds.of_another_problem(seeds, seeds)
    assert [(row["problem_id"], row["problem"]) for row in swapped] == [("p0", "two?"), ("p1", "one?")]
    q = ExactModel(
        lambda text: {"wrong" if "two?" in text else "planned": 1.0} if text.endswith("-->") else {END_RATIONALE: 1.0}
    )
    proposed = loop.propose(swapped, q, FREE, 2, Filters(), seed=0)
    judged = loop.judge(bounds.back_to_their_own(proposed, seeds), p, Reward())
    other = bounds.under_other_rationales(judged, swapped)
    assert other == [
        {"problem_id": "p0", "other_problem_id": "p1", "log_p_problem_other": pytest.approx(math.log(0.2))},
        {"problem_id": "p1", "other_problem_id": "p0", "log_p_problem_other": pytest.approx(math.log(0.4))},
    ]
    own = bounds.bounds(loop.judge(loop.propose(seeds, q, FREE, 2, Filters(), seed=0), p, Reward()), 2)
    of = {"series": "em", "round": 1, "rationale_model": "q", "problem_generator": "p"}
    rows = bounds.bound_rows(own, other, {"p0": "held_out", "p1": "held_out"}, 0, of)
    assert [row["information"] for row in rows] == pytest.approx([math.log(0.6 / 0.2), math.log(0.8 / 0.4)], abs=1e-6)


def test_another_problem_has_the_same_concepts_and_level() -> None:
    own = SEED | {"split": "held_out"}
    others = [
        own | {"problem_id": "a", "concepts": ["shares"]},
        own | {"problem_id": "b", "level": "hard"},
        own | {"problem_id": "c", "domain": "code"},
    ]
    assert bounds.of_another_problem([own], [own, *others]) == []
    same = own | {"problem_id": "d", "problem": "three?", "split": "train"}
    assert [row["problem"] for row in bounds.of_another_problem([own, same], [own, same, *others])] == ["three?"]


# ---- the shape of proposals
def test_distinct_word_pairs() -> None:
    assert bounds.distinct_n(["a b c", "a b d"], 2) == 0.75
    assert bounds.distinct_n(["a b", "a b", "a b"], 2) == pytest.approx(1 / 3)
    assert bounds.distinct_n(["a", ""], 2) is None


def test_the_quoted_run_is_left_out_of_one_term_only() -> None:
    """A model that writes letter by letter: the tokens of x inside the quoted run are no evidence for z."""
    x = SEED["problem"]
    letters = ExactModel(lambda text: {**dict.fromkeys("one?why ", 0.1), "<!-- BEGIN RATIONALE -->": 0.05,
                                       "<!-- END RATIONALE -->": 0.05, "<!-- BEGIN PROBLEM -->": 0.05,
                                       "<!-- END PROBLEM -->": 0.05, END: 0.05})  # fmt: skip
    start, end = loop.quoted_run("why on", x)
    assert x[start:end] == "on"
    (row,) = loop.judge([candidate_row("why on", 0, 0.0, quoted_from=start, quoted_to=end)], letters, Reward())
    assert row["log_p_problem"] == pytest.approx(4 * math.log(0.1) + 3 * math.log(0.05))
    assert row["log_p_problem_unquoted"] == pytest.approx(2 * math.log(0.1) + 3 * math.log(0.05))
    (without,) = loop.judge([candidate_row("why on", 0, 0.0)], letters, Reward(markers=False, rationale=False))
    assert without["reward"] == pytest.approx(4 * math.log(0.1))
    (mean,) = loop.judge([candidate_row("why on", 0, 0.0)], letters, Reward(markers=False, per_token=True))
    assert mean["reward"] == pytest.approx(2 * math.log(0.1))
    assert mean["log_p_problem"] == row["log_p_problem"]  # what is measured does not follow the settings
    (alone,) = bounds.without_rationale([SEED], letters)
    assert alone == {"problem_id": "p0", "log_p_problem_alone": pytest.approx(row["log_p_problem"])}


def test_the_measured_training_seeds_are_the_same_in_every_round() -> None:
    seeds = [
        SEED | {"problem_id": f"{split}{k}", "split": split, "concepts": ["a"] if k else []}
        for split in ("train", "held_out")
        for k in range(9)
    ]
    chosen = bounds.measured_seeds(seeds, 3)
    assert sorted(row["split"] for row in chosen) == ["held_out"] * 8 + ["train"] * 3
    assert {row["problem_id"] for row in chosen} == {row["problem_id"] for row in bounds.measured_seeds(seeds[::-1], 3)}


# ---- fresh samples
def test_fresh_samples_count_the_well_posed_where_the_domain_can_tell() -> None:
    good = "Let A be 50 percent of 8. Let B be 25 percent of 36. Find A + B."
    bad = good.replace("25", "30")
    texts = {generator_completion("z", good): 0.5, generator_completion("z", bad): 0.25, "nonsense": 0.25}
    p = ExactModel(lambda text: texts if text.endswith("\n") else {END: 1.0})
    twice = ["percentages", "percentages"]
    mini = {"problem_id": "m", "domain": "mini_maths", "concepts": twice, "level": "easy", "problem": good}
    (row,) = bounds.fresh_samples([mini], p, Sampling(max_new_tokens=4), 400, seed=0)
    assert abs(row["samples_well_posed"] - 200) < 4 * 10
    assert abs(row["samples_parsed"] - 300) < 4 * 9
    assert row["samples_on_concepts"] == row["samples_well_posed"]
    (row,) = bounds.fresh_samples(
        [mini | {"concepts": ["percentages", "averages"]}], p, Sampling(max_new_tokens=4), 9, 0
    )
    assert row["samples_well_posed"] and row["samples_on_concepts"] == 0
    (untold,) = bounds.fresh_samples([SEED], p, Sampling(max_new_tokens=4), 4, seed=0)
    assert untold["samples_well_posed"] is untold["samples_on_concepts"] is None
    assert bounds.fresh_samples([mini], p, Sampling(), 0, seed=0) == []


PERCENTAGES = "Let A be 50 percent of 8. Let B be 25 percent of 36. Find A + B."
MIXED = "Let A be 50 percent of 8. Let B be the root of 2t + 1 = 9. Find |A - B|."
CODE = "Read integers a and b. Print the larger of a times 3 and b plus 2. Example: for 5 9 print 15."


@pytest.mark.parametrize(
    ("domain", "problem", "concepts", "asked"),
    [
        ("mini_maths", PERCENTAGES, ["quadratic equations", "averages", "remainders"], False),
        ("mini_maths", PERCENTAGES, ["percentages", "percentages"], True),
        ("mini_maths", PERCENTAGES, ["percentages"], False),
        ("mini_maths", MIXED, ["linear equations", "percentages", "absolute difference"], True),  # in any order
        ("mini_maths", MIXED, ["linear equations", "percentages"], False),
        ("mini_code", CODE, ["maximum", "products", "sums"], True),
        ("mini_code", CODE, ["maximum", "sums", "sums"], False),
        ("mini_code", "Print it.", ["maximum"], False),
    ],
)
def test_a_text_is_on_the_asked_concepts_or_not(domain: str, problem: str, concepts: list[str], asked: bool) -> None:
    assert bounds.asked_for(domain_named(domain), problem, concepts) == asked


def test_bound_rows_join_what_is_measured_of_the_same_problem() -> None:
    measured = [{"problem_id": "a", "iw_bound": -1.0}, {"problem_id": "b", "iw_bound": -2.0}]
    more = [
        {"problem_id": "b", "samples_well_posed": 2, "samples_parsed": 3},
        {"problem_id": "b", "log_p_problem_alone": -9.0},
    ]
    of = {"series": "em", "round": 1, "rationale_model": "q", "problem_generator": "p"}
    rows = bounds.bound_rows(measured, more, {"a": "train", "b": "held_out"}, 3, of)
    assert [(row["problem_id"], row["split"], row["samples"], row["samples_well_posed"]) for row in rows] == [
        ("a", "train", 3, None),
        ("b", "held_out", 3, 2),
    ]
    assert rows[1]["log_p_problem_alone"] == -9.0
    assert len({row["bound_id"] for row in rows}) == 2
    later = bounds.carried_over(rows, 2)
    assert {row["round"] for row in later} == {2} and not {r["bound_id"] for r in rows} & {r["bound_id"] for r in later}
