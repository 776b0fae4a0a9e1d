import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from promptcot_assets.domains import domain_named, procedural_domain
from promptcot_assets.judging.opening import open_verifier
from promptcot_assets.judging.verifier import Verifier
from promptcot_assets.lake import Row
from promptcot_assets.lake.ids import content_id
from promptcot_assets.settings.engines import Sandbox
from promptcot_assets.settings.profile import Sampling, SelfPlay
from promptcot_assets.stages.analysis.difficulty import Measured, measured_bands
from promptcot_assets.stages.statistics import Interval
from promptcot_assets.stages.students.self_play import (
    bands_of,
    gate_difference,
    gate_pool,
    gate_rows,
    labels,
    mix,
    pass_rates,
    plateaued,
    play_pool,
    preference_pairs,
    regressed,
    rejection_sampled,
    rollouts,
    uncontaminated,
    unusable,
    verdicts,
)
from tests.exact_models import solver


def pairs_of(drawn: list[Row], judged: list[Row], settings: SelfPlay, seed: int) -> list[Row]:
    return list(preference_pairs(drawn, judged, settings, seed))


UNHURRIED = hypothesis(deadline=None)  # a loaded machine changes no result
PROGRAM = "```python\nprint(1)\n```"
USABLE = [
    ("maths", "<think>so</think>\\boxed{4}"),
    ("maths", "<think>汉字 is fine here</think>\\boxed{4}"),
    ("maths", "  <think>\nso\n</think>\n\nThus \\boxed{4}. Ünïcode is fine."),
    ("mini_code", f"<think>so</think>{PROGRAM}"),
]
UNUSABLE = [
    ("maths", "\\boxed{4}", "not exactly one think block"),
    ("maths", "<think>so", "not exactly one think block"),
    ("maths", "so</think>\\boxed{4}", "not exactly one think block"),
    ("maths", "<think>a</think><think>b</think>\\boxed{4}", "not exactly one think block"),
    ("maths", "<think><think>a</think>\\boxed{4}", "not exactly one think block"),
    ("maths", "</think>\\boxed{4}<think>", "empty think block"),
    ("maths", "<think> \n</think>\\boxed{4}", "empty think block"),
    ("maths", "<think>a</think> \n", "nothing after the think block"),
    ("maths", "<think>a</think>答 \\boxed{4}", "CJK text after the think block"),
    ("maths", "<think>a</think>\\boxed{4} です", "CJK text after the think block"),
    ("maths", "<think>a</think>\\boxed{4} 예", "CJK text after the think block"),
    ("maths", "<think>a \\boxed{4}</think>So it is.", "no answer"),
    ("maths", f"<think>a</think>{PROGRAM}", "no answer"),
    ("code", "<think>a</think>\\boxed{4}", "no answer"),
    ("code", f"<think>{PROGRAM}</think>See above.", "no answer"),
]


@pytest.mark.parametrize(("domain", "completion"), USABLE)
def test_usable_completions(domain: str, completion: str) -> None:
    assert unusable(domain, completion) is None


@pytest.mark.parametrize(("domain", "completion", "reason"), UNUSABLE)
def test_unusable_completions_name_the_first_rule_they_break(domain: str, completion: str, reason: str) -> None:
    assert unusable(domain, completion) == reason


WITHOUT_THOUGHTS = [
    ("maths", "\\boxed{4}", None),
    ("maths", "<think>so</think>\\boxed{4}", None),
    ("mini_code", PROGRAM, None),
    ("maths", "so</think>\\boxed{4}", "not exactly one think block"),
    ("maths", "<think></think>\\boxed{4}", "empty think block"),
    ("maths", " \n", "nothing after the think block"),
    ("maths", "答 \\boxed{4}", "CJK text after the think block"),
    ("maths", "So it is.", "no answer"),
]


@pytest.mark.parametrize(("domain", "completion", "reason"), WITHOUT_THOUGHTS)
def test_a_student_that_need_not_think_may_answer_at_once(domain: str, completion: str, reason: str | None) -> None:
    assert unusable(domain, completion, think_block=False) == reason


# ---- pairs
OUTCOMES = st.tuples(
    st.sampled_from("pqr"),  # problem
    st.sampled_from("abcdefgh"),  # completion: few, so that texts repeat and contradict each other
    st.sampled_from([True, False, None]),  # passed; None: the infrastructure failed
    st.booleans(),  # usable
)
PLAYS = st.lists(OUTCOMES, max_size=40)
SETTINGS = st.builds(SelfPlay, max_pass_rate=st.sampled_from([0.5, 0.8, 1.0]), max_pairs_per_problem=st.integers(1, 4))


def played(outcomes: list[tuple]) -> tuple[list[Row], list[Row]]:
    drawn, judged = [], []
    for number, (problem, text, passed, usable) in enumerate(outcomes):
        rollout = content_id(problem, number)
        drawn.append({"rollout_id": rollout, "problem_id": problem, "domain": "maths", "prompt": f"{problem}?",
                      "completion": text})  # fmt: skip
        judged.append({"rollout_id": rollout, "problem_id": problem, "passed": passed, "usable": usable})
    return drawn, judged


@UNHURRIED
@given(PLAYS, SETTINGS, st.integers(0, 5))
def test_a_pair_is_a_usable_pass_and_a_usable_fail_and_no_completion_is_used_twice(
    outcomes: list, settings: SelfPlay, seed: int
) -> None:
    drawn, judged = played(outcomes)
    pairs = pairs_of(drawn, judged, settings, seed)
    rollout = {row["rollout_id"]: row | verdict for row, verdict in zip(drawn, judged, strict=True)}
    rates = pass_rates(judged)
    for pair in pairs:
        chosen, rejected = rollout[pair["chosen_rollout_id"]], rollout[pair["rejected_rollout_id"]]
        assert (chosen["passed"], rejected["passed"]) == (True, False)
        assert chosen["usable"] and rejected["usable"]
        assert chosen["problem_id"] == rejected["problem_id"] == pair["problem_id"]
        assert (pair["chosen"], pair["rejected"]) == (chosen["completion"], rejected["completion"])
        assert pair["chosen"] != pair["rejected"]
        assert pair["pass_rate"] == rates[pair["problem_id"]]
        assert 0 < pair["pass_rate"] < settings.max_pass_rate
    used = [(pair["problem_id"], pair[side]) for pair in pairs for side in ("chosen", "rejected")]
    assert len(used) == len(set(used))
    assert len({pair["pair_id"] for pair in pairs}) == len(pairs)


@UNHURRIED
@given(PLAYS, SETTINGS)
def test_as_many_pairs_are_made_as_texts_and_caps_allow(outcomes: list, settings: SelfPlay) -> None:
    drawn, judged = played(outcomes)
    texts: dict[tuple[str, bool], set[str]] = defaultdict(set)
    for problem, text, passed, usable in outcomes:
        if usable and passed is not None:
            texts[problem, passed].add(text)
    made = Counter(pair["problem_id"] for pair in pairs_of(drawn, judged, settings, 0))
    for problem, rate in pass_rates(judged).items():
        passes, fails = texts[problem, True] - texts[problem, False], texts[problem, False] - texts[problem, True]
        possible = min(len(passes), len(fails), settings.max_pairs_per_problem)
        assert made[problem] == (possible if 0 < rate < settings.max_pass_rate else 0)


@UNHURRIED
@given(PLAYS, st.randoms(use_true_random=False))
def test_pairs_depend_on_texts_and_seed_and_not_on_the_order_of_rows(outcomes: list, rng: random.Random) -> None:
    settings = SelfPlay(max_pass_rate=1.0)
    shuffled = rng.sample(outcomes, len(outcomes))
    first, second = (
        {(pair["chosen"], pair["rejected"], pair["problem_id"]) for pair in pairs_of(*played(o), settings, 3)}
        for o in (outcomes, shuffled)
    )
    assert first == second


def test_another_seed_draws_other_texts() -> None:
    outcomes = [("p", text, text in "abcd", True) for text in "abcdefgh"]
    settings = SelfPlay(max_pass_rate=1.0, max_pairs_per_problem=1)
    chosen = {pairs_of(*played(outcomes), settings, seed)[0]["chosen"] for seed in range(40)}
    assert chosen == set("abcd")


def test_infrastructure_failures_are_in_no_pair_and_in_no_rate() -> None:
    drawn, judged = played(
        [("p", "a", True, True), ("p", "b", None, True), ("p", "c", False, True), ("q", "d", None, True)]
    )
    assert pass_rates(judged) == {"p": 0.5}
    (pair,) = pairs_of(drawn, judged, SelfPlay(max_pass_rate=1.0), 0)
    assert (pair["chosen"], pair["rejected"]) == ("a", "c")
    assert pairs_of(drawn, judged, SelfPlay(max_pass_rate=0.5), 0) == []


# ---- rollouts and verdicts of a student whose law is known
@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    with open_verifier(Sandbox(workers=2, cpu_s=1.0, wall_s=4.0, memory_mb=256)) as verifier:
        yield verifier


@pytest.mark.parametrize("name", ["mini_maths", "mini_code"])
def test_a_students_rollouts_become_sound_pairs(name: str, verifier: Verifier) -> None:
    seeds = procedural_domain(name).write_seeds(6, 0, {"planner": 1}, seed=4).train
    problems = [{"problem_id": content_id(one.problem), "domain": name, "problem": one.problem} for one in seeds]
    labels = {
        row["problem_id"]: {"answer": one.answer, "tests": json.dumps(one.tests) if one.tests else None}
        for row, one in zip(problems, seeds, strict=True)
    }
    settings = SelfPlay(rollouts=12, max_pass_rate=1.0, sampling=Sampling(max_new_tokens=4))
    drawn = rollouts(problems, solver(name, error=0.5), settings, "student", seed=2)
    assert drawn == rollouts(problems, solver(name, error=0.5), settings, "student", seed=2)
    assert len(drawn) == 72 == len({row["rollout_id"] for row in drawn})
    assert all(row["prompt"] == domain_named(name).solve_prompt(problems[0]["problem"]) for row in drawn[:12])
    judged = verdicts(drawn, labels, verifier)
    cut = [row for row, one in zip(judged, drawn, strict=True) if one["completion"] == "<think>so far</think> "]
    assert cut and {(row["usable"], row["unusable_because"], row["passed"]) for row in cut} == {
        (False, "nothing after the think block", False)
    }
    pairs = pairs_of(drawn, judged, settings, seed=0)
    assert pairs
    answers = {row["rollout_id"]: row["answer"] for row in judged}
    for pair in pairs:
        reference = labels[pair["problem_id"]]["answer"]
        if reference is not None:
            assert answers[pair["chosen_rollout_id"]] == reference != answers[pair["rejected_rollout_id"]]


# ---- what is played on
def known(count: int = 200) -> list[Row]:
    synthetic = [{"problem_id": f"s{n}", "domain": "maths", "source": "synthetic"} for n in range(count)]
    return synthetic + [{"problem_id": f"r{n}", "domain": "maths", "source": "real"} for n in range(count)]


def ids(rows: list[Row]) -> set[str]:
    return {row["problem_id"] for row in rows}


def test_problems_are_taught_played_on_or_held_out_and_a_new_batch_moves_none() -> None:
    settings = SelfPlay(pool_share=0.5, held_out_share=0.3)
    played, held_out = play_pool(known(), settings), gate_pool(known(), settings)
    assert played and held_out and not ids(played) & ids(held_out)
    assert ids(played) | ids(held_out) == ids(play_pool(known(), SelfPlay(pool_share=0.5)))
    assert ids(play_pool(known(100), settings)) == ids(played) & {f"s{n}" for n in range(100)}
    assert gate_pool(known(), SelfPlay(pool_share=0.5)) == []


def test_real_problems_come_in_the_number_asked_for_and_the_mix_is_told() -> None:
    settings = SelfPlay(pool_share=1.0, real_problems={"maths": 50})
    pool = play_pool(known(150), settings)
    assert sum(row["source"] == "real" for row in pool) == 50
    assert mix(pool) == {"maths, real": 0.25, "maths, synthetic": 0.75}
    fewer = play_pool(known(150), SelfPlay(pool_share=1.0, real_problems={"maths": 20}))
    assert ids(fewer) < ids(pool)


def test_a_later_round_plays_on_the_bands_asked_for_and_on_what_nobody_measured() -> None:
    measured = measured_bands([[
        {"problem_id": "s0", "low": 0.68, "high": 1.0, "band": "solved"},  # solved, or easy
        {"problem_id": "s1", "low": 0.0, "high": 0.32, "band": "unsolved"},  # unsolved, hard or medium
        {"problem_id": "s2", "low": 0.6, "high": 0.9, "band": "easy"},  # easy
        {"problem_id": "r0", "low": 0.68, "high": 1.0, "band": "solved"},
    ]])  # fmt: skip
    paper = SelfPlay(pool_share=1.0, real_problems={"maths": 4}, bands=("hard", "medium"))
    whole = ids(play_pool(known(4), paper))
    assert whole == ids(known(4)) == ids(play_pool(known(4), paper, {}))
    assert ids(play_pool(known(4), paper, measured)) == whole - {"s0", "s2", "r0"}
    assert ids(play_pool(known(4), paper.model_copy(update={"bands": ("easy",)}), measured)) == whole - {"s1"}
    assert ids(play_pool(known(4), SelfPlay(pool_share=1.0, real_problems={"maths": 4}), measured)) == whole
    assert ids(gate_pool(known(), SelfPlay(pool_share=0.5, held_out_share=0.3, bands=("hard",)))) == ids(
        gate_pool(known(), SelfPlay(pool_share=0.5, held_out_share=0.3))
    )


def test_bands_are_checked() -> None:
    with pytest.raises(ValueError, match="nothing would be played on"):
        SelfPlay(bands=())
    assert SelfPlay(bands=("hard",), optimiser="grpo").chooses_bands
    assert SelfPlay(band_mix={"maths": {"hard": 1}}).chooses_bands
    with pytest.raises(ValueError, match=r"band_mix\.maths: give at least one band a positive share"):
        SelfPlay(band_mix={"maths": {"hard": 0}})
    with pytest.raises(ValueError, match=r"band_mix\.maths asks for easy, which self_play\.bands leaves out"):
        SelfPlay(bands=("hard", "medium"), band_mix={"maths": {"hard": 1, "easy": 1}})
    for without in ({}, {"bands": ("hard",)}, {"held_out_share": 0.2}):
        with pytest.raises(ValueError, match=r"self_play\.reprofile measures the bands anew"):
            SelfPlay(reprofile=True, **without)
    assert SelfPlay(reprofile=True, bands=("hard",), held_out_share=0.2).reprofile


def measured_in(bands: dict[str, str]) -> dict[str, Measured]:
    return {problem: Measured(band, frozenset({band})) for problem, band in bands.items()}


def test_a_mix_keeps_to_its_shares_of_each_domain_and_to_all_new_problems() -> None:
    bands = ["hard"] * 30 + ["medium"] * 9 + ["easy"] * 20
    measured = measured_in({f"s{n}": band for n, band in enumerate(bands)})
    settings = SelfPlay(pool_share=1.0, band_mix={"maths": {"hard": 2, "medium": 1, "unsolved": 5}})
    pool = play_pool(known(80), settings, measured)
    assert bands_of(pool, measured) == {"maths, hard": 18, "maths, medium": 9, "maths, new": 21}
    assert pool == [row for row in known(80) if row["problem_id"] in ids(pool)]  # in their order
    assert play_pool(known(80), settings) == known_synthetic(80)  # nothing was measured yet
    elsewhere = SelfPlay(pool_share=1.0, band_mix={"code": {"hard": 1}})
    assert play_pool(known(80), elsewhere, measured) == known_synthetic(80)
    none_of_it = SelfPlay(pool_share=1.0, band_mix={"maths": {"solved": 1}})
    assert ids(play_pool(known(80), none_of_it, measured)) == {f"s{n}" for n in range(59, 80)}


def known_synthetic(count: int) -> list[Row]:
    return [row for row in known(count) if row["source"] == "synthetic"]


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ({"hard": 1, "easy": 1}, {"hard": 3, "easy": 3}),
        ({"hard": 1.5, "easy": 0.5}, {"hard": 3, "easy": 1}),
        ({"hard": 0.3, "easy": 0.7}, {"hard": 3, "easy": 7}),
        ({"hard": 1, "easy": 0}, {"hard": 3}),
        ({"hard": 1e-300, "easy": 1e-300}, {"hard": 3, "easy": 3}),
    ],
)
def test_shares_are_of_what_there_is(shares: dict[str, float], expected: dict[str, int]) -> None:
    measured = measured_in({f"s{n}": "hard" if n < 3 else "easy" for n in range(20)})
    pool = play_pool(known_synthetic(20), SelfPlay(pool_share=1.0, band_mix={"maths": shares}), measured)
    assert Counter(measured[row["problem_id"]].band for row in pool) == expected


def test_a_larger_mix_keeps_the_problems_of_a_smaller_one() -> None:
    measured = measured_in({f"s{n}": "hard" if n < 50 else "easy" for n in range(100)})

    def hard_ones(easy: float) -> set[str]:
        settings = SelfPlay(pool_share=1.0, band_mix={"maths": {"hard": 1, "easy": easy}})
        pool = ids(play_pool(known_synthetic(100), settings, measured))
        return {problem for problem in pool if measured[problem].band == "hard"}

    assert hard_ones(easy=5) < hard_ones(easy=2)


@pytest.mark.parametrize(
    ("low", "high", "plateau"), [(0.01, 0.2, False), (0.0, 0.2, True), (-0.1, 0.2, True), (-0.3, -0.1, True)]
)
def test_a_round_without_a_gain_beyond_its_noise_is_a_plateau(low: float, high: float, plateau: bool) -> None:
    assert plateaued(Interval((low + high) / 2, low, high, 0.05, 40)) is plateau
    assert not plateaued(None)  # nothing was held out, so nothing is known


def test_real_problems_that_share_words_with_a_benchmark_are_not_played_on() -> None:
    text = "A farmer has seventeen sheep and buys nine more every spring; how many sheep are there after six springs?"
    seeds = [
        {"problem_id": "clean", "problem": "What is the sum of the first nine odd numbers?"},
        {"problem_id": "copy", "problem": text},
        {"problem_id": "wrapped", "problem": f"Answer this question with care. {text} Show your work."},
    ]
    items = [
        {"benchmark": "gsm8k", "item_id": "i1", "problem": text},
        {"benchmark": "aime24", "item_id": "i2", "problem": "Find the remainder when 7 is divided by 3."},
    ]
    kept, fell = uncontaminated(seeds, items, 13)
    assert [row["problem_id"] for row in kept] == ["clean"] and fell == {"contaminated by gsm8k": 2}
    assert uncontaminated(seeds, [], 13) == (seeds, {})


def test_only_training_seeds_with_a_label_are_real_problems() -> None:
    def seed(name: str, **changed: object) -> Row:
        return {"problem_id": name, "domain": "maths", "split": "train", "answer": "4", "tests": None} | changed

    seeds = [seed("a"), seed("b", split="held_out"), seed("c", answer=None), seed("d", domain="code"),
             seed("e", domain="code", tests="[]")]  # fmt: skip
    problems = [{"problem_id": "p", "domain": "maths"}, {"problem_id": "q", "domain": "maths"}]
    answers = [{"problem_id": "p", "answer": "1"}, {"problem_id": "q", "answer": None}]
    rows = labels(problems, answers, [], seeds)
    assert [(row["problem_id"], row["source"]) for row in rows] == [("p", "synthetic"), ("a", "real"), ("e", "real")]


# ---- iterative SFT
@UNHURRIED
@given(PLAYS, SETTINGS, st.integers(0, 5))
def test_rejection_sampling_keeps_distinct_usable_passes_of_problems_that_are_hard_enough(
    outcomes: list, settings: SelfPlay, seed: int
) -> None:
    drawn, judged = played(outcomes)
    examples = list(rejection_sampled(drawn, judged, settings, seed))
    rates = pass_rates(judged)
    usable = {(row["problem_id"], row["completion"]) for row, verdict in zip(drawn, judged, strict=True)
              if verdict["usable"] and verdict["passed"]}  # fmt: skip
    texts = Counter((row["problem_id"], row["completion"]) for row in examples)
    assert set(texts) <= usable and all(count == 1 for count in texts.values())
    for problem in {problem for problem, _ in usable}:
        possible = min(sum(one == problem for one, _ in usable), settings.max_pairs_per_problem)
        made = sum(one == problem for one, _ in texts)
        assert made == (possible if rates[problem] < settings.max_pass_rate else 0)


# ---- the gate of a round
def judged_at(rates: dict[str, list[bool | None]]) -> list[Row]:
    return [{"problem_id": name, "domain": "maths", "passed": one} for name, marks in rates.items() for one in marks]


def test_the_gate_pairs_problems_that_both_models_were_judged_on() -> None:
    before = judged_at({"a": [True, False], "b": [False, False], "c": [None]})
    after = judged_at({"b": [True, True], "a": [True, None], "c": [True]})
    rows = gate_rows(before, after, "m")
    assert [(row["problem_id"], row["before"], row["pass_rate"]) for row in rows] == [("b", 0, 1), ("a", 0.5, 1)]
    gain = gate_difference(rows)
    assert gain and gain.estimate == 0.75 and not regressed(gain)


def test_only_a_loss_beyond_noise_is_a_regression() -> None:
    right, wrong = ({f"p{n}": [passed] for n in range(40)} for passed in (True, False))
    half = {f"p{n}": [n % 2 == 0] for n in range(40)}
    slightly = half | {"p0": [False]}
    for after, worse in ((wrong, True), (half, True), (right, False)):
        assert regressed(gate_difference(gate_rows(judged_at(right), judged_at(after), "m"))) is worse
    assert not regressed(gate_difference(gate_rows(judged_at(half), judged_at(slightly), "m")))
    assert gate_difference([]) is None and not regressed(None)


def test_the_paper_s_mix_takes_so_many_synthetic_problems_and_those_that_are_no_seeds_first() -> None:
    settings = SelfPlay(pool_share=1.0, real_problems={"maths": 30}, synthetic_problems={"maths": 40})
    only_played = [
        row | {"problem_id": f"x{row['problem_id']}", "split": "play"} for row in known(20) if row["source"] == "real"
    ]
    pool = play_pool([*known(150), *only_played], settings)
    assert mix(pool) == {"maths, real": 30 / 70, "maths, synthetic": 40 / 70}
    assert sum(row["problem_id"].startswith("x") for row in pool) == len(only_played) < 30
    fewer = play_pool(known(150), settings.model_copy(update={"synthetic_problems": {"maths": 10}}))
    assert ids(fewer) - ids(known(0)) and len([row for row in fewer if row["source"] == "synthetic"]) == 10
    assert {row["problem_id"] for row in fewer if row["source"] == "synthetic"} < ids(pool)
    assert play_pool(known(5), SelfPlay(pool_share=1.0, synthetic_problems={"code": 1})) == play_pool(
        known(5), SelfPlay(pool_share=1.0)
    )


def test_pairs_are_made_as_their_rollouts_are_read() -> None:
    outcomes = [(problem, f"{text}{problem}", text == "a", True) for problem in "pqr" for text in "ab"]
    drawn, judged = played(outcomes)
    read: list[str] = []

    class Reading(list):  # type: ignore[type-arg]
        def __iter__(self) -> Iterator[Row]:
            for row in list.__iter__(self):
                read.append(row["problem_id"])
                yield row

    pairs = preference_pairs(Reading(drawn), judged, SelfPlay(max_pass_rate=1.0), 0)
    assert next(pairs)["problem_id"] == "p"
    assert read == [*"ppqqrr", *"pp"]  # once for the choice, then as far as the first pair's texts
    assert [pair["problem_id"] for pair in pairs] == ["q", "r"]
