from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
import yaml
from click.testing import CliRunner

from promptcot_assets.cli import main
from promptcot_assets.doctor.diagnosis import examine
from promptcot_assets.doctor.instance_file import complete, missing, shipped
from promptcot_assets.lake import LakeError

OLD = """\
# mine
telemetry: {enabled: true}     # I want it
run_queue: {max_concurrent_runs: 2}
run_monitoring: {enabled: false}
"""


def test_a_new_home_lacks_nothing(tmp_path: Path) -> None:
    config = tmp_path / "dagster.yaml"
    config.write_text(shipped())
    assert missing(config) == {} and complete(config) == []
    assert config.read_text() == shipped()


def test_a_pool_lets_one_step_in_and_a_killed_run_gives_its_slot_back(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text(shipped())
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        pools = instance.get_concurrency_config().pool_config
        # limits count steps, and hold for a pool that nobody gave one: by `run`, all who wait come in at once
        assert pools.pool_granularity and pools.pool_granularity.value == "op"
        assert pools.default_pool_limit == 1
        # else one killed run keeps its slot, and everybody else out of the pool, for ever
        assert instance.run_monitoring_enabled
        assert instance.run_monitoring_settings["free_slots_after_run_end_seconds"] == 60


def test_an_old_home_gets_what_is_newer_and_keeps_what_it_says(tmp_path: Path) -> None:
    config = tmp_path / "dagster.yaml"
    config.write_text(OLD)
    assert complete(config) == ["nux", "python_logs", "retention", "run_launcher", "run_retries"]
    text = config.read_text()
    assert text.startswith(OLD)
    now, new = yaml.safe_load(text), yaml.safe_load(shipped())
    assert now["telemetry"] == {"enabled": True} and now["run_monitoring"] == {"enabled": False}
    assert now["run_launcher"] == new["run_launcher"] and now["retention"] == new["retention"]
    assert "concurrency" not in now  # Dagster takes one spelling of it
    assert complete(config) == []


@pytest.mark.parametrize("text", ["a: [", "- a list"])
def test_what_is_no_such_file_is_told_with_its_path(text: str, tmp_path: Path) -> None:
    config = tmp_path / "dagster.yaml"
    config.write_text(text)
    with pytest.raises(LakeError, match=r"(?s)dagster\.yaml .*delete it and run `promptcot init`"):
        missing(config)


def test_doctor_tells_and_init_mends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTCOT_HOME", str(tmp_path))
    monkeypatch.setenv("PROMPTCOT_PROFILE", "demo")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    (tmp_path / "dagster").mkdir()
    (tmp_path / "dagster" / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    (told,) = (one for one in examine(tmp_path) if one.name == "instance")
    assert told.level == "warn" and "run_launcher" in told.found and "promptcot init" in told.mend
    done = CliRunner().invoke(main, ["init"])
    assert done.exit_code == 0, done.output
    assert "run_launcher" in done.output
    (told,) = (one for one in examine(tmp_path) if one.name == "instance")
    assert told.level == "ok"
