"""EM rounds that must stop, need not go on, or learn from something else: by profile, on copies of a finished home."""

import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from promptcot_assets.assets.em import ROUND_OUTPUTS
from promptcot_assets.lake import Lake, Ref
from tests.assets.arc_runs import DAGSTER, SMALL, run

pytestmark = pytest.mark.slow
Materialize = Callable[[str, str, str], CompletedProcess[str]]


@pytest.fixture
def home(finished_home: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished_home, tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def materialize(home: Path, tmp_path: Path) -> Materialize:
    """Materialize one round with settings of `em` laid over the small profile's."""

    def run_round(settings: str, partition: str, selection: str = "group:em and not key:control_*") -> object:
        profile = tmp_path / "changed.yaml"
        profile.write_text(f"extends: {SMALL}\nem: {settings}\n")
        command = [*DAGSTER, "asset", "materialize", "-m", "promptcot_assets.definitions"]
        return run([*command, "--select", selection, "--partition", partition], home, PROMPTCOT_PROFILE=str(profile))

    return run_round  # type: ignore[return-value]


def newest(home: Path, asset: str, partition: str) -> Ref:
    ref = Lake(home).newest(asset, partition)
    assert ref
    return ref


def test_a_collapse_ends_the_round_before_anything_is_trained(home: Path, materialize: Materialize) -> None:
    before = {asset: newest(home, asset, "round_02") for asset in ROUND_OUTPUTS}
    done = materialize("{gate: {min_usable_share: 1.0, min_distinct_share: 1.0}}", "round_02")
    assert done.returncode != 0
    assert "is stopped by its gate" in done.stderr and "candidates are usable" in done.stderr
    assert newest(home, "em_rationales", "round_02") != before["em_rationales"]  # kept, to be looked at
    assert all(newest(home, asset, "round_02") == before[asset] for asset in ROUND_OUTPUTS[1:])


def test_a_round_does_not_start_after_a_gate_that_failed(home: Path, materialize: Materialize) -> None:
    before = newest(home, "em_rationales", "round_01")
    done = materialize("{gate: {min_usable_share: 1.0}}", "round_01")
    assert done.returncode != 0
    assert "round 1 does not start, cold_start_bounds is stopped by its gate" in done.stderr
    assert newest(home, "em_rationales", "round_01") == before


def test_a_converged_loop_carries_its_models_over(home: Path, materialize: Materialize) -> None:
    done = materialize("{patience: 1, gate: {standard_errors: 1.0e+9}}", "round_02")
    assert done.returncode == 0, done.stderr[-4000:]
    lake = Lake(home)
    for role in ("rationale_model", "problem_generator"):
        (first,), (second,) = (lake.table(newest(home, role, key)).to_pylist() for key in ("round_01", "round_02"))
        assert (first["model_id"], first["base"]) == (second["model_id"], second["base"])
        assert second["steps"] == second["examples"] == 0  # of this round
        assert lake.verify(newest(home, role, "round_02"))
    assert newest(home, "em_rationales", "round_02").rows == newest(home, "em_m_step", "round_02").rows == 0
    first, second = (lake.table(newest(home, "em_bounds", key)).to_pylist() for key in ("round_01", "round_02"))
    assert [row["iw_bound"] for row in first] == [row["iw_bound"] for row in second]
    assert {row["round"] for row in second} == {2}


def test_frozen_rationales_come_again_in_every_round(home: Path, materialize: Materialize) -> None:
    for key in ("round_01", "round_02"):
        done = materialize("{selection: frozen}", key)
        assert done.returncode == 0, done.stderr[-4000:]
    lake = Lake(home)
    first, second = (lake.table(newest(home, "em_rationales", key)).to_pylist() for key in ("round_01", "round_02"))
    drawn = {(row["problem_id"], row["rationale"]) for row in first if row["selected"]}
    assert drawn and drawn == {(row["problem_id"], row["rationale"]) for row in second}
    assert any(row["rank"] == 1 and row["candidate"] != 0 for row in first)
