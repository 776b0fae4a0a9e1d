from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from promptcot_assets.doctor import diagnosis
from promptcot_assets.doctor.diagnosis import Finding, examine
from tests.small_home import Home


def findings(home: Path, profile: str) -> dict[str, Finding]:
    return {finding.name: finding for finding in examine(home, profile)}


def profile_with(tmp_path: Path, text: str) -> str:
    path = tmp_path / "profile.yaml"
    path.write_text(f"extends: demo\n{text}\n")
    return str(path)


def test_a_good_machine_is_found_good_with_the_sandbox_really_tried(arc: Home) -> None:
    found = findings(arc.path, "demo")
    assert {name: one.level for name, one in found.items() if one.level == "fail"} == {}
    assert found["sandbox"].found.startswith(("tier bwrap", "tier landlock"))
    assert "judged right" in found["probes"].found
    assert found["catalogue"].found.endswith("commits") and "writable" in found["home"].found
    assert found["engine"].found == "transformers"
    assert "CPU" in found["torch"].found or "×" in found["torch"].found


@pytest.mark.parametrize(("engine", "mend"), [
    ("vllm", "pip install 'promptcot-assets[gpu]'"),
    ("ray", "pip install 'promptcot-assets[ray]'"),
])  # fmt: skip
def test_an_engine_that_is_not_there_fails_with_its_mend(tmp_path: Path, engine: str, mend: str) -> None:
    from promptcot_assets.settings import load_settings

    if engine in ("vllm", "ray") and importlib.util.find_spec(engine):
        pytest.skip(f"{engine} is installed here")
    found = diagnosis._engine(load_settings(profile_with(tmp_path, f"engine: {{name: {engine}}}")))
    assert (found.level, found.mend) == ("fail", mend)


def test_a_profile_for_a_gpu_warns_without_one(tmp_path: Path) -> None:
    import torch

    from promptcot_assets.settings import load_settings

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    big = "base: {scratch: null, hub_id: org/model, revision: abc}"
    assert diagnosis._torch(load_settings(profile_with(tmp_path, big))).level == "warn"
    assert diagnosis._torch(load_settings("demo")).level == "ok"


def test_a_file_that_a_run_takes_away_meanwhile_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shard.parquet").write_bytes(b"1" * 1024)
    (tmp_path / "table.parquet").write_bytes(b"1" * (1 << 20))
    walk = os.walk

    def taken_away(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
        for place, folders, names in walk(folder):
            (tmp_path / "shard.parquet").unlink(missing_ok=True)
            yield place, folders, names

    monkeypatch.setattr(os, "walk", taken_away)
    found = diagnosis._home(tmp_path)
    assert (found.level, "1.0 MiB" in found.found) == ("ok", True)


def test_a_home_that_cannot_be_written_fails() -> None:
    found = diagnosis._home(Path("/proc/home"))
    assert (found.level, found.mend) == ("fail", "set PROMPTCOT_HOME to a folder one can write in")


def test_a_home_to_come_is_no_fault_and_is_not_made(tmp_path: Path) -> None:
    assert diagnosis._home(tmp_path / "new" / "home").level == "ok"
    assert diagnosis._catalogue(tmp_path / "new").level == "ok"
    assert list(tmp_path.iterdir()) == []


def test_a_catalogue_that_cannot_be_made_fails(own_arc: Home) -> None:
    (own_arc.path / "catalog.duckdb").unlink()
    (own_arc.path / "lake" / "problems" / "_delta_log" / f"{1:020d}.json").write_text(
        '{"commitInfo": {"promptcot": {}}}'
    )
    (found,) = (one for one in examine(own_arc.path, "nowhere") if one.name == "catalogue")
    assert (found.level, found.mend) == ("fail", "restore the home from a copy")


def test_a_cut_commit_file_is_a_finding_that_names_it(own_arc: Home) -> None:
    file = own_arc.path / "lake" / "problems" / "_delta_log" / f"{1:020d}.json"
    file.write_text(file.read_text()[:99])
    found = {one.name: one for one in examine(own_arc.path, "demo", data=True) if one.level == "fail"}
    for name in ("data", "needs"):
        assert f"commit file {file} is damaged" in found[name].found
        assert found[name].mend == "restore the home from a copy"


@pytest.mark.parametrize(("gib", "level"), [(0.5, "fail"), (3, "warn"), (50, "ok")])
def test_amounts_are_judged(gib: float, level: str) -> None:
    found = diagnosis._amount("disk", int(gib * diagnosis.GIB), diagnosis.DISK_GIB, "free", "free some")
    assert (found.level, bool(found.mend)) == (level, level != "ok")


def test_data_in_use_is_read_and_what_is_damaged_is_named(own_arc: Home) -> None:
    assert diagnosis._data(own_arc.path).level == "ok"
    own_arc.commit("raw_problems", [], "concept_sets", partition="first")
    for name, wildcard in (("raw_problems", "_part=*/*.parquet"), ("sft_examples", "_part=*/*.parquet")):
        for file in (own_arc.path / "lake" / name).glob(wildcard):
            file.write_bytes(b"damaged")
    (own_arc.path / "models" / own_arc.models["sft_model"] / "model.safetensors").unlink()
    found = diagnosis._data(own_arc.path)
    assert found.level == "fail" and found.mend
    # the superseded raw_problems too: the models rest on them
    for ref in ("raw_problems[first]@1", "raw_problems[first]@2", "sft_examples[tiny]@1", "sft_model[tiny]@1"):
        assert ref in found.found
    assert found.found.count("@") == 4
