import pytest

from promptcot_assets.lake import Row
from promptcot_assets.stages.em.ablations import outcomes, table


def bounds(*values: float, nll: float = 2.0) -> list[Row]:
    return [
        {"problem_id": str(at), "split": split, "round": 2, "iw_bound": value, "log_p_problem": -nll,
         "samples": 4, "samples_well_posed": 1 + at}
        for at, value in enumerate(values) for split in ("held_out", "train")
    ]  # fmt: skip


def common(*values: float) -> list[Row]:
    return [{"problem_id": str(at), "iw_bound": value} for at, value in enumerate(values)]


EM = common(-8.0, -8.5, -9.5)
MEASURED = {
    "EM": (bounds(-8.0, -9.0, -10.0), EM, EM, None),
    "worse": (bounds(-9.0, -10.5, -12.0, nll=3.0), EM, common(-9.0, -10.0, -10.5), None),
    "better": (bounds(-7.0, -7.5, -8.0), EM, common(-7.0, -7.4, -8.6), None),
    "the same": (bounds(-8.0, -9.1, -9.9), EM, common(-8.1, -8.5, -9.4), "fell; mend it"),
}


def test_differences_are_paired_and_of_held_out_problems() -> None:
    rows = {row["arm"]: row for row in outcomes(0, "EM", MEASURED)}
    assert rows["worse"]["em_minus_own"] == pytest.approx(1.5)
    assert rows["worse"]["em_minus_own_error"] == pytest.approx(0.5 / 3**0.5)  # of 1, 1.5 and 2
    assert rows["worse"]["em_minus_common"] == pytest.approx((1 + 1.5 + 1) / 3)
    assert (rows["worse"]["nll"], rows["worse"]["problems"], rows["worse"]["well_posed"]) == (3.0, 3, 0.5)
    assert rows["EM"]["em_minus_common"] == 0.0


def test_the_table_tells_wins_losses_and_neither() -> None:
    rows = outcomes(0, "EM", MEASURED) + outcomes(1, "EM", MEASURED | {"worse": MEASURED["the same"]})
    lines = {line.split("|")[1].strip(): line for line in table(rows, "EM").splitlines() if line.startswith("| ")}
    assert lines["worse"].endswith("| better in 1 of 2 |")
    assert lines["better"].endswith("| worse in 2 of 2 |")
    assert lines["the same"].endswith("| not told apart |")
    assert lines["EM"].endswith("|  |")
    assert "+1.17 ± 0.17 |" in lines["worse"] and "*" not in lines["better"] and "*" in lines["the same"]
    assert "- the same, seed 0: fell\n" in table(rows, "EM")


def pools(gains: dict[int, tuple[float, ...]]) -> tuple[list[Row], list[Row]]:
    """common_bounds of EM and of an arm: size of the pool -> what EM has over the arm on every problem."""
    em, arm = (
        [
            {"problem_id": str(at), "proposals": size, "iw_bound": -10.0 + sign * gain}
            for size, each in gains.items()
            for at, gain in enumerate(each)
        ]
        for sign in (1, 0)
    )
    return em, arm


def seeds_of(*each: dict[int, tuple[float, ...]]) -> list[Row]:
    arms = [
        outcomes(
            seed,
            "EM",
            {
                "EM": (bounds(-8.0, -9.0), *pools({16: (0.0,)}), None),
                "other": (bounds(-9.0, -9.5), *pools(gains), None),
            },
        )
        for seed, gains in enumerate(each)
    ]
    return [row for rows in arms for row in rows]


def line_of(rows: list[Row], arm: str = "other") -> str:
    return next(line for line in table(rows, "EM").splitlines() if line.startswith(f"| {arm} |"))


STAYS = {16: (1.0, 1.2, 0.8), 64: (1.0, 1.2, 0.8), 256: (1.0, 1.1, 0.9)}
SHRINKS = {16: (1.0, 1.2, 0.8), 64: (0.9, 1.0, 0.8), 256: (0.4, 0.5, 0.3)}


def test_an_arm_is_compared_on_the_largest_pool() -> None:
    row = outcomes(
        0, "EM", {"EM": (bounds(-8.0), *pools({16: (0.0,)}), None), "other": (bounds(-9.0), *pools(STAYS), None)}
    )[1]
    assert (row["large_pool"], row["em_minus_large"]) == (256, pytest.approx(1.0))
    assert row["em_minus_common"] == pytest.approx(1.0) and row["verdict"] == "significant"
    assert "| +1.00 ± 0.06 |" in line_of(seeds_of(STAYS))
    assert line_of(seeds_of(STAYS, SHRINKS)).endswith("| better in 1 of 2 |")  # it shrinks towards 0 in the other


def test_the_mean_has_the_error_of_the_seeds_spread() -> None:
    """Means 1.0, 2.0 and 3.0: ± 1 / sqrt(3), and t(2) = 4.30 asks for more than 2.48; within each seed ± 0.06."""
    each = [{size: tuple(gain + more for gain in gains) for size, gains in STAYS.items()} for more in (0.0, 1.0, 2.0)]
    line = line_of(seeds_of(*each))
    assert "| +2.00 ± 0.58 |" in line and line.endswith("| not told apart | better in 3 of 3 |")
    near = [{size: tuple(gain + more for gain in gains) for size, gains in STAYS.items()} for more in (0.0, 0.1, 0.2)]
    assert line_of(seeds_of(*near)).endswith("| better | better in 3 of 3 |")
    assert line_of(seeds_of(STAYS)).endswith("| one seed tells nothing of others | better in 1 of 1 |")


def test_the_table_says_what_chance_would_give() -> None:
    text = table(seeds_of(STAYS, STAYS, STAYS), "EM")
    assert (
        "chance would give 0.1 of the 3 verdicts in one seed and 0.1 of the 1 over seeds (Student's t, 2 degrees"
        in text
    )
