"""EM rounds that must stop, need not go on, or learn from something else: by profile, on copies of a finished home."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from promptcot_assets.lake import Ref
from promptcot_assets.tables import open_lake
from tests.assets.arc_runs import SMALL
from tests.assets.materialized import ROUND_OUTPUTS, materialize

pytestmark = pytest.mark.slow
Changed = Callable[[str, str], str]


@pytest.fixture
def home(finished_home: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished_home, tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def changed(home: Path, tmp_path: Path) -> Changed:
    """Materialize one round with settings of `em` laid over the small profile's; why it failed, or nothing."""

    def run_round(settings: str, partition: str) -> str:
        profile = tmp_path / "changed.yaml"
        profile.write_text(f"extends: {SMALL}\nem: {settings}\n")
        return materialize(home, profile, ROUND_OUTPUTS, partition)

    return run_round


def newest(home: Path, asset: str, partition: str) -> Ref:
    ref = open_lake(home).newest(asset, partition)
    assert ref
    return ref


def test_a_collapse_ends_the_round_before_anything_is_trained(home: Path, changed: Changed) -> None:
    before = {asset: newest(home, asset, "round_02") for asset in ROUND_OUTPUTS}
    why = changed("{gate: {min_usable_share: 1.0, min_distinct_share: 1.0}}", "round_02")
    assert "is stopped by its gate" in why and "candidates are usable" in why
    assert newest(home, "em_rationales", "round_02") != before["em_rationales"]  # kept, to be looked at
    assert all(newest(home, asset, "round_02") == before[asset] for asset in ROUND_OUTPUTS[1:])


def test_a_round_does_not_start_after_a_gate_that_failed(home: Path, changed: Changed) -> None:
    before = newest(home, "em_rationales", "round_01")
    why = changed("{gate: {min_usable_share: 1.0}}", "round_01")
    assert "round 1 does not start, cold_start_bounds is stopped by its gate" in why
    assert newest(home, "em_rationales", "round_01") == before


def test_a_converged_loop_carries_its_models_over(home: Path, changed: Changed) -> None:
    assert changed("{patience: 1, gate: {standard_errors: 1.0e+9}}", "round_02") == ""
    lake = open_lake(home)
    for role in ("rationale_model", "problem_generator"):
        (first,), (second,) = (lake.table(newest(home, role, key)).to_pylist() for key in ("round_01", "round_02"))
        assert (first["model_id"], first["base"]) == (second["model_id"], second["base"])
        assert second["steps"] == second["examples"] == 0  # of this round
        assert lake.verify(newest(home, role, "round_02"))
    assert newest(home, "em_rationales", "round_02").rows == newest(home, "em_m_step", "round_02").rows == 0
    first, second = (lake.table(newest(home, "em_bounds", key)).to_pylist() for key in ("round_01", "round_02"))
    assert [row["iw_bound"] for row in first] == [row["iw_bound"] for row in second]
    assert {row["round"] for row in second} == {2}


def test_frozen_rationales_come_again_in_every_round(home: Path, changed: Changed) -> None:
    for key in ("round_01", "round_02"):
        assert changed("{selection: frozen}", key) == ""
    lake = open_lake(home)
    first, second = (lake.table(newest(home, "em_rationales", key)).to_pylist() for key in ("round_01", "round_02"))
    drawn = {(row["problem_id"], row["rationale"]) for row in first if row["selected"]}
    assert drawn and drawn == {(row["problem_id"], row["rationale"]) for row in second}
    assert any(row["rank"] == 1 and row["candidate"] != 0 for row in first)


@pytest.mark.parametrize("rule", ["posterior", "weighted"])
def test_candidates_drawn_by_weight_train_once_for_every_epoch(home: Path, changed: Changed, rule: str) -> None:
    twice = "{arguments: {num_train_epochs: 2}}"
    assert changed(f"{{selection: {rule}, e_step: {twice}, m_step_training: {twice}}}", "round_01") == ""
    lake = open_lake(home)
    rows, written = (lake.table(newest(home, name, "round_01")).to_pylist() for name in ("em_rationales", "em_m_step"))
    for problem in {row["problem_id"] for row in written}:
        own = [row for row in rows if row["problem_id"] == problem]
        assert sum(row["copies"] for row in own) == 2 == sum(r["copies"] for r in written if r["problem_id"] == problem)
        assert sum(row["weight"] or 0.0 for row in own) == pytest.approx(1.0)
    for role, examples in (("rationale_model", rows), ("problem_generator", written)):
        (model,) = lake.table(newest(home, role, "round_01")).to_pylist()
        assert model["examples"] == sum(row["copies"] for row in examples)
        assert model["steps"] == -(-model["examples"] // 16)  # one pass of them


def test_the_m_step_may_be_sampled(home: Path, changed: Changed) -> None:
    assert changed("{m_step: sampled}", "round_01") == ""
    rows = open_lake(home).table(newest(home, "em_m_step", "round_01")).to_pylist()
    assert {row["origin"] for row in rows} <= {"sampled", "selected"} and any(
        row["origin"] == "sampled" for row in rows
    )
