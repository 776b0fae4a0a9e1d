import pytest

from promptcot_assets.stages import Row
from promptcot_assets.stages.ablations import outcomes, table


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
