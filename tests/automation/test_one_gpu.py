"""Profile `one_gpu`: it loads, the doctor judges it, and its graph runs on tiny models of the same architecture with
the teacher behind a live server (tests/assets/one_gpu_standins.py)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from promptcot_assets.cli import main
from promptcot_assets.doctor.devices import named
from promptcot_assets.doctor.estimate import estimate
from promptcot_assets.lake import Lake, Row
from promptcot_assets.settings import SettingsError, load_settings
from promptcot_assets.settings.pins import unpinned
from promptcot_assets.tables import open_lake
from tests.assets import arc_runs
from tests.assets.one_gpu_standins import CONCEPTS, make_standins, write_profile
from tests.inference.openai_endpoint import OpenAIEndpoint

NIGHT_H = 12.0


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_URL", "http://127.0.0.1:8001/v1")
    monkeypatch.setenv("TEACHER_MODEL", "a-model")


def test_without_a_teacher_it_says_what_to_export(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEACHER_URL", raising=False)
    monkeypatch.delenv("TEACHER_MODEL", raising=False)
    with pytest.raises(SettingsError, match=r"uses \$\{TEACHER_MODEL\}, which is not set; export TEACHER_MODEL="):
        load_settings("one_gpu")


@pytest.mark.usefixtures("teacher")
@pytest.mark.parametrize("model", ["Qwen/Qwen3-0.6B", "Qwen/Qwen3-1.7B"])
def test_it_fits_24_gib_and_a_night_and_every_commit_is_pinned(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL", model)
    settings = load_settings("one_gpu")
    assert unpinned(settings.model_dump()) == []
    found = estimate(settings, Path("/nowhere"), named("rtx4090"))
    assert {need.model: need.to_train for need in found.needs} == {model: 1, "a-model": None}
    assert [phase.name for phase in found.phases if not phase.fits] == []
    assert 0.5 < found.wall_hours < NIGHT_H


@pytest.mark.usefixtures("teacher")
def test_the_doctor_judges_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PROMPTCOT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    told = CliRunner().invoke(main, ["doctor", "--profile", "one_gpu", "--for", "rtx4090"])
    assert "ok    devices   1 found, needs 1 x RTX 4090 of 24 GiB for Qwen/Qwen3-0.6B" in told.output
    assert "ok    revisions every hub model and data set is pinned to a commit" in told.output
    assert "others serve it" in told.output and "memory" not in told.output.partition("estimate of")[0]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_standins(tmp_path_factory.mktemp("one_gpu"))


@pytest.fixture(scope="module")
def lake(models: tuple[Path, Path]) -> Iterator[Lake]:
    """Of the whole arc, by the real command line; only environment variables name the model and the teacher."""
    base, teacher = models
    folder = base.parent
    with OpenAIEndpoint(teacher, name="a-teacher", key="a secret", max_model_len=1024) as endpoint:
        done = arc_runs.run(
            [*arc_runs.PROMPTCOT, "run"], folder / "home", within_s=1500, PROMPTCOT_PROFILE=str(write_profile(folder)),
            MODEL=str(base), TEACHER_URL=endpoint.url, TEACHER_MODEL="a-teacher", TEACHER_KEY="a secret",
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        assert len(endpoint.messages) > 100
    yield open_lake(folder / "home")


def rows(lake: Lake, asset: str, partition: str = "") -> list[Row]:
    ref = lake.newest(asset, partition) if partition else lake.newest(asset)
    return lake.table(ref).to_pylist()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_stage_has_rows_that_the_served_teacher_and_the_small_model_wrote(lake: Lake) -> None:
    annotated = rows(lake, "seed_annotations", "served")
    assert {row["drop_reason"] for row in annotated} == {None} and len(annotated) > 20
    assert {tuple(row["concepts"]) for row in annotated} == {tuple(CONCEPTS)}
    folder = lake.checkpoint(lake.newest("teacher_model", "served"))
    assert json.loads((folder / "served.json").read_text()) == {"model": "a-teacher"}
    problems, answers = rows(lake, "problems", "first"), rows(lake, "math_answers", "first")
    assert problems and {row["answer"] for row in answers if row["answer"]} == {"4"}
    traces = rows(lake, "teacher_traces", "first")
    assert all(row["trace"].startswith("<think>") for row in traces if row["valid"]) and any(r["valid"] for r in traces)
    (student,) = rows(lake, "sft_model", "qwen3")
    assert student["steps"] > 0
    drawn, judged = rows(lake, "rollouts", "qwen3"), rows(lake, "verdicts", "qwen3")
    assert drawn and not any("<think>" in row["completion"] for row in drawn)  # it is told not to think
    assert any(row["usable"] and row["passed"] for row in judged)
    scores = rows(lake, "benchmark_scores", "qwen3")
    assert {(row["benchmark"], row["stage"]) for row in scores} == {
        (benchmark, stage) for benchmark in ("gsm8k", "math500") for stage in ("base", "sft", "self_play")
    }
