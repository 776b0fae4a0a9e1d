import pytest

from promptcot_assets.lake import Row
from promptcot_assets.stages.em.bounds import MEASURES
from promptcot_assets.stages.em.curves import em_curves, holds, steps_of


def bound(series: str, round_: int, problem: str, iw: float | None, **changed: object) -> Row:
    return {
        **dict.fromkeys(MEASURES, iw), "series": series, "round": round_, "domain": "maths", "split": "held_out",
        "problem_id": problem, "samples": 4, "samples_well_posed": None, **changed,
    }  # fmt: skip


BOUNDS = [
    bound("cold_start", 0, "a", -10.0, samples_well_posed=1), bound("cold_start", 0, "b", -20.0, samples_well_posed=3),
    bound("cold_start", 0, "c", -5.0),
    bound("em", 1, "a", -9.0), bound("em", 1, "b", -16.0), bound("em", 1, "c", None),
    bound("em", 2, "a", -8.0), bound("em", 2, "b", -15.0), bound("em", 2, "c", -5.0),
    bound("extra_training", 1, "a", -11.0), bound("extra_training", 1, "b", -20.0),
    bound("em", 1, "a", -1.0, domain="code"),
]  # fmt: skip


COMMON = [
    {
        "series": series,
        "round": round_,
        "domain": "maths",
        "problem_id": "a",
        "iw_bound": iw,
        "effective_proposals": 2.0,
    }
    for series, round_, iw in (("cold_start", 0, -9.0), ("em", 1, -8.5))
]
STEPS = {("cold_start", 0): 100, ("em", 1): 110, ("em", 2): 120, ("extra_training", 1): 115}


def point(points: list[Row], series: str, round_: int, metric: str, domain: str = "maths") -> Row:
    key = (series, round_, metric, domain)
    (found,) = [row for row in points if (row["series"], row["round"], row["metric"], row["domain"]) == key]
    return found


def test_a_curves_point_is_the_mean_over_its_problems() -> None:
    points = em_curves(BOUNDS, COMMON, STEPS)
    first = point(points, "em", 1, "iw_bound")
    assert (first["value"], first["problems"]) == (-12.5, 2)
    assert first["standard_error"] == pytest.approx(3.5)
    assert point(points, "em", 1, "iw_bound", "code")["value"] == -1.0
    assert point(points, "cold_start", 0, "well_posed")["value"] == 0.5
    assert not [row for row in points if row["series"] == "em" and row["metric"] == "well_posed"]
    assert len({row["point_id"] for row in points}) == len(points)


def test_gains_are_paired_by_problem() -> None:
    points = em_curves(BOUNDS, COMMON, STEPS)
    gain = point(points, "em", 1, "gain over cold_start")  # +1 and +4; c has no bound in round 1
    assert (gain["value"], gain["problems"]) == (2.5, 2)
    assert gain["standard_error"] == pytest.approx(1.5)
    gain = point(points, "em", 2, "gain over cold_start")  # +2, +5, 0
    assert gain["value"] == pytest.approx(7 / 3) and gain["problems"] == 3
    gain = point(points, "em", 1, "gain over extra_training")  # +2 and +4, of the same round
    assert (gain["value"], gain["standard_error"]) == (3.0, pytest.approx(1.0))
    gains = [row for row in points if row["metric"].startswith("gain")]
    assert len(gains) == 3 and {row["series"] for row in gains} == {"em"}


def test_generators_are_compared_on_the_common_pool_too() -> None:
    points = em_curves(BOUNDS, COMMON, STEPS)
    assert point(points, "em", 1, "common_bound")["value"] == -8.5
    assert point(points, "em", 1, "common gain over cold_start")["value"] == 0.5
    assert point(points, "em", 2, "iw_bound")["steps"] == 120


def test_a_single_value_has_no_error() -> None:
    points = em_curves(BOUNDS, COMMON, STEPS)
    assert point(points, "em", 1, "iw_bound", "code")["standard_error"] is None
    assert point(points, "em", 1, "common gain over cold_start")["standard_error"] is None


def test_problems_without_a_usable_proposal_are_counted() -> None:
    rows = [bound("em", 1, name, -9.0, proposals_used=used) for name, used in (("a", 3), ("b", 0), ("c", 1), ("d", 0))]
    lost = point(em_curves(rows, [], {}), "em", 1, "without_usable_proposal")
    assert (lost["value"], lost["problems"]) == (0.5, 4)


def test_the_rate_on_the_asked_concepts_stands_beside_the_well_posed_rate() -> None:
    rows = [
        bound("em", 1, name, -9.0, samples_well_posed=3, samples_on_concepts=told)
        for name, told in (("a", 3), ("b", 1))
    ]
    points = em_curves(rows, [], {})
    assert point(points, "em", 1, "well_posed")["value"] == 0.75
    assert point(points, "em", 1, "well_posed_on_concepts")["value"] == 0.5


# ---- pools of several sizes
def pools(gains: dict[int, tuple[float, ...]]) -> list[Row]:
    """common_bounds of the cold start and of EM's last round: size of the pool -> EM's gain on every problem."""
    return [
        {"series": series, "round": round_, "domain": "maths", "problem_id": str(at), "proposals": size,
         "iw_bound": -10.0 + (gain if series == "em" else 0.0), "effective_proposals": size / 8}
        for size, each in gains.items()
        for at, gain in enumerate(each)
        for series, round_ in (("cold_start", 0), ("em", 2))
    ]  # fmt: skip


def test_gains_are_told_at_every_pool_size_on_the_same_problems() -> None:
    points = em_curves([], pools({16: (1.0, 3.0, 50.0), 64: (1.0, 2.0), 256: (0.5, 1.5)}), {})
    assert point(points, "em", 2, "common gain over cold_start")["value"] == 18.0  # the small pool's, all problems
    assert point(points, "em", 2, "gain at pool 16 over cold_start")["value"] == 2.0
    assert point(points, "em", 2, "gain at pool 256 over cold_start")["value"] == 1.0
    assert point(points, "em", 2, "bound at pool 64")["value"] == -8.5
    assert point(points, "cold_start", 0, "effective at pool 256")["value"] == 32.0
    assert point(points, "em", 2, "gain carried on over cold_start")["value"] == 0.5  # 2 * 1 - 1.5
    assert len({row["point_id"] for row in points}) == len(points)


@pytest.mark.parametrize(
    ("at_64", "at_256", "verdict"),
    [
        ((1.0, 1.1, 0.9, 1.0), (1.0, 1.1, 0.9, 1.0), "significant"),
        ((-1.0, -1.1, -0.9, -1.0), (-1.0, -1.1, -0.9, -1.0), "significant"),
        ((1.0, 1.1, 0.9, 1.0), (0.5, 0.6, 0.4, 0.5), "shrinks towards 0 as the pool grows: open"),
        ((1.0, 1.1, 0.9, 1.0), (0.9, 1.0, 0.8, 0.9), "significant"),
        ((1.0, 1.1, 0.9, 1.0), (0.4, 0.5, 0.3, 0.4), "shrinks towards 0 as the pool grows: open"),
        ((1.0, 1.1, 0.9, 1.0), (0.5, -0.6, 0.4, 0.1), "NOT significant"),
        ((0.1, -0.1, 0.1, -0.1), (1.0, 1.1, 0.9, 1.0), "significant"),
    ],
)
def test_a_gain_holds_where_a_larger_pool_would_leave_it(
    at_64: tuple[float, ...], at_256: tuple[float, ...], verdict: str
) -> None:
    points = em_curves([], pools({16: at_64, 64: at_64, 256: at_256}), {})
    gain, carried_on = (
        point(points, "em", 2, f"{name} over cold_start") for name in ("gain at pool 256", "gain carried on")
    )
    assert holds(gain, carried_on) == verdict


def test_steps_add_up_over_the_rounds() -> None:
    models = [("cold_start", 0, 100), ("em", 1, 10), ("em", 2, 12), ("extra_training", 1, 15)]
    assert steps_of(models) == {
        ("cold_start", 0): 100, ("em", 1): 110, ("em", 2): 122, ("extra_training", 1): 115,
    }  # fmt: skip
