import pytest

from promptcot_assets.lake import Row
from promptcot_assets.settings.profile import Gate
from promptcot_assets.stages.em.gates import bound_gate, cold_start_gate, collapse_gate, converged

GATE = Gate()
TEXTS = ("think of sums, then of shares", "begin with a percentage", "take two averages and compare")


def bounds(*values: float, split: str = "held_out", used: int = 4, parsed: int | None = 3) -> list[Row]:
    return [
        {"problem_id": str(at), "split": split, "iw_bound": value, "proposals": 4, "proposals_used": used,
         "samples": 3, "samples_parsed": parsed}
        for at, value in enumerate(values)
    ]  # fmt: skip


def candidates(*texts: str | None, per_seed: int = 3) -> list[Row]:
    """Candidates of seeds in turn; the first usable of each seed wins. None: cut off."""
    rows, won = [], set()
    for at, text in enumerate(texts):
        seed = f"p{at // per_seed}"
        rows.append({
            "problem_id": seed, "rationale": text or "", "reward": None if text is None else -1.0,
            "selected": text is not None and seed not in won, "lost_because": None if text else "cut off",
        })  # fmt: skip
        won |= {seed} if text is not None else set()
    return rows


HEALTHY = candidates(*(f"{text} {at}" for at in range(6) for text in TEXTS))
BEFORE = [{"rationale": text} for text in TEXTS]


# ---- collapse
def test_healthy_candidates_pass() -> None:
    verdict = collapse_gate(HEALTHY, BEFORE, GATE)
    assert verdict.passed and verdict.measured["usable share"] == verdict.measured["distinct share"] == 1.0


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (candidates(*[None] * 9, TEXTS[0], TEXTS[1]), "only 18.2% of the candidates are usable (9 cut off)"),
        (candidates(*[TEXTS[0]] * 36, per_seed=12), "only 8.3% of the usable candidates differ"),
        (candidates(*(f"{TEXTS[0] if at % 3 == 0 else at}" for at in range(18))), "100.0% of the winners are one text"),
        (candidates(*(f"a{at}" for at in range(18))), "of the length of the rationales before"),
        (candidates(*[None] * 6), "only 0.0% of the candidates are usable"),
    ],
)
def test_collapsed_candidates_are_named(rows: list[Row], said: str) -> None:
    verdict = collapse_gate(rows, BEFORE, GATE)
    assert not verdict.passed and said in "; ".join(verdict.failures)


def test_without_rationales_before_there_is_no_length_to_lose() -> None:
    assert collapse_gate(candidates(*(f"a{at}" for at in range(18))), [], GATE).passed  # after a carried round


def test_a_gates_thresholds_are_settings() -> None:
    rows = candidates(*(f"a{at}" for at in range(18)))
    assert collapse_gate(rows, BEFORE, Gate(min_length_ratio=0.0)).passed


# ---- the bound
def test_the_bound_may_fall_by_noise_only() -> None:
    before = bounds(-10.0, -12.0, -14.0)
    assert bound_gate(bounds(-9.0, -11.5, -13.9), before, GATE).passed
    assert bound_gate(bounds(-10.5, -11.6, -14.4), before, GATE).passed  # -0.17 ± 0.29
    verdict = bound_gate(bounds(-11.0, -12.9, -15.1), before, GATE)
    assert not verdict.passed and "fell by 1.000" in verdict.failures[0]
    assert bound_gate(bounds(-11.0, -12.9, -15.1, split="train"), before, GATE).passed  # training seeds do not decide


def test_a_round_ends_the_loop_only_if_it_fell_below_the_rounds_before_too() -> None:
    start, lucky, back = bounds(-10.0, -12.0, -14.0), bounds(-9.0, -10.9, -13.1), bounds(-10.0, -11.9, -14.1)
    assert not bound_gate(back, lucky, GATE).passed
    assert bound_gate(back, lucky, GATE, start).passed
    assert not bound_gate(bounds(-11.0, -13.1, -15.0), lucky, GATE, start).passed


def test_a_single_problem_ends_nothing() -> None:
    assert bound_gate(bounds(-11.0), bounds(-10.0), GATE).passed
    assert converged([bounds(-10.0), bounds(-9.0), bounds(-8.0)], 2, GATE)


def test_a_round_that_lost_the_bounds_of_problems_fails() -> None:
    before, after = bounds(-10.0, -12.0, -14.0, -11.0, -9.0), bounds(-9.9, -11.9, -13.9, -10.9, -8.9)
    assert bound_gate(after, before, GATE).passed
    lost = [row | {"iw_bound": None, "proposals_used": 0} if row["problem_id"] in "01" else row for row in after]
    verdict = bound_gate(lost, before, GATE)
    assert "2 of 5 held-out problems have no bound any more" in verdict.failures[0]
    assert verdict.measured["problems without a usable proposal"] == 2
    floored = [row | {"iw_bound": -60.0, "proposals_used": 0} if row["problem_id"] in "01" else row for row in after]
    assert bound_gate(floored, before, GATE).measured["change in nats"] < -15


def test_rationales_must_tell_as_much_as_is_set() -> None:
    told = [row | {"information": value} for row, value in zip(bounds(-1.0, -2.0, -3.0), (0.1, 0.2, 0.3), strict=True)]
    assert bound_gate(told, told, GATE).measured["information of z"] == pytest.approx(0.2)
    assert bound_gate(told, told, GATE).passed  # no gate by default
    assert bound_gate(told, told, Gate(min_information=0.3)).passed  # 0.2 ± 0.06
    failure = bound_gate(told, told, Gate(min_information=0.5)).failures[0]
    assert "the information of z is 0.200 ± 0.058" in failure and "em.gate.min_information" in failure


# ---- early stop
def test_small_gains_of_every_round_are_no_end_where_they_add_up() -> None:
    """Each round's gain is within noise, both together are not."""
    history = [bounds(-10.0, -12.0, -14.0), bounds(-8.7, -12.2, -13.6), bounds(-8.8, -11.0, -12.9)]
    assert converged(history[:2], 1, GATE) and converged(history[1:], 1, GATE)
    assert not converged(history, 2, GATE)


def test_two_rounds_without_a_gain_end_the_loop() -> None:
    start, better, same = bounds(-10.0, -12.0, -14.0), bounds(-9.0, -11.1, -12.9), bounds(-9.0, -11.1, -12.8)
    assert not converged([start], 2, GATE)
    assert not converged([start, start], 2, GATE)
    assert converged([start, start, start], 2, GATE)
    assert not converged([start, start, better], 2, GATE)
    assert not converged([start, better, same], 2, GATE)
    assert converged([start, better, same, same], 2, GATE)
    assert converged([start, same, same], 1, GATE)
    assert not converged([start, start, start], 0, GATE)  # 0: never


# ---- the cold start
def test_a_cold_start_must_write_whole_rationales_and_problems() -> None:
    assert cold_start_gate(bounds(-1.0, -2.0), GATE).passed
    assert cold_start_gate(bounds(-1.0, parsed=None), GATE).passed  # no fresh samples are asked for
    assert "usable rationales: 0.0%" in cold_start_gate(bounds(-1.0, -2.0, used=0), GATE).failures[0]
    assert "fresh problems that parse: 0.0%" in cold_start_gate(bounds(-1.0, -2.0, parsed=0), GATE).failures[0]
    assert cold_start_gate([*bounds(-1.0), *bounds(-2.0, split="train", used=0)], GATE).passed
