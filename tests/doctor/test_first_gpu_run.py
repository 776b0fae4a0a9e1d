"""The page that a person follows: its estimate is what the command prints, its legs are those of the profile."""

import re
from pathlib import Path

import pytest

from promptcot_assets.automation.arc import legs
from promptcot_assets.doctor.devices import named
from promptcot_assets.doctor.estimate import as_text, estimate
from promptcot_assets.settings import Settings, load_settings

PAGE = (Path(__file__).parents[2] / "docs" / "first_gpu_run.md").read_text()


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.delenv("MODEL", raising=False)
    monkeypatch.setenv("TEACHER_URL", "http://127.0.0.1:8001/v1")
    monkeypatch.setenv("TEACHER_MODEL", "Qwen/Qwen3-32B")
    return load_settings("one_gpu")


def test_the_estimate_is_what_the_doctor_says(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    found = estimate(settings, Path("/nowhere"), named("rtx4090"))
    (printed,) = re.findall(r"```text\n(.*?)\n```", PAGE, re.DOTALL)
    assert printed == as_text(found)
    monkeypatch.setenv("MODEL", "Qwen/Qwen3-1.7B")
    larger = estimate(load_settings("one_gpu"), Path("/nowhere"), named("rtx4090"))
    assert f"takes the larger model: {larger.hours:.2f} GPU hours and {larger.disk / (1 << 30):.0f} GiB" in PAGE
    legs_hours = [float(one) for one in re.findall(r"^\|[^|]+\|[^|]+\| (\d+\.\d+) \|$", PAGE, re.MULTILINE)]
    assert sum(legs_hours) == pytest.approx(found.hours, abs=0.04)  # each is rounded


def test_every_leg_that_it_names_is_one_and_none_is_left_out(settings: Settings) -> None:
    known = {leg.name for leg in legs(settings)}
    assert set(re.findall(r'--until "([^"]+)"', PAGE)) <= known
    table = PAGE.partition("| leg |")[2].partition("\n\n")[0]
    for name in known:
        whose, _, last = name.rpartition(" ")
        assert name in table or (whose.split(":")[0] in table and last in table), name
